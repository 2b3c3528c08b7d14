"""The options of an event that few events have: parents, a deadline that sets it, a name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastevent._foreign import ThreadingEvent, add_foreign_child, is_foreign, remove_foreign_child
from fastevent._notify import add_child, expire, remove_child, schedule, wake_wakers

if TYPE_CHECKING:
    from fastevent._types import CoreEvent


def take_options(event: CoreEvent, core: type[Any], parents: Iterable[Any], set_on_timeout: bool, name: str | None) -> None:
    """Give the *event* its options, and end what an earlier `__init__` began. *core* is the class of all events."""
    if type(parents) is not tuple:
        if not isinstance(parents, (list, Iterable)):  # most are a list, which is quick to tell
            raise TypeError(f"parents must be an iterable of events, not {parents!r}")
        parents = tuple(parents)
    for parent in parents:
        if not isinstance(parent, core) and not is_foreign(parent):
            shown = object.__repr__(parent) if isinstance(parent, ThreadingEvent) else repr(parent)  # its own may fail
            raise TypeError(f"a parent must be a fastevent.Event or a threading.Event, not {shown}")
    if name is not None:
        check_name(name)
    if event._fe_has_options:
        for parent in event._fe_parents:
            remove_child(parent, event) if isinstance(parent, core) else remove_foreign_child(parent, event)
        event._fe_parents, event._fe_name, event._fe_self_setting = (), None, False
    event._fe_has_options = True
    if name is not None:
        event._fe_name = name
    if set_on_timeout:
        event._fe_self_setting = True
        schedule(event)
    if parents:
        event._fe_parents = parents
        for parent in parents:
            add_child(parent, event) if isinstance(parent, core) else add_foreign_child(parent, event)
    if set_on_timeout and core.check_timeout(event):
        expire(event)
    if event._fe_clear_wakes:  # an earlier set() is undone, and the descriptor must follow
        wake_wakers(event)


def check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {name!r}")
