"""EventCore in Python: the flag, the deadline, the reason and the waiters of an event, without a lock.

It behaves as `_core_c.pyx` does, by another algorithm; neither explains the other.

1. An event's state is a `_State` that never changes, except that `next` receives its successor, once. To change the event, a
   thread builds a successor of the newest state and offers it with `dict.setdefault`, which is atomic. The thread that loses a
   race builds another one. So each change is one step. (test_interleavings)
2. An unset period, from a clear() to the next set(), has one dict of waiters, which all its states share. `wait()` adds its
   waiter, and then looks whether the period is over; `set()` ends the period, and then wakes the waiters. So none is missed.
   (test_planted_bugs: a_planted_bug_is_found)
3. Waking takes the waiter out of the dict, and only waiters of a period that is over are taken out. So a waiter that finds
   itself out of the dict knows that a set() woke it, whatever a clear() has done since.
4. A set() wakes only the first waiters, because threads that all wait for the GIL slow each other down. Each waiter that was
   woken wakes another one as it leaves, by a return or by an exception. Any later set() wakes some more.
   (test_planted_bugs: a_lost_place_is_found; test_waiting: a_second_set_wakes_more)
5. A method that keeps a state across a call moves on, state by state, to the newest one before it drops it. Otherwise a long
   chain of states, which other threads have made meanwhile, would be freed by recursion. CPython 3.13 crashes at that; other
   releases bound the recursion by themselves. So each loop `while _NEXT in state.next: state = state.next[_NEXT]` stays,
   though it may look like `_fe_newest()`. (test_waiting: a_small_stack_is_enough)

No lock is held at any point, so a signal handler, a finalizer or a weakref callback may call any method at any time.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterable
from itertools import islice
from threading import local
from typing import TYPE_CHECKING, Any
from weakref import ref

from fastevent._call import Call as Call
from fastevent._call import in_callback as in_callback
from fastevent._call import new_call
from fastevent._config import implicit_timeout
from fastevent._errors import ended_error
from fastevent._notify import (
    NO_SUBSCRIBERS,
    Children,
    Pending,
    State,
    Waker,
    add_child,
    call_now,
    clear_and_notify,
    expire,
    schedule,
    set_and_notify,
    wake_wakers,
)
from fastevent._options import check_name, take_options
from fastevent._process import at_fork, begin_rest, exists, generation, this_thread
from fastevent._time import LONGEST_WAIT, NEVER, Period, clock, deadline_after, event_seconds, wait_seconds

if TYPE_CHECKING:
    from fastevent._registration import Registration

# The only key of `_State.next`. Without the GIL, a dict may be no longer empty and its key not yet be found, so loops ask for
# the key. They do not call get(), because its first call from another thread takes 3.13t some 0.1 ms, and a thread would never
# come to the newest state. (test_waiting: no_thread_falls_behind)
_NEXT = "next"
_WINDOW = 64  # how many waiters one set() wakes

_waits: Any = local()  # its `__dict__` maps the waiters of this thread, also of its signal handlers, to what they wait for


class _Waiter:
    """A thread in `wait()`."""

    __slots__ = ("lock", "thread")

    def __init__(self) -> None:
        self.lock = allocate_lock()  # held until the waiter is woken
        self.lock.acquire()
        self.thread = this_thread()

    def is_here(self) -> bool:
        """Return whether the thread exists in this process. After a fork, no lock of another thread must be touched."""
        return exists(self.thread)

    def wake(self) -> None:
        if self.is_here():
            try:
                self.lock.release()
            except RuntimeError:  # it has been woken already
                pass


_Waiters = dict[_Waiter, None]


def _wake(waiters: _Waiters, count: int) -> None:
    """Wake up to *count* waiters of a period that is over."""
    while count > 0 and waiters:
        try:
            first = list(islice(waiters, count))
        except RuntimeError:  # a finalizer or another thread has changed the dict in between
            continue
        for waiter in first:
            waiter.wake()
            # Taken out only now: an exception from a signal handler in between loses nothing, since set() wakes it again.
            if waiters.pop(waiter, waiter) is None and waiter.is_here():
                count -= 1


def _need_stack(frames: int) -> None:
    """Raise `RecursionError` unless so many frames fit: once the event has changed, it would come too late."""
    if frames:
        _need_stack(frames - 1)


def _after_fork_in_child() -> None:
    # Only this thread exists in the child. If it forked in a signal handler, the waits that the handler interrupted exist, too.
    for waiter, (event, waiters) in list(_waits.__dict__.items()):
        if event._fe_is_over(waiters):
            waiter.wake()  # the thread that was to wake it is gone


at_fork(in_child=_after_fork_in_child)


class _State:
    """What an event is between two changes."""

    __slots__ = ("deadline", "is_set", "next", "reason", "seconds", "sets", "start", "waiters")

    def __init__(
        self, sets: int, is_set: bool, waiters: _Waiters, reason: object, seconds: float | None, start: int, deadline: int
    ) -> None:
        self.next: dict[str, _State] = {}
        self.sets = sets  # how often the event was set
        self.is_set = is_set
        self.waiters = waiters  # the threads that wait; while the event is set, those that are still to be woken
        self.reason = reason
        self.seconds = seconds  # the timeout
        self.start = start  # when it started, in nanoseconds
        self.deadline = deadline


def _unset(state: _State, seconds: float | None) -> _State:
    """Return an unset state to follow *state*, whose timeout of that many *seconds* starts now."""
    start, deadline = 0, NEVER
    if seconds is not None:
        start = clock.now()
        deadline = deadline_after(start, seconds)
    return _State(state.sets, False, {} if state.is_set else state.waiters, None, seconds, start, deadline)


class _FirstState:
    """Gives an event its first state when it is needed, also where a subclass never calls `super().__init__()`."""

    def __get__(self, event: EventCore | None, cls: type) -> Any:
        if event is None:
            return self
        return vars(event).setdefault("_fe_state", _State(0, False, {}, None, None, 0, NEVER))


class EventCore:
    """The flag, the deadline, the reason and the waiters of an event."""

    if not TYPE_CHECKING:
        _fe_children = _fe_callbacks = _fe_wakers = NO_SUBSCRIBERS
        _fe_parents = ()
        _fe_name = None
    else:
        _fe_children: Children
        _fe_callbacks: dict[Any, tuple[Callable[[Any], object], int]]
        _fe_wakers: dict[Waker, tuple[None, int]]
        _fe_parents: tuple[Any, ...]
        _fe_name: str | None

    _fe_state = _FirstState()  # the newest state, or one that it follows from
    _fe_self_setting = False
    _fe_clear_wakes = False
    _fe_has_options = False  # whether `take_options()` was called

    def __init__(
        self,
        timeout: float | None = None,
        *,
        parents: Iterable[Any] = (),
        set_on_timeout: bool = False,
        name: str | None = None,
    ) -> None:
        seconds = implicit_timeout() if timeout is None else event_seconds(timeout)
        state = self._fe_newest()
        done = False
        while not done:
            done = self._fe_append(state, _unset(state, seconds))
            while _NEXT in state.next:
                state = state.next[_NEXT]
        del state
        if parents != () or set_on_timeout or name is not None or self._fe_has_options or self._fe_clear_wakes:
            take_options(self, EventCore, parents, set_on_timeout, name)

    def is_set(self) -> bool:
        """Return the flag: True if the event is set, False otherwise.

        A timeout that has passed does not set it: see `check_timeout`.

        Thread safety: atomic. What a thread wrote before its `set()` is visible to every thread that reads True here.
        """
        state = self._fe_state
        if state.next:
            state = self._fe_newest()
        is_set: bool = state.is_set
        return is_set

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
        deadline = self._fe_deadline()
        return deadline != NEVER and clock.now() >= deadline

    def check(self) -> None:
        """Raise `EventCancelled` if the event is set, `EventTimeout` if it has timed out; return None otherwise.

        `EventTimeout` is an `EventCancelled` and a `TimeoutError`. It is also raised if the event is set because of a timeout.
        The text names the reason.

        Thread safety: atomic.
        """
        if EventCore.is_set(self) or EventCore.check_timeout(self):
            error = ended_error(self)
            if error is not None:
                raise error

    def set(self, reason: object = None) -> None:
        """Set the flag to True and wake every thread that waits for it; then notify children, tasks and callbacks.

        The *reason*, any object, stays until `clear()`. On an event that is set already it is dropped: the first one counts.

        Thread safety: atomic. It never blocks, so a signal handler, a finalizer or a weakref callback may call it.
        """
        set_and_notify(self, reason)

    def clear(self) -> None:
        """Set the flag to False and forget the reason; a timeout restarts.

        Thread safety: atomic. It takes nothing from a thread that a `set()` has woken.
        """
        if self._fe_self_setting or self._fe_clear_wakes:
            _need_stack(8)
            clear_and_notify(self)
        else:
            EventCore._fe_reset(self)
            if self._fe_clear_wakes:  # the first fileno() has come in between
                wake_wakers(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set. Return True if it is, False if time ran out first; never early.

        *timeout* is in seconds. A number decides alone how long the call waits, even after the event's own timeout has passed;
        with zero or less it does not wait. With None, the event's own timeout ends the call, if it has one. Raises `TypeError`
        for what is not a number, unless the event is set.

        Thread safety: safe on shared objects. Signal handlers run while it waits, and what they raise ends it. A thread that a
        `set()` has woken returns True, even if the event was cleared at once.
        """
        state = self._fe_newest()
        if state.is_set:
            return True
        waiters = state.waiters
        del state  # a thread that waits must not keep alive all states that follow
        if timeout is None:
            return self._fe_wait(waiters, NEVER, True)
        seconds = wait_seconds(timeout)
        return seconds > 0 and self._fe_wait(waiters, deadline_after(clock.now(), seconds), False)

    def _fe_wait_until(self, deadline: int) -> bool:
        """Wait until the event is set or has timed out, or until *deadline*, in nanoseconds. Return whether it was set."""
        state = self._fe_newest()
        if state.is_set:
            return True
        waiters = state.waiters
        del state
        return self._fe_wait(waiters, deadline, True)

    def _fe_wait(self, waiters: _Waiters, deadline: int, until_timeout: bool) -> bool:
        """Wait for the end of the period of these *waiters*, until *deadline*, and *until_timeout* until the event's own."""
        waiter = _Waiter()
        try:
            _waits.__dict__[waiter] = self, waiters
            waiters[waiter] = None
            # The loop is a call, because 3.12 and 3.13 may leave a `try` at the end of a loop without its `finally`.
            return self._fe_wait_with(waiter, waiters, deadline, until_timeout)
        finally:
            try:
                self._fe_leave(waiters, waiter)
            except BaseException:  # from a signal handler: no waiter is left behind
                self._fe_leave(waiters, waiter)
                raise

    def _fe_wait_with(self, waiter: _Waiter, waiters: _Waiters, deadline: int, until_timeout: bool) -> bool:
        while not self._fe_is_over(waiters):
            longest = begin_rest()
            own_deadline, now = self._fe_deadline(), clock.now()
            if self._fe_self_setting and now >= own_deadline:
                expire(self)
                continue
            end = min(deadline, own_deadline) if until_timeout or self._fe_self_setting else deadline
            left = longest if end == NEVER else min(end - now, longest)
            if left <= 0:
                break
            waiter.lock.acquire(True, -1 if end == NEVER and left == LONGEST_WAIT else left / 1e9)
        return self._fe_is_over(waiters)  # a set() may have come as time ran out

    def _fe_leave(self, waiters: _Waiters, waiter: _Waiter) -> None:
        _waits.__dict__.pop(waiter, None)
        if waiters.pop(waiter, waiter) is waiter and self._fe_is_over(waiters):
            _wake(waiters, 1)  # it was woken: it hands its place on

    def _fe_is_over(self, waiters: _Waiters) -> bool:
        """Return whether the unset period of these *waiters* is over."""
        state = self._fe_newest()
        return state.is_set or state.waiters is not waiters

    def _fe_newest(self) -> _State:
        state: _State = self._fe_state
        while _NEXT in state.next:
            before, state = state, state.next[_NEXT]
            # A thread that is behind the others does not set it back: without the GIL, the chain would grow without bound.
            if self._fe_state is before:
                self._fe_state = state
        return state

    def _fe_try_set(self, reason: object, pending: Pending, only_if_expired: bool = False, /) -> None:
        """Set the flag and wake waiters. Append to *pending* what subscribers are still to be notified of.

        If *only_if_expired*, set the flag only once the deadline has passed.
        """
        _need_stack(6)
        state = self._fe_newest()
        done = False
        while not (done or state.is_set):
            if only_if_expired and clock.now() < state.deadline:
                done = True
            else:
                offer = _State(state.sets + 1, True, state.waiters, reason, state.seconds, state.start, state.deadline)
                done = self._fe_append(state, offer, self._fe_finish_set, offer, pending)
                del offer
            while _NEXT in state.next:
                state = state.next[_NEXT]
        if not done:
            self._fe_finish_set(state, pending)
            while _NEXT in state.next:
                state = state.next[_NEXT]

    def _fe_finish_set(self, state: _State, pending: Pending) -> None:
        if self._fe_children or self._fe_callbacks or self._fe_wakers:
            pending.append((self, state.sets, state.reason))
        _wake(state.waiters, _WINDOW)

    def _fe_reset(self) -> None:
        """Clear the flag and restart the timeout."""
        state = self._fe_newest()
        done = False
        while not done and (state.is_set or state.seconds is not None):
            done = self._fe_append(state, _unset(state, state.seconds))
            while _NEXT in state.next:
                state = state.next[_NEXT]

    def _fe_restart(self, seconds: float | None) -> bool | None:
        """Restart the timeout, with *seconds* as the new one if given. Return whether the deadline has come nearer.

        Return None, and change nothing, if the event is set or has timed out.
        """
        _need_stack(6)
        state = self._fe_newest()
        nearer = None
        while nearer is None and not state.is_set and clock.now() < state.deadline:
            offer = _unset(state, state.seconds if seconds is None else seconds)
            before = state.deadline
            if self._fe_append(state, offer, self._fe_finish_restart, offer, before):
                nearer = offer.deadline < before
            del offer
            while _NEXT in state.next:
                state = state.next[_NEXT]
        while _NEXT in state.next:
            state = state.next[_NEXT]
        return nearer

    def _fe_finish_restart(self, state: _State, before: int) -> None:
        if state.deadline < before:
            for waiter in list(state.waiters):  # each looks at the deadline again, and stays in the dict
                waiter.wake()

    def _fe_append(self, state: _State, offer: _State, finish: Callable[..., object] | None = None, *arguments: Any) -> bool:
        """Offer *offer* as the successor of *state*. If it is taken, *finish* the change and return True.

        An exception from a signal handler goes on only after the change is finished. What *finish* does may be repeated.
        """
        try:
            if state.next.setdefault(_NEXT, offer) is not offer:
                return False
            if finish:
                finish(*arguments)
            return True
        except BaseException:
            if finish and state.next.get(_NEXT) is offer:
                finish(*arguments)
            raise

    def _fe_child(self, timeout: float | None, name: str | None, /) -> Any:
        """Return a new event of the class that attach() had, a child of this one; with a *timeout* it is self-setting."""
        child: Any = object.__new__(_own_class)
        child._fe_has_options = True
        if name is not None:
            check_name(name)
            child._fe_name = name
        if timeout is not None:
            child._fe_start_at(event_seconds(timeout), clock.now())
            child._fe_self_setting = True
            schedule(child)
        child._fe_parents = (self,)
        add_child(self, child)
        if timeout is not None and clock.now() >= child._fe_deadline():
            expire(child)
        return child

    def _fe_add_child(self, child: Any) -> object | None:
        """Add a child, which it does not keep alive. Return None, or the child's key if `finish_child()` must be called."""
        key = object()
        sets = self._fe_register("_fe_children", key, ref(child))
        # One in 64 looks whether there are many that are dead.
        return key if self._fe_set_since(sets) or len(self._fe_children) % 64 == 0 else None

    def _fe_add_callback(self, function: Any, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None, /) -> Registration:
        """Have *function* called, with the event if *args* is None. Return a `Call`, of the class that attach() had."""
        call: Registration = new_call(_own_call, self, function, args, kwargs)
        try:
            generation()  # in a process that was forked in C, a helper sets the event at its deadline
            if self._fe_set_since(self._fe_register("_fe_callbacks", call, call)):
                call_now(self, call, call)
            return call
        except BaseException:  # from a signal handler: the caller gets nothing
            call.remove()
            raise

    def _fe_add_waker(self, waker: Waker) -> int:
        """Add a waker. Return the event's count of sets at that moment."""
        generation()
        return self._fe_register("_fe_wakers", waker, None)

    def _fe_register(self, kind: str, key: Any, subscriber: Any) -> int:
        """Add a *subscriber* to the dict of that *kind*, with the event's count of sets. Return that count."""
        sets = self._fe_newest().sets
        subscribers = vars(self).setdefault(kind, Children() if kind == "_fe_children" else {})
        subscribers[key] = subscriber, sets
        return sets

    def _fe_set_since(self, sets: int) -> bool:
        """Return whether the event is set, or has been set since its count of sets was *sets*."""
        state = self._fe_newest()
        return state.is_set or state.sets != sets

    def _fe_read(self) -> State:
        """Return how often the event was set, whether it is, and the reason, all of one moment."""
        state = self._fe_newest()
        read = State(state.sets, state.is_set, state.reason)
        while _NEXT in state.next:
            state = state.next[_NEXT]
        return read

    def _fe_period(self) -> Period:
        """Return the timeout in seconds or None, and the start and the deadline in nanoseconds, all of one moment."""
        state = self._fe_newest()
        period = Period(state.seconds, state.start, state.deadline)
        while _NEXT in state.next:
            state = state.next[_NEXT]
        return period

    def _fe_start_at(self, seconds: float, start: int, /) -> None:
        """Give a new event its timeout, which started at *start*, in nanoseconds."""
        offer = _State(0, False, {}, None, seconds, start, deadline_after(start, seconds))
        self._fe_newest().next.setdefault(_NEXT, offer)

    def _fe_deadline(self) -> int:
        """Return the deadline in nanoseconds, or `NEVER`."""
        deadline: int = self._fe_newest().deadline
        return deadline

    def _fe_waiters(self) -> list[int]:
        """Return the idents of the threads in `wait()`."""
        return [waiter.thread[0] for waiter in list(self._fe_newest().waiters) if waiter.is_here()]

    def _at_fork_reinit(self) -> None:
        """Forget the threads that waited when this process was forked; `threading` calls it in the child."""
        waiters = self._fe_newest().waiters
        for waiter in list(waiters):
            if not waiter.is_here():
                waiters.pop(waiter, None)


def freeze(now: int) -> None:
    """Have the clock stand still at *now*, in nanoseconds."""
    clock.freeze(now)


def unfreeze() -> None:
    """Have the clock run again."""
    clock.run()


_own_class: type[Any] = EventCore
_own_call: type[Any] = Call


def attach_polls(cls: type[Any]) -> None:
    """Do nothing: in Python, inherited methods are as fast as a class's own."""


def attach(cls: type[Any], call: type[Call]) -> None:
    """Have `child()` make events of this class, and `_fe_add_callback()` calls of that one."""
    global _own_class, _own_call
    _own_class, _own_call = cls, call
