"""What `check()` raises, what `status()` returns, and the texts in which a reason appears."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from fastevent._time import monotonic_ns


class EventCancelled(Exception):
    """What `Event.check()` raises when the event is set.

    `reason` is what `Event.set()` was called with.
    """

    __module__ = "fastevent"
    reason: Any = None


class EventTimeout(EventCancelled, TimeoutError):
    """What `Event.check()` raises when the event has timed out; the reason of a self-setting event at its timeout."""

    __module__ = "fastevent"


class EventStatus(NamedTuple):
    """What `Event.status()` returns."""

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


def timeout_error(event: Any) -> EventTimeout:
    """Return the `EventTimeout` that says that the *event* has timed out."""
    seconds = event._fe_period().timeout or 0
    name = event._fe_name
    return EventTimeout(f"timed out after {seconds:g} s" + (f": {name}" if name else ""))


def ended_error(event: Any) -> EventCancelled | None:
    """Return what `check()` raises, or None if the *event* is neither set nor timed out."""
    _, is_set, reason = event._fe_read()
    if not is_set:
        return timeout_error(event) if monotonic_ns() >= event._fe_period().deadline else None
    kind = type(reason)  # not isinstance(): a proxy whose object is gone raises there
    if issubclass(kind, EventTimeout):
        error: EventCancelled = EventTimeout(str(reason))
    else:
        name = event._fe_name
        error = EventCancelled(describe("cancelled", reason) + (f" ({name})" if name else ""))
    error.reason = reason
    error.__cause__ = reason if issubclass(kind, BaseException) else None
    return error


def describe(state: str, reason: object) -> str:
    """Return "state: reason", or the *state* alone without a reason. A reason that cannot be shown stops nothing."""
    if reason is None:
        return state
    try:
        if isinstance(reason, Enum):  # a signal, for instance
            text = reason.name
        elif isinstance(reason, BaseException):
            text = str(reason) or type(reason).__name__
        else:
            text = reason if isinstance(reason, str) else repr(reason)
        return f"{state}: {text}"
    except Exception:
        return f"{state}: {object.__repr__(reason)}"


def one_line(text: str, longest: int = 200) -> str:
    """Return *text* without line breaks, cut to the *longest* length, for a `repr()`."""
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    return text if len(text) <= longest else text[: longest - 1] + "…"
