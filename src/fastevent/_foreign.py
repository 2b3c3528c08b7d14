"""A plain `threading.Event` as a parent.

`threading.Event.set()` calls `release()` of all that stands among its condition's waiters, and holds the
lock. One waiter of ours stands there for each such event, without a thread and without polling. What holds:

1. The waiter is there from the first child on, and stays: `release()` appends it again before the condition takes it out.
   Nothing is ever removed, since without the lock that would break the user's `set()`, and the lock cannot be taken safely.
2. A child registers, and then looks whether the event is set. So no set() falls in between.
3. `release()` runs under the user's lock. So it sets flags and wakes threads, and leaves the rest to a helper thread that runs
   already. When the interpreter has ended the helpers, callbacks are not called, and the log says so. It raises nothing of its
   own: the condition would call it again for ever, or leave the user's threads asleep.
(test_foreign_parents)
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, ref

from fastevent._callbacks import callbacks, in_helper
from fastevent._notify import Children, Pending, notify_pending, set_and_notify
from fastevent._process import at_fork, log, warn
from fastevent._threads import helpers_ended

if TYPE_CHECKING:
    from fastevent._registration import Registration
    from fastevent._types import CoreEvent

    ThreadingEvent = threading.Event
else:
    # The interpreter's own, even where another copy of this package, or gevent, has replaced it.
    ThreadingEvent = next((cls for cls in threading.Event.__mro__ if cls.__module__ == "threading"), None)
    ThreadingEvent = ThreadingEvent or type(threading.main_thread()._started)

_waiters: WeakSet[_Waiter] = WeakSet()


class _Waiter:
    """What stands among the waiters of a foreign event's condition, for all its children."""

    def __init__(self, condition: Any) -> None:
        self._condition = ref(condition)  # not the condition itself, whose waiters refer to this object
        self.children = Children()
        self.is_there = False

    def join(self) -> None:
        """Stand among the waiters."""
        if not self.is_there:
            self._append()  # first: a signal handler that raises in between makes it stand there twice, which does no harm
            self.is_there = True

    def release(self) -> None:
        try:
            self._append()
        finally:
            try:
                self._set_children()
            except Exception:
                log("a child of a threading.Event was not set")

    def _append(self) -> None:
        condition = self._condition()
        if condition is not None:
            condition._waiters.append(self)

    def _set_children(self) -> None:
        pending: Pending = []
        try:
            for reference, _ in list(self.children.values()):
                child = reference()
                if child is not None:
                    child._fe_try_set(None, pending)
        finally:
            if pending and not helpers_ended:
                in_helper(notify_pending, pending)
            elif pending:  # as the interpreter exits: callbacks in this thread would run under the user's lock
                notify_pending(pending, _leave_out)


def _leave_out(event: CoreEvent, key: object, function: Registration) -> None:
    warn("%r is not called, because a threading.Event is set as the interpreter exits", function)


def is_foreign(event: object) -> bool:
    """Return whether *event* is a `threading.Event` of the interpreter's own kind."""
    if not isinstance(event, ThreadingEvent):
        return False
    condition = getattr(event, "_cond", None)
    return type(condition) is threading.Condition and type(getattr(condition, "_waiters", None)) is deque


def add_foreign_child(parent: Any, child: CoreEvent) -> None:
    """Have every set() of *parent*, a `threading.Event`, set *child*; set it now if *parent* is set."""
    waiter: _Waiter = vars(parent).setdefault("_fe_waiter", _Waiter(parent._cond))
    _waiters.add(waiter)
    waiter.children[object()] = ref(child), 0
    if len(waiter.children) > waiter.children.limit:
        waiter.children.drop_dead()
    _start_helper()
    waiter.join()
    if parent.is_set():
        set_and_notify(child)


def remove_foreign_child(parent: Any, child: CoreEvent) -> None:
    waiter: _Waiter | None = vars(parent).get("_fe_waiter")
    if waiter is not None:
        waiter.children.remove(child)


def _start_helper() -> None:
    with suppress(RuntimeError):  # then `in_helper()` tries again
        callbacks.helpers[0].start()


def _after_fork_in_child() -> None:
    if sys.implementation.name != "pypy" and len(_waiters):
        _start_helper()


at_fork(in_child=_after_fork_in_child)
