"""Waiting for several events at once."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from time import monotonic_ns
from typing import Any, TypeVar

from fastevent._event import Event
from fastevent._subscribers import Waker
from fastevent._timeouts import NEVER, deadline_after, wait_seconds

_E = TypeVar("_E", bound=Event)


def wait_any(events: Iterable[_E], timeout: float | None = None) -> list[_E]:
    """Wait until one of the *events* is set. Return those that are, in the order given; an empty list if time ran out first.

    *timeout* is in seconds. With None, the call ends when the events' own timeouts have all passed, as `Event.wait()` does for
    one. An event that was set and cleared meanwhile counts as set. Without any events it does not wait. Raises `TypeError` for
    what is not a `fastevent.Event`.

    Thread safety: safe on shared objects. It waits as `Event.wait()` does, without another thread and without polling.
    """
    return _wait_for(_listed(events), 1, timeout, max)


def wait_all(events: Iterable[Event], timeout: float | None = None) -> bool:
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
        if not isinstance(event, Event):
            raise TypeError(f"only a fastevent.Event can be waited for together with others, not {event!r}")
    return events


def _wait_for(events: list[_E], enough: int, timeout: float | None, which: Any) -> list[_E]:
    """Wait until *enough* of the *events* were set, or until *which* of their own timeouts. Return those that were."""
    different = {id(event): event for event in events}
    seen = {key: True for key, event in different.items() if event.is_set()}
    if len(seen) < enough <= len(different):
        deadline: int | None = None
        if timeout is not None:
            seconds = wait_seconds(timeout)
            deadline = deadline_after(monotonic_ns(), seconds) if seconds > 0 else 0
        if deadline != 0:
            _collect({key: event for key, event in different.items() if key not in seen}, seen, enough, deadline, which)
    return [event for event in events if id(event) in seen]


def _collect(missing: dict[int, Any], seen: dict[int, bool], enough: int, deadline: int | None, which: Any) -> None:
    done = Event(inf)  # not without a timeout, for which there may be a default

    def see(event: Event) -> None:
        seen[id(event)] = True
        if len(seen) >= enough:
            done.set()

    def unset() -> list[Event]:
        # Nor those whose set() is still on its way to us.
        return [event for key, event in missing.items() if key not in seen and not event._fe_snapshot()[1]]

    def end() -> int:
        if deadline is not None:
            return deadline
        # clear() may have put one off; who sets itself does not end the wait by that
        own = (event._fe_period()[2] if event._fe_sets_itself_at() == NEVER else NEVER for event in unset())
        latest_or_first: int = which(own, default=NEVER)
        return latest_or_first

    wakers = []
    try:
        for event in missing.values():
            waker = Waker(see)
            wakers.append((event, waker))
            event._fe_subscribe(waker)
            if done.is_set():
                return
        while True:
            look_at = min((end(), *(event._fe_sets_itself_at() for event in unset())))
            if done.wait(None if look_at == NEVER else (look_at - monotonic_ns()) / 1e9):
                return
            late = monotonic_ns() >= end()
            for event in unset():
                event._fe_is_set_by_now()  # it may be time that it sets itself
            if late:
                return
    finally:
        for event, waker in wakers:
            if not event._fe_unsubscribe(waker):  # the set() that came in between may not have told us yet
                seen[id(event)] = True
