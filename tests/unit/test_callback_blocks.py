"""`with event.callback(function)`: a call that ends, or never begins, before the block is left."""

import _thread
import functools
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref

import pytest
from helpers import TIMEOUT, CtrlC, SignalAtLine, Threads, until


class Slow:
    """A function that has begun, and ends when it is allowed to."""

    def __init__(self):
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = False

    def __call__(self):
        self.begun.set()
        assert self.may_end.wait(TIMEOUT)
        self.ended = True


def test_a_set_in_the_block_calls_once(Event):
    event, calls = Event(), []
    with event.callback(lambda *args, **kwargs: calls.append((args, kwargs)), 1, function=2, event=3):
        assert event.status().callbacks == 1 and not calls
        event.set()
        assert calls == [((1,), {"function": 2, "event": 3})]
        event.clear()
        event.set()
    assert len(calls) == 1 and event.status().callbacks == 0


def test_a_set_event_calls_at_once(Event):
    event, calls = Event(), []
    event.set()
    with event.callback(calls.append, 1):
        assert calls == [1]
    assert calls == [1]


def test_after_the_block_there_is_no_call(Event):
    event, calls = Event(), []
    with event.callback(calls.append, 1):
        pass
    event.set()
    assert not calls and event.status().callbacks == 0


def test_an_exception_leaves_the_block_likewise(Event):
    event, calls = Event(), []
    with pytest.raises(ValueError), event.callback(calls.append, 1):
        raise ValueError
    event.set()
    assert not calls


def test_a_parent_calls_too(Event):
    parent, calls = Event(), []
    child = parent.child()
    with child.callback(calls.append, 1):
        parent.set()
        assert calls == [1]


def test_blocks_of_one_function_are_separate(Event):
    event, calls = Event(), []
    with event.callback(calls.append, 1), event.callback(calls.append, 1):
        with event.callback(calls.append, 1):
            pass
        event.set()
    assert calls == [1, 1]


def test_what_the_function_raises_is_logged(Event, caplog):
    def fails():
        raise ValueError("from the function")

    event = Event()
    with event.callback(fails):
        event.set()
    assert "fails" in caplog.text and "from the function" in caplog.text
    with event.callback(fails):
        pass
    assert caplog.text.count("ValueError: from the function") == 2


def test_leaving_waits_for_a_call_that_has_begun(Event):
    event, slow, left = Event(), Slow(), []

    def leaves():
        with event.callback(slow):
            setter.start()
            assert slow.begun.wait(TIMEOUT)
        left.append(slow.ended)

    setter = threading.Thread(target=event.set)
    with Threads(leaves):
        assert slow.begun.wait(TIMEOUT)
        time.sleep(0.05)  # time to leave too early
        assert not left
        slow.may_end.set()
    setter.join(TIMEOUT)
    assert left == [True]


def test_leaving_waits_for_a_thread_without_a_function_of_python(Event):
    event, lock, released = Event(), threading.Lock(), []

    def releases():
        released.append(True)
        lock.release()

    lock.acquire()
    with event.callback(lock.acquire, timeout=TIMEOUT) as registration:
        _thread.start_new_thread(event.set, ())
        until(lambda: not registration.is_pending)
        threading.Timer(0.05, releases).start()
    assert released and lock.locked()


def test_leaving_drops_a_call_that_has_not_begun(Event):
    event, slow, calls = Event(), Slow(), []
    with event.callback(slow):  # it comes first, and delays the other
        block = event.callback(calls.append, 1)
        block.__enter__()
        with Threads(event.set):
            assert slow.begun.wait(TIMEOUT)
            block.__exit__(None, None, None)
            slow.may_end.set()
    assert not calls


def test_a_timeout_calls_from_a_helper_thread(Event):
    event, threads = Event(3600, set_on_timeout=True), []
    with event.callback(lambda: threads.append(threading.current_thread().name)):
        event.restart_timeout(0.01)
        assert event.wait(TIMEOUT)
        until(lambda: threads)
    assert threads == ["fastevent callbacks"]


def test_leaving_waits_for_the_helper_thread(Event):
    event, slow = Event(3600, set_on_timeout=True), Slow()
    with event.callback(slow):
        event.restart_timeout(0.01)
        assert slow.begun.wait(TIMEOUT)
        threading.Timer(0.02, slow.may_end.set).start()
    assert slow.ended


def test_a_function_may_leave_its_own_block(Event):
    event, calls = Event(), []

    def leaves():
        calls.append(1)
        block.__exit__(None, None, None)
        calls.append(2)

    block = event.callback(leaves)
    block.__enter__()
    event.set()
    assert calls == [1, 2] and event.status().callbacks == 0


def test_a_signal_handler_sets_inside_the_block(Event):
    event, threads = Event(), []
    with event.set_on_signals(signal.SIGTERM), event.callback(lambda: threads.append(threading.get_ident())):
        signal.raise_signal(signal.SIGTERM)
        until(lambda: threads)
    assert len(threads) == 1 and threads[0] != threading.get_ident()
    event.clear()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        with event.callback(lambda: threads.append(threading.get_ident())):
            signal.raise_signal(signal.SIGTERM)
        assert threads[1:] == [threading.get_ident()]  # a handler of the user's calls in its thread
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal to another thread here")
def test_ctrl_c_ends_the_waiting(Event):
    event, slow = Event(), Slow()
    setter = threading.Thread(target=event.set, daemon=True)
    with CtrlC() as ctrl_c, pytest.raises(KeyboardInterrupt):
        with event.callback(slow):
            setter.start()
            assert slow.begun.wait(TIMEOUT)
            ctrl_c.send()
    assert not slow.ended
    slow.may_end.set()
    setter.join(TIMEOUT)
    assert slow.ended and event.status().callbacks == 0


@pytest.mark.not_traced
def test_exceptions_of_signal_handlers_leave_nothing(Event):
    """At every line of entering and leaving, one is raised in turn."""

    def is_watched(code):
        return "fastevent" in code.co_filename and code.co_name != "__enter__"

    # Between the call, which registers, and the block, the function is registered. A handler that raises there leaves it so.
    calls = []
    for place in range(1, 1000):
        event, entered = Event(), False
        with SignalAtLine(place, is_watched) as interrupted, event.callback(calls.append, 1):
            entered = True
        if not interrupted.is_done:
            break
        gc.collect()  # it drops a block that was not entered to the end
        event.set()
        # At the very end, the exception ends the promise that no call comes after the block.
        assert event.status().callbacks == 0 and len(calls) <= entered
        calls.clear()
    assert 3 < place < 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait(Event):
    event, slow = Event(), Slow()
    block = event.callback(slow)
    block.__enter__()
    with Threads(event.set):
        assert slow.begun.wait(TIMEOUT)
        child = os.fork()
        if not child:
            signal.alarm(int(TIMEOUT))
            block.__exit__(None, None, None)
            os._exit(7)
        _, status = os.waitpid(child, 0)
        slow.may_end.set()
    block.__exit__(None, None, None)
    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.usefixtures("tiny_switch_interval")
def test_no_call_after_the_block_under_load(Event):
    """The resource is closed as the block is left, while another thread sets the event."""
    rounds, open_, faults = 400, set(), []

    def uses(number):
        if number not in open_:
            faults.append(number)

    events = [Event() for _ in range(rounds)]

    def sets():
        for event in events:
            event.set()

    def blocks():
        for number, event in enumerate(events):
            open_.add(number)
            with event.callback(uses, number):
                pass
            open_.discard(number)

    with Threads(sets, blocks):
        pass
    assert not faults


def test_bad_functions_are_refused(Event):
    async def coroutine_function():
        raise AssertionError

    class Asynchronous:
        async def __call__(self):
            raise AssertionError

    event = Event()
    with pytest.raises(TypeError, match="a callback must be callable, not 5"):
        event.callback(5)
    for function in (coroutine_function, functools.partial(coroutine_function), Asynchronous()):
        with pytest.raises(TypeError, match="not the coroutine function"):
            event.callback(function)
    with pytest.raises(TypeError):
        event.callback()
    with event.callback(Asynchronous):  # a class is made an instance of
        event.set()


def test_a_query_of_sqlite_is_interrupted(Event):
    event, begun = Event(), threading.Event()
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.set_progress_handler(begun.set, 1_000)  # a query that has not begun cannot be interrupted
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with Threads(lambda: begun.wait(TIMEOUT) and event.set()):
        with pytest.raises(sqlite3.OperationalError, match="interrupted"), event.callback(connection.interrupt):
            connection.execute(endless)
    connection.close()


def test_a_process_is_killed(Event):
    event = Event(0.05, set_on_timeout=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        with event.callback(process.kill):
            assert process.wait(TIMEOUT) != 0


def test_the_block_keeps_nothing_alive(Event):
    event, slow = Event(), Slow()
    with event.callback(slow):
        pass
    there = weakref.ref(slow)
    del slow
    gc.collect()
    assert there() is None


@pytest.mark.not_traced
@pytest.mark.skipif(
    sys.version_info < (3, 11) or sys.implementation.name != "cpython", reason="there, the claim and the call are one step"
)
@pytest.mark.core("py")  # in the compiled core, the claim and the call are one step
@pytest.mark.parametrize("leaves", [True, False])
def test_an_interrupted_call_is_not_lost(core, Event, leaves):
    """Another thread, which removes it meanwhile, learns that it has begun."""
    event, calls, answers, threads = Event(), [], [], []
    registration = event.callback(calls.append, 1)

    def removes():
        if leaves:
            with registration:
                pass
            answers.append(None)
        else:
            answers.append(registration.remove())

    def step(frame, kind, argument):
        if kind == "line" and not threads and not registration.is_pending:
            threads.append(threading.Thread(target=removes, daemon=True))
            threads[0].start()
            until(lambda: answers or registration._claims.get("token") is not None)
            raise KeyboardInterrupt
        return step

    tracer, code = sys.gettrace(), type(registration).__call__.__code__
    sys.settrace(lambda frame, kind, argument: step if frame.f_code is code else None)
    try:
        event.set()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracer)
    until(lambda: answers)
    assert answers == [None if leaves else False] and calls == [1] * (not leaves or len(calls))
