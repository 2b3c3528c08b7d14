"""Threads in `wait()`: each is woken, once, and never early."""

import gc
import sys
import threading
import time
import weakref

import pytest
from helpers import STACK_ERRORS, TIMEOUT, Threads, deadline, need_failing_allocations, python, until, until_waiting

SECOND = 10**9

#: How many threads a `set()` wakes at once with the GIL.
WINDOW = 64


@pytest.fixture
def small_stacks():
    """Thousands of threads fit into little memory."""
    before = threading.stack_size(256 * 1024)
    yield
    threading.stack_size(before)


# Waking


@pytest.mark.parametrize("timeout", [None, 30, 1e9, float("inf")])
def test_set_wakes_all_waiters(Event, timeout):
    event, answers = Event(), []
    with Threads(*[lambda: answers.append(event.wait(timeout))] * 3):
        until_waiting(event, 3)
        event.set()
    assert answers == [True] * 3


def test_a_set_while_the_timeout_is_read_counts(Event):
    class Seconds(float):
        def __gt__(self, other):
            event.set()
            return True

    event = Event()
    start = time.monotonic()
    assert event.wait(Seconds(TIMEOUT)) and time.monotonic() - start < TIMEOUT


def test_clear_takes_no_wakeup_back(Event):
    event, answers = Event(), []
    for _ in range(8):
        answers.clear()
        with Threads(*[lambda: answers.append(event.wait(TIMEOUT))] * 5):
            until_waiting(event, 5)
            event.set()
            event.clear()
        assert answers == [True] * 5


def test_a_wait_after_clear_is_a_new_one(Event):
    event = Event()
    event.set()
    event.clear()
    assert event.wait(0.01) is False


def test_a_timed_out_waiter_leaves_the_others_alone(Event):
    event, answers = Event(), {}

    def waits(timeout):
        answers[timeout] = event.wait(timeout)

    with Threads(*(lambda timeout=timeout: waits(timeout) for timeout in (0.02, 40, 0.01, 50, 0.03))):
        until(lambda: len(answers) == 3)
        event.set()
    assert answers == {0.02: False, 40: True, 0.01: False, 50: True, 0.03: False}


def test_waiters_of_two_events_do_not_meet(Event):
    first, second, answers = Event(), Event(), []

    def waits():
        answers.append(("first", first.wait(TIMEOUT)))
        answers.append(("second", second.wait(0.05)))

    with Threads(waits):
        until_waiting(first)
        first.set()
    assert answers == [("first", True), ("second", False)]


def test_what_precedes_set_is_read_after_wait(Event, tiny_switch_interval):
    event, box = Event(), []

    def writes():
        for number in range(2000):
            box.append(number)
            event.set()
            while event.is_set():
                pass

    def reads():
        for number in range(2000):
            assert event.wait(TIMEOUT)
            assert box[-1] == number
            event.clear()

    with Threads(writes, reads):
        pass


def test_no_thread_falls_behind(Event):
    """Each comes to the newest state of an event, though another thread changes it without a pause."""
    event, rounds = Event(), [0, 0]

    def changes(place):
        while min(rounds) < 300:
            event.set()
            event.clear()
            rounds[place] += 1

    with Threads(lambda: changes(0), lambda: changes(1)):
        pass


def test_ping_pong_loses_no_wakeup(Event, tiny_switch_interval):
    ping, pong = Event(), Event()

    def answers():
        for _ in range(5000):
            assert ping.wait(TIMEOUT)
            ping.clear()
            pong.set()

    def asks():
        for _ in range(5000):
            ping.set()
            assert pong.wait(TIMEOUT)
            pong.clear()

    with Threads(answers, asks):
        pass


def test_set_against_timeout_at_the_same_moment(Event, tiny_switch_interval):
    """A wait that times out while a set() wakes it: True or False, but never stuck, and the event is as good as before."""
    event, stop = Event(), []

    def sets():
        while not stop:
            event.set()
            event.clear()

    def waits():
        for _ in range(1500):
            event.wait(1e-5)

    def waits_then_stops():
        waits()
        stop.append(True)

    with Threads(sets, sets, waits, waits, waits_then_stops):
        pass
    event.clear()
    assert event.wait(0.001) is False
    event.set()
    assert event.wait(0)


# Many waiters: see the window of wake-ups in the cores


@pytest.mark.parametrize("then", ["", "clear"])
def test_many_waiters_are_all_woken(Event, small_stacks, then):
    """1,000 of them: the fault `ten_thousand_waiters` has more."""
    event, answers, count = Event(), [], 1000
    with Threads(*[lambda: answers.append(event.wait())] * count):
        until_waiting(event, count)
        event.set()
        if then:
            event.clear()
    assert answers == [True] * count and event.status().waiters == 0


def test_many_waiters_beside_a_thread_that_computes(Event, small_stacks):
    event, answers = Event(), []

    def computes():
        while len(answers) < 1000:
            sum(range(1000))

    with Threads(computes, *[lambda: answers.append(event.wait())] * 1000):
        until_waiting(event, 1000)
        event.set()
    assert answers == [True] * 1000


def test_waiters_that_leave_keep_no_place(Event, tiny_switch_interval):
    """Of those that a set() wakes, some leave by their timeout."""
    event, answers = Event(), []

    def stays():
        threading.current_thread().name = "stays"
        answers.append(event.wait(TIMEOUT))

    for milliseconds in range(10, 60, 10):
        answers.clear()
        leaves = [lambda milliseconds=milliseconds: event.wait(milliseconds / 1000)] * 2 * WINDOW
        with Threads(*[stays] * WINDOW, *leaves, *[stays] * 2 * WINDOW):
            until(lambda: event.status().waiting.count("stays") == 3 * WINDOW)
            event.set()
            event.clear()
        assert answers == [True] * 3 * WINDOW


def test_many_waiters_wake_none_that_comes_later(Event):
    """A set() of many waiters takes turns with them. It does not wake one that clears the event and waits again in between."""
    event, again = Event(), []

    def waits():
        assert event.wait(TIMEOUT)
        event.clear()
        again.append(event.wait(0.3))

    with Threads(*[waits] * 200):
        until_waiting(event, 200)
        event.set()
    assert again == [False] * 200


@pytest.mark.core("py")  # no exception comes in between in the compiled core
def test_a_second_set_wakes_more(core):
    """An exception that ends a thread anywhere may lose its place in the window."""

    def program():
        import sys
        import threading

        from helpers import until, until_waiting

        from fastevent import Event, _core_py

        window = int(sys.argv[1])
        event, answers, wake = Event(), [], _core_py._wake
        threads = [threading.Thread(target=lambda: answers.append(event.wait())) for _ in range(5 * window)]
        for thread in threads:
            thread.start()
        until_waiting(event, len(threads))
        _core_py._wake = lambda waiters, count: wake(waiters, count) if count > 1 else None
        for number in range(1, 6):
            event.set()
            until(lambda number=number: len(answers) >= window * number)  # more, if a waiter had not begun to sleep
        for thread in threads:
            thread.join()
        print(answers == [True] * len(threads))

    assert python(program, core, WINDOW) == "True\n"


# The event's own timeout


@pytest.mark.parametrize("times", [1, 2])
def test_clear_extends_a_wait(Event, times):
    timeout = 0.2
    while True:
        event, ended = Event(timeout), []

        def waits(event=event, ended=ended):
            assert event.wait() is False
            ended.append(time.monotonic_ns())

        with Threads(waits):
            until(lambda event=event, ended=ended: ended or event.status().waiters)
            for _ in range(times):
                time.sleep(timeout / 4)
                event.clear()
            in_time = not ended
        if in_time:
            assert ended[0] >= deadline(event)
            return
        timeout *= 4  # a loaded machine: the wait was over before the clear()


@pytest.mark.parametrize("set_on_timeout", [False, True])
def test_restart_timeout_reaches_wait(Event, set_on_timeout):
    event, answers = Event(1000, set_on_timeout=set_on_timeout), []
    with Threads(*[lambda: answers.append((event.wait(), time.monotonic_ns()))] * 3):
        until_waiting(event, 3)
        assert event.restart_timeout(0.05)
    assert [answer for answer, _ in answers] == [set_on_timeout] * 3
    assert all(ended >= deadline(event) for _, ended in answers)


def test_restart_timeout_extends_a_wait(Event):
    event, ended = Event(0.5), []

    def waits():
        event.wait()
        ended.append(time.monotonic_ns())

    with Threads(waits):
        until_waiting(event)
        in_time = event.restart_timeout(0.6)
    assert ended[0] >= deadline(event) or not in_time


def test_restart_timeout_ends_no_wait_with_a_number(Event):
    event, answers = Event(1000), []
    with Threads(lambda: answers.append(event.wait(TIMEOUT))):
        until_waiting(event)
        assert event.restart_timeout(0)
        until_waiting(event)
        event.set()
    assert answers == [True]


def test_restarts_lose_none_of_10_000_sets(Event, tiny_switch_interval):
    """As clear() may, where a watchdog's sign of life and a cancellation meet."""
    lost = 0
    for _ in range(20):
        events = [Event(TIMEOUT) for _ in range(500)]
        turn = [-1]

        def sets(events=events, turn=turn):
            for number, event in enumerate(events):
                while turn[0] < number - 1:
                    pass
                event.set("cancelled")

        with Threads(sets):
            for number, event in enumerate(events):
                turn[0] = number
                event.restart_timeout()
        lost += sum(not event.is_set() or event.reason != "cancelled" for event in events)
    assert not lost


def test_a_self_setting_wait_never_returns_false(Event):
    assert all(Event(number % 60 * 1e-6, set_on_timeout=True).wait() for number in range(5000))


# Memory


def test_timed_out_waits_leave_no_memory_behind(Event):
    def waits(count):
        for _ in range(count):
            event.wait(1e-9)

    tracemalloc = pytest.importorskip("tracemalloc")
    event = Event()
    waits(1000)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    waits(20_000)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20_000  # less than a byte for each; what the interpreter itself keeps is some thousand in all


without_memory = pytest.mark.skipif(sys.implementation.name != "cpython", reason="allocations of CPython fail")


@pytest.mark.not_traced
@without_memory
def test_a_call_without_memory_changes_nothing(core):
    need_failing_allocations(core)

    def program():
        import _testcapi
        import sys
        import threading
        import time

        from fastevent import Event

        # From 3.14 on, dropping an object of any class may need memory for its dict, and says so.
        sys.unraisablehook = lambda it: it.exc_type is MemoryError or sys.__unraisablehook__(it)
        event, failed = Event(), set()

        def make():
            Event(5)

        def wait():
            event.wait(1e-9)

        def subscribe():
            Event().add_callback(str)

        def look():
            event._fe_waiters()

        thread = threading.Thread(target=event.wait)
        thread.start()
        while not event.status().waiters:
            pass
        time.sleep(0.2)  # without the GIL, it may still need memory, until it rests
        for call in (make, wait, subscribe, look):
            for allocation in range(10):
                _testcapi.set_nomemory(allocation, allocation + 1)
                try:
                    call()
                except (MemoryError, RuntimeError):  # the latter from Python's own lock
                    failed.add(call)
                finally:
                    _testcapi.remove_mem_hooks()
                assert event.wait(0.0001) is False
                list(range(1000, 2000))  # crashes if a number was freed twice
        event.set()
        thread.join()
        print(len(failed), event.wait())

    assert python(program, core) == "4 True\n"


@pytest.mark.not_traced
@without_memory
def test_a_set_without_memory_is_whole_or_none(core):
    """It sets the event with its child, or neither, and keeps no reason alive."""
    need_failing_allocations(core)

    def program():
        import _testcapi
        import gc
        import weakref

        from fastevent import Event

        class Reason:
            pass

        split, alive = [], []
        for allocation in range(40):
            event = Event()
            child = Event(parents=[event])
            event.set()
            event.clear()
            child.clear()
            reason = Reason()
            reference = weakref.ref(reason)
            _testcapi.set_nomemory(allocation, allocation + 1)
            try:
                event.set(reason)
            except MemoryError:
                pass
            finally:
                _testcapi.remove_mem_hooks()
            if event.is_set() != child.is_set():
                split.append(allocation)
            event.clear()
            child.clear()
            del event, child, reason
            gc.collect()
            if reference() is not None:
                alive.append(allocation)
        print(split, alive)

    assert python(program, core) == "[] []\n"


# Finalizers


def test_set_from_a_finalizer_and_a_weakref_callback(Event):
    event, other, answers = Event(), Event(), []

    class Owner:
        def __del__(self):
            event.set()

    owner = Owner()
    owner.me = owner
    reference = weakref.ref(owner, lambda _: other.set())
    with Threads(*[lambda: answers.append(event.wait(TIMEOUT))] * 2):
        until_waiting(event, 2)
        del owner
        while reference() is not None or not other.is_set():
            gc.collect()
    assert answers == [True, True] and other.is_set() and reference() is None


@pytest.mark.parametrize("call", ["set", "child", "__init__"])
def test_finalizers_add_and_remove_subscribers(Event, call):
    event, calls, children, collecting = Event(), [], [], [True]

    class Owner:
        """At every collection, one ends and another begins."""

        def __init__(self):
            self.me = self

        def __del__(self):
            if collecting:
                event.clear()
                event.add_callback(str)
                children.append(event.child())
                Owner()

    for number in range(50):
        event.add_callback(lambda _, number=number: calls.append(number))
        children.append(event.child())
    owner = children[0] if call == "__init__" else event
    thresholds = gc.get_threshold() if sys.implementation.name == "cpython" else ()
    try:
        Owner()
        if thresholds:
            gc.set_threshold(20, 0, 0)
        for _ in range(1 if call == "set" else 500):
            getattr(owner, call)()
    finally:
        if thresholds:
            gc.set_threshold(*thresholds)
        collecting.clear()
    event.set()
    assert calls == list(range(50))


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="other collectors have no thresholds")
def test_a_finalizer_may_subscribe_first(Event):
    """Up to Python 3.11 it may run at each allocation of a call, so also while `add_callback()` makes the first dict."""

    class Owner:
        def __init__(self):
            self.me = self

        def __del__(self):
            event.add_callback(lambda _: calls.append("finalizer"))

    thresholds = gc.get_threshold()
    for allocation in range(1, 30):
        event, calls = Event(), []
        gc.collect()
        Owner()
        gc.set_threshold(allocation, 0, 0)
        try:
            event.add_callback(lambda _, calls=calls: calls.append("caller"))
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        event.set()
        assert sorted(calls) == ["caller", "finalizer"]


def test_set_at_the_end_of_the_stack(Event):
    """It raises, or else it reaches children, too. On PyPy, the next one does."""
    parent = Event()
    child = Event(parents=[parent])

    def recurse():
        try:
            recurse()
        except RecursionError:
            if not parent.is_set():
                try:
                    parent.set()
                except RecursionError:
                    pass
            raise

    with pytest.raises(STACK_ERRORS):
        recurse()
    if sys.implementation.name == "pypy":
        parent.set()
    assert parent.is_set() is child.is_set() is True


@pytest.mark.core("py")  # no other thread comes in between in the compiled core
@pytest.mark.parametrize("place", ["now", "State", "Period", "before _fe_append", "after _fe_append"])
@pytest.mark.parametrize("call", [["set"], ["clear"], ["restart_timeout"], ["status"], ["wait", 1e-9], ["__init__", 300]])
def test_a_small_stack_is_enough(core, call, place):
    """Other threads change the event 20,000 times during the call: see invariant 5 of the Python core."""

    def program():
        import sys
        import threading

        from fastevent import Event, _core_py, _notify

        place, call, *arguments = sys.argv[1:]
        changed, event = [], Event(300)

        def change():
            if not changed:
                changed.append(True)
                for _ in range(20_000):
                    event.set()
                    event.clear()

        def changing(original):
            def function(*arguments):
                if not place.startswith("after"):
                    change()
                answer = original(*arguments)
                if place.startswith("after"):
                    change()
                return answer

            return function

        def use():
            holder = _core_py.EventCore if "_fe_append" in place else _core_py.clock if place == "now" else _core_py
            name = place.split()[-1]
            setattr(holder, name, changing(getattr(holder, name)))
            getattr(event, call)(*map(float, arguments))
            _notify.set_and_notify(event, None, only_if_expired=True)

        threading.stack_size(131072)
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        print(len(changed) < 2)

    assert python(program, core, place, *call) == "True\n"
