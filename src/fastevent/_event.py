"""Event: the documented class, over whichever core runs here."""

from __future__ import annotations

import os
import threading
from math import inf
from time import monotonic_ns
from typing import TYPE_CHECKING, NoReturn

from fastevent._timeouts import NEVER

if TYPE_CHECKING:
    from fastevent import _core_py as _core
elif os.environ.get("FASTEVENT_PURE_PYTHON") == "1":
    from fastevent import _core_py as _core
else:
    try:
        import fastevent._core_c as _core
    except ImportError as error:
        # A wheel without it, or a second interpreter in the process: it serves one. If it does not load, that is to be seen.
        missing = isinstance(error, ModuleNotFoundError) and error.name == "fastevent._core_c"
        if not missing and "interpreter" not in str(error):
            raise
        from fastevent import _core_py as _core

if TYPE_CHECKING:
    from threading import Event as ThreadingEvent
else:
    # The interpreter's own, also where another copy of this package, or gevent, has put a class of its own in its place.
    _started = type(threading.main_thread()._started)
    ThreadingEvent = next(cls for cls in (*threading.Event.__mro__, _started) if cls.__module__ == "threading")

#: Which core runs: "c" or "python".
IMPLEMENTATION = "python" if _core.__name__.endswith("_py") else "c"


class Event(_core.EventCore, ThreadingEvent):
    """A `threading.Event` with a timeout: a flag that threads set, poll and wait for.

    *timeout* is in seconds and runs from now, on the clock of `time.monotonic()`: `check_timeout()` tells when it has passed.
    Without one the event never times out, unless `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT` is set. Zero times out at once, `inf`
    never.

    Raises `TypeError` for a timeout that is not a number, `ValueError` for a negative one and for NaN.

    Thread safety: every method may be called from any thread, signal handler or finalizer at any time.
    """

    __module__ = "fastevent"

    @property
    def _event(self) -> threading.Event:
        """The event itself, which is a `threading.Event`."""
        return self

    @property
    def _timeout(self) -> float | None:
        """The timeout in seconds, or None."""
        return self._period()[0]

    @property
    def _start_time(self) -> float | None:
        """What `time.monotonic()` said when the timeout started, or None without a timeout."""
        seconds, start, _ = self._period()
        return None if seconds is None else start / 1e9

    def __repr__(self) -> str:
        state = "set" if self.flag else "unset"
        seconds, _, deadline = self._period()
        if seconds is not None:
            left = inf if deadline == NEVER else (deadline - monotonic_ns()) / 1e9
            digits = 1 if seconds >= 1 else 3
            state += f", {round(left, digits):g} s of {seconds:g} s left" if left > 0 else f", timed out after {seconds:g} s"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle or copy {self!r}: threads wait for this very object, in this process; make a new one instead"
        )


_core.attach(Event)
