"""wait_any() and wait_all()."""

import signal
import threading
import time

import pytest
from helpers import TIMEOUT, Threads, deadline, python, until, until_deadline, until_waiting


def later(function, seconds=0.02):
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


def nothing_is_left(*events):
    return all(event.status().callbacks == event.status().waiters == 0 for event in events)


# wait_any


def test_any_that_is_set_already(fastevent):
    a, b, c = (fastevent.Event() for _ in range(3))
    b.set()
    assert fastevent.wait_any([a, b, c]) == [b]
    c.set()
    assert fastevent.wait_any((c, a, b, c), 0) == [c, b, c]
    assert fastevent.wait_any(iter([a, b])) == [b]
    assert nothing_is_left(a, b, c)


def test_any_that_is_set_later(fastevent):
    events = [fastevent.Event() for _ in range(10)]
    later(events[7].set)
    assert fastevent.wait_any([*events, events[7]]) == [events[7]] * 2
    assert nothing_is_left(*events)


def test_any_needs_an_event(fastevent):
    for arguments in ([],), ([], 5):
        with pytest.raises(ValueError, match=r"^wait_any\(\) needs at least one event, not an empty list"):
            fastevent.wait_any(*arguments)


@pytest.mark.parametrize("timeout", [0, -1, 0.02])
def test_any_times_out(fastevent, timeout):
    event, start = fastevent.Event(), time.monotonic()
    assert fastevent.wait_any([event], timeout) == []
    assert time.monotonic() - start >= timeout or not timeout > 0
    assert nothing_is_left(event)


def test_a_long_wait_takes_several_native_ones(fastevent, modules, monkeypatch):
    for module in modules._time, modules._several, modules._process:
        monkeypatch.setattr(module, "LONGEST_WAIT", 10**7)
    monkeypatch.setattr(modules._time.clock, "longest_wait", 10**7)
    answers = []
    with Threads(lambda: answers.append(fastevent.wait_any([fastevent.Event()], 0.05))):
        pass
    assert answers == [[]]


def test_clear_takes_no_set_from_any(fastevent):
    for _ in range(50):
        event, other = fastevent.Event(), fastevent.Event()
        answers = []
        with Threads(
            lambda event=event, other=other, answers=answers: answers.append(fastevent.wait_any([other, event], TIMEOUT))
        ):
            until_waiting(event)
            event.set()
            event.clear()
        assert answers == [[event]]


def test_any_of_thousands(fastevent):
    events = [fastevent.Event() for _ in range(5000)]
    later(events[4321].set)
    assert fastevent.wait_any(events) == [events[4321]]
    assert nothing_is_left(*events)


def test_any_of_self_setting_events(fastevent):
    slow, quick = fastevent.Event(300, set_on_timeout=True), fastevent.Event(0.5, set_on_timeout=True)
    assert fastevent.wait_any([slow, quick]) == [quick]
    assert time.monotonic_ns() >= deadline(quick)
    quick.clear()
    assert fastevent.wait_any([slow, quick], 0.001) == []


def test_an_own_timeout_sets_nothing(fastevent):
    assert fastevent.wait_any([fastevent.Event(0.01)], 0.05) == []


def test_any_ends_at_the_last_own_timeout(fastevent):
    events = [fastevent.Event(0.01), fastevent.Event(0.1), fastevent.Event(0)]
    assert fastevent.wait_any(events) == []
    assert all(event.check_timeout() for event in events)
    assert nothing_is_left(*events)


def test_any_waits_on_without_an_own_timeout(fastevent):
    events, answers = [fastevent.Event(0.01), fastevent.Event()], []
    with Threads(lambda: answers.append(fastevent.wait_any(events))):
        until_deadline(events[0])
        assert not answers
        events[1].set()
    assert answers == [[events[1]]]


def test_all_ends_at_the_first_own_timeout(fastevent):
    done, quick, slow = fastevent.Event(0), fastevent.Event(0.05), fastevent.Event(300)
    done.set()
    assert fastevent.wait_all([done, quick, slow]) is False
    assert quick.check_timeout() and not slow.check_timeout()
    assert nothing_is_left(quick, slow)


@pytest.mark.parametrize("wait", ["wait_any", "wait_all"])
def test_clear_extends_the_wait(fastevent, wait):
    event, ended = fastevent.Event(0.2), []

    def waits():
        getattr(fastevent, wait)([event])
        ended.append(time.monotonic_ns())

    with Threads(waits):
        until_waiting(event)
        event.clear()
    assert ended[0] >= deadline(event)


def test_a_default_timeout_ends_no_wait_for_others(core):
    def program():
        import threading

        from fastevent import Event, wait_any

        event = Event(300)
        threading.Timer(0.3, event.set).start()
        print(wait_any([event]) == [event])

    assert python(program, core, WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT="0.01") == "True\n"


def test_any_wakes_each_of_many_threads(fastevent, tiny_switch_interval):
    for _ in range(30):
        events, answers = [fastevent.Event() for _ in range(4)], []
        with Threads(
            *[lambda events=events, answers=answers: answers.append(fastevent.wait_any(events, TIMEOUT))] * 4, events[2].set
        ):
            pass
        assert answers == [[events[2]]] * 4
        assert nothing_is_left(*events)


# wait_all


def test_all(fastevent):
    events = [fastevent.Event() for _ in range(5)]
    assert fastevent.wait_all(events, 0.01) is False
    for event in events[:4]:
        event.set()
    assert fastevent.wait_all(events, 0) is False
    assert fastevent.wait_all(events[:4]) is True
    later(events[4].set)
    assert fastevent.wait_all([*events, *events]) is True
    assert fastevent.wait_all([]) is True
    assert nothing_is_left(*events)


def test_all_are_set_at_different_times(fastevent):
    """One that is cleared before the last is set has been set."""
    events, answers = [fastevent.Event() for _ in range(3)], []
    with Threads(lambda: answers.append(fastevent.wait_all(events, TIMEOUT))):
        for event in reversed(events):
            until_waiting(event)
            event.set()
            event.clear()
    assert answers == [True] and nothing_is_left(*events)


def test_all_of_self_setting_events(fastevent):
    events = [fastevent.Event(0.01 * n, set_on_timeout=True) for n in range(4)]
    assert fastevent.wait_all(events) is True
    assert time.monotonic_ns() >= max(map(deadline, events))


@pytest.mark.parametrize("wait", ["wait_any", "wait_all"])
def test_other_objects_are_refused(fastevent, wait):
    for wrong in (threading.Event(), None, 5):
        with pytest.raises(TypeError, match=r"only a fastevent\.Event can be waited for together with others, not"):
            getattr(fastevent, wait)([fastevent.Event(), wrong], 0)
    with pytest.raises(TypeError, match=r"^events must be an iterable of fastevent.Event objects, not <fastevent.Event at"):
        getattr(fastevent, wait)(fastevent.Event())
    with pytest.raises(TypeError):
        getattr(fastevent, wait)([fastevent.Event()], "1")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that signals here")
def test_a_handler_that_raises_leaves_no_waiter(fastevent):
    class Stop(Exception):
        pass

    def handler(*_):
        raise Stop

    events = [fastevent.Event() for _ in range(3)]
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for wait in (fastevent.wait_any, fastevent.wait_all):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Stop):
                wait(events)
            assert nothing_is_left(*events)
    finally:
        signal.signal(signal.SIGALRM, before)


# Both


@pytest.mark.parametrize("wait", ["wait_any", "wait_all"])
@pytest.mark.parametrize("set_on_timeout", [False, True])
def test_restart_timeout_reaches_the_wait(fastevent, wait, set_on_timeout):
    event, answers = fastevent.Event(1000, set_on_timeout=set_on_timeout), []
    with Threads(lambda: answers.append((bool(getattr(fastevent, wait)([event])), time.monotonic_ns()))):
        until_waiting(event)
        assert event.restart_timeout(0.05)
    ((answer, ended),) = answers
    assert answer is set_on_timeout and ended >= deadline(event) and nothing_is_left(event)


def test_restart_timeout_reaches_ticks(fastevent):
    event, counted = fastevent.Event(1000), []
    with Threads(lambda: counted.extend(event.ticks(900))):
        until_waiting(event)
        assert event.restart_timeout(0.05)
    assert counted == [0]


def test_a_set_counts_before_it_notifies(fastevent):
    """Time runs out while the thread that sets the event is between its flag and its subscribers."""
    event, answers = fastevent.Event(), []
    with Threads(lambda: answers.append(fastevent.wait_any([event], 0.3) == [event])):
        until_waiting(event)
        event._fe_try_set(None, [])
        event.clear()
    assert answers == [True] and nothing_is_left(event)


@pytest.mark.parametrize("wait", ["wait_any", "wait_all"])
def test_a_self_setting_event_in_time_counts(fastevent, wait):
    """With both at the same moment, `Event.wait()` says True, too."""
    for _ in range(20):
        event = fastevent.Event(0.002, set_on_timeout=True)
        assert getattr(fastevent, wait)([event], 0.0021) and event.wait(0)


def test_a_waiter_is_no_callback(fastevent):
    event, answers = fastevent.Event(), []
    with Threads(lambda: answers.append(fastevent.wait_any([event], TIMEOUT))):
        until_waiting(event)
        assert event.status().callbacks == 0
        event.set()
    assert answers == [[event]]


def test_a_waker_that_raises_stops_no_callback(fastevent, modules, caplog):
    event, calls = fastevent.Event(), []

    def fails():
        raise RuntimeError("no more calls")

    modules._notify.subscribe(event, modules._notify.Waker(fails))
    event.add_callback(calls.append)
    event.set()
    assert calls == [event] and "no more calls" in caplog.text


@pytest.mark.parametrize("set_on_timeout", [False, True])
def test_an_own_timeout_during_a_set_is_late(fastevent, set_on_timeout):
    """A `set()` sets children one by one, and then notifies wait_all(): the own timeout may pass meanwhile."""
    event, other, answers = fastevent.Event(0.3, set_on_timeout=set_on_timeout), fastevent.Event(), []

    class Slow(fastevent.Event):
        def _fe_try_set(self, *arguments):
            until(lambda: time.monotonic_ns() > deadline(event) + 10**8)
            super()._fe_try_set(*arguments)

    child = Slow(parents=[event])
    with Threads(lambda: answers.append(fastevent.wait_all([event, other]))):
        until_waiting(event)
        event.set("in time")
        other.set()
    assert answers == [True] and child.reason == "in time"


def test_a_set_during_the_registration_counts(fastevent, Event):
    class Hasty(Event):
        def _fe_add_waker(self, waker):
            self.set()
            self.clear()
            return super()._fe_add_waker(waker)

    event = Hasty()
    assert fastevent.wait_all([event], TIMEOUT)
    assert fastevent.wait_any([event], TIMEOUT) == [event]
