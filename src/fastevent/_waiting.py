"""Waiting for several events at once."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from time import monotonic_ns

from fastevent._event import Event
from fastevent._subscribers import Waker
from fastevent._timeouts import NEVER, deadline_after, wait_seconds


def wait_any(events: Iterable[Event], timeout: float | None = None) -> list[Event]:
    """Wait until one of the *events* is set. Return those that are, in the order given; none if time ran out first.

    *timeout* is in seconds; None waits for ever. An event that was set and cleared meanwhile counts as set. Without any events
    the list is empty, at once. Raises `TypeError` for what is not a `fastevent.Event`.

    Thread safety: safe on shared objects. It waits as `Event.wait()` does, without another thread and without polling.
    """
    return _wait_for(list(events), 1, timeout)


def wait_all(events: Iterable[Event], timeout: float | None = None) -> bool:
    """Wait until each of the *events* is or was set since the call. Return True then, False if time ran out first.

    *timeout* is in seconds; None waits for ever. No events are all set at once. Raises `TypeError` for what is not a
    `fastevent.Event`.

    Thread safety: safe on shared objects. It waits as `Event.wait()` does, without another thread and without polling.
    """
    events = list(events)
    return len(_wait_for(events, len({id(event) for event in events}), timeout)) == len(events)


def _wait_for(events: list[Event], enough: int, timeout: float | None) -> list[Event]:
    """Wait until *enough* of the *events* were set. Return those that were."""
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"only a fastevent.Event can be waited for together with others, not {event!r}")
    different = {id(event): event for event in events}
    seen = {key: True for key, event in different.items() if event.is_set()}
    if len(seen) < enough <= len(different):
        deadline = NEVER
        if timeout is not None:
            seconds = wait_seconds(timeout)
            deadline = deadline_after(monotonic_ns(), seconds) if seconds > 0 else 0
        if deadline:
            _collect({key: event for key, event in different.items() if key not in seen}, seen, enough, deadline)
    return [event for event in events if id(event) in seen]


def _collect(missing: dict[int, Event], seen: dict[int, bool], enough: int, deadline: int) -> None:
    done = Event(inf)  # not without a timeout, for which there may be a default

    def see(event: Event) -> None:
        seen[id(event)] = True
        if len(seen) >= enough:
            done.set()

    wakers = []
    try:
        for event in missing.values():
            waker = Waker(see)
            wakers.append((event, waker))
            event._fe_subscribe(waker)
            if done.is_set():
                return
        set_themselves = [event for event in missing.values() if event._fe_sets_itself_at() != NEVER]
        while True:
            wake_at = min((event._fe_sets_itself_at() for event in set_themselves if not event.is_set()), default=NEVER)
            if done.wait((min(deadline, wake_at) - monotonic_ns()) / 1e9) or monotonic_ns() >= deadline:
                return
    finally:
        for event, waker in wakers:
            if not event._fe_unsubscribe(waker):  # the set() that came in between may not have told us yet
                seen[id(event)] = True
