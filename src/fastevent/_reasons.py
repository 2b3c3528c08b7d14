"""What of a reason reaches another process or another machine: JSON."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from fastevent._errors import EventTimeout

_LONGEST = 4_000  # characters


def encode(reason: object) -> str:
    """Return what other processes receive of *reason*, as a JSON object.

    An enum is sent as its name, an `EventTimeout` as one, anything else that JSON cannot carry as its text. Of a long one, the
    beginning is sent.
    """
    timed_out = isinstance(reason, EventTimeout)
    if isinstance(reason, Enum):
        reason = reason.name
    try:
        text = "" if timed_out or isinstance(reason, str) else json.dumps(reason)
        if 0 < len(text) <= _LONGEST:
            return f'{{"reason": {text}, "timed_out": false}}'
    except Exception:  # it is not JSON, or nested too deeply
        pass
    try:
        text = str(reason)
    except Exception:  # of its own
        text = object.__repr__(reason)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return json.dumps({"reason": text, "timed_out": timed_out})


def decode(message: dict[str, Any]) -> Any:
    """Return the reason that a JSON object, read, contains. Raises `KeyError` if there is none."""
    reason = message["reason"]
    return EventTimeout(str(reason)) if message["timed_out"] else reason
