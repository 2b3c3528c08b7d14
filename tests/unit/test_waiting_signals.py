"""Signal handlers during `wait()`: they run, what they raise ends the call, and no waiter is left behind or lost."""

import os
import sys

import pytest
from helpers import python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals of POSIX")

#: guarantees.md says what holds there.
not_pypy = pytest.mark.skipif(sys.implementation.name == "pypy", reason="a handler of PyPy may raise between any two steps")


def test_a_handler_sets_during_every_method(core):
    def program():
        import signal
        import time

        from fastevent import Event

        event, fired = Event(timeout=1e6), 0

        def handler(*_):
            global fired
            fired += 1
            event.set()
            event.is_set()
            event.check_timeout()
            event.clear()
            event.set()

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        calls, end = 0, time.monotonic() + 1
        while time.monotonic() < end or fired < 100:
            event.clear()
            event.wait(0.002)
            event.set()
            event.clear()
            event.check_timeout()
            event.is_set()
            event.clear()
            event.wait()
            repr(event)
            calls += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        event.clear()
        assert event.wait(0.01) is False
        event.set()
        assert event.wait()
        print(fired >= 100, calls > 0)

    assert python(program, core) == "True True\n"


@pytest.mark.not_traced
@pytest.mark.parametrize("timeout", [[], [30], [1e9], [float("inf")]])
def test_ctrl_c_ends_a_wait(core, timeout):
    def program():
        import signal
        import sys
        import threading

        from fastevent import Event

        event = Event()
        answers = []
        others = [threading.Thread(target=lambda: answers.append(event.wait())) for _ in range(3)]
        for other in others:
            other.start()
        main = threading.get_ident()
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
        try:
            event.wait(*map(float, sys.argv[1:]))
        except KeyboardInterrupt:
            print("interrupted", end=" ")
        event.set()
        for other in others:
            other.join()
        event.clear()
        print(answers, event.wait(0.01))

    assert python(program, core, *timeout) == "interrupted [True, True, True] False\n"


def test_a_handler_that_returns_ends_no_wait(core):
    def program():
        import signal
        import time

        from fastevent import Event

        event = Event()
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        start = time.monotonic_ns()
        assert event.wait(0.3) is False
        assert time.monotonic_ns() - start >= 0.3e9
        signal.setitimer(signal.ITIMER_REAL, 0)

    assert python(program, core) == ""


def test_a_set_in_a_handler_ends_the_wait(core):
    def program():
        import signal

        from fastevent import Event

        event = Event()

        def handler(*_):
            event.set()
            event.clear()

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        print(event.wait(), event.is_set())

    assert python(program, core) == "True False\n"


@pytest.mark.not_traced
def test_a_handler_that_sets_and_raises_leaves_newcomers(core):
    """The wait() that it ends was woken: it must not take away another that came after the clear()."""

    def program():
        import signal
        import threading

        from helpers import until_waiting

        from fastevent import Event

        event, answers = Event(), []
        other = threading.Thread(target=lambda: answers.append(event.wait(30)))

        class Stop(Exception):
            pass

        def handler(*_):
            event.set()
            event.clear()
            other.start()
            until_waiting(event)
            raise Stop

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            event.wait()
        except Stop:
            print(event.status().waiters, end=" ")
        event.set()
        other.join()
        print(answers)

    assert python(program, core) == "1 [True]\n"


@pytest.mark.not_traced
@pytest.mark.parametrize("index", [0, 40, 99])
def test_a_woken_waiter_that_raises_wakes_another(core, index):
    """The main thread waits at that place of the queue. A handler in its wait() sets the event and raises."""

    def program():
        import signal
        import sys
        import threading

        from helpers import until_waiting

        from fastevent import Event

        event, answers, index = Event(), [], int(sys.argv[1])
        threads = [threading.Thread(target=lambda: answers.append(event.wait())) for _ in range(100)]

        class Stop(Exception):
            pass

        def handler(*_):
            for thread in threads[index:]:
                thread.start()
            until_waiting(event, 101)
            event.set()
            event.clear()
            raise Stop

        for thread in threads[:index]:
            thread.start()
        until_waiting(event, index)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            event.wait()
        except Stop:
            for thread in threads:
                thread.join()
            print(answers == [True] * 100, event.status().waiters)

    assert python(program, core, str(index)) == "True 0\n"


@not_pypy
@pytest.mark.not_traced
@pytest.mark.parametrize("call", ["wait", "wait_any"])
def test_interrupted_waits_leave_no_waiter_behind(core, call):
    def program():
        import signal
        import sys
        import time

        from fastevent import Event, wait_any

        event, armed, caught = Event(), False, 0

        class Interrupted(BaseException):
            pass

        def handler(*_):
            if armed:
                raise Interrupted

        signal.signal(signal.SIGALRM, handler)
        call, argument = (event.wait, []) if sys.argv[1] == "wait" else (wait_any, [[event]])
        end = time.monotonic() + 0.5
        while time.monotonic() < end or caught < 100:
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + caught % 97 * 3e-6)
                while True:
                    call(*argument, 0.0001)
            except Interrupted:
                armed = False
                caught += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(event.status().waiters)

    assert python(program, core, call) == "0\n"


def test_an_interrupted_leave_keeps_other_waiters():
    def program():
        from helpers import Threads, until_waiting

        from fastevent import Event, _core_py

        event, answers, leave = Event(), [], _core_py.EventCore._fe_leave

        def interrupted(self, waiters, waiter):
            _core_py.EventCore._fe_leave = leave
            leave(self, waiters, waiter)
            raise KeyboardInterrupt

        with Threads(lambda: answers.append(event.wait())):
            until_waiting(event)
            _core_py.EventCore._fe_leave = interrupted
            try:
                event.wait(0.001)
            except KeyboardInterrupt:
                answers.append(event.status().waiters)
            event.set()
        print(answers)

    assert python(program, "py") == "[1, True]\n"


@not_pypy
@pytest.mark.not_traced
def test_an_interrupted_set_loses_no_callback(core):
    def program():
        import signal
        import time

        from fastevent import Event

        event, armed, caught, wrong = Event(), False, 0, []

        class Interrupted(BaseException):
            pass

        def handler(*_):
            if armed:
                raise Interrupted

        signal.signal(signal.SIGALRM, handler)
        end = time.monotonic() + 0.5
        while time.monotonic() < end or caught < 100:
            calls = []
            event.clear()
            for _ in range(20):
                event.add_callback(calls.append)
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + caught % 50 * 2e-6)
                for _ in range(5):
                    event.set()
                while True:
                    pass
            except Interrupted:
                armed = False
                caught += 1
            event.set()
            if len(calls) != 20:
                wrong.append(len(calls))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(wrong)

    assert python(program, core) == "[]\n"
