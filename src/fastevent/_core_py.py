"""EventCore in Python: the readable specification, and what runs where the compiled one does not.

The state of an event is one dict, which holds the crowd of its waiters while the event is unset and is empty while it is set.
`dict.pop` and `dict.setdefault` are atomic, so they are the two steps that end and begin such a period:

* `set()` takes the crowd away, then wakes everyone in it; `clear()` puts a new one in its place.
* `wait()` joins the crowd, then looks whether it is still the one that counts. If not, a `set()` has come since: no wake-up is
  lost. And a later `clear()` takes nothing back, nor does an earlier `set()` wake who came after it: that is another crowd.

A crowd is a dict, too, used as an ordered set: joining, leaving and copying one are atomic with and without the GIL.

No lock is held at any point, so a signal handler, a finalizer or a weakref callback may call anything at any time.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from threading import local
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any

from fastevent._config import implicit_timeout
from fastevent._timeouts import NEVER, deadline_after, event_seconds, longest_wait, wait_seconds

_CROWD = "crowd"  # the only key of the state
_HERD = 32  # after so many wake-ups, a set() lets go of the GIL: if all of a large herd wait for it at once, they thrash

_this_process = object()  # another one in every forked process
_surviving_thread = 0  # the only thread of the parent process that lives on in this one
_waits: Any = local()  # its `__dict__` has the waiters of this thread, of its signal handlers, too, and what they wait for


def _after_fork_in_child() -> None:
    global _this_process, _surviving_thread
    _this_process = object()
    _surviving_thread = get_ident()
    # A signal handler may have forked in the midst of wait(), and who was on the way to wake that did not come along.
    for waiter, (state, crowd) in list(_waits.__dict__.items()):
        if state.get(_CROWD) is not crowd:
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
    """Gives an event its state at the first look, also where a subclass never calls `super().__init__()`."""

    def __get__(self, event: EventCore | None, cls: type) -> Any:
        if event is None:
            return self
        return vars(event).setdefault("_state", {_CROWD: {}})


class EventCore:
    """What an event does often: its flag, its deadline, its waiters."""

    _state: dict[str, _Crowd] = _State()  # type: ignore[assignment]
    _seconds: float | None = None  # the timeout
    _start = 0  # when the running period began, in nanoseconds
    _deadline = NEVER  # when it times out

    def __init__(self, timeout: float | None = None) -> None:
        self._seconds = implicit_timeout() if timeout is None else event_seconds(timeout)
        EventCore.clear(self)

    def is_set(self) -> bool:
        """Return the flag: True if the event is set, False otherwise.

        A timeout that has passed does not set it: see `check_timeout`.

        Thread safety: atomic. What a thread wrote before its `set()` is visible to every thread that reads True here.
        """
        return not self._state

    if TYPE_CHECKING:

        @property
        def flag(self) -> bool: ...

    else:

        def _refuse(self, value=None):
            raise AttributeError("readonly attribute")

        flag = property(
            is_set,
            _refuse,
            _refuse,
            "The flag as an attribute, True or False, read-only: the cheapest way to poll.\n\nThread safety: atomic.",
        )
        del _refuse

    def check_timeout(self) -> bool:
        """Return True once the event's timeout has passed since its start, set or not; never early.

        False without a timeout. It changes nothing.

        Thread safety: atomic.
        """
        return self._deadline != NEVER and monotonic_ns() >= self._deadline

    def set(self) -> None:
        """Set the flag to True and wake every thread that waits for it.

        Thread safety: atomic. It never blocks, so a signal handler, a finalizer or a weakref callback may call it.
        """
        ended: list[_Crowd] = []
        try:
            # One step as far as a signal handler can see: what it raises cannot come in between and lose the crowd.
            ended.extend(map(self._state.pop, (_CROWD,), ({},)))
            _wake(ended[0])
        except BaseException:
            if ended:  # who waits is woken all the same
                _wake(ended[0])
            raise

    def clear(self) -> None:
        """Set the flag to False; a timeout starts anew.

        Thread safety: atomic. It takes nothing from a thread that a `set()` has woken.
        """
        if self._seconds is None:
            self._deadline = NEVER
        else:
            self._start = start = monotonic_ns()
            self._deadline = deadline_after(start, self._seconds)
        self._state.setdefault(_CROWD, {})

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set. Return True if it is, False if time ran out first; never early.

        *timeout* is in seconds. With a number, it alone paces the call, also after the event's own timeout; what is not above
        zero does not wait. With None, the event's own timeout ends the call, if it has one. Raises `TypeError` for what is not
        a number, unless the event is set.

        Thread safety: safe on shared objects. Signal handlers run while it waits, and what they raise ends it. A thread that a
        `set()` has woken returns True, even if the event was cleared at once.
        """
        crowd = self._state.get(_CROWD)
        if crowd is None:
            return True
        if timeout is None:
            return self._wait_until(crowd, 0, own=True)
        seconds = wait_seconds(timeout)
        return seconds > 0 and self._wait_until(crowd, deadline_after(monotonic_ns(), seconds), own=False)

    def _wait_until(self, crowd: _Crowd, deadline: int, own: bool) -> bool:
        longest = longest_wait()
        waiter, waits = _Waiter(), _waits.__dict__
        try:
            waits[waiter] = self._state, crowd
            crowd[waiter] = None
            while self._state.get(_CROWD) is crowd:
                if own:  # clear() may have put it off
                    deadline = self._deadline
                left = longest if deadline == NEVER else min(deadline - monotonic_ns(), longest)
                if left <= 0 or waiter.lock.acquire(True, left / 1e9):
                    break
            return self._state.get(_CROWD) is not crowd  # a set() may have come as time ran out
        finally:
            crowd.pop(waiter, None)
            waits.pop(waiter, None)

    def _period(self) -> tuple[float | None, int, int]:
        """Return the timeout in seconds or None, and the start and the deadline of the running period in nanoseconds."""
        return self._seconds, self._start, self._deadline

    def _at_fork_reinit(self) -> None:
        """Forget the threads that waited when this process was forked off; `threading` calls it in the child."""
        crowd = self._state.get(_CROWD, {})
        for waiter in list(crowd):
            if not waiter.is_here():
                crowd.pop(waiter, None)


def attach(cls: type[Any]) -> None:
    """Do nothing: in Python, inherited methods are as good as a class's own."""
