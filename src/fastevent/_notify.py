"""Setting and clearing an event, and notifying its subscribers.

A set() goes one way: flag and reason, the threads in `wait()`, the children and theirs breadth first, then wakers, then
callbacks. A clear() goes one way: flag, wakers, timer.

Subscribers stand in three dicts of an event. A key is an object of its own, so adding and removing one are atomic. An event
counts how often it was set. A subscriber remembers that count from when it registered, and a set() notifies those registered
before it. A subscriber looks at the event once more after it has registered, because a set() at that moment may have missed it.

Every step may be repeated without harm: a child that is set stays set, a waker may be called at any time, and a registration
calls its function once. So a set() completes another that is still in progress, and begins again where an exception, from a
signal handler for instance, interrupted it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import ref

from fastevent._callbacks import in_helper
from fastevent._errors import timeout_error
from fastevent._process import Thread, exists, generation, log, this_thread
from fastevent._time import NEVER
from fastevent._timers import timers

if TYPE_CHECKING:
    from fastevent._registration import Registration
    from fastevent._types import CoreEvent

#: An event that was set, its count of sets by then, and the reason: what is still to be notified.
Pending = list[tuple[Any, int, Any]]

#: How a callback is called: with the event, the callback's key, and itself.
Caller = Callable[[Any, object, "Registration"], object]

#: What stands for a subscriber that was removed after its key had been listed. Loops over subscribers list keys and not items,
#: because up to Python 3.11 making the tuple of an item may run a finalizer, which may add and remove subscribers.
_REMOVED: tuple[Any, Any] = (lambda: None, inf)


_State = namedtuple("_State", "sets is_set reason")


class State(_State):
    """The flag of an event and what changes with it, at one moment."""

    __slots__ = ()

    sets: int
    """How often the event has been set."""
    is_set: bool
    reason: Any


class Waker:
    """A subscriber of our own: `wake()` is called whenever the event changes in a way that may end a wait.

    That is at every set(), at a clear() if the event has a descriptor, and when the deadline comes nearer. The call comes in
    any thread, in a signal handler, or without need. *waiter* is the thread (its ident) or the task (its name) that waits by
    it, or None. `thread` is the only thread that it is for, or None.
    """

    __slots__ = ("thread", "waiter", "wake")

    def __init__(self, wake: Callable[[], object], waiter: int | str | None = None) -> None:
        self.wake = wake
        self.waiter = waiter
        self.thread: Thread | None = None if waiter is None else this_thread()

    def is_here(self) -> bool:
        """Return whether no fork has left its thread behind."""
        return self.thread is None or exists(self.thread)


def call_now(event: Any, key: object, function: Registration) -> None:
    try:
        function(event)
    except Exception:
        if function.is_pending:  # a signal handler has raised before the call began: `set_and_notify()` makes another attempt
            raise
        log("the callback %r of %r raised", function, event)


def call_in_helper(event: CoreEvent, key: object, function: Registration) -> None:
    in_helper(call_now, event, key, function)


def set_and_notify(event: CoreEvent, reason: object = None, only_if_expired: bool = False, call: Caller = call_now) -> None:
    """Set the *event* and notify its subscribers. If *only_if_expired*, do so only once its deadline has passed.

    *call* decides in which thread callbacks run: `call_now` in this one, `call_in_helper` in a helper.
    """
    pending: Pending = []
    try:
        _try_set(event, reason, pending, only_if_expired)
        if pending:
            _notify(pending, call)
    except BaseException:
        _notify(pending, call, True)  # what is set must be notified, even if a clear() follows
        raise


def notify_pending(pending: Pending, call: Caller = call_in_helper) -> None:
    """Notify the subscribers of events that are set. *call* decides in which thread callbacks run."""
    try:
        _notify(pending, call)
    except BaseException:
        _notify(pending, call, True)
        raise


def _try_set(event: CoreEvent, reason: object, pending: Pending, only_if_expired: bool) -> None:
    # Near the end of the stack, this raises RecursionError before it sets the flag. If it does not raise, there is room to set
    # the children, too: `_notify()` does it at the same depth as this function, which is what this function is for.
    event._fe_try_set(reason, pending, only_if_expired)


def _notify(pending: Pending, call: Caller, again: bool = False) -> None:
    reached: set[tuple[int, int]] = set()
    for parent, sets, cause in pending:  # grows as children are set, so a tree of any depth takes no recursion
        children = parent._fe_children
        if children:
            if again or len(parent._fe_parents) > 1:  # no other event is reached twice
                if (id(parent), sets) in reached:
                    continue
                reached.add((id(parent), sets))
            for reference, registered_at in list(children.values()):
                if registered_at < sets and (child := reference()) is not None:
                    child._fe_try_set(cause, pending)
    for changed, _, _ in pending:
        if changed._fe_wakers:
            wake_wakers(changed)
    error = None
    for changed, sets, _ in pending:
        callbacks = changed._fe_callbacks
        if callbacks:
            for key in list(callbacks):
                function, registered_at = callbacks.get(key, _REMOVED)
                if registered_at < sets:
                    try:
                        call(changed, key, function)
                    except BaseException as caught:  # sys.exit(), Ctrl-C: raised after the other callbacks
                        error = error or caught
    try:
        if error is not None:
            raise error
    finally:
        del error  # it refers to this frame


def clear_and_notify(event: CoreEvent) -> None:
    """Clear an event that is self-setting or has a descriptor."""
    if event._fe_self_setting:
        expire(event)  # a deadline that has passed counts, even if no thread has noticed it
    try:
        _clear_and_notify(event)
    except BaseException:  # from a signal handler
        _clear_and_notify(event)
        raise


def _clear_and_notify(event: CoreEvent) -> None:
    event._fe_reset()
    wake_wakers(event)
    reschedule(event)


def expire(event: CoreEvent) -> None:
    """Set a self-setting event if its deadline has passed and it is not set."""
    if not event._fe_read().is_set:
        set_and_notify(event, timeout_error(event), True, call_in_helper)


def schedule(event: CoreEvent) -> None:
    """Have a self-setting event set at its deadline. Raises `RuntimeError` where no thread can be started."""
    if event._fe_self_setting and (deadline := event._fe_deadline()) != NEVER:
        timers.events.add(deadline, fire, ref(event))


def reschedule(event: CoreEvent) -> None:
    """Do what `schedule()` does. Where no thread can be started any more, `wait()` alone sets the event at its deadline."""
    try:
        schedule(event)
    except RuntimeError:
        pass


def fire(reference: ref[Any]) -> None:
    event = reference()
    if event is not None and event._fe_self_setting:
        expire(event)
        if not event._fe_read().is_set:  # the deadline has moved
            schedule(event)


def restart(event: CoreEvent, seconds: float | None) -> bool:
    """Restart the timeout of the *event*, with *seconds* as the new one if given. Return whether that came in time."""
    try:
        if event._fe_self_setting:
            generation()  # a fork in C may have left the thread behind
        nearer = event._fe_restart(seconds)
        # A later deadline needs no new entry, because the timer comes at the earlier one and finds the later. If there is no
        # thread, because its start failed after a fork, start it now.
        if nearer or timers.helper.life is None:
            reschedule(event)
        if nearer:
            wake_wakers(event)
        return nearer is not None
    except BaseException:  # from a signal handler
        reschedule(event)
        wake_wakers(event)
        raise


# Subscribers


def wake_wakers(event: CoreEvent) -> None:
    for waker in list(event._fe_wakers):
        if not waker.is_here():
            unsubscribe(event, waker)
            continue
        try:
            waker.wake()
        except Exception:
            try:
                waker.wake()
            except RecursionError:  # at the end of the stack: a helper has one of its own
                in_helper(waker.wake)
            except Exception:
                log("a waker of %r raised", event)
            else:
                raise  # a waker that raises once and then not was interrupted by a signal handler


def subscribe(event: CoreEvent, waker: Waker) -> int:
    """Add *waker*. Return the event's count of sets: the event has been set since, or is set, if `_fe_set_since()` says so."""
    registered_at: int = event._fe_add_waker(waker)
    return registered_at


def unsubscribe(event: CoreEvent, waker: Waker) -> None:
    event._fe_wakers.pop(waker, None)


def add_child(parent: CoreEvent, child: CoreEvent) -> None:
    """Have every set() of *parent* set *child*; set it now if *parent* is set."""
    key = parent._fe_add_child(child)
    if key is not None:
        finish_child(parent, child, key)


def finish_child(parent: CoreEvent, child: CoreEvent, key: object) -> None:
    """Set a *child* that was added if *parent* is set. Drop those that no longer exist if there are many."""
    children = parent._fe_children
    if len(children) > children.limit:
        children.drop_dead()
    sets, is_set, reason = parent._fe_read()
    if is_set:
        # As if it had registered before that set(): should the child be cleared, another set() of the parent sets it again.
        children[key] = ref(child), sets - 1
        set_and_notify(child, reason)


def remove_child(parent: CoreEvent, child: CoreEvent) -> None:
    parent._fe_children.remove(child)


def count_children(event: CoreEvent) -> int:
    return sum(reference() is not None for reference, _ in list(event._fe_children.values()))


class Children(dict[object, tuple[ref[Any], int]]):
    """The children of an event. Those that no longer exist are dropped now and then, which costs a child less than to leave."""

    __slots__ = ("limit",)

    def __init__(self) -> None:
        self.limit = 64  # at this size, dead children are dropped

    def remove(self, child: CoreEvent) -> None:
        for key in list(self.keys()):
            reference, _ = self.get(key, _REMOVED)
            if reference() is child:
                self.pop(key, None)

    def drop_dead(self) -> None:
        for key in list(self.keys()):
            reference, _ = self.get(key, _REMOVED)
            if reference() is None:
                self.pop(key, None)
        self.limit = 2 * len(self) + 64


#: What an event has in place of a dict of subscribers before it has the first one.
NO_SUBSCRIBERS: Any = Children()
