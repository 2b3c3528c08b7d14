"""What a timeout argument means: the one place that accepts or refuses it, for both cores."""

from __future__ import annotations

import sys
from _thread import allocate_lock
from functools import cache
from math import ceil, inf
from threading import Condition
from typing import Any

#: The deadline, in nanoseconds, of what never times out.
NEVER = (1 << 63) - 1

#: What one native wait with a timeout may take, in nanoseconds: below the limit of every platform's lock.
LONGEST_WAIT = 3_600 * 10**9


def event_seconds(timeout: Any, name: str = "timeout") -> float:
    """Return the *timeout* of an event in seconds; `inf` where a `float` cannot hold it.

    Raises `TypeError` if it is not a number (a `bool` is not), `ValueError` if it is negative or NaN.
    """
    kind = type(timeout)
    if issubclass(kind, bool) or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        raise TypeError(f"{name} must be a number of seconds or None, not {timeout!r}")
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = inf if timeout > 0 else -inf
    if not seconds >= 0:
        raise ValueError(f"{name} must be zero or more seconds, not {timeout!r}")
    return seconds


def positive_seconds(seconds: Any, name: str) -> float:
    """Return *seconds* as a float. Raises `TypeError` if it is not a number, `ValueError` if it is not above zero."""
    number = event_seconds(seconds, name)
    if number == 0:
        raise ValueError(f"{name} must be more than zero seconds, not {seconds!r}")
    return number


@cache
def _asks_for_zero_or_less() -> bool:
    """Tell whether `threading` asks `timeout <= 0`, as newer releases do, or `timeout > 0`: another answer, or other words."""
    asked = []

    class Timeout:
        def __gt__(self, zero: object) -> bool:
            return False

        def __le__(self, zero: object) -> bool:
            asked.append(zero)
            return True

    condition = Condition()
    with condition:
        condition.wait(Timeout())  # type: ignore[arg-type]
    return bool(asked)


def wait_seconds(timeout: Any) -> float:
    """Return for how many seconds `wait(timeout)` waits; zero if it does not.

    Decided as `threading.Event.wait` decides on this Python, by the same comparison and the same lock, and what that refuses
    is refused in its words. But nothing is too long: never raises `OverflowError`.
    """
    if timeout <= 0 if _asks_for_zero_or_less() else not timeout > 0:
        return 0.0
    try:
        allocate_lock().acquire(True, timeout)
    except OverflowError:  # too long for a lock, not for an event
        pass
    try:
        return float(timeout)
    except OverflowError:
        return inf


def deadline_after(start: int, seconds: float) -> int:
    """Return the first nanosecond at which *seconds* have passed since the nanosecond *start*, or `NEVER`."""
    nanoseconds = seconds * 1e9
    return min(start + ceil(nanoseconds), NEVER) if nanoseconds < NEVER else NEVER


def longest_wait() -> int:
    """Return what one native wait may take, in nanoseconds, if time may run out.

    Where it is `LONGEST_WAIT`, a wait that only a `set()` ends takes no timeout: without a timer it is the cheapest. (A timeout
    that a second `__init__()` gives to an event does not reach who waits so.)

    On Windows a signal cannot interrupt a native wait, so there it is the check interval: Ctrl-C is noticed that late at most.
    """
    if sys.platform != "win32":
        return LONGEST_WAIT
    from fastevent._config import check_interval

    return min(deadline_after(0, check_interval()), LONGEST_WAIT)
