"""The environment variables. Each is read once, at its first use, so that importing never fails."""

from __future__ import annotations

import os
from functools import cache

DEFAULT_TIMEOUT = "WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT"
CHECK_INTERVAL = "WORKFLOW_CORE_EVENT_CHECK_INTERVAL"


@cache
def _setting(variable: str) -> float | None:
    text = os.environ.get(variable, "")
    if not text:  # compose files and CI write an empty value for "unset"
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{variable} must be a number of seconds above zero, not {text!r}")
    return seconds


def default_timeout() -> float:
    """Return the default timeout in seconds: `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT`, 300.0 if that is unset or empty.

    Raises `ValueError`, naming the variable and its value, if that is not a number above zero.

    Thread safety: atomic. The variable is read once, at first use.
    """
    seconds = _setting(DEFAULT_TIMEOUT)
    return 300.0 if seconds is None else seconds


def check_interval() -> float:
    """Return the check interval in seconds: `WORKFLOW_CORE_EVENT_CHECK_INTERVAL`, 0.1 if that is unset or empty.

    Raises `ValueError`, naming the variable and its value, if that is not a number above zero.

    Thread safety: atomic. The variable is read once, at first use.
    """
    seconds = _setting(CHECK_INTERVAL)
    return 0.1 if seconds is None else seconds


def implicit_timeout() -> float | None:
    """Return the timeout of an event made without one: the variable's value, or None if that is unset or empty.

    Raises `ValueError` as `default_timeout` does.
    """
    return _setting(DEFAULT_TIMEOUT)
