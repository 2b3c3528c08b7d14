"""What `check()` raises, and the texts in which a reason appears."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from fastevent._time import clock

if TYPE_CHECKING:
    from fastevent._types import CoreEvent


class EventCancelled(Exception):
    """What `Event.check()` raises when the event is set.

    `reason` is what `Event.set()` was called with.
    """

    reason: Any = None


class EventTimeout(EventCancelled, TimeoutError):
    """What `Event.check()` raises when the event has timed out; the reason of a self-setting event at its timeout."""


def timeout_error(event: CoreEvent) -> EventTimeout:
    """Return the `EventTimeout` that says that the *event* has timed out."""
    seconds = event._fe_period().timeout or 0
    name = event._fe_name
    return EventTimeout(f"timed out after {seconds:g} s" + (f": {name}" if name else ""))


def ended_error(event: CoreEvent) -> EventCancelled | None:
    """Return what `check()` raises, or None if the *event* is neither set nor timed out."""
    _, is_set, reason = event._fe_read()
    if not is_set:
        return timeout_error(event) if clock.now() >= event._fe_period().deadline else None
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
