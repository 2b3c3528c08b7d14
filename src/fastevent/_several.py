"""Waiting for several events at once, without another thread and without polling."""

from __future__ import annotations

import threading
from _thread import allocate_lock, get_ident
from collections.abc import Iterable
from typing import Any, TypeVar

from fastevent._core import EventCore
from fastevent._foreign import ThreadingEvent
from fastevent._notify import Waker, expire
from fastevent._process import Token, at_fork, begin_rest
from fastevent._time import LONGEST_WAIT, NEVER, clock, deadline_after, wait_seconds

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
    sets: dict[int, int] = {}  # the events' counts of sets from the start
    unset: dict[int, _E] = {}
    for event in events:
        key = id(event)
        sets[key], is_set, _ = event._fe_read()
        if not is_set:
            unset[key] = event
    most = len(sets) - enough  # that may stay unset
    if len(unset) > most:
        seconds = None if timeout is None else wait_seconds(timeout)
        if seconds != 0:
            deadline = None if seconds is None else deadline_after(clock.now(), seconds)
            _wait_while_unset(unset, sets, most, deadline, choose)
    return [event for event in events if id(event) not in unset]


def _wait_while_unset(unset: dict[int, Any], sets: dict[int, int], most: int, deadline: int | None, choose: Any) -> None:
    """Wait until at most so many of the *unset* events are left, or until the end. Take out those that were set."""
    token = Token(allocate_lock)  # woken when there is something to look at
    waker = Waker(token.wake, get_ident())
    watched = list(unset.values())

    def look(now: int) -> tuple[int, int]:
        """Take out the events that were set. Return when the wait ends, and when to look again."""
        own_ends: list[int] = []
        again = NEVER
        for key, event in list(unset.items()):
            own = event._fe_deadline()
            if own <= now and event._fe_self_setting:
                expire(event)
            if event._fe_set_since(sets[key]):
                del unset[key]
            elif own != NEVER:
                if event._fe_self_setting:  # which ends the wait by being set
                    again = min(again, own)
                else:
                    own_ends.append(own)
        own_ends += [NEVER] * (len(unset) - len(own_ends))
        return choose(own_ends, default=NEVER) if deadline is None else deadline, again

    def wait() -> None:
        for event in watched:
            event._fe_add_waker(waker)
        while True:
            now = clock.now()
            end, again = look(now)
            if len(unset) <= most or now >= end:
                return
            until = min(end, again)
            longest = begin_rest()
            token.rest(until if until == NEVER and longest == LONGEST_WAIT else min(until - now, longest))

    def leave() -> None:
        for event in watched:
            event._fe_wakers.pop(waker, None)
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
