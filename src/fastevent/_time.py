"""Seconds, deadlines and the clock. This module alone accepts or refuses a timeout, for both cores."""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from importlib.machinery import BuiltinImporter
from math import ceil, inf
from threading import main_thread
from types import ModuleType
from typing import Any, Final

from fastevent._config import check_interval

#: Inside, a time is a whole number of nanoseconds, or a float of seconds.
SECOND = 10**9

#: The deadline, in nanoseconds, of an event that never times out.
NEVER = (1 << 63) - 1

#: How long one native wait with a timeout may take: below the limit of every platform's lock.
LONGEST_WAIT = 3_600 * SECOND

#: The same while the clock is frozen: how long it takes until a wait sees that the clock was moved.
FROZEN_WAIT = SECOND // 1_000


class _Same:
    """The default of `restart_timeout()`, as `help()` shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<the same>"


#: In `restart_timeout()`: the number of seconds stays.
SAME: Final[Any] = _Same()


# Not `typing.NamedTuple`, for which Python 3.14 imports `annotationlib` and `ast`: a seventh of the import of this package.
_Period = namedtuple("_Period", "timeout start deadline")


class Period(_Period):
    """The timeout of an event, and the time it runs from and to, on the clock of `time.monotonic_ns()`."""

    __slots__ = ()

    timeout: float | None
    """In seconds, or None."""
    start: int
    """In nanoseconds."""
    deadline: int
    """In nanoseconds, or `NEVER`."""


def private_copy(name: str) -> ModuleType:
    """Return a new copy of the built-in module *name*, which no tool has patched or will patch."""
    spec = BuiltinImporter.find_spec(name)
    if spec is not None:
        built_in: ModuleType = BuiltinImporter.create_module(spec)  # type: ignore[assignment]
        BuiltinImporter.exec_module(built_in)
        return built_in
    from importlib.util import find_spec, module_from_spec  # which takes long to import

    spec = find_spec(name)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: `time.monotonic_ns()`. Tools that freeze time replace functions of `time` by value in every module; they do not know this
#: object.
monotonic_ns: partial[int] = partial(private_copy("time").monotonic_ns)


class Clock:
    """The clock of the events: their deadlines, waits and ticks go by it. `fastevent.testing` freezes it.

    The package's own time-outs, at forks and exits and in connections, go by `monotonic_ns`, which nothing freezes.
    """

    __slots__ = ("longest_wait", "now")

    def __init__(self) -> None:
        self.run()

    def run(self) -> None:
        """Go by `monotonic_ns`."""
        self.now: Callable[[], int] = monotonic_ns
        self.longest_wait = LONGEST_WAIT

    def freeze(self, now: int) -> None:
        """Stand still at *now*, in nanoseconds. Have waits look again and again, because no time passes that would end them."""
        self.longest_wait = FROZEN_WAIT  # first, because a wait that begins in between must look again, too
        self.now = partial(int, now)


clock: Final = Clock()


def event_seconds(timeout: Any, name: str = "timeout") -> float:
    """Return the *timeout* of an event in seconds; `inf` where a `float` cannot hold it.

    Raises `TypeError` if it is not a number (a `bool` is not), `ValueError` if it is negative or NaN.
    """
    kind = type(timeout)
    if issubclass(kind, bool) or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        raise not_seconds_error(timeout, name)
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = inf if timeout > 0 else -inf
    if not seconds >= 0:
        raise ValueError(f"{name} must be zero or more seconds, not {timeout!r}")
    return seconds


def positive_seconds(seconds: Any, name: str) -> float:
    """Return *seconds* as a float. Raises `TypeError` if it is not a number, `ValueError` if it is not above zero."""
    try:
        number = event_seconds(seconds, name)
    except ValueError:
        number = 0.0
    if number == 0:
        raise ValueError(f"{name} must be more than zero seconds, not {seconds!r}")
    return number


def wait_seconds(timeout: Any) -> float:
    """Return for how many seconds `wait(timeout)` waits; zero if it does not wait.

    The answer is that of `threading.Event.wait` on this Python, since the same comparison and the same kind of lock decide.
    A timeout that is too long for a lock is not refused.

    Raises `TypeError` if it is not a number.
    """
    try:
        if not timeout > 0:
            return 0.0
        allocate_lock().acquire(True, timeout)
    except OverflowError:
        pass
    except TypeError:
        raise not_seconds_error(timeout, "timeout") from None
    try:
        return float(timeout)
    except OverflowError:
        return inf


def not_seconds_error(value: object, name: str) -> TypeError:
    hint = "; use its .total_seconds()" if hasattr(value, "total_seconds") else ""
    return TypeError(f"{name} must be a number of seconds or None, not {value!r}{hint}")


def deadline_after(start: int, seconds: float) -> int:
    """Return the first nanosecond at which *seconds* have passed since the nanosecond *start*, or `NEVER`."""
    nanoseconds = seconds * 1e9
    return min(start + ceil(nanoseconds), NEVER) if nanoseconds < NEVER else NEVER


#: Called before a wait that may block, in both cores. `patch_threading()` adds one that may refuse the wait.
before_wait: list[Callable[[], object]] = []


def begin_wait() -> int:
    """Begin a wait that may block. Return how long one native wait may take, in nanoseconds.

    After that time, the waiter must look at the clock or for signals.

    `LONGEST_WAIT` means that a wait without a deadline needs no timeout at all. On Windows a signal cannot interrupt a native
    wait, so there the main thread looks for signals at every check interval.
    """
    # Not a tuple: an allocation here made waking 1,000 threads four times slower without the GIL.
    for check in before_wait:
        check()
    return until_next_look() if sys.platform == "win32" else clock.longest_wait


def until_next_look() -> int:
    """Return how long the calling thread may wait until it looks for signals, if it is the main one."""
    # At the very end of the interpreter, `threading` knows no main thread any more.
    if get_ident() != getattr(main_thread(), "ident", None):
        return clock.longest_wait
    return min(deadline_after(0, check_interval()), clock.longest_wait)
