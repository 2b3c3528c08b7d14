"""Events that say what happens to them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from time import monotonic_ns

from fastevent._event import Event

__all__ = ["LoggedEvent"]

_log = logging.getLogger("fastevent")


class LoggedEvent(Event):
    """An `Event` that logs every change of its state: which, in which thread, and how long the state before it lasted.

    It logs to the logger `fastevent`, at the level INFO, by a callback: an event that sets itself logs it at its timeout.
    """

    def __init__(self, timeout: float | None = None, *, parents: Iterable[Event] = (), set_on_timeout: bool = False) -> None:
        self._since = monotonic_ns()
        super().__init__(timeout, parents=parents, set_on_timeout=set_on_timeout)
        self.add_callback(LoggedEvent._log_change)

    def clear(self) -> None:
        """Do what `Event.clear()` does, and log it if the event was set."""
        self.is_set()  # it may be time that it sets itself
        sets, was_set, _ = self._fe_snapshot()
        super().clear()
        if was_set or self._fe_snapshot()[0] != sets:  # also if a set() came in between
            self._log_change()
            self.remove_callback(LoggedEvent._log_change)
            self.add_callback(LoggedEvent._log_change)

    def _log_change(self) -> None:
        now = monotonic_ns()
        since, self._since = self._since, now
        _log.info("%r in thread %r, after %.6f s", self, threading.current_thread().name, (now - since) / 1e9)
