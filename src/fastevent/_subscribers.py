"""Who is told when an event is set: its children, then those who wait for it in other ways, then its callbacks.

Subscribers stand in two dicts of the event, which are used as ordered sets, since joining and leaving one are atomic. Each
knows how often the flag had gone up when it was born, and a `set()` tells those that were born before it. So nobody who comes
after a `clear()` is told of a `set()` before it. Whoever subscribes looks at that count before and after: if it has changed,
the subscriber may have been overlooked, so it is told then and there.

To be told twice does no harm: a child is set already, somebody who waits is awake; and of all who would call a callback, one
takes it out of the dict. So a `set()` may help another that is still on its way, and begin anew where a signal handler raised.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_BEFORE = 1 << 31  # counts have 32 bits and run over: a difference of less lies in the past


def was_born_before(subscriber: Child | Callback, sets: int) -> bool:
    return 0 < (sets - subscriber.born) % (2 * _BEFORE) < _BEFORE


#: Who is to be told of a set: the event that was set, how often it has been by then, and the reason.
Told = tuple[Any, int, object]


class Reference(weakref.ref[Any]):
    """A weak reference that is equal to itself alone, whatever the object behind it is equal to."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Child(Reference):
    """An event that is set when its parent is. It leaves the parent as it dies; neither keeps the other alive by it."""

    __slots__ = ("born", "parent")

    born: int
    parent: weakref.ref[Any]

    def leave(self) -> None:
        parent = self.parent()
        if parent is not None:
            parent._fe_children.pop(self, None)


def log(text: str, *arguments: object) -> None:
    """Log the exception that is being handled. That must stop nobody, even where a handler or a filter raises."""
    try:
        import logging

        logging.getLogger("fastevent").exception(text, *arguments)
    except Exception:  # at the exit of the interpreter, nothing can be imported any more
        pass


class Callback:
    """Calls a function once, when an event is set."""

    __slots__ = ("born", "function")

    born: int  # from when it subscribes

    def __init__(self, function: Callable[[Any], object]) -> None:
        self.function = function

    def call(self, event: Any) -> None:
        try:
            self.function(event)
        except Exception:
            log("the callback %r of %r raised", self.function, event)


class Waker(Callback):
    """A callback of our own, by which somebody waits: it comes before those of the users, and nobody else sees it."""

    __slots__ = ()


def tell(told: list[Told]) -> None:
    """Set the children of the events in *told*, and theirs in turn; then call all callbacks."""
    reached = set()
    for event, sets, reason in told:  # which grows meanwhile: a tree of any depth takes no recursion
        if (id(event), sets) not in reached:
            reached.add((id(event), sets))
            for child in list(event._fe_children):
                if was_born_before(child, sets) and (heir := child()) is not None:
                    heir._fe_take_over(reason, told)
                    child.born = sets - 1  # it may live longer than a count is good for
    due = [
        (event, callback)
        for event, sets, _ in told
        for callback in list(event._fe_callbacks)
        if was_born_before(callback, sets)
    ]
    due.sort(key=lambda call: not isinstance(call[1], Waker))
    error = None
    for event, callback in due:
        try:
            if isinstance(callback, Waker):  # it stays until it was called: should a signal handler raise, it is called again
                callback.call(event)
                event._fe_callbacks.pop(callback, None)
            elif event._fe_callbacks.pop(callback, None) is not None:
                callback.call(event)
        except BaseException as caught:  # sys.exit(), Ctrl-C: after the others
            error = error or caught
    if error is not None:
        raise error
