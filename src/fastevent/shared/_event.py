"""SharedEvent: an event that several processes of one machine hold.

Pickling such an event gives a ticket: its home, its number there, and its state so far. The process in which the ticket arrives
makes an event of its own from it, and follows that number.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fastevent._core import EventCore, attach_polls
from fastevent._event import Event
from fastevent._notify import Waker, set_and_notify, subscribe
from fastevent._options import take_options
from fastevent._reasons import encode, encode_repr
from fastevent._set_once import SetOnce
from fastevent._time import SAME
from fastevent.shared import _hub, _wire
from fastevent.shared._held import Key, Reference
from fastevent.shared._place import Home

_E = TypeVar("_E", bound="SharedEvent")


class SharedEvent(SetOnce):
    """An `Event` that other processes of this machine can hold, too: set in one of them, it is set in all.

    It may be an argument of a `multiprocessing.Process` or of a task of a pool, and go through queues and pipes. A forked child
    holds the events of its parent anyway. What arrives is the same event: one object in each process, with the same name and
    timeout, which passes at the same instant. A reason arrives as JSON carries it; an enum as its name, an `EventTimeout` as
    one, anything else as its text, and of a long text the beginning. Other interpreters of this process are as other processes.

    It is set once: `clear()` and `restart_timeout()` raise `TypeError`. When the process that made it is gone, it is set in the
    others, for a reason that says so. What is sent contains a key, with which a process of this machine can follow and set the
    events of the process that made it, and do nothing else.

    The parameters are those of `Event`. *parents* remain events of this process alone, whose `set()` sets the event in all. An
    object of a subclass arrives as one, with its attributes as they were when it was sent.

    Raises what `Event()` raises, and `OSError` where no socket can be made.

    Thread safety: as `Event`. No call waits for another process.
    """

    __module__ = "fastevent"

    __slots__ = ("_fe_key",)  # not in the instance's `__dict__`: as long as nobody asks for that, a poll takes half the time

    _fe_why_not_clear = "a SharedEvent is set once and cannot be cleared: make a new SharedEvent for the next attempt"
    _fe_why_not_restart = (
        "the timeout of a SharedEvent cannot restart, as it passes at one instant in all processes: "
        "make a child(timeout) of it, and restart that one's"
    )

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
        if _has_key(self):
            raise TypeError(f"{self!r} cannot be initialised again, as other processes may hold it: make a new SharedEvent")
        super().__init__(timeout, parents=parents, set_on_timeout=set_on_timeout, name=name)
        while True:
            hub = _hub.hub()
            key = hub.own().new_key()
            if hub is _hub.hub():  # otherwise a signal handler has forked in between
                break
        _share(self, key)

    def clear(self) -> NoReturn:
        """Raise `TypeError`: a shared event is set once."""
        super().clear()

    def restart_timeout(self, timeout: Any = SAME) -> NoReturn:
        """Raise `TypeError`: a shared event has one deadline in all processes."""
        super().restart_timeout()

    def __reduce__(self) -> tuple[Any, ...]:
        if not _has_key(self):
            raise TypeError(
                f"cannot pickle {self!r}: {type(self).__qualname__}.__init__() has not called SharedEvent.__init__()"
            )
        _, is_set, reason = self._fe_read()
        (home, number), (timeout, start, _) = self._fe_key, self._fe_period()
        cause = None
        if is_set:
            try:
                cause = encode(reason)
            except Exception:
                cause = encode_repr(reason)
        ticket = tuple(home), number, timeout, start, self._fe_self_setting, self._fe_name, cause
        if type(self) is SharedEvent:
            return _arrive, ticket
        return _arrive_as, (type(self), ticket), _state(self)

    def __setstate__(self, state: Any) -> None:
        slots = _slots(type(self))
        for attributes in state if type(state) is tuple else (state,):
            for name, value in (attributes or {}).items():
                if not (hasattr(self, name) if name in slots else name in self.__dict__):  # what is here already, stays
                    setattr(self, name, value)

    def __copy__(self: _E) -> _E:
        return self

    def __deepcopy__(self: _E, memo: object) -> _E:
        return self


attach_polls(SharedEvent)
_key = vars(SharedEvent)["_fe_key"]


def _has_key(event: SharedEvent) -> bool:
    try:
        _key.__get__(event)  # without the `__getattr__()` of a subclass
        return True
    except AttributeError:
        return False


def _slots(kind: type[SharedEvent]) -> list[str]:
    names: list[str] = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    return [name for name in names if not name.startswith("_fe_")]


def _state(event: SharedEvent) -> Any:
    """Return the attributes of an object of a subclass."""
    kind = type(event)
    own = getattr(kind, "__getstate__", None)
    if own is not None and own is not getattr(object, "__getstate__", None):
        return own(event)
    state = {name: value for name, value in event.__dict__.items() if not name.startswith("_fe_")}
    state.update((name, getattr(event, name)) for name in _slots(kind) if hasattr(event, name))
    return state or None


def _arrive(*ticket: Any) -> SharedEvent:
    """Return the event of a ticket."""
    return _arrive_as(SharedEvent, ticket)


def _arrive_as(kind: type[_E], ticket: tuple[Any, ...]) -> _E:
    home, number, timeout, start, self_setting, name, cause = ticket
    key = Home(*home), number
    held: list[_E] = _hub.hub().held.of(key)
    if held:
        return held[0]
    event = SharedEvent.__new__(kind)
    if timeout is not None:
        event._fe_start_at(timeout, start)
    if cause is not None:
        set_and_notify(event, _wire.reason_of(cause.encode()))
    if self_setting or name is not None:
        take_options(event, EventCore, (), self_setting, name)
    _share(event, key)
    # The first, if it arrives several times at once. While another thread releases an earlier one, none may be found.
    held = _hub.hub().held.of(key)
    return held[0] if held else event


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
    _hub.hub().hold(reference)
    _hub.notify(reference)
