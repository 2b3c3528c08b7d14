"""`LoggedEvent`, which logs each change of its state, and `tree()`, which shows a tree of events as text."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from fastevent._errors import describe, one_line
from fastevent._event import Event
from fastevent._status import waiting
from fastevent._time import NEVER, monotonic_ns

__all__ = ["LoggedEvent", "tree"]

_log = logging.getLogger("fastevent")


class LoggedEvent(Event):
    """An `Event` that logs every change of its state: which, in which thread, and how long the state before it lasted.

    It logs to the logger `fastevent`, at the level INFO, by a callback. So a set by a timeout is logged in a helper thread.
    """

    def __init__(
        self,
        timeout: float | None = None,
        *,
        parents: Iterable[Event] = (),
        set_on_timeout: bool = False,
        name: str | None = None,
    ) -> None:
        self._since = monotonic_ns()
        super().__init__(timeout, parents=parents, set_on_timeout=set_on_timeout, name=name)
        self._registration = self.add_callback(LoggedEvent._log_change)

    def clear(self) -> None:
        """Do what `Event.clear()` does, and log it if the event was set."""
        sets, was_set, _ = self._fe_read()
        super().clear()
        if was_set or self._fe_read().sets != sets:  # also if a set() came in between
            self._log_change()
            self._registration.remove()
            self._registration = self.add_callback(LoggedEvent._log_change)

    def _log_change(self) -> None:
        now = monotonic_ns()
        since, self._since = self._since, now
        _log.info("%r in thread %r, after %.6f s", self, threading.current_thread().name, (now - since) / 1e9)


def tree(event: Event) -> str:
    """Return the *event* and all events below it as text, a line each: name, state, reason, what is left, and what waits.

    An event with several parents appears below each of them, and its own children below the first alone.

    Thread safety: safe on shared objects. Each line was true at some moment of the call.
    """
    lines: list[str] = []
    seen: set[int] = set()
    todo: list[tuple[Any, int]] = [(event, 0)]
    while todo:
        event, depth = todo.pop()
        lines.append("  " * depth + _line(event) + (" (see above)" if id(event) in seen else ""))
        if id(event) not in seen:
            seen.add(id(event))
            children = [reference() for reference, _ in list(event._fe_children.values())]
            todo.extend((child, depth + 1) for child in reversed(children) if child is not None)
    return "\n".join(lines)


def _line(event: Any) -> str:
    _, is_set, reason = event._fe_read()
    parts = [one_line(describe("set", reason)) if is_set else "unset"]
    timeout, _, deadline = event._fe_period()
    if timeout is not None and not is_set and deadline != NEVER:
        left = (deadline - monotonic_ns()) / 1e9
        parts.append(f"{left:.3g} s left" if left > 0 else f"timed out after {timeout:g} s")
    names = waiting(event)
    if names:
        parts.append(f"waiting: {', '.join(names)}")
    return f"{one_line(event._fe_name or f'{type(event).__name__} at {id(event):#x}')}: {', '.join(parts)}"
