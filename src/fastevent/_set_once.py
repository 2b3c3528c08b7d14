"""What events that other processes or machines hold have in common: they are set once, and notify others when they are set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from fastevent._core import attach_polls
from fastevent._event import Event
from fastevent._reasons import encode, encode_repr
from fastevent._time import SAME

if TYPE_CHECKING:
    from weakref import ref


class SetOnce(Event):
    """An `Event` that stays set, because others have seen it set, and whose deadline is that of others, too."""

    __slots__ = ()

    _fe_why_not_clear = ""  # what the refusals say
    _fe_why_not_restart = ""

    def clear(self) -> NoReturn:
        raise TypeError(self._fe_why_not_clear)

    def restart_timeout(self, timeout: Any = SAME) -> NoReturn:
        raise TypeError(self._fe_why_not_restart)


attach_polls(SetOnce)


def publish_if_set(reference: ref[Any], publish: Callable[[Any, str], object]) -> None:
    """Call `publish(event, text of its reason)` if the event exists and is set. Whatever the reason is, it is called."""
    event = reference()
    if event is None:
        return
    _, is_set, reason = event._fe_read()
    if not is_set:
        return
    try:
        text = encode(reason)
    except BaseException:  # from a signal handler, or from a method of the reason
        publish(event, encode_repr(reason))
        raise
    publish(event, text)
