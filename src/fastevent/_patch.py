"""The patch: `threading.Event` becomes `fastevent.Event` for the whole process."""

from __future__ import annotations

import threading
from math import inf
from typing import Any

from fastevent._config import implicit_timeout
from fastevent._event import Event


class PatientEvent(Event):
    """An `Event` that has no timeout unless it is given one.

    What `threading.Event` becomes where `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT` is set: who wrote `threading.Event()`, as the
    standard library does, means a wait that only `set()` ends.
    """

    def __init__(self, timeout: float | None = None, **options: Any) -> None:
        super().__init__(inf if timeout is None else timeout, **options)


_before: type[threading.Event] = threading.Event  # what the patch replaced; never a class of ours


def patch_threading() -> None:
    """Replace `threading.Event` with `fastevent.Event` in this process, also in `threading`, where every `Thread` makes one.

    From then on, whoever calls `threading.Event()` gets ours. Events that exist stay what they are, and a module that said
    `from threading import Event` before keeps the old class. So patch as early as you can. A process that is forked inherits
    the patch; one that is started anew does not. A second call changes nothing.

    Where `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT` is set, `threading.Event` becomes a subclass which that variable does not touch.

    Raises `ValueError` if that variable has a bad value.

    Thread safety: safe to call from any thread at any time.
    """
    global _before
    ours = Event if implicit_timeout() is None else PatientEvent
    now = threading.Event
    if now is not ours:
        _before = now
        threading.Event = ours  # type: ignore[misc]


def unpatch_threading() -> None:
    """Put back what `patch_threading` replaced; events that exist stay what they are.

    Changes nothing without a patch, or if somebody else has put another class there since.

    Thread safety: safe to call from any thread at any time.
    """
    if threading.Event in (Event, PatientEvent):
        threading.Event = _before  # type: ignore[misc]
