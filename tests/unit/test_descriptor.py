"""fileno(): a descriptor that is readable while the event is set."""

import asyncio
import errno
import gc
import multiprocessing.connection
import os
import select
import selectors
import sys
import threading
import time

import pytest
from helpers import SCALE, STACK_ERRORS, TIMEOUT, SignalAtLine, Threads, deadline, python, until

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
on_posix = pytest.mark.skipif(os.name != "posix", reason="the descriptors of POSIX")


@pytest.fixture(params=["eventfd", "sockets"], autouse=True)
def kind(request, monkeypatch):
    """What a descriptor is: an eventfd on Linux, a pair of sockets elsewhere."""
    if request.param == "sockets":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("no eventfd here")
    return request.param


def is_readable(number, timeout=0.0):
    """Return whether the descriptor is readable. To ask the event for it again would correct it."""
    return bool(select.select([number], [], [], timeout)[0])


def test_it_is_readable_while_set(Event):
    event = Event()
    number = event.fileno()
    for _ in range(3):
        assert not is_readable(number)
        event.set()
        event.set()
        assert is_readable(number) and is_readable(number)  # level-triggered
        event.clear()
        event.clear()
    inheritable = os.get_inheritable if os.name == "posix" else os.get_handle_inheritable
    assert event.fileno() == number and not inheritable(number)


def test_it_begins_with_the_flag(Event):
    event = Event()
    event.set()
    number = event.fileno()
    assert is_readable(number)
    event.clear()
    assert not is_readable(number)


@pytest.mark.not_traced
@pytest.mark.parametrize("call", ["clear", "set", "__init__"])
def test_it_begins_during_a_call(Event, call):
    """At any line of the Python core; the compiled one is a single step."""

    def is_watched(code):
        return code.co_filename.endswith("_core_py.py")

    for place in range(1, 1000):
        event, numbers = Event(), []
        if call != "set":
            event.set()
        with SignalAtLine(place, is_watched, lambda event=event, numbers=numbers: numbers.append(event.fileno())) as begun:
            getattr(event, call)()
        number = numbers[0] if numbers else event.fileno()
        assert is_readable(number) == event.is_set(), place
        if not begun.is_done:
            break


@pytest.mark.parametrize("call", ["set", "clear"])
def test_a_call_at_the_end_of_the_stack(Event, call):
    """It raises and changes nothing, or else the descriptor follows. On PyPy, it does so at the next call."""
    event = Event()
    number = event.fileno()
    if call == "clear":
        event.set()
    before = event.is_set()

    def recurse():
        try:
            recurse()
        except RecursionError:
            if event.is_set() == before:
                try:
                    getattr(event, call)()
                except RecursionError:
                    pass
            raise

    with pytest.raises(STACK_ERRORS):
        recurse()
    if sys.implementation.name == "pypy":
        getattr(event, call)()
    assert is_readable(number) == event.is_set() != before


def test_a_set_ends_a_select(Event):
    parent = Event()
    child, answers = parent.child(), []
    number = child.fileno()
    with Threads(lambda: answers.append(is_readable(number, TIMEOUT))):
        time.sleep(0.02)
        parent.set()
    assert answers == [True]


def test_a_timeout_makes_it_readable(Event):
    event = Event(0.03, set_on_timeout=True)
    number = event.fileno()
    assert is_readable(number, TIMEOUT) and time.monotonic_ns() >= deadline(event)
    event.clear()
    assert is_readable(number, TIMEOUT) and time.monotonic_ns() >= deadline(event)


def test_clear_after_a_deadline_leaves_it_unreadable(Event):
    for _ in range(50):
        event = Event(0.001, set_on_timeout=True)
        number = event.fileno()
        time.sleep(0.001)
        event.clear()
        event.restart_timeout(300)
        until(lambda event=event, number=number: is_readable(number) == event.is_set())


def test_a_second_init_makes_it_unreadable(Event):
    event = Event()
    event.set()
    number = event.fileno()
    event.__init__()
    assert not event.is_set() and not is_readable(number) and event.fileno() == number
    event.set()
    assert is_readable(number)


def test_selectors_take_the_event(Event):
    events = [Event() for _ in range(3)]
    with selectors.DefaultSelector() as selector:
        for event in events:
            selector.register(event, selectors.EVENT_READ)
        assert selector.select(0) == []
        events[1].set()
        assert [key.fileobj for key, _ in selector.select(TIMEOUT)] == [events[1]]


@on_posix
def test_an_asyncio_loop_takes_the_event(Event):
    async def main():
        event, called = Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(event, called.set)
        threading.Timer(0.01, event.set).start()
        await asyncio.wait_for(called.wait(), TIMEOUT)
        loop.remove_reader(event)

    asyncio.run(main())


@on_posix
def test_connections_wait_for_the_event(Event):
    event, (receiver, sender) = Event(), multiprocessing.connection.Pipe(duplex=False)
    with receiver, sender:
        assert multiprocessing.connection.wait([event, receiver], 0) == []
        event.set()
        assert multiprocessing.connection.wait([event, receiver], TIMEOUT) == [event]
        sender.send(1)
        assert set(multiprocessing.connection.wait([event, receiver], TIMEOUT)) == {event, receiver}


@on_posix
def test_it_is_closed_with_the_event(Event):
    event = Event()
    event.set()
    number = event.fileno()
    os.fstat(number)
    del event

    def is_closed():
        gc.collect()  # PyPy frees a chain of objects link by link
        try:
            os.fstat(number)
        except OSError as error:
            return error.errno == errno.EBADF
        return False

    until(is_closed)


@on_posix
def test_several_threads_get_the_same_one(Event):
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        event, numbers = Event(), set()
        with Threads(*[lambda event=event, numbers=numbers: numbers.add(event.fileno())] * 4):
            pass
        assert len(numbers) == 1
        del event

    def are_closed():
        gc.collect()  # PyPy frees a chain of objects link by link
        return len(os.listdir("/dev/fd")) <= before

    until(are_closed)


def test_it_agrees_with_the_flag_at_last(Event, tiny_switch_interval):
    """Three threads set and clear."""
    event = Event()
    number = event.fileno()
    for _ in range(int(10 * SCALE)):
        for last in event.set, event.clear, lambda: None:

            def changes(last=last):
                for _ in range(500):
                    event.set()
                    event.clear()
                last()

            with Threads(changes, changes, changes):
                pass
            assert is_readable(number) == event.is_set()


@on_posix
def test_a_drop_during_set_writes_nothing_foreign(Event, tiny_switch_interval):
    """A descriptor that is closed may be that of a pipe at once."""
    parent, ended, foreign = Event(), threading.Event(), []

    def drops():
        try:
            for _ in range(int(1000 * SCALE)):
                child = parent.child()
                number = child.fileno()
                del child
                reader, writer = os.pipe()
                os.set_blocking(reader, False)
                for _ in range(10):
                    parent.is_set()
                try:
                    foreign.append((number, writer, os.read(reader, 100)))
                except BlockingIOError:
                    pass
                os.close(reader)
                os.close(writer)
        finally:
            ended.set()

    def sets():
        while not ended.is_set():
            parent.set()
            parent.clear()

    with Threads(drops, sets, sets):
        pass
    assert not foreign


@has_fork
def test_a_child_process_has_its_own(core, kind):
    def program():
        import os
        import select
        import sys

        if sys.argv[1] == "sockets" and hasattr(os, "eventfd"):
            del os.eventfd
        from fastevent import Event

        def is_readable(number):
            return bool(select.select([number], [], [], 0)[0])

        for first_use in "fileno", "set", "clear":
            event, other = Event(), Event()
            numbers = event.fileno(), other.fileno()
            other.set()
            to_child, from_parent = os.pipe()
            to_parent, from_child = os.pipe()
            pid = os.fork()
            if pid == 0:
                for each in event, other:
                    getattr(each, first_use)()
                event.set()
                other.set()
                assert is_readable(numbers[0]) and is_readable(numbers[1])
                other.clear()
                assert not is_readable(numbers[1])
                os.write(from_child, b"1")
                assert os.read(to_child, 1)  # the parent has set its own and cleared it
                assert is_readable(numbers[0]) and not is_readable(numbers[1]) and (event.fileno(), other.fileno()) == numbers
                os._exit(0)
            assert os.read(to_parent, 1)  # the child has changed its own
            assert not is_readable(numbers[0]) and is_readable(numbers[1])
            event.set()
            event.clear()
            other.clear()
            other.set()
            os.write(from_parent, b"1")
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert not is_readable(numbers[0]) and is_readable(numbers[1])

    python(program, core, kind)


@has_fork
def test_a_grandchild_process_has_its_own(core, kind):
    def program():
        import os
        import select
        import sys

        if sys.argv[1] == "sockets" and hasattr(os, "eventfd"):
            del os.eventfd
        from fastevent import Event

        event = Event()
        number = event.fileno()
        for depth in range(3):
            if depth == 1:
                event.fileno()  # in the child, and not in the grandchild
            pid = os.fork()
            if pid:
                ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                good = ended and not select.select([number], [], [], 0)[0] and event.fileno() == number
                if depth:
                    os._exit(not good)
                assert good
                break
        else:
            event.set()
            os._exit(not select.select([number], [], [], 0)[0] or event.fileno() != number)

    python(program, core, kind)


@on_posix
def test_without_a_descriptor_left_the_event_works(core, kind):
    def program():
        import errno
        import os
        import resource
        import select
        import sys

        if sys.argv[1] == "sockets" and hasattr(os, "eventfd"):
            del os.eventfd
        from fastevent import Event

        event, calls = Event(), []
        event.add_callback(calls.append)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (10, limits[1]))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for _ in range(2):
            try:
                event.fileno()
                print("no error")
            except OSError as error:
                print(errno.errorcode[error.errno])
        event.set()
        assert calls == [event] and event.is_set() and event.wait(1)
        event.clear()
        assert not event.wait(0.01)
        for each in taken:
            os.close(each)
        assert not select.select([event], [], [], 0)[0]
        event.set()
        assert select.select([event], [], [], 0)[0] and event.fileno() in taken

    assert python(program, core, kind) == "EMFILE\n" * 2


@on_posix
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
def test_dropped_events_leave_no_descriptor(Event):
    before = os.listdir("/dev/fd")
    for _ in range(2000):
        event = Event()
        event.fileno()
        event.set()
    del event
    assert len(os.listdir("/dev/fd")) == len(before)


@on_posix
def test_a_closed_descriptor_stops_no_set(core, kind):
    def program():
        import logging
        import os

        from fastevent import Event

        logging.disable()
        event, calls = Event(), []
        event.add_callback(calls.append)
        os.close(event.fileno())
        event.set()
        assert calls == [event]
        event._fe_wakers.clear()
        os._exit(0)  # the end would close it again

    python(program, core, kind)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_daemon_keeps_its_files(core, kind):
    """It has closed all descriptors, and has given the number of the event's to another file."""

    def program():
        import os
        import select

        from fastevent import Event

        event = Event()
        number = event.fileno()

        pid = os.fork()
        if pid == 0:
            os.closerange(3, 256)
            names = [os.open(os.devnull, os.O_RDWR) for _ in range(number)]
            assert number in names
            event.set()
            assert [os.write(name, b"x") for name in names] == [1] * len(names)
            assert event.fileno() not in names and select.select([event], [], [], 60)[0]
            event.clear()
            assert not select.select([event], [], [], 0)[0]
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    python(program, core, kind)
