"""The patch: `threading.Event` becomes `fastevent.Event` for the whole process."""

from __future__ import annotations

import _thread
import threading
import warnings
from collections.abc import Iterator
from math import inf
from types import BuiltinFunctionType
from typing import Any

from fastevent import _core
from fastevent._config import implicit_timeout
from fastevent._event import Event
from fastevent._time import before_wait


class PatientEvent(Event):
    """An `Event` that has no timeout unless it is given one.

    It takes the place of `threading.Event` where `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT` is set, because code that calls
    `threading.Event()`, as the standard library does, means a wait that only `set()` ends.
    """

    def __init__(self, timeout: float | None = None, **options: Any) -> None:
        super().__init__(inf if timeout is None else timeout, **options)


_before: type[threading.Event] = threading.Event  # what the patch replaced; never a class of ours


def patch_threading() -> None:
    """Replace `threading.Event` with `fastevent.Event` in this process, also in `threading`, where every `Thread` makes one.

    From then on, `threading.Event()` makes one of ours. Events that exist stay what they are, and a module that said
    `from threading import Event` before keeps the old class. So patch as early as you can. Classes that were derived from
    `threading.Event` before may call its methods by that name and fail: a `RuntimeWarning` names them. A process that is forked
    inherits the patch; one that is spawned does not. A second call changes nothing.

    Where `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT` is set, `threading.Event` becomes a subclass which that variable does not touch.

    Raises `ValueError` if that variable has a bad value; `RuntimeError` where gevent or eventlet has replaced the locks of
    threads and a wait of ours would stop all green threads. Where eventlet does so later, such a wait raises it.

    Thread safety: safe to call from any thread at any time.
    """
    global _before
    ours = Event if implicit_timeout() is None else PatientEvent
    now = threading.Event
    if now is ours:
        return
    _refuse_green_locks()
    derived = sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in _derived_from(now))
    if derived:
        warnings.warn(
            f"derived from threading.Event before patch_threading(), and not changed by it: {', '.join(derived)}; "
            "call patch_threading() before these classes are defined",
            RuntimeWarning,
            stacklevel=2,
        )
    _before = now
    if _refuse_to_block not in before_wait:
        before_wait.append(_refuse_to_block)
    threading.Event = ours  # type: ignore[misc]


def unpatch_threading() -> None:
    """Put back what `patch_threading` replaced; events that exist stay what they are.

    Changes nothing without a patch, or if another class has been put there since.

    Thread safety: safe to call from any thread at any time.
    """
    if threading.Event in (Event, PatientEvent):
        before_wait[:] = [check for check in before_wait if check is not _refuse_to_block]
        threading.Event = _before  # type: ignore[misc]


def _refuse_green_locks() -> None:
    """Raise `RuntimeError` if gevent or eventlet has replaced the locks of threads, and the core uses others."""
    allocate = _thread.allocate_lock
    if not isinstance(allocate, BuiltinFunctionType) and getattr(_core.core, "allocate_lock", None) is not allocate:
        raise RuntimeError(
            "patch_threading() would stop all green threads at the first wait, because gevent or eventlet has replaced locks "
            "of threads; set FASTEVENT_PURE_PYTHON=1 and import fastevent after the monkey patching"
        )


def _refuse_to_block() -> None:
    """Raise what `patch_threading()` would raise now: eventlet makes locks green, but leaves `threading.Event` as it is."""
    if threading.Event in (Event, PatientEvent):
        _refuse_green_locks()


def _derived_from(cls: type[Any]) -> Iterator[type[Any]]:
    for derived in cls.__subclasses__():
        if all(base.__name__ != "EventCore" for base in derived.__mro__):  # also that of another copy of this package
            yield derived
            yield from _derived_from(derived)
