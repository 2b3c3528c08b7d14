"""What an event shows of itself. These are reads: they change nothing, and call nothing that a subclass may override."""

from __future__ import annotations

import threading
from collections import namedtuple
from math import inf
from typing import Any

from fastevent._core import EventCore
from fastevent._notify import count_children
from fastevent._time import NEVER, clock

_Status = namedtuple(
    "_Status",
    ["name", "is_set", "reason", "timed_out", "timeout", "elapsed", "remaining", "waiters", "callbacks", "children", "waiting"],
)


class EventStatus(_Status):
    """What `Event.status()` returns."""

    __slots__ = ()

    name: str | None
    """The name that the event was made with, or None."""
    is_set: bool
    """The flag."""
    reason: Any
    """The event's reason, or None."""
    timed_out: bool
    """Whether the timeout has passed."""
    timeout: float | None
    """The timeout in seconds, or None."""
    elapsed: float | None
    """The seconds since the timeout started; None without a timeout."""
    remaining: float | None
    """The seconds until a timeout ends the event, as `Event.remaining()` returns them."""
    waiters: int
    """How many threads and tasks wait."""
    callbacks: int
    """How many callbacks have been added and not been called yet."""
    children: int
    """How many events have this one for a parent."""
    waiting: tuple[str, ...]
    """The names of the threads and tasks that wait."""


def status(event: EventCore) -> EventStatus:
    """What `Event.status()` does."""
    names = waiting(event)
    timeout, start, _ = event._fe_period()
    return EventStatus(
        name=event._fe_name,
        is_set=EventCore.is_set(event),
        reason=event._fe_read().reason,
        timed_out=EventCore.check_timeout(event),
        timeout=timeout,
        elapsed=None if timeout is None else max(0.0, (clock.now() - start) / 1e9),
        remaining=remaining(event),
        waiters=len(names),
        callbacks=sum(registration.is_pending for registration in list(event._fe_callbacks)),
        children=count_children(event),
        waiting=names,
    )


def remaining(event: EventCore) -> float | None:
    """What `Event.remaining()` does."""
    first: tuple[int, float] | None = None
    seen: set[int] = set()
    events: list[EventCore] = [event]
    for ancestor in events:  # grows as ancestors are found
        if id(ancestor) not in seen:
            seen.add(id(ancestor))
            timeout, _, deadline = ancestor._fe_period()
            if timeout is not None and (ancestor is event or (ancestor._fe_self_setting and not ancestor._fe_read().is_set)):
                first = (deadline, timeout) if first is None else min(first, (deadline, timeout))
            events.extend(parent for parent in ancestor._fe_parents if isinstance(parent, EventCore))
    if first is None:
        return None
    deadline, timeout = first
    return inf if deadline == NEVER else min(max(0.0, (deadline - clock.now()) / 1e9), timeout)


def waiting(event: EventCore) -> tuple[str, ...]:
    """Return the names of the threads and tasks that wait for the *event*."""
    wakers = [waker.waiter for waker in list(event._fe_wakers) if waker.waiter is not None and waker.is_here()]
    waiters = [*event._fe_waiters(), *wakers]
    if not waiters:
        return ()
    # Not threading.enumerate(): an exception from a signal handler may leave its lock locked, and no thread could start or end.
    threads: dict[int, threading.Thread] = getattr(threading, "_active", {})
    return tuple(
        waiter if isinstance(waiter, str) else getattr(threads.get(waiter), "name", f"thread {waiter}") for waiter in waiters
    )
