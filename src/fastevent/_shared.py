"""SharedEvent: an event that several processes of one machine hold.

Pickling such an event gives a ticket: the address and the key of the process that made it, which is its home; its number there;
and its state so far. The process in which the ticket arrives makes an event of its own from it, and follows that number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from fastevent import _hub
from fastevent._connection import Home
from fastevent._core import EventCore, attach_polls
from fastevent._event import Event
from fastevent._hub import Key, Reference
from fastevent._notify import Waker, set_and_notify, subscribe
from fastevent._options import take_options
from fastevent._reasons import decode, encode

_numbers = count(1)


class SharedEvent(Event):
    """An `Event` that other processes of this machine can hold, too: set in one of them, it is set in all.

    It may be an argument of a `multiprocessing.Process` or of a task of a pool, and go through queues and pipes. A forked child
    holds the events of its parent anyway. What arrives is the same event: one object in each process, with the same name and
    timeout, which passes at the same instant. A reason arrives as JSON carries it; an enum as its name, an `EventTimeout` as
    one, anything else as its text, and of a long text the beginning.

    It is set once: `clear()` and `restart_timeout()` raise `TypeError`. When the process that made it is gone, it is set in the
    others, for a reason that says so. What is sent contains a key, with which a process of this machine can follow and set the
    events of the process that made it, and do nothing else.

    The parameters are those of `Event`. *parents* remain events of this process alone, whose `set()` sets the event in all.

    Raises what `Event()` raises, and `OSError` where no socket can be made.

    Thread safety: as `Event`. No call waits for another process.
    """

    __module__ = "fastevent"

    __slots__ = ("_fe_key",)  # not in the instance's `__dict__`: as long as an event has none, a poll takes half the time

    if TYPE_CHECKING:
        _fe_key: Key

    def __init__(
        self,
        timeout: float | None = None,
        *,
        parents: Iterable[Event] = (),
        set_on_timeout: bool = False,
        name: str | None = None,
    ) -> None:
        if hasattr(self, "_fe_key"):
            raise TypeError(f"{self!r} cannot be initialised again, as other processes may hold it: make a new SharedEvent")
        super().__init__(timeout, parents=parents, set_on_timeout=set_on_timeout, name=name)
        _share(self, (_hub.hub.home(), next(_numbers)))

    def clear(self) -> NoReturn:
        """Raise `TypeError`: a shared event is set once."""
        raise TypeError("a SharedEvent is set once and cannot be cleared: make a new SharedEvent for the next attempt")

    def restart_timeout(self, timeout: float | None = ...) -> NoReturn:  # type: ignore[assignment]
        """Raise `TypeError`: a shared event has one deadline in all processes."""
        raise TypeError(
            "the timeout of a SharedEvent cannot restart, as it passes at one instant in all processes: "
            "make a child(timeout) of it, and restart that one's"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        _, is_set, reason = self._fe_read()
        (home, number), (timeout, start, _) = self._fe_key, self._fe_period()
        return _arrive, (
            tuple(home),
            number,
            timeout,
            start,
            self._fe_self_setting,
            self._fe_name,
            encode(reason) if is_set else None,
        )


attach_polls(SharedEvent)


def _arrive(
    home: tuple[Any, ...],
    number: int,
    timeout: float | None,
    start: int,
    self_setting: bool,
    name: str | None,
    cause: str | None,
) -> SharedEvent:
    """Return the event of a ticket."""
    key = Home(*home), number
    if not _hub.hub.held(key):
        event = SharedEvent.__new__(SharedEvent)
        if timeout is not None:
            event._fe_start_at(timeout, start)
        if cause is not None:
            set_and_notify(event, decode(json.loads(cause)))
        if self_setting or name is not None:
            take_options(event, EventCore, (), self_setting, name)
        _share(event, key)
    first: SharedEvent = _hub.hub.held(key)[0]  # should it arrive several times at once
    return first


def _share(event: SharedEvent, key: Key) -> None:
    event._fe_key = key
    reference = Reference(event, _hub.forget)
    reference.key = key
    subscribe(event, Waker(partial(_hub.notify, reference)))
    try:
        _join(reference)
    except BaseException:  # from a signal handler: it or another thread may have the event already
        _join(reference)
        raise


def _join(reference: Reference) -> None:
    _hub.hub.hold(reference)
    _hub.notify(reference)
