"""What a program waits for: `tree()` and `dump()` show events, `dump_on()` does so on a signal, `log()` logs changes."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any
from weakref import ref

from fastevent._callbacks import in_helper
from fastevent._core import EventCore
from fastevent._errors import describe, one_line
from fastevent._event import Event
from fastevent._notify import Waker, count_children, subscribe, unsubscribe
from fastevent._status import waiting
from fastevent._time import NEVER, clock

__all__ = ["LogRegistration", "dump", "dump_on", "log", "tree"]

_log = logging.getLogger("fastevent")


# All events


def tree(event: Event) -> str:
    """Return the *event* and all events below it as text, a line each: name, state, reason, what is left, and what waits.

    An event with several parents appears below each of them, and its own children below the first alone.

    Thread safety: safe on shared objects. Each line was true at some moment of the call.
    """
    return "\n".join(_lines([event]))


def dump(file: Any = None) -> None:
    """Write all events of the process that have a name, a child, or a thread or task that waits, as trees like `tree()`.

    *file* is `sys.stderr` by default. The text is written to its file descriptor at once, past its buffer; a file without one
    is written to as usual.

    The events are found through the garbage collector: it takes about two seconds for a million objects. It takes no lock and
    logs nothing, so it may be called from a signal handler. So a reason is shown in full if it is a text, a number, or an
    exception of Python or this package, and otherwise by its class.

    Thread safety: safe to call from any thread. Each line was true at some moment of the call.
    """
    if file is None:
        file = sys.stderr
    if file is None:  # a program without a console
        return
    lines = _lines(_roots(), any_reason=False) or ["no event has a name, a child, or a thread or task that waits"]
    text = "\n".join([f"fastevent in process {os.getpid()}:", *lines]) + "\n"
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is both of the latter
        file.write(text)
    else:
        data = text.encode("utf-8", "backslashreplace")
        while data:  # a pipe may take less
            data = data[os.write(descriptor, data) :]


def dump_on(signum: int, file: Any = None) -> None:
    """Call `dump(file)` at each signal *signum*, in whatever the main thread waits: `kill -USR1 PID` shows what for.

    A `wait()`, `time.sleep()`, `join()` or event loop that the signal interrupts goes on afterwards. If the file cannot be
    written to, nothing happens. A signal that comes while the text is being written adds no other. The handler that the signal
    had is replaced; `signal.signal()` can restore it.

    On Windows no other process can send a signal, so it accepts SIGBREAK (Ctrl-Break) and SIGINT alone, and Python handles
    these when the main thread is not in `time.sleep()`. A thread that calls `dump()` needs no signal.

    Raises `ValueError` outside the main thread, and for what is not a signal or cannot be handled.

    Thread safety: for the main thread.
    """
    if sys.platform == "win32" and signum not in (signal.SIGBREAK, signal.SIGINT):
        raise ValueError(
            f"no process of Windows can send {signum!r}: dump_on(signal.SIGBREAK) for Ctrl-Break, or call dump() in a thread"
        )

    if signum in [getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")]:
        raise ValueError(f"{signal.Signals(signum).name} cannot be handled")
    writing: dict[int, object] = {}  # by process, because another thread may fork meanwhile

    def show(number: int, frame: FrameType | None) -> None:
        if writing.setdefault(os.getpid(), me := object()) is not me:
            return  # handlers that interrupt each other would use up the stack
        try:
            dump(file)
        except (OSError, ValueError):  # a closed pipe must not end the program
            pass
        finally:
            writing.clear()

    signal.signal(signum, show)


def _roots() -> list[EventCore]:
    """Return the events that are to be shown and have no parents. The others appear below those."""
    found = [item for item in gc.get_objects() if issubclass(type(item), EventCore)]
    return [
        event
        for event in found
        if not any(issubclass(type(parent), EventCore) for parent in event._fe_parents)
        and (event._fe_name or count_children(event) or waiting(event))
    ]


def _lines(roots: Iterable[Any], any_reason: bool = True) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    todo: list[tuple[Any, int]] = [(event, 0) for event in roots][::-1]
    while todo:
        event, depth = todo.pop()
        lines.append("  " * depth + _line(event, any_reason) + (" (see above)" if id(event) in seen else ""))
        if id(event) not in seen:
            seen.add(id(event))
            children = [reference() for reference, _ in list(event._fe_children.values())]
            todo.extend((child, depth + 1) for child in reversed(children) if child is not None)
    return lines


def _line(event: Any, any_reason: bool) -> str:
    _, is_set, reason = event._fe_read()
    parts = [one_line(describe("set", reason if any_reason else _without_code(reason))) if is_set else "unset"]
    timeout, _, deadline = event._fe_period()
    if timeout is not None and not is_set and deadline != NEVER:
        left = (deadline - clock.now()) / 1e9
        parts.append(f"{left:.3g} s left" if left > 0 else f"timed out after {timeout:g} s")
    names = waiting(event)
    if names:
        parts.append(f"waiting: {', '.join(names)}")
    return f"{_label(event)}: {', '.join(parts)}"


def _label(event: Any) -> str:
    return one_line(event._fe_name or f"{type(event).__name__} at {id(event):#x}")


def _without_code(reason: Any) -> Any:
    """Return the *reason* if showing it runs no code of the program, otherwise the name of its class."""
    kind = type(reason)
    if kind in (str, int, float, bool, type(None)):
        return reason
    if issubclass(kind, BaseException) and kind.__module__.partition(".")[0] in ("builtins", "fastevent"):
        if all(type(argument) in (str, int, float, bool, type(None)) for argument in reason.args):
            return reason
    return f"<{kind.__module__}.{kind.__qualname__}>"


# One event


class LogRegistration:
    """What `log()` returns: `remove()` ends the log. The event keeps it; it does not keep the event alive."""

    __slots__ = ("__weakref__", "_changes", "_event", "_last", "_level", "_logger", "_since", "_waker")

    def __init__(self, event: Event, logger: logging.Logger, level: int) -> None:
        self._event = ref(event)
        self._logger = logger
        self._level = level
        self._waker = Waker(self._look)
        self._changes: dict[int, object] = {}  # the newest changes that were logged, by their number
        sets, is_set, _ = event._fe_read()
        self._last = _number(sets, is_set)
        self._since = clock.now()
        event._fe_clear_wakes = True
        subscribe(event, self._waker)
        self._look()  # a change may have come in between

    def remove(self) -> None:
        """Log nothing from now on. A second call does nothing.

        Thread safety: safe on shared objects.
        """
        event = self._event()
        if event is not None:
            unsubscribe(event, self._waker)

    def _look(self) -> None:
        # This runs in signal handlers and in the thread that keeps deadlines: it takes no lock and runs no code of users.
        event = self._event()
        if event is None:
            return
        sets, is_set, reason = event._fe_read()
        newest = _number(sets, is_set)
        for number in range(self._last + 1, newest + 1):
            if self._changes.setdefault(number, me := object()) is not me:
                continue  # another thread, or the call that this one has interrupted, logs it
            self._last = max(self._last, number)
            self._changes.pop(number - 1000, None)
            now = clock.now()
            lasted, self._since = (now - self._since) / 1e9, now
            # Of a set() that a clear() followed at once, the reason is not known any more.
            state = ("set", reason if number == newest else None) if number % 2 else ("unset", None)
            thread: Any = getattr(threading, "_active", {}).get(threading.get_ident())
            in_helper(self._write, _label(event), state, getattr(thread, "name", "another one"), lasted)

    def _write(self, label: str, state: tuple[str, Any], thread: str, lasted: float) -> None:
        self._logger.log(self._level, "%s: %s, in thread %r, after %.6f s", label, one_line(describe(*state)), thread, lasted)


def _number(sets: int, is_set: bool) -> int:
    """Return the number of a state of an event: odd while it is set, and higher by one at each set and each clear."""
    return 2 * sets - is_set


def log(event: Event, logger: logging.Logger = _log, level: int = logging.INFO) -> LogRegistration:
    """Log each set and each clear of the *event*: why, in which thread, and how long the state before it lasted.

    The lines go to the logger `fastevent`, or to *logger*. They are written by a helper thread, in order, because an event may
    be set by a signal handler, or where a lock of `logging` is held. When the program ends, they are written first.

    Return an object whose `remove()` ends this. Raises `TypeError` for what is not a `fastevent.Event`.

    Thread safety: safe on shared objects.
    """
    if not isinstance(event, EventCore):
        raise TypeError(f"log() is for a fastevent.Event, not for {event!r}")
    return LogRegistration(event, logger, level)
