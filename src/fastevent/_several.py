"""Waiting for several events at once, without another thread and without polling."""

from __future__ import annotations

import threading
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastevent._core import EventCore
from fastevent._foreign import ThreadingEvent
from fastevent._notify import Waker, expire, subscribe, unsubscribe
from fastevent._process import Token, at_fork
from fastevent._time import LONGEST_WAIT, NEVER, begin_wait, clock, deadline_after, wait_seconds

_E = TypeVar("_E", bound=EventCore)


def wait_any(events: Iterable[_E], timeout: float | None = None) -> list[_E]:
    """Wait until one of the *events* is set. Return those that are, in the order given; an empty list if time ran out first.

    *timeout* is in seconds. With None, the call ends when the events' own timeouts have all passed, as `Event.wait()` does for
    one. An event that was set and cleared meanwhile counts as set. Raises `TypeError` for what is not a `fastevent.Event`,
    `ValueError` if there is no event.

    Thread safety: safe on shared objects. It waits as `Event.wait()` does, without another thread and without polling.
    """
    events = _listed(events)
    if not events:
        raise ValueError("wait_any() needs at least one event, not an empty list: it would wait for ever")
    return _wait_for(events, 1, timeout, max)


def wait_all(events: Iterable[EventCore], timeout: float | None = None) -> bool:
    """Wait until each of the *events* is set or has been set since the call. Return True then, False if time ran out first.

    *timeout* is in seconds. With None, the call ends when the own timeout of an event that is not set has passed, as
    `Event.wait()` does for one. Without any events it returns True at once. Raises `TypeError` for what is not a
    `fastevent.Event`.

    Thread safety: safe on shared objects. It waits as `Event.wait()` does, without another thread and without polling.
    """
    events = _listed(events)
    return len(_wait_for(events, len({id(event) for event in events}), timeout, min)) == len(events)


def _listed(events: Iterable[_E]) -> list[_E]:
    if not isinstance(events, Iterable):
        raise TypeError(f"events must be an iterable of fastevent.Event objects, not {events!r}")
    events = list(events)
    for event in events:
        if not isinstance(event, EventCore):
            hint = ": make an Event(parents=[…]) of it, and wait for that" if isinstance(event, ThreadingEvent) else ""
            raise TypeError(f"only a fastevent.Event can be waited for together with others, not {event!r}{hint}")
    return events


def _wait_for(events: list[_E], enough: int, timeout: float | None, choose: Any) -> list[_E]:
    """Wait until *enough* of the *events* were set, and return those that were.

    With None for a *timeout*, the own deadline that *choose* takes ends the wait: `min` the first, `max` the last of them.
    """
    different = {id(event): event for event in events}
    before = {key: event._fe_read() for key, event in different.items()}
    unset = {key: event for key, event in different.items() if not before[key].is_set}
    missing = enough - (len(different) - len(unset))
    seconds = None if timeout is None or missing <= 0 else wait_seconds(timeout)
    if missing > 0 and seconds != 0:
        deadline = None if seconds is None else deadline_after(clock.now(), seconds)

        def end(unset: Iterable[EventCore]) -> int:
            if deadline is not None:
                return deadline
            # A self-setting event ends the wait by being set.
            own = (NEVER if event._fe_self_setting else event._fe_deadline() for event in unset)
            own_deadline: int = choose(own, default=NEVER)
            return own_deadline

        wait_while_unset(unset, {key: before[key].sets for key in unset}, missing, end)
    return [event for event in events if id(event) not in unset]


def wait_while_unset(unset: dict[int, Any], sets: dict[int, int], enough: int, end: Callable[[Iterable[Any]], int]) -> None:
    """Wait until *enough* of the *unset* events were set, or until the *end* of the others. Take out those that were set.

    *sets* has the events' counts of sets from the start.
    """
    token = Token(allocate_lock)  # woken when there is something to look at
    waker = Waker(token.wake, get_ident())
    watched = list(unset.items())

    def look() -> None:
        for key, event in watched:
            if key in unset and event._fe_set_since(sets[key]):
                del unset[key]

    def wait() -> None:
        for _, event in watched:
            subscribe(event, waker)
        while True:
            now = clock.now()
            for event in list(unset.values()):
                if event._fe_self_setting and now >= event._fe_deadline():
                    expire(event)
            look()
            until = end(unset.values())
            if len(watched) - len(unset) >= enough or now >= until:
                return
            until = min(until, *(event._fe_deadline() for event in unset.values() if event._fe_self_setting), NEVER)
            longest = begin_wait()
            token.rest(until if until == NEVER and longest == LONGEST_WAIT else min(until - now, longest))

    def leave() -> None:
        for _, event in watched:
            unsubscribe(event, waker)
        _tokens.__dict__.pop(token, None)

    try:
        _tokens.__dict__[token] = None
        wait()  # a call, because 3.12 and 3.13 may leave a `try` at the end of a loop without its `finally`
    finally:
        try:
            leave()
        except BaseException:  # from a signal handler: no waker is left behind
            leave()
            raise


_tokens: Any = threading.local()  # its `__dict__` has those of the waits of this thread


def _after_fork_in_child() -> None:
    # A signal handler may have forked during a wait. The thread that was to wake it is gone, so it has to look by itself.
    for token in list(_tokens.__dict__):
        token.wake()


at_fork(in_child=_after_fork_in_child)
