"""Self-setting events (*set_on_timeout*), and restart_timeout()."""

import asyncio
import inspect
import pickle
import sys
import threading
import time
from math import inf

import pytest
from helpers import TIMEOUT, Threads, deadline, python, self_setting, until, until_deadline, until_waiting


def test_an_event_sets_itself_at_its_deadline(fastevent):
    event = fastevent.Event(0.05, set_on_timeout=True)
    while not event.is_set():
        time.sleep(0.001)
    assert time.monotonic_ns() >= deadline(event) and event.flag is True and event.check_timeout()
    assert isinstance(event.reason, fastevent.EventTimeout) and str(event.reason) == "timed out after 0.05 s"
    assert event.wait() is True
    with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0\.05 s$"):
        event.check()


def test_without_a_timeout_it_gets_one_later(Event):
    """As an optional `--limit` may be None."""
    event = Event(None, set_on_timeout=True)
    assert event.timeout is event.remaining() is None and not event.check_timeout() and not event.wait(0)
    assert event.restart_timeout(0.01) is True
    until(event.is_set)
    assert str(event.reason) == "timed out after 0.01 s"


def test_the_default_timeout_will_do(core):
    code = "import fastevent; event = fastevent.Event(set_on_timeout=True); event.wait(); print(event.reason)"
    assert python(code, core, WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT="0.01") == "timed out after 0.01 s\n"


def test_without_an_end_nothing_sets_it(Event, modules, monkeypatch):
    added = []
    monkeypatch.setattr(modules._notify.timers.events, "add", lambda *entry: added.append(entry))
    event = Event(inf, set_on_timeout=True)
    event.add_callback(print)
    assert event.wait(0.01) is False and not added


# A read changes nothing and runs no code of users.


def test_its_class_is_event(Event):
    event = Event(5, set_on_timeout=True)
    assert type(event) is Event

    class Mine(Event):
        pass

    assert type(Mine(5, set_on_timeout=True)) is Mine


def test_is_set_may_be_called_by_its_class(Event):
    event = Event(0, set_on_timeout=True)
    assert list(map(Event.is_set, [event])) == [True]


def test_a_subclass_may_ask_is_set_of_event(Event):
    class Mine(Event):
        def is_set(self):
            return Event.is_set(self)

    event = Mine(0.01, set_on_timeout=True)
    until(event.is_set)


def test_another_event_of_its_class_is_plain(Event):
    event = type(Event(0, set_on_timeout=True))(0)
    assert not event.is_set() and event.check_timeout()


def test_its_class_pickles_by_name(fastevent):
    cls = type(fastevent.Event(5, set_on_timeout=True))
    assert cls is fastevent.Event
    if fastevent is sys.modules["fastevent"]:
        assert pickle.loads(pickle.dumps(cls)) is fastevent.Event


def test_a_poll_may_hold_a_callbacks_lock(Event):
    lock, called = threading.Lock(), []

    def callback(event):
        with lock:
            called.append(event)

    def polls():
        for _ in range(10):
            with lock:
                event = self_setting(Event, 0.005, callback)
                while not event.is_set():
                    pass

    with Threads(polls):
        pass
    until(lambda: len(called) == 10)


def test_looking_at_attributes_calls_no_callback(Event, no_timers):
    calls = []
    event = self_setting(Event, 0, calls.append)
    inspect.getmembers(event)
    assert (event.is_set(), event.flag, event.check_timeout(), event.reason) == (False, False, True, None)
    assert calls == []


# What sets it: the timer thread, wait() at the deadline, construction, clear()


def by_the_timer(Event, callback):
    return self_setting(Event, 0.01, callback)


def by_wait(Event, callback):
    event = by_the_timer(Event, callback)
    assert event.wait() is True and event.is_set()
    return event


def by_clear(Event, callback):
    event = by_the_timer(Event, callback)
    until_deadline(event)
    event.clear()
    return event


def by_init(Event, callback):
    event = Event(300)
    event.add_callback(callback)
    event.__init__(0, set_on_timeout=True)
    assert event.is_set()
    return event


@pytest.mark.parametrize("sets", [by_the_timer, by_wait, by_clear, by_init])
def test_its_callbacks_run_in_a_helper(fastevent, sets, request):
    if sets is not by_the_timer:
        request.getfixturevalue("no_timers")
    calls = []
    event = sets(fastevent.Event, lambda event: calls.append((event, threading.current_thread().name)))
    until(lambda: calls)
    assert calls == [(event, "fastevent callbacks")]


def test_wait_sets_it_without_a_thread(fastevent, no_timers):
    for timeout in 0.001, 0.01, 0.03:
        event = fastevent.Event(timeout, set_on_timeout=True)
        child, answers = event.child(), []

        def waits(*arguments, event=event, answers=answers):
            answers.append((event.wait(*arguments), time.monotonic_ns()))

        with Threads(waits, lambda waits=waits: waits(TIMEOUT), lambda waits=waits: waits(inf)):
            pass
        assert [answer for answer, _ in answers] == [True] * 3
        assert all(woken >= deadline(event) for _, woken in answers)
        assert isinstance(event.reason, fastevent.EventTimeout) and child.reason is event.reason


def test_a_shorter_wait_sets_nothing(Event):
    event = Event(300, set_on_timeout=True)
    assert event.wait(0.01) is False and event.wait(0) is False and event.wait(-1) is False
    with pytest.raises(TypeError):
        event.wait("1")


def test_construction_sets_it_if_time_is_up(fastevent):
    event = fastevent.Event(0, set_on_timeout=True)
    assert event.is_set() and isinstance(event.reason, fastevent.EventTimeout)
    assert all(event.wait(argument) is True for argument in (None, 0, -1, "1", object(), 10**400))


def test_clear_counts_a_deadline_that_passed(fastevent, no_timers):
    event, calls = fastevent.Event(300, set_on_timeout=True), []
    child = event.child()
    event.restart_timeout(0)
    fastevent._notify.subscribe(event, fastevent._notify.Waker(lambda: calls.append(event.is_set())))
    event.clear()
    assert not event.is_set() and isinstance(child.reason, fastevent.EventTimeout)
    assert calls[0] is True


def test_clear_after_the_deadline_releases_waiters(Event):
    for _ in range(20):
        event, answers = Event(0.005, set_on_timeout=True), []
        with Threads(lambda event=event, answers=answers: answers.append(event.wait(TIMEOUT))):
            until_deadline(event)
            event.clear()
        assert answers == [True]


def test_a_set_may_come_before_the_timer(fastevent, no_timers):
    event, parent = fastevent.Event(300, set_on_timeout=True), fastevent.Event()
    child = parent.child(300)
    assert event.restart_timeout(0) and child.restart_timeout(0) and event.check_timeout() and child.check_timeout()
    event.set("by hand")
    parent.set("from above")
    assert event.reason == "by hand" and child.reason == "from above"


def test_a_set_before_the_deadline_stays(Event):
    for timeout in 0.1, 1, 10:  # until this thread is fast enough
        parent, event, answers = Event(), Event(timeout, set_on_timeout=True), []
        child = parent.child(timeout)
        with Threads(lambda answers=answers, event=event: answers.append(event.wait()), child.wait):
            event.set("by hand")
            parent.set("from above")
            in_time = not event.check_timeout()
        if in_time:
            break
    until_deadline(child)
    assert event.wait(0.01) and answers == [True]
    assert (event.reason, child.reason) == ("by hand", "from above")


def test_its_timeout_reaches_grandchildren(fastevent):
    event = fastevent.Event(0.05, set_on_timeout=True)
    child = event.child()
    grandchild, called = child.child(), threading.Event()
    grandchild.add_callback(lambda event: called.set())
    assert called.wait(TIMEOUT) and child.reason is grandchild.reason is event.reason
    assert isinstance(event.reason, fastevent.EventTimeout) and time.monotonic_ns() >= deadline(event)


def test_a_child_is_set_at_every_timeout(Event):
    """No thread waits for the parent: its timer sets the child, and clear() restarts it."""
    parent = Event(0.02, set_on_timeout=True)
    child = parent.child()
    for _ in range(3):
        answers = []
        with Threads(lambda answers=answers: answers.append(child.wait(TIMEOUT))):
            pass
        assert answers == [True]
        child.clear()
        parent.clear()


def test_clear_restarts_its_timeout(fastevent):
    event = fastevent.Event(0.03, set_on_timeout=True)
    for _ in range(3):
        until(event.is_set)
        assert isinstance(event.reason, fastevent.EventTimeout)
        event.clear()
        assert event.reason is None or event.check_timeout()


def test_a_late_timer_spares_the_next_period(Event):
    for _ in range(30):
        event, calls = Event(0.004, set_on_timeout=True), []
        until_deadline(event)
        event.clear()
        started = event._fe_period().start
        event.add_callback(lambda event, calls=calls: calls.append(time.monotonic_ns()))
        until(lambda calls=calls: calls)
        assert calls[0] >= started + 4_000_000


def test_an_expiry_that_comes_too_late_notifies_nothing(Event, modules):
    event, calls = Event(300, set_on_timeout=True), []
    child = event.child()
    event.add_callback(calls.append)
    modules._notify.expire(event)
    pending = []
    event._fe_try_set("late", pending, True)
    assert pending == [] and not event.is_set() and not child.is_set() and calls == []


def test_an_interrupted_expiry_completes(Event, modules, no_timers):
    event, calls = self_setting(Event, 0.01), []

    def wake():
        calls.append("waker")
        if len(calls) == 1:
            raise KeyboardInterrupt

    child = event.child()
    modules._notify.subscribe(event, modules._notify.Waker(wake))
    with pytest.raises(KeyboardInterrupt):
        event.wait()
    assert calls == ["waker"] * 2 and event.is_set() and child.is_set()


# Subclasses, and a second __init__()


def test_a_subclass_may_set_itself(Event):
    class Named(Event):
        def __init__(self, name, **options):
            self.name = name
            super().__init__(**options)

    event = Named("n", timeout=0, set_on_timeout=True)
    assert event.is_set() and event.name == "n" and isinstance(event, Named)
    event.clear()
    event.__init__("m", timeout=0)
    assert type(event) is Named and not event.is_set() and event.name == "m"


def test_its_class_is_subclassed_by_users_alone(Event):
    class Registered(Event):
        kinds = []  # noqa: RUF012

        def __init_subclass__(cls, *, kind):
            cls.kinds.append(kind)

    class Mine(Registered, kind="mine"):
        pass

    event = Mine(0, set_on_timeout=True)
    assert event.is_set() and isinstance(event, Mine) and Registered.kinds == ["mine"]


@pytest.mark.parametrize("argument", [(), (TIMEOUT,)])
def test_its_own_is_set_stops_no_timeout(Event, argument):
    """`threading.Event.wait` never asks `is_set()`: what a subclass answers there must not make a wait spin."""

    class Never(Event):
        def is_set(self):
            return False

    event, called = Never(0.05, set_on_timeout=True), threading.Event()
    assert event.wait(*argument) is True
    event.clear()
    event.add_callback(lambda event: called.set())
    assert called.wait(TIMEOUT)


@pytest.mark.parametrize("call", ["set", "clear"])
def test_a_callback_may_make_it_plain(Event, call, no_timers):
    done = threading.Event()

    def callback(event):
        event.__init__(300)
        done.set()

    event = self_setting(Event, 0, callback)
    getattr(event, call)()
    assert done.wait(TIMEOUT) and event.timeout == 300
    event.__init__(0)
    assert event.wait(0.01) is event.is_set() is False


def test_a_second_init_moves_the_deadline(Event):
    event, called = Event(3600, set_on_timeout=True), threading.Event()
    event.add_callback(lambda event: called.set())
    event.__init__(0.02, set_on_timeout=True)
    assert called.wait(TIMEOUT)
    event.__init__(0.02)
    until_deadline(event)
    assert event.wait(0.05) is False  # it is plain now


# restart_timeout()


def test_restart_timeout_counts_from_the_call(Event):
    for sets in False, True:
        event = Event(300, set_on_timeout=sets)
        before = deadline(event)
        assert event.restart_timeout() is True and deadline(event) > before and event.timeout == 300
        assert event.restart_timeout(500) is True and event.timeout == 500.0 and 490 < event.remaining() <= 500
        assert event.restart_timeout(timeout=inf) is True and event.timeout == event.remaining() == inf
        assert event.restart_timeout(20) is True and 10 < event.remaining() <= 20
        assert event.status().elapsed < 10


def test_restart_timeout_may_give_a_first_timeout(Event):
    event = Event()
    assert event.restart_timeout(0.01) is True and event.timeout == 0.01
    assert event.wait() is False and event.check_timeout()


def test_restart_timeout_comes_too_late(Event):
    event = Event(300)
    event.set("why")
    before = event._fe_period()
    assert event.restart_timeout() is False and event.restart_timeout(5) is False
    assert event._fe_period() == before and event.reason == "why"
    event = Event(0.001)
    until_deadline(event)
    before = event._fe_period()
    assert event.restart_timeout() is False and event.restart_timeout(300) is False
    assert event._fe_period() == before and event.check_timeout() and not event.is_set()


def test_restart_timeout_after_a_deadline_unnoticed(Event, no_timers):
    event = self_setting(Event, 0)
    assert event.restart_timeout(300) is False and event.check_timeout() and not event.is_set()
    assert event.wait(0.001) is True


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ((), ValueError, r"restart_timeout\(\) without a number needs an event with a timeout, not <fastevent\.Event at"),
        ((None,), TypeError, "timeout must be a number of seconds, not None; inf never times out"),
        (("5",), TypeError, "timeout must be a number of seconds or None, not '5'"),
        ((True,), TypeError, "timeout must be a number of seconds or None, not True"),
        ((-1,), ValueError, "timeout must be zero or more seconds, not -1"),
        ((float("nan"),), ValueError, "timeout must be zero or more seconds, not nan"),
    ],
)
def test_restart_timeout_refuses(Event, arguments, error, text):
    event = Event()
    with pytest.raises(error, match=f"^{text}"):
        event.restart_timeout(*arguments)
    assert event.timeout is None


#: Each returns True if the event was set at its end.
WAITS = {
    "wait": lambda fastevent, event: event.wait(),
    "wait with a number": lambda fastevent, event: event.wait(TIMEOUT),
    "wait_any": lambda fastevent, event: bool(fastevent.wait_any([event])),
    "wait_all": lambda fastevent, event: fastevent.wait_all([event]),
    "wait_async": lambda fastevent, event: asyncio.run(event.wait_async()),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_follows_an_earlier_deadline(fastevent, wait, no_timers):
    for sets in True, False:
        if not sets and wait == "wait with a number":
            continue  # which decides alone
        event, answers = fastevent.Event(3600, set_on_timeout=sets), []

        def waits(event=event, answers=answers):
            answers.append((WAITS[wait](fastevent, event), time.monotonic_ns()))

        with Threads(waits):
            until_waiting(event)
            assert event.restart_timeout(0.05)
        ((answer, ended),) = answers
        assert answer is event.is_set() is sets and ended >= deadline(event)


def test_ticks_follow_an_earlier_deadline(Event):
    event, ticks = Event(3600), []
    with Threads(lambda: ticks.extend(event.ticks(TIMEOUT))):
        until_waiting(event)
        assert event.restart_timeout(0.05)
    assert ticks == [0] and event.check_timeout()


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_follows_a_later_deadline(fastevent, wait):
    event, answers = fastevent.Event(0.1, set_on_timeout=True), []

    def waits():
        answers.append((WAITS[wait](fastevent, event), time.monotonic_ns()))

    with Threads(waits):
        for _ in range(5):
            time.sleep(0.025)
            event.restart_timeout(0.1)
    ((answer, ended),) = answers
    assert answer is event.is_set() is True and ended >= deadline(event)


def test_restart_timeout_keeps_the_event_unset(Event):
    """A watchdog: each sign of life moves the deadline away, and the last deadline counts."""
    event, calls = Event(2, set_on_timeout=True), []
    event.add_callback(lambda event: calls.append(time.monotonic_ns()))
    for _ in range(100):
        assert event.restart_timeout() is True
    assert event.restart_timeout(0.05) is True
    end = deadline(event)
    until(lambda: calls)
    assert calls[0] >= end


def test_restart_timeout_loses_no_set(Event, tiny_switch_interval):
    for _ in range(300):
        event = Event(300)

        def restarts(event=event):
            while event.restart_timeout():
                pass

        with Threads(restarts, lambda event=event: event.set("cancel")):
            pass
        assert event.reason == "cancel"


def test_several_threads_restart_and_wait(Event, tiny_switch_interval):
    event, wrong, done = Event(300, set_on_timeout=True), [], []

    def restarts():
        for seconds in range(500, 200, -1):
            if not event.restart_timeout(seconds):
                wrong.append(seconds)
        done.append(True)

    with Threads(event.wait, event.wait, restarts, restarts):
        time.sleep(0.1)
        if event.is_set() or event.wait(0):
            wrong.append(event.reason)
        until(lambda: len(done) == 2)
        event.set()
    assert not wrong
