"""Callbacks, and in which order a set() notifies waiters, children, wakers and callbacks."""

import copy
import gc
import logging
import pickle
import re
import sys
import threading
import weakref
from contextlib import suppress
from functools import partial

import pytest
from helpers import TIMEOUT, SignalAt, Threads, python, until


def test_callbacks_are_called_once_in_order(Event):
    event, calls = Event(), []
    for number in range(5):
        event.add_callback(lambda event, number=number: calls.append((number, event.reason)))
    assert event.status().callbacks == 5
    event.set("now")
    event.set("again")
    event.clear()
    event.set("later")
    assert calls == [(number, "now") for number in range(5)]
    assert event.status().callbacks == 0


def test_a_set_event_calls_at_once(Event):
    event, calls = Event(), []
    event.set()
    event.add_callback(calls.append)
    assert calls == [event]


def test_a_callback_comes_after_the_children(Event):
    event, seen = Event(), []
    child = event.child()
    event.add_callback(lambda event: seen.append((child.is_set(), event.is_set())))
    event.set()
    assert seen == [(True, True)]


def test_a_callback_runs_in_the_setting_thread(Event):
    event, threads = Event(), []
    event.add_callback(lambda event: threads.append(threading.get_ident()))
    with Threads(event.set) as running:
        pass
    assert threads == [running.threads[0].ident]


def test_a_callback_may_do_anything(Event):
    event, other, calls, registrations = Event(), Event(), [], []

    def callback(event):
        calls.append(event.wait(0))
        event.clear()
        registrations.append(event.add_callback(calls.append))
        registrations[-1].remove()
        event.set("again")
        other.set()

    event.add_callback(callback)
    other.add_callback(lambda event: calls.append("other"))
    event.set()
    assert calls == [True, "other"] and event.reason == "again"


@pytest.mark.parametrize("wrong", [None, 5, "print", object()])
def test_a_callback_must_be_callable(Event, wrong):
    with pytest.raises(TypeError, match=r"^a callback must be callable, not"):
        Event().add_callback(wrong)


def test_a_coroutine_function_is_refused(Event):
    async def work(event): ...

    class Worker:
        async def work(self, event): ...

    event = Event()
    for wrong in work, Worker().work, partial(work, event):
        with pytest.raises(TypeError, match=r"^a callback must be a plain function, not the coroutine function .*work"):
            event.add_callback(wrong)
    assert event.status().callbacks == 0


def test_a_callback_may_have_any_attribute(Event):
    """As a method of `xmlrpc.client.ServerProxy` has."""

    class Remote:
        def __getattr__(self, name):
            return Remote()

        def __call__(self, *arguments):
            calls.append(arguments)

    event, calls = Event(), []
    event.add_callback(Remote())
    event.callback(Remote().method, 1)
    event.set()
    assert calls == [(event,), (1,)]


def test_a_long_chain_of_sets_ends_with_the_stack(core):
    """Each event sets the next one. A set() for which there is no room raises, and changes nothing."""

    def program():
        import logging
        import sys
        from itertools import pairwise

        from fastevent import Event

        logging.disable()
        events, calls = [Event() for _ in range(100_000)], []
        for event, following in pairwise(events):
            event.add_callback(following.set)
            event.add_callback(calls.append)
        events[0].set()
        count = sum(event.is_set() for event in events)
        assert 10 < count < 100_000 and all(event.is_set() for event in events[:count])
        assert sys.implementation.name != "cpython" or len(calls) == count, (len(calls), count)

    python(program, core)


# Exceptions


def test_an_exception_in_a_callback_is_logged(Event, caplog):
    event, calls = Event(), []

    def fails(event):
        raise ValueError("a bad callback")

    event.add_callback(fails)
    event.add_callback(calls.append)
    child = event.child()
    child.add_callback(fails)
    child.add_callback(calls.append)
    event.set()
    assert calls == [event, child]
    assert [(record.name, record.levelno) for record in caplog.records] == [("fastevent", logging.ERROR)] * 2
    assert "a bad callback" in caplog.text and "fails" in caplog.text


def test_sys_exit_comes_after_the_other_callbacks(Event):
    event, calls = Event(), []
    for reason in "first", "second":
        event.add_callback(lambda event, reason=reason: sys.exit(reason))
    event.add_callback(calls.append)
    with pytest.raises(SystemExit, match="first"):
        event.set()
    assert calls == [event] and event.is_set()


def test_a_callback_handles_no_exception_of_another(Event):
    event, seen = Event(), []
    event.add_callback(lambda event: 1 / 0)
    event.add_callback(lambda event: seen.append(sys.exc_info()[1]))
    event.add_callback(lambda event: sys.exit("first"))
    event.add_callback(lambda event: seen.append(sys.exc_info()[1]))
    with pytest.raises(SystemExit) as caught:
        event.set()
    assert seen == [None, None] and caught.value.__context__ is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
@pytest.mark.parametrize("alone", [True, False])
def test_an_interrupted_set_calls_all(Event, modules, error, alone):
    """A signal handler raises at every place of a set(), also where it logs, in turn."""

    def handler():
        raise error

    def fails():
        calls.append("fails")
        raise ValueError

    files = {modules._notify.__file__, modules._call.__file__, modules._process.__file__}
    for place in range(1_000):
        event, calls = Event(), []
        child = None if alone else event.child()
        for function in fails, partial(calls.append, 1), partial(calls.append, 2):
            event.callback(function)
        with suppress(error), SignalAt(place, files, handler) as interrupted:
            event.set()
        assert sorted(calls, key=str) == [1, 2, "fails"] if event.is_set() else not calls, place
        if not interrupted.is_done:
            break
    assert 1 < place < 999 and (child is None or child.is_set())


def test_a_log_that_raises_stops_no_callback(core):
    def program():
        import logging

        from helpers import self_setting, until

        from fastevent import Event

        def refuses(record):
            raise OSError

        logging.getLogger("fastevent").addFilter(refuses)
        event, calls = Event(), []
        event.add_callback(lambda event: 1 / 0)
        event.add_callback(calls.append)
        event.set()
        _first, second = self_setting(Event, 0.01, lambda event: exit()), self_setting(Event, 0.02, calls.append)
        until(lambda: calls == [event, second])

    python(program, core)


def test_a_log_line_needs_no_subclass(Event, caplog):
    caplog.set_level(logging.INFO)
    event = Event()
    event.add_callback(lambda event: logging.info("%r", event))
    event.set("why")
    assert "set: why" in caplog.text


# Registrations


def test_a_removed_callback_is_not_called(Event):
    event, calls = Event(), []
    first, second, other = event.add_callback(calls.append), event.callback(calls.append, 1), event.add_callback(calls.append)
    assert first.remove() is second.remove() is first.remove() is True
    assert event.status().callbacks == 1
    event.set()
    assert calls == [event] and first.remove() is True and other.remove() is False


def test_both_kinds_call_at_once_if_set(Event):
    event, calls = Event(), []
    event.set()
    assert event.add_callback(calls.append).remove() is event.callback(calls.append, 1).remove() is False
    assert calls == [event, 1]


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="objects are freed by count in CPython alone")
def test_a_registration_and_its_event_form_no_cycle(Event):
    """Neither keeps the other: without the garbage collector, what is dropped is freed."""
    gc.collect()
    gc.disable()
    try:
        event, calls = Event(), []
        registration = event.add_callback(calls.append)
        references = weakref.ref(event), weakref.ref(registration)
        del event
        until(lambda: references[0]() is None)
        assert registration.remove() is True and not calls
        del registration
        until(lambda: references[1]() is None)
    finally:
        gc.enable()


def test_a_registration_shows_its_function(Event):
    assert re.search(r"^<fastevent\.Registration of <built-in function print> at 0x\w+>$", repr(Event().add_callback(print)))


def test_a_registration_is_made_by_an_event_alone(Event):
    made = Event().add_callback(print)
    with pytest.raises(TypeError, match=r"made by event\.add_callback"):
        type(made)()
    for copied in copy.copy, copy.deepcopy, pickle.dumps:
        with pytest.raises(TypeError, match=r"^cannot pickle or copy <fastevent\.Registration of"):
            copied(made)
    empty = type(made).__new__(type(made))
    for attempt in (lambda: empty(Event()), empty.remove, lambda: repr(empty), lambda: empty.__exit__(None, None, None)):
        with suppress(AttributeError, TypeError):  # it is of no use, and does no harm
            attempt()
    with pytest.raises((AttributeError, TypeError)):
        made("no event")


@pytest.mark.parametrize("entry", [5, (), (print,), (None, 0), (5, 0), (print, "0"), (print, 1 << 70)])
def test_what_is_no_callback_does_no_harm(Event, entry):
    event = Event()
    event.add_callback(print).remove()
    event._fe_callbacks["key"] = entry
    with suppress(AttributeError, TypeError, ValueError):
        event.set()
    assert event.is_set()


def test_a_callback_may_remove_the_next_one(Event):
    event, calls, registrations = Event(), [], []
    event.add_callback(lambda event: calls.append(registrations[0].remove()))
    registrations.append(event.add_callback(calls.extend))
    event.set()
    assert calls == [True]


def test_remove_waits_for_no_call(Event):
    event, begun, go_on = Event(), threading.Event(), threading.Event()

    def callback(event):
        begun.set()
        assert go_on.wait(TIMEOUT)

    registration = event.add_callback(callback)
    with Threads(event.set):
        assert begun.wait(TIMEOUT)
        assert registration.remove() is False
        go_on.set()


def test_a_function_is_never_compared(Event):
    class Busy:
        def __call__(self, event):
            raise AssertionError("it was removed")

        def __eq__(self, other):
            raise AssertionError("it was compared")

    event, busy = Event(), Busy()
    first, second = event.add_callback(busy), event.add_callback(busy)
    assert first.remove() and second.remove()
    event.set()


def test_of_a_removal_and_a_set_one_wins(Event, tiny_switch_interval):
    for _ in range(200):
        event, calls, in_time = Event(), [], []
        registration = event.add_callback(calls.append)

        def removes(registration=registration, in_time=in_time):
            in_time.append(registration.remove())

        with Threads(event.set, removes):
            pass
        assert in_time == [not calls]


def test_a_dropped_event_drops_its_callbacks(Event):
    event = Event()
    event.add_callback(lambda _, event=event: None)
    reference = weakref.ref(event)
    del event
    gc.collect()
    assert reference() is None


# Several threads


def test_each_callback_is_called_once(Event, tiny_switch_interval):
    for _ in range(100):
        event, calls = Event(), []

        def adds(event=event, calls=calls):
            for number in range(30):
                event.add_callback(lambda event, number=number: calls.append(number))

        with Threads(adds, event.set, event.set, adds):
            pass
        assert sorted(calls) == sorted(2 * list(range(30)))


def test_a_set_calls_no_later_callback(Event, tiny_switch_interval):
    """Added after a clear(), it must not be called by a set() before it that is still on its way."""
    for _ in range(300):
        event, wrong = Event(), []
        event.add_callback(lambda event: None)

        def adds(event=event, wrong=wrong):
            event.wait()
            event.clear()
            event.add_callback(wrong.append)

        with Threads(adds, event.set):
            pass
        assert not wrong


def interrupted(Event, between):
    """Return an event whose first set() calls *between* when it has set the flag and notified no subscriber."""

    class Interrupted(Event):
        def _fe_try_set(self, *arguments):
            super()._fe_try_set(*arguments)
            if calls:
                calls.pop()(self)

    calls = [between]
    return Interrupted()


def test_a_set_spares_subscribers_after_a_clear(Event):
    def between(event):
        event.clear()
        later.append(event.child())
        event.add_callback(later[0].set)

    event, calls, later = interrupted(Event, between), [], []
    before = event.child()
    event.add_callback(calls.append)
    event.set("old")
    assert before.reason == "old" and calls == [event] and not later[0].is_set()
    event.set("new")
    assert later[0].reason == "new"


def test_a_set_completes_one_in_progress(Event):
    def between(event):
        event.set("second")
        seen.append((child.reason, list(calls)))

    event, calls, seen = interrupted(Event, between), [], []
    child = event.child()
    event.add_callback(calls.append)
    event.set("first")
    assert seen == [("first", [event])] and calls == [event]


def test_a_set_before_registration_calls_it(Event):
    class Late(Event):
        def _fe_add_callback(self, *arguments):
            self.set()
            return super()._fe_add_callback(*arguments)

    event, calls = Late(), []
    event.add_callback(calls.append)
    assert calls == [event] and event.status().callbacks == 0


@pytest.mark.core("py")  # the compiled core registers and looks again in one call
@pytest.mark.parametrize("clear", [False, True])
def test_a_set_during_registration_is_not_missed(core, Event, clear):
    class Late(Event):
        def _fe_register(self, *arguments):
            sets = self._fe_newest().sets
            self.set("meanwhile")
            if clear:
                self.clear()
            super()._fe_register(*arguments)
            return sets

    event, calls = Late(), []
    event.add_callback(calls.append)
    assert calls == [event] and event.status().callbacks == 0
    assert event.child().reason == (None if clear else "meanwhile")


def test_a_set_while_a_child_is_added_counts(Event):
    class Late(Event):
        def _fe_add_child(self, child):
            self.set("meanwhile")
            return super()._fe_add_child(child)

    assert Event(parents=[Late()]).reason == "meanwhile"


# Wakers, by which coroutines, wait_any() and descriptors wait


def test_wakers_come_before_callbacks(Event, modules):
    event, calls = Event(), []
    event.add_callback(lambda event: calls.append("callback"))
    child = event.child()
    waker = modules._notify.Waker(lambda: calls.append(("waker", child.is_set())))
    assert modules._notify.subscribe(event, waker) == 0
    event.set()
    assert calls == [("waker", True), "callback"]
    modules._notify.unsubscribe(event, waker)
    event.clear()
    event.set()
    assert len(calls) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_an_interrupted_waker_is_called_again(Event, modules, error):
    event, calls = Event(), []

    def wake():
        calls.append("waker")
        if len(calls) == 1:
            raise error

    modules._notify.subscribe(event, modules._notify.Waker(wake))
    event.add_callback(calls.append)
    with pytest.raises(error):
        event.set()
    assert set(calls[:-1]) == {"waker"} and len(calls) >= 3 and calls[-1] is event


def test_an_interrupted_set_completes_despite_clear(Event, modules):
    """What interrupts it may clear the event: its subscribers are notified nevertheless."""
    event, calls = Event(), []

    def wake():
        calls.append("waker")
        if len(calls) == 1:
            event.clear()
            raise KeyboardInterrupt

    child = event.child()
    modules._notify.subscribe(event, modules._notify.Waker(wake))
    event.add_callback(calls.append)
    with pytest.raises(KeyboardInterrupt):
        event.set("why")
    assert calls == ["waker", "waker", event] and child.reason == "why" and not event.is_set()


def test_a_waker_counts_as_waiting(Event, modules):
    event = Event()
    modules._notify.subscribe(event, modules._notify.Waker(print, threading.get_ident()))
    modules._notify.subscribe(event, modules._notify.Waker(print, "a task"))
    modules._notify.subscribe(event, modules._notify.Waker(print))
    assert event.status().waiting == (threading.current_thread().name, "a task") and event.status().waiters == 2


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
def test_an_exception_keeps_no_event(Event):
    event = Event()
    event.add_callback(lambda event: sys.exit())
    reference = weakref.ref(event)
    gc.disable()
    try:
        with pytest.raises(SystemExit) as caught:
            event.set()
        del caught, event
        assert reference() is None
    finally:
        gc.enable()
