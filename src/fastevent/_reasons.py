"""What of a reason reaches another process or another machine: JSON.

No reason prevents a set: what JSON cannot carry is sent as its text. Neither writing nor reading recurses deeper than
`DEEPEST`, because a thread may have a stack of 32 KiB, on which the recursion of `json` ends the process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from fastevent._errors import EventTimeout

LONGEST_REASON = 4_000  # characters of a reason
LONGEST_TEXT = 65_536  # characters of what is read: more than `encode()` returns
DEEPEST = 32  # containers in containers

_STRING = re.compile(r'"(?:[^"\\]+|\\.?)*"?', re.DOTALL)  # one that has no end, too, so that nothing is looked at twice
_BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
}


def encode(reason: object) -> str:
    """Return what other processes receive of *reason*, as a JSON object.

    An enum is sent as its name, an `EventTimeout` as one, anything else that JSON cannot carry as its text. Of a long one, the
    beginning is sent. What a method of *reason* raises is ignored, unless a signal handler may have raised it.
    """
    kind = type(reason)  # never `isinstance()`, which asks for `__class__`, and that may be a property
    timed_out = issubclass(kind, EventTimeout)
    if issubclass(kind, Enum):
        try:
            reason = reason.name  # type: ignore[attr-defined]
            kind = type(reason)
        except Exception:  # a property of the user's
            pass
    try:
        if not (timed_out or issubclass(kind, str)) and _is_small(reason):
            text = json.dumps(reason)
            if len(text) <= LONGEST_REASON:
                return f'{{"reason": {text}, "timed_out": false}}'
    except Exception:  # it is not JSON
        pass
    return json.dumps({"reason": _text(reason), "timed_out": timed_out})


def encode_in_helper(reason: object) -> str:
    """Return the same where no signal handler can raise: in a helper thread."""
    try:
        return encode(reason)
    except BaseException:  # of the reason's own
        return encode_repr(reason)


def encode_repr(reason: object) -> str:
    """Return what is sent of a *reason* whose own methods are not to be called again: of a text, that text."""
    text = _text(reason) if issubclass(type(reason), str) else object.__repr__(reason)
    return json.dumps({"reason": text, "timed_out": issubclass(type(reason), EventTimeout)})


def decode(text: str | bytes | bytearray) -> Any:
    """Return the reason that a text of `encode()` contains. Raises `ValueError` for any other text."""
    if not isinstance(text, str):
        text = text.decode()
    if len(text) > LONGEST_TEXT or _depth(text) > DEEPEST:
        raise ValueError("it is longer or nested more deeply than any reason that is sent")
    message = json.loads(text, parse_int=_integer)
    if type(message) is not dict or not {"reason", "timed_out"} <= message.keys():
        raise ValueError("it contains no reason")
    reason = message["reason"]
    if isinstance(reason, str) or len(text) > 2 * LONGEST_REASON:  # `encode()` sends no such one that is as long
        reason = _text(reason)
    return EventTimeout(str(reason)) if message["timed_out"] else reason


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # this interpreter allows fewer digits than the one that sent them
        return digits


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= DEEPEST:
        return DEEPEST
    depth = deepest = 0
    for character in _STRING.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(depth, deepest)
        elif character in "]}":
            depth -= 1
    return deepest


def _is_small(reason: object) -> bool:
    """Return whether *reason* has so few items, so few levels deep, that it may be sent as JSON."""
    items, count = [(reason, 2)], 0  # one level is around the reason
    for value, depth in items:  # grows
        kind = type(value)
        if issubclass(kind, (list, tuple, dict)):
            count += len(value)  # type: ignore[arg-type]
            if depth > DEEPEST or count > LONGEST_REASON:
                return False
            children: Any = dict.values(value) if issubclass(kind, dict) else value  # type: ignore[arg-type]
            items += [(child, depth + 1) for child in children]
    return True


def _text(reason: object) -> str:
    try:
        if issubclass(type(reason), str):
            text = str.__str__(reason)  # pyright: ignore[reportArgumentType]
        elif type(reason) in _BRACKETS:  # whose text is made of those of its items, however many and deep
            text, pieces = "", _pieces(reason, ())
            while len(text) <= LONGEST_REASON and (piece := next(pieces, "")):
                text += piece
        else:
            text = str.__str__(str(reason))
    except Exception:  # of its own
        text = object.__repr__(reason)
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"


def _pieces(value: Any, around: tuple[int, ...]) -> Iterator[str]:
    """Yield what `repr(value)` consists of. *around* are the ids of the containers that it is in."""
    kind = type(value)
    if kind not in _BRACKETS or not value:
        yield repr(value)
        return
    first, last = _BRACKETS[kind]
    yield first
    if id(value) in around or len(around) == DEEPEST:
        yield "..."
    else:
        around = *around, id(value)
        for rank, item in enumerate(value):
            if rank:
                yield ", "
            yield from _pieces(item, around)
            if kind is dict:
                yield ": "
                yield from _pieces(value[item], around)
    yield f",{last}" if kind is tuple and len(value) == 1 else last
