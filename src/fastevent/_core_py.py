"""EventCore in Python: the readable specification, and what runs where the compiled one does not.

What an event is between two changes is a `_State`, of which nothing changes but that it gets a successor, once. Who changes
the event offers a successor to the newest state. `dict.setdefault`, which is atomic, takes one offer. Whoever made another
looks at what was taken, and tries again. So every change of the event is one step.

The waiters of an event are a crowd, which belongs to all states from a `clear()` to the next `set()`:

* `set()` ends the crowd's time, then wakes everyone in it; the first `clear()` after it begins the time of a new one.
* `wait()` joins the crowd, then looks whether it is still the one that counts. If not, a `set()` has come since: no wake-up is
  lost. And a later `clear()` takes nothing back, nor does an earlier `set()` wake who came after it: that is another crowd.

A crowd is a dict used as an ordered set: joining, leaving and copying one are atomic with and without the GIL.

No lock is held at any point, so a signal handler, a finalizer or a weakref callback may call anything at any time.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from threading import local
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any

from fastevent._config import implicit_timeout
from fastevent._subscribers import Callback, Child, Told, tell
from fastevent._timeouts import LONGEST_WAIT, NEVER, deadline_after, event_seconds, longest_wait, wait_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastevent._event import Event

_NEXT = "next"  # the only key of `_State.next`
_HERD = 32  # after so many wake-ups, a set() lets go of the GIL: if all of a large herd wait for it at once, they thrash

_this_process = object()  # another one in every forked process
_surviving_thread = 0  # the only thread of the parent process that lives on in this one
_waits: Any = local()  # its `__dict__` has the waiters of this thread, of its signal handlers, too, and what they wait for


def _after_fork_in_child() -> None:
    global _this_process, _surviving_thread
    _this_process = object()
    _surviving_thread = get_ident()
    # A signal handler may have forked in the midst of wait(), and who was on the way to wake that did not come along.
    for waiter, (event, crowd) in list(_waits.__dict__.items()):
        if event._fe_newest().crowd is not crowd:
            waiter.wake()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _Waiter:
    """A thread in `wait()`."""

    __slots__ = ("lock", "process", "thread")

    def __init__(self) -> None:
        self.lock = allocate_lock()  # held until a set() releases it
        self.lock.acquire()
        self.process = _this_process
        self.thread = get_ident()

    def is_here(self) -> bool:
        """Tell whether the thread exists in this process; no other must be touched after a fork."""
        return self.process is _this_process or self.thread == _surviving_thread

    def wake(self) -> None:
        try:
            self.lock.release()
        except RuntimeError:  # it was woken before
            pass


_Crowd = dict[_Waiter, None]


def _wake(crowd: _Crowd) -> None:
    for woken, waiter in enumerate(list(crowd), 1):
        if woken % _HERD == 0:
            sleep(0)
        if waiter.is_here():
            waiter.wake()


class _State:
    """What an event is between two changes: constant, but that `next` gets a successor, once."""

    __slots__ = ("crowd", "deadline", "next", "reason", "seconds", "sets", "start")

    def __init__(
        self, sets: int, crowd: _Crowd | None, reason: object, seconds: float | None, start: int, deadline: int
    ) -> None:
        self.next: dict[str, _State] = {}
        self.sets = sets  # how often the flag went up
        self.crowd = crowd  # who waits; None while the flag is up
        self.reason = reason  # why the flag is up
        self.seconds = seconds  # the timeout
        self.start = start  # when the running period began, in nanoseconds
        self.deadline = deadline  # when it times out


class _FirstState:
    """Gives an event its state at the first look, also where a subclass never calls `super().__init__()`."""

    def __get__(self, event: EventCore | None, cls: type) -> Any:
        if event is None:
            return self
        return vars(event).setdefault("_fe_state", _State(0, {}, None, None, 0, NEVER))


class EventCore:
    """What an event does often: its flag, its deadline, its waiters."""

    _fe_state: _State = _FirstState()  # type: ignore[assignment]  # the newest, or one that it follows from
    _fe_linked = False  # _fe_link() was called

    if TYPE_CHECKING:  # what Event adds, for either core
        _fe_children: dict[Child, None]
        _fe_callbacks: dict[Callback, Callback]

        def _fe_link(self, parents: Iterable[Event], set_on_timeout: bool) -> None: ...
        def _fe_raise(self) -> None: ...
        def _fe_set_if_timed_out(self) -> None: ...

    def __init__(self, timeout: float | None = None, *, parents: Iterable[Event] = (), set_on_timeout: bool = False) -> None:
        self._fe_begin_period(implicit_timeout() if timeout is None else event_seconds(timeout))
        if parents != () or set_on_timeout or self._fe_linked:
            self._fe_linked = True
            self._fe_link(parents, set_on_timeout)

    def is_set(self) -> bool:
        """Return the flag: True if the event is set, False otherwise.

        A timeout that has passed does not set it: see `check_timeout`.

        Thread safety: atomic. What a thread wrote before its `set()` is visible to every thread that reads True here.
        """
        state = self._fe_state
        return (self._fe_newest() if state.next else state).crowd is None

    @property
    def flag(self) -> bool:
        """The flag as an attribute, True or False, read-only: the cheapest way to poll.

        Thread safety: atomic.
        """
        return EventCore.is_set(self)

    if not TYPE_CHECKING:  # refuse in the words of the compiled core

        def _refuse(self, value=None):
            raise AttributeError("readonly attribute")

        flag = flag.setter(_refuse).deleter(_refuse)
        del _refuse

    def check_timeout(self) -> bool:
        """Return True once the event's timeout has passed since its start, set or not; never early.

        False without a timeout. It changes nothing.

        Thread safety: atomic.
        """
        deadline = self._fe_newest().deadline
        return deadline != NEVER and monotonic_ns() >= deadline

    def check(self) -> None:
        """Raise `EventCancelled` if the event is set, `EventTimeout` if it has timed out; return None otherwise.

        `EventTimeout` is an `EventCancelled` and a `TimeoutError`. It is also raised if the event is set because of a timeout.
        The text names the reason.

        Thread safety: atomic.
        """
        if EventCore.is_set(self) or EventCore.check_timeout(self):
            self._fe_raise()

    def set(self, reason: object = None) -> None:
        """Set the flag to True and wake every thread that waits for it; then tell children, coroutines and callbacks.

        The *reason*, any object, stays until `clear()`. On an event that is set already it is dropped: the first one counts.

        Thread safety: atomic. It never blocks, so a signal handler, a finalizer or a weakref callback may call it.
        """
        told: list[Told] = []
        try:
            EventCore._fe_put_up(self, reason, told)
            if told:
                tell(told)
        except BaseException:  # a signal handler's: tell the others all the same; twice does no harm
            tell(told)
            raise

    def clear(self) -> None:
        """Set the flag to False and forget the reason; a timeout starts anew.

        Thread safety: atomic. It takes nothing from a thread that a `set()` has woken.
        """
        state = self._fe_newest()
        if state.seconds is not None or state.crowd is None:
            self._fe_begin_period(state.seconds)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set. Return True if it is, False if time ran out first; never early.

        *timeout* is in seconds. A number alone decides how long the call waits, even after the event's own timeout has passed;
        one that is not above zero does not wait. With None, the event's own timeout ends the call, if it has one. Raises
        `TypeError` for what is not a number, unless the event is set.

        Thread safety: safe on shared objects. Signal handlers run while it waits, and what they raise ends it. A thread that a
        `set()` has woken returns True, even if the event was cleared at once.
        """
        crowd = self._fe_newest().crowd
        if crowd is None:
            return True
        if timeout is None:
            return self._fe_wait_until(crowd, 0, own=True)
        seconds = wait_seconds(timeout)
        return seconds > 0 and self._fe_wait_until(crowd, deadline_after(monotonic_ns(), seconds), own=False)

    def _fe_wait_until(self, crowd: _Crowd, deadline: int, own: bool) -> bool:
        longest = longest_wait()
        endless = NEVER if longest == LONGEST_WAIT else longest
        waiter, waits = _Waiter(), _waits.__dict__
        try:
            waits[waiter] = self, crowd
            crowd[waiter] = None
            while (state := self._fe_newest()).crowd is crowd:
                if own:  # clear() may have put it off
                    deadline = state.deadline
                del state  # a thread that waits must not keep all states alive that follow from it
                left = endless if deadline == NEVER else min(deadline - monotonic_ns(), longest)
                if left <= 0 or waiter.lock.acquire(True, -1 if left == NEVER else left / 1e9):
                    break
            return self._fe_newest().crowd is not crowd  # a set() may have come as time ran out
        finally:
            crowd.pop(waiter, None)
            waits.pop(waiter, None)

    def _fe_is_set_by_now(self) -> bool:
        """Return True if the event is set, which it is once its timeout has passed; False otherwise.

        Thread safety: atomic, but that whoever comes first after the timeout sets the event: see `set`.
        """
        if not EventCore.is_set(self) and EventCore.check_timeout(self):
            self._fe_set_if_timed_out()
        return EventCore.is_set(self)

    @property
    def _fe_flag_by_now(self) -> bool:
        """The flag as an attribute, True or False, read-only: what `is_set()` returns."""
        return EventCore._fe_is_set_by_now(self)

    def _fe_newest(self) -> _State:
        state = self._fe_state
        while state.next:
            state = self._fe_state = state.next[_NEXT]
        return state

    def _fe_put_up(self, reason: object, told: list[Told], timed_out: bool = False) -> None:
        """Do what `set()` does, but leave `tell()` to the caller, for *told*. If *timed_out*, only once the timeout passed."""
        while True:
            state = self._fe_newest()
            crowd = state.crowd
            if crowd is None or (timed_out and monotonic_ns() < state.deadline):
                if crowd is None and (self._fe_children or self._fe_callbacks):
                    told.append((self, state.sets, state.reason))
                return
            successor = _State(state.sets + 1, None, reason, state.seconds, state.start, state.deadline)
            try:
                if state.next.setdefault(_NEXT, successor) is successor:
                    return self._fe_wake_all(crowd, successor, told)
            except BaseException:  # a signal handler's: who waits is woken all the same
                if state.next.get(_NEXT) is successor:
                    self._fe_wake_all(crowd, successor, told)
                raise

    def _fe_wake_all(self, crowd: _Crowd, state: _State, told: list[Told]) -> None:
        self._fe_state = state
        _wake(crowd)
        if self._fe_children or self._fe_callbacks:
            told.append((self, state.sets, state.reason))

    def _fe_begin_period(self, seconds: float | None) -> None:
        while True:
            state = self._fe_newest()
            start, deadline = 0, NEVER
            if seconds is not None:
                start = monotonic_ns()
                deadline = deadline_after(start, seconds)
            crowd = {} if state.crowd is None else state.crowd
            successor = _State(state.sets, crowd, None, seconds, start, deadline)
            if state.next.setdefault(_NEXT, successor) is successor:
                self._fe_state = successor
                return

    def _fe_watch(self) -> tuple[int, bool, Any]:
        """Have every `set()` from now on call `tell()`. Return what `_fe_snapshot()` does."""
        return EventCore._fe_snapshot(self)

    def _fe_snapshot(self) -> tuple[int, bool, Any]:
        """Return how often the flag went up so far, whether it is, and why."""
        state = self._fe_newest()
        return state.sets, state.crowd is None, state.reason

    def _fe_waiting(self) -> int:
        """Return how many threads wait."""
        return sum(waiter.is_here() for waiter in list(self._fe_newest().crowd or ()))

    def _fe_period(self) -> tuple[float | None, int, int]:
        """Return the timeout in seconds or None, and the start and the deadline of the running period in nanoseconds."""
        state = self._fe_newest()
        return state.seconds, state.start, state.deadline

    def _at_fork_reinit(self) -> None:
        """Forget the threads that waited when this process was forked off; `threading` calls it in the child."""
        crowd = self._fe_newest().crowd or {}
        for waiter in list(crowd):
            if not waiter.is_here():
                crowd.pop(waiter, None)


def attach_method(cls: type[Any], name: str, method: str) -> None:
    """Give *cls* the core's *method* under *name*."""
    setattr(cls, name, getattr(EventCore, method))


def attach(cls: type[Any]) -> None:
    """Do nothing: in Python, inherited methods are as good as a class's own."""
