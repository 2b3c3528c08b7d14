"""Helper threads and forks: they end before one and start again afterwards, in both processes."""

import os
import sys

import pytest
from helpers import HAS_GIL, TIMEOUT, python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

with_the_gil = pytest.mark.skipif(sys.implementation.name != "cpython" or not HAS_GIL, reason="CPython with the GIL")

starts_at_fork = pytest.mark.skipif(sys.implementation.name == "pypy", reason="no thread can start as a child begins")
on_cpython = pytest.mark.skipif(sys.implementation.name != "cpython", reason="asks CPython's atexit")


def test_both_processes_set_100_events(core):
    def program():
        from forking import all_set, armed, counts, ended, in_child
        from helpers import until

        calls = []
        events = armed(0.2, calls.append, 100)

        def both():
            all_set(events)
            until(lambda: len(calls) == 100)
            again = armed(0.01, calls.append)
            until(lambda: calls[100:] == [again])

        pid = in_child(both)
        both()
        assert ended(pid) == 0
        assert counts == [0], counts

    python(program, core)


def test_idle_helpers_end_before_each_fork(core):
    def program():
        from forking import armed, counts, ended, in_child
        from helpers import until

        calls = []
        for number in range(20):
            armed(0.001, calls.append)
            _event = armed(3600)
            if number % 2:
                last = armed(0.001, calls.append)
                until(lambda last=last: last in calls)
            assert ended(in_child(lambda: None)) == 0
        assert counts == [0] * 20, counts

    python(program, core)


def test_a_child_without_need_has_no_helper(core):
    def program():
        import _thread
        import threading

        from forking import armed
        from helpers import in_child, until  # not that of forking, which starts helpers on PyPy

        from fastevent import Event, _callbacks, _timers

        event = Event(0.001, set_on_timeout=True)
        until(event.is_set)
        until(lambda: not _callbacks.callbacks.busy() and not _timers.timers._needed())

        def child():
            assert _thread._count() == 0 and threading.enumerate() == [threading.main_thread()]
            _event = armed(3600)
            until(lambda: [thread.name for thread in threading.enumerate()] == ["MainThread", "fastevent timers"])

        assert in_child(child) == 0

    python(program, core)


def test_forks_may_be_nested(core):
    def program():
        from forking import all_set, armed, counts, ended, in_child
        from helpers import until

        events = armed(0.3, count=100)

        def grandchild():
            all_set(events)
            until(armed(0.01).is_set)

        def child():
            pids = [in_child(grandchild) for _ in range(2)]
            all_set(events)
            assert [ended(pid) for pid in pids] == [0, 0]

        pids = [in_child(child) for _ in range(2)]
        all_set(events)
        assert [ended(pid) for pid in pids] == [0, 0]
        assert counts == [0, 0], counts

    python(program, core)


def test_two_threads_may_fork_at_once(core):
    def program():
        import threading
        import warnings

        from forking import all_set, armed, ended, in_child
        from helpers import until

        from fastevent import _process

        warnings.simplefilter("ignore", DeprecationWarning)  # they are several threads themselves
        events, codes = armed(0.5, count=100), []

        def child():
            all_set(events)
            until(armed(0.01).is_set)

        def forks():
            for _ in range(5):
                codes.append(ended(in_child(child)))

        threads = [threading.Thread(target=forks) for _ in range(2)]
        for thread in threads:
            thread.start()
        all_set(events)
        for thread in threads:
            thread.join(50)
        assert codes == [0] * 10, codes
        until(armed(0.01).is_set)
        assert not _process._forks

    python(program, core)


def test_a_signal_handler_may_fork_during_a_fork(core):
    def program():
        import signal

        from forking import all_set, armed, ended, in_child
        from helpers import until

        from fastevent import _process

        codes, pids = [], []
        events = armed(0.5, count=100)

        def child():
            signal.setitimer(signal.ITIMER_REAL, 0)
            all_set(events)

        def forks(*_):
            signal.setitimer(signal.ITIMER_REAL, 0)
            pids.append(in_child(child))

        signal.signal(signal.SIGALRM, forks)
        for number in range(1, 21):
            signal.setitimer(signal.ITIMER_REAL, number * 0.00002)
            pids.append(in_child(child))
        signal.setitimer(signal.ITIMER_REAL, 0)
        all_set(events)
        codes = [ended(pid) for pid in pids]
        assert set(codes) == {0} and len(codes) > 20, codes
        until(armed(0.01).is_set)
        assert not _process._forks

    python(program, core)


def test_a_fork_waits_for_no_callback(core):
    """The callback goes on in the parent, once. The child takes no part in it, nor in those that were pending."""

    def program():
        import threading
        import time
        import warnings

        from forking import armed, ended, in_child
        from helpers import until

        warnings.simplefilter("ignore", DeprecationWarning)  # the callback's thread goes on
        begun, go_on, calls = threading.Event(), threading.Event(), []

        def callback(event):
            begun.set()
            assert go_on.wait(60)
            calls.append("first")

        first = armed(0.01, callback)
        first.add_callback(lambda event: calls.append("second"))
        assert begun.wait(60)

        def child():
            calls.clear()
            go_on.set()
            event = armed(0.01, calls.append)
            until(lambda: calls == [event])
            time.sleep(0.05)
            assert calls == [event]

        assert ended(in_child(child)) == 0
        _later = armed(0.01, lambda event: calls.append("later"))
        until(lambda: calls == ["second", "later"])  # in another thread
        go_on.set()
        until(lambda: calls[2:] == ["first"])

    python(program, core)


@on_cpython
def test_a_childs_helper_needs_no_threading_lock(core):
    """Another thread may hold it at the fork. From Python 3.13 on, what a child drops of a thread like ours takes it."""

    def program():
        import os
        import threading
        import warnings

        from forking import armed
        from helpers import until

        warnings.simplefilter("ignore", DeprecationWarning)  # the callback's thread goes on
        called, held, over = (threading.Event() for _ in range(3))
        _event = armed(0.001, lambda _: called.set() or over.wait())

        def hold():
            with threading._active_limbo_lock:
                held.set()
                over.wait()

        called.wait()
        assert "fastevent callbacks" in {thread.name for thread in threading.enumerate()}
        threading.Thread(target=hold).start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        try:
            until(lambda: os.waitpid(pid, os.WNOHANG)[0])
        except AssertionError:
            os.kill(pid, 9)
            raise
        finally:
            over.set()

    python(program, core, timeout=2 * TIMEOUT)


def test_a_fork_amid_reading_loses_no_deadline(core):
    """The thread of the timers cannot end in time, as it is between reading a deadline and noting it."""

    def program():
        import heapq
        import threading
        import types
        import warnings

        from forking import ended, in_child
        from helpers import until

        from fastevent import Event, _timers

        warnings.simplefilter("ignore", DeprecationWarning)
        begun, go_on = threading.Event(), threading.Event()

        def heappush(heap, entry):
            begun.set()
            assert go_on.wait(60)
            heapq.heappush(heap, entry)

        _timers.heapq = types.SimpleNamespace(heappush=heappush, heappop=heapq.heappop, heapify=heapq.heapify)
        event = Event(0.1, set_on_timeout=True)
        assert begun.wait(60)

        def child():
            go_on.set()
            until(event.is_set)

        pid = in_child(child)
        go_on.set()
        until(event.is_set)
        assert ended(pid) == 0

    python(program, core)


def test_a_callback_may_fork(core):
    def program():
        import warnings

        from forking import armed, ended, in_child
        from helpers import until

        warnings.simplefilter("ignore", DeprecationWarning)
        codes, calls = [], []

        def child():
            event = armed(0.01, calls.append)
            until(lambda: calls == [event])

        def callback(event):
            codes.append(ended(in_child(child)))

        for count in range(3):
            event = armed(0.01, callback)
            until(lambda count=count: len(codes) > count)
        assert codes == [0] * 3, codes
        event = armed(0.01, calls.append)
        until(lambda: calls == [event])

    python(program, core)


@with_the_gil
def test_a_fork_in_c_calls_no_handler_before(core):
    """As uWSGI does: only the handlers for the child are called."""

    def program():
        import _imp
        import ctypes
        import os
        import time

        from forking import all_set, armed, counts, ended
        from helpers import until

        libc, calls = ctypes.PyDLL(None), []
        events = armed(0.3, calls.append, 100)
        for _ in range(3):
            time.sleep(0.1)  # no other thread needs the interpreter then, whose own locks such a fork leaves as they are
            _imp.acquire_lock()  # which the child releases
            pid = libc.fork()
            if pid == 0:
                ctypes.pythonapi.PyOS_AfterFork_Child()
                code = 1
                try:
                    all_set(events)
                    until(lambda: len(calls) == 100)
                    until(armed(0.01).is_set)
                    code = 0
                finally:
                    os._exit(code)
            _imp.release_lock()
            assert ended(pid) == 0
        all_set(events)
        assert counts == []

    python(program, core)


@starts_at_fork
def test_a_restart_that_fails_is_tried_again(core):
    def program():
        from forking import armed, ended, in_child
        from helpers import until

        from fastevent import _process

        start, event, failed = _process.native.start_new_thread, armed(0.1), []

        def fails(*_):
            failed.append(1)
            raise RuntimeError("can't start new thread")

        def again():
            until(lambda: failed)
            _process.native.start_new_thread = start
            until(armed(0.01).is_set)
            until(event.is_set)

        _process.native.start_new_thread = fails
        pid = in_child(again)
        again()
        assert ended(pid) == 0

    python(program, core)


def test_a_use_during_a_fork_starts_nothing(core):
    """Handlers of other packages run before, too: what they make must start no thread during the fork."""

    def program():
        import _thread
        import os

        from forking import armed, counts, ended, in_child
        from helpers import until

        events, calls = [], []
        _first = armed(3600)
        os.register_at_fork(before=lambda: events.append(armed(0.05, calls.append)) or counts.append(_thread._count()))

        def both():
            until(lambda: calls == events and events)

        pid = in_child(both)
        both()
        assert ended(pid) == 0 and counts[-1] == 0, counts

    python(program, core)


def test_multiprocessing_children_set_their_own(core):
    def program():
        import multiprocessing

        from forking import all_set, armed
        from helpers import until

        events = armed(0.2, count=100)

        def child():
            all_set(events)
            until(armed(0.01).is_set)

        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=child) for _ in range(2)]
        for process in processes:
            process.start()
        all_set(events)
        for process in processes:
            process.join(50)
            assert process.exitcode == 0

    python(program, core)


@on_cpython
def test_forks_register_nothing_more_at_exit(core):
    def program():
        import atexit

        from forking import armed, ended, in_child

        from fastevent import _timers

        event = armed(3600)
        before = atexit._ncallbacks()
        for _ in range(3):
            assert ended(in_child(event.set)) == 0
        assert _timers.timers.helper.life is not None
        assert atexit._ncallbacks() == before

    python(program, core)


@on_cpython
def test_a_child_that_cleared_atexit_waits_for_callbacks(core):
    """`multiprocessing` clears it in a forked child."""

    def program():
        import atexit
        import os
        import sys
        import threading
        import time

        from forking import armed, ended

        _kept = armed(3600)

        def saves(event):
            begun.set()
            time.sleep(0.1)
            print("saved")

        pid = os.fork()
        if pid == 0:
            atexit._clear()
            begun = threading.Event()
            _event = armed(0.01, saves)
            begun.wait()
            sys.exit()
        assert ended(pid) == 0

    assert python(program, core) == "saved\n"


def test_a_signal_during_a_fork_stops_no_helper(core):
    """What its handler raises comes out of a function that `os.fork()` calls, at whatever point."""

    def program():
        import os
        import signal
        import sys
        import time
        import warnings
        from functools import partial

        # The signal comes in the functions of the package, which are called after this one.
        os.register_at_fork(after_in_parent=partial(signal.setitimer, signal.ITIMER_REAL, 0.000_001))
        from helpers import until

        from fastevent import Event

        warnings.simplefilter("ignore")  # of a thread that was not ended before the fork
        interrupted = []
        sys.unraisablehook = interrupted.append

        class Interruption(BaseException):
            pass

        def handler(*_):
            raise Interruption

        signal.signal(signal.SIGALRM, handler)
        _lasting = Event(3600, set_on_timeout=True)
        for _ in range(100):
            try:
                if os.fork() == 0:
                    os._exit(0)
                time.sleep(0.001)
            except Interruption:
                pass
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert interrupted
        event = Event(0.01, set_on_timeout=True)
        until(event.is_set)

    python(program, core)


def test_a_fork_beside_a_callback_is_quick(core):
    """The quickest of a few: the machine may be slow. A fork that waited would wait 0.1 s."""

    def program():
        import threading
        import time
        import warnings

        from forking import armed, ended, in_child

        warnings.simplefilter("ignore", DeprecationWarning)  # the callback's thread goes on
        begun, go_on, times = threading.Event(), threading.Event(), []

        def callback(event):
            begun.set()
            assert go_on.wait(60)

        _event = armed(0.01, callback)
        assert begun.wait(60)
        for _ in range(5):
            start = time.monotonic()
            pid = in_child(lambda: None)
            times.append(time.monotonic() - start)
            assert ended(pid) == 0
        go_on.set()
        assert min(times) < 0.09, times

    python(program, core)


def test_a_fork_amid_firing_loses_no_deadline(core):
    """The thread of the timers cannot end in time, as it is about to set the event."""

    def program():
        import threading
        import warnings

        from forking import ended, in_child
        from helpers import until

        from fastevent import Event

        warnings.simplefilter("ignore", DeprecationWarning)  # that thread goes on
        begun, go_on = threading.Event(), threading.Event()

        class Slow(Event):
            def _fe_try_set(self, *arguments):
                begun.set()
                assert go_on.wait(60)
                return super()._fe_try_set(*arguments)

        event = Slow(0.05, set_on_timeout=True)
        assert begun.wait(60)

        def child():
            go_on.set()
            until(event.is_set)

        pid = in_child(child)
        go_on.set()
        until(event.is_set)
        assert ended(pid) == 0

    python(program, core)


@starts_at_fork
def test_a_later_deadline_starts_a_missing_thread(core):
    """The start after a fork has failed. A deadline that is put off needs no new entry, but a thread."""

    def program():
        from forking import ended, in_child

        from fastevent import Event, _process, _timers

        start, event, failed = _process.native.start_new_thread, Event(3600, set_on_timeout=True), []

        def fails(*_):
            failed.append(1)
            raise RuntimeError("can't start new thread")

        def child():
            assert _timers.timers.helper.life is None and failed
            _process.native.start_new_thread = start
            event.restart_timeout(7200)
            assert _timers.timers.helper.life is not None

        _process.native.start_new_thread = fails
        assert ended(in_child(child)) == 0
        _process.native.start_new_thread = start

    python(program, core)


@with_the_gil
def test_a_block_after_a_fork_awaits_no_namesake(core):
    """New threads of the child take the stacks, and so the idents, of those that the fork has left behind."""

    def program():
        import threading
        import warnings

        from forking import ended, in_child

        from fastevent import Event

        warnings.simplefilter("ignore")
        event, begun, end, never = Event(), threading.Event(), threading.Event(), threading.Event()
        registration = event.callback(lambda: (begun.set(), end.wait()))
        thread = threading.Thread(target=event.set)
        thread.start()
        begun.wait()

        def leaves():
            others = [threading.Thread(target=never.wait, daemon=True) for _ in range(20)]
            for other in others:
                other.start()
            with registration:
                pass

        child = in_child(leaves)
        end.set()
        assert ended(child) == 0

    python(program, core)
