"""Event: the documented class, over whichever core runs here."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum
from math import inf
from reprlib import recursive_repr
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from fastevent._config import check_interval
from fastevent._coroutines import wait_async
from fastevent._subscribers import Callback, Child, Told, Waker, tell
from fastevent._timeouts import NEVER, deadline_after, positive_seconds, wait_seconds
from fastevent._timer import arm, disarm

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from fastevent import _core_py as _core
elif os.environ.get("FASTEVENT_PURE_PYTHON") == "1":
    from fastevent import _core_py as _core
else:
    try:
        import fastevent._core_c as _core
    except ImportError as error:
        # A wheel without it, or a second interpreter in the process: it serves one. If it does not load, that is to be seen.
        missing = isinstance(error, ModuleNotFoundError) and error.name == "fastevent._core_c"
        if not missing and "interpreter" not in str(error):
            raise
        from fastevent import _core_py as _core

if TYPE_CHECKING:
    from threading import Event as ThreadingEvent
else:
    # The interpreter's own, also where another copy of this package, or gevent, has put a class of its own in its place.
    ThreadingEvent = next((cls for cls in threading.Event.__mro__ if cls.__module__ == "threading"), None)
    ThreadingEvent = ThreadingEvent or type(threading.main_thread()._started)

_E = TypeVar("_E", bound="Event")

IMPLEMENTATION = "python" if _core.__name__.endswith("_py") else "c"
"""Which core runs: `"c"`, the compiled one, or `"python"`."""

_EventCore = _core.EventCore


class EventCancelled(Exception):
    """What `Event.check()` raises when the event is set.

    `reason` is what `Event.set()` was called with.
    """

    __module__ = "fastevent"
    reason: Any = None


class EventTimeout(EventCancelled, TimeoutError):
    """What `Event.check()` raises when the event has timed out; the reason of an event that set itself at its timeout."""

    __module__ = "fastevent"


class EventStatus(NamedTuple):
    """What `Event.status()` returns."""

    is_set: bool
    """The flag."""
    reason: Any
    """The event's reason, or None."""
    timed_out: bool
    """Whether the timeout has passed."""
    timeout: float | None
    """The timeout in seconds. Without one this is None, and so are the next two."""
    elapsed: float | None
    """The seconds since the timeout started."""
    remaining: float | None
    """The seconds until it has passed."""
    waiters: int
    """How many threads and coroutines wait."""
    callbacks: int
    """How many callbacks are to be called."""
    children: int
    """How many events have this one for a parent."""


class _Yielding(property):
    # A read-only attribute. But a class that somebody derives from `threading.Event`, and so perhaps from ours, may keep what
    # it likes under this name.

    def __get__(self, event: Any, cls: type | None = None) -> Any:
        if not self._is_taken(event):
            return super().__get__(event, cls)
        return vars(event)[self._name()]

    def __set__(self, event: Any, value: Any) -> None:
        if type(event).__module__.partition(".")[0] == "fastevent":
            super().__set__(event, value)  # refuses
        vars(event)[self._name()] = value

    def __delete__(self, event: Any) -> None:
        if not self._is_taken(event):
            super().__delete__(event)  # refuses
        del vars(event)[self._name()]

    def _name(self) -> str:
        return self.fget.__name__  # type: ignore[union-attr]

    def _is_taken(self, event: Any) -> bool:
        # The first question is for speed, and because `vars()` takes memory.
        return event is not None and type(event) is not Event and self._name() in vars(event)


class Event(_EventCore, ThreadingEvent):
    """A `threading.Event` with a timeout: a flag that threads set, poll and wait for.

    *timeout* is in seconds and runs from now, by the clock of `time.monotonic()`; `check_timeout()` tells if it has passed.
    Without one the event never times out, unless `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT` is set. Zero times out at once, `inf`
    never. With *set_on_timeout* the event sets itself when its timeout has passed, and its reason is an `EventTimeout`.

    *parents* are other events: when one of them is set, this event is, for the same reason and before the parent's `set()`
    returns. It is set from the start if a parent is. It keeps its parents alive; they do not keep it alive. Parents are named
    when an event is made, so there are no cycles.

    Raises `TypeError` for a timeout that is not a number and for a parent that is not a `fastevent.Event`, `ValueError` for a
    timeout that is negative or NaN and for *set_on_timeout* without one.

    Thread safety: any thread, signal handler or finalizer may call any method at any time, except `set_on_signals()`, which is
    for the main thread.
    """

    __module__ = "fastevent"

    # Who derives from `threading.Event` has names of their own, `_callbacks` and `_timer` among them: hence `_fe_`. For public
    # names, see `_Yielding`.

    # See `_subscribers`. An event gets a dict of its own with the first one.
    _fe_children: dict[Child, None] = {}  # noqa: RUF012
    _fe_callbacks: dict[Callback, Callback] = {}  # noqa: RUF012
    _fe_parents: Sequence[tuple[Event, Child]] = ()

    _fe_that_sets_itself: type[Event]  # of a class: the one of those of its events that set themselves
    _fe_plain: type[Event]  # and the way back

    @property
    def timeout(self) -> float | None:
        """The timeout in seconds, or None."""
        return self._fe_period()[0]

    @property
    def reason(self) -> Any:
        """Why the event is set: what `set()` was called with; None if that was nothing, and while the event is not set.

        Thread safety: atomic.
        """
        return self._fe_snapshot()[2]

    def elapsed(self) -> float | None:
        """Return the seconds since the timeout started; None without a timeout, as nothing measures time then.

        Thread safety: atomic.
        """
        seconds, start, _ = self._fe_period()
        return None if seconds is None else (monotonic_ns() - start) / 1e9

    def remaining(self) -> float | None:
        """Return the seconds until the timeout, zero once it has passed; `inf` if it never does, None without a timeout.

        It is never more than the timeout.

        Thread safety: atomic.
        """
        seconds, _, deadline = self._fe_period()
        if seconds is None:
            return None
        return inf if deadline == NEVER else min(max(0.0, (deadline - monotonic_ns()) / 1e9), seconds)

    def status(self) -> EventStatus:
        """Return all there is to know about the event, as an `EventStatus`, for a monitor to show.

        Thread safety: safe on shared objects. Each item was true at some moment of the call, not all at the same one.
        """
        is_set = self.is_set()
        callbacks = list(self._fe_callbacks)
        wakers = sum(isinstance(callback, Waker) for callback in callbacks)
        return EventStatus(
            is_set=is_set,
            reason=self._fe_snapshot()[2],
            timed_out=self.check_timeout(),
            timeout=self._fe_period()[0],
            elapsed=Event.elapsed(self),
            remaining=Event.remaining(self),
            waiters=self._fe_waiting() + wakers,
            callbacks=len(callbacks) - wakers,
            children=len(self._fe_children),
        )

    def add_callback(self, function: Callable[[Self], object]) -> None:
        """Have *function* called with the event, once, the next time it is set; at once if it is set already.

        The thread that sets the event calls it, after it has woken the waiters and set the children, in the order in which
        callbacks were added. At the timeout of an event that sets itself, that is a thread that all such events share, or the
        one that looked at the event first. What *function* raises is logged to the logger `fastevent`, and stops neither the
        other callbacks nor `set()`.

        Raises `TypeError` if *function* is not callable.

        Thread safety: safe on shared objects. No lock is held while a callback runs.
        """
        if not callable(function):
            raise TypeError(f"a callback must be callable, not {function!r}")
        self._fe_subscribe(Callback(function))
        self._fe_arm()

    def remove_callback(self, function: Callable[[Self], object]) -> int:
        """Take *function* back. Return how many times it had been added without being called yet.

        Thread safety: safe on shared objects. It never waits: a call that has begun goes on.
        """
        ours = [
            callback
            for callback in list(self._fe_callbacks)
            if not isinstance(callback, Waker) and callback.function == function
        ]
        return sum(self._fe_callbacks.pop(callback, None) is not None for callback in ours)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Do what `wait()` does, for a coroutine of `asyncio`: other tasks run meanwhile, and no thread is blocked.

        A task that is cancelled leaves nothing behind. Raises as `wait()` does, and `RuntimeError` where no event loop of
        `asyncio` runs.

        Thread safety: safe on shared objects. Any number of tasks, in any number of loops and threads, may wait for an event.
        """
        return await wait_async(self, timeout)

    def ticks(self, interval: float | None = None) -> Iterator[int]:
        """Count 0, 1, 2 and so on, pausing *interval* seconds in between, until the event is set or has timed out.

        The first tick comes at once. Without *interval* the pause is the check interval: see `check_interval()`. A pause ends
        when the event is set or times out, and no tick follows.

        Raises `TypeError` for an interval that is not a number, `ValueError` for one that is not above zero.

        Thread safety: safe on shared objects; the iterator itself is for one thread.
        """
        return self._fe_ticks(check_interval() if interval is None else positive_seconds(interval, "interval"))

    def _fe_ticks(self, interval: float) -> Iterator[int]:
        tick = 0
        while not (self.is_set() or self.check_timeout()):
            yield tick
            tick += 1
            remaining = Event.remaining(self)
            if self.wait(interval if remaining is None else min(interval, remaining)):
                return  # also if a clear() has followed

    def set_on_signals(self, *signals: int) -> AbstractContextManager[Self]:
        """Return a context manager in which each of the *signals* sets the event; SIGINT and SIGTERM if none is named.

        The reason is the signal, as a `signal.Signals`. Once the event is set, a signal goes to the Python function that
        handled it before, if there is one: a second Ctrl-C raises `KeyboardInterrupt`, should the shutdown hang. On leaving the
        block, what handled the signals before does so again, and the event stays as it is. Such blocks may be nested.

        Raises `ValueError` outside the main thread, for what is not a signal or cannot be handled, and for a signal whose
        present handler was not installed from Python, as that could not be restored.

        Thread safety: for the main thread.
        """
        numbers = [_signal(number) for number in signals] or [signal.SIGINT, signal.SIGTERM]
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(f"set_on_signals() works in the main thread only, not in {threading.current_thread().name!r}")
        for number in numbers:
            if number.name in {"SIGKILL", "SIGSTOP"}:
                raise ValueError(f"{number.name} cannot be handled")
            if signal.getsignal(number) is None:
                raise ValueError(f"the handler of {number.name} was not installed from Python and could not be restored")
        return _set_on_signals(self, numbers)

    def __enter__(self) -> Self:
        """Return the event, for `with event:`. On leaving the block it is set, so that what was started inside stops.

        If an exception leaves the block, its type and text are the reason.
        """
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            self.set()  # without an argument, as a subclass may have it
        else:  # the text alone: the exception itself would keep the frames alive that it went through, and all they hold
            self.set(_text(type(error).__name__, error))

    def _fe_link(self, parents: Iterable[Event], set_on_timeout: bool) -> None:
        """Begin what `__init__` was asked for beyond a timeout, and end what an earlier one was."""
        if not isinstance(parents, (tuple, list, Iterable)):  # most are one of the first two, which is quick to tell
            raise TypeError(f"parents must be an iterable of fastevent.Event objects, not {parents!r}")
        parents = tuple(parents)
        for parent in parents:
            if not isinstance(parent, Event):
                raise TypeError(f"a parent must be a fastevent.Event, not {parent!r}")
        if set_on_timeout and self._fe_period()[0] is None:
            raise ValueError("set_on_timeout=True needs a timeout, not None")
        for parent, child in self._fe_parents:
            parent._fe_children.pop(child, None)
        cls = _sets_itself(type(self)) if set_on_timeout else _plain(type(self))
        if cls is not type(self):
            object.__setattr__(self, "__class__", cls)
        # Not `self._fe_parents = `: the interpreter would make room for it in every event.
        vars(self)["_fe_parents"] = [(parent, parent._fe_adopt(self)) for parent in parents]
        disarm(self)  # that of an earlier, longer timeout
        self._fe_arm()

    def _fe_adopt(self, child: Event) -> Child:
        self.is_set()  # it may be time that it sets itself
        born, _, _ = self._fe_watch()
        reference = Child(child, Child.leave)
        reference.parent, reference.born = weakref.ref(self), born
        vars(self).setdefault("_fe_children", {})[reference] = None
        sets, is_set, reason = self._fe_watch()
        if is_set:
            told: list[Told] = []
            child._fe_take_over(reason, told)
            reference.born = sets - 1  # as in tell(): should it be cleared, the next set() tells it again
            tell(told)
        self._fe_arm()
        return reference

    def _fe_take_over(self, reason: object, told: list[Told]) -> None:
        """Be set as a parent is."""
        self._fe_put_up(reason, told)

    def _fe_subscribe(self, callback: Callback) -> None:
        """Have *callback* called when the event is set next; at once if it is set."""
        is_set = self.is_set()
        if not is_set:
            callback.born, is_set, _ = self._fe_watch()
        if not is_set:
            callbacks = vars(self).setdefault("_fe_callbacks", {})
            callbacks[callback] = callback
            if self._fe_watch()[0] == callback.born or callbacks.pop(callback, None) is None:
                return
        callback.call(self)

    def _fe_unsubscribe(self, callback: Callback) -> bool:
        """Return whether that came in time, that is, before any `set()`."""
        return self._fe_callbacks.pop(callback, None) is not None and self._fe_snapshot()[0] == callback.born

    def _fe_arm(self) -> None:
        """See to it that subscribers hear of a timeout: the others have to look."""

    def _fe_sets_itself_at(self) -> int:
        return NEVER

    def _fe_set_if_timed_out(self) -> None:
        """Set the event if it sets itself and its timeout has passed."""

    def _fe_raise(self) -> None:
        """Raise what `check()` raises."""
        self._fe_is_set_by_now()
        _, is_set, reason = self._fe_snapshot()
        if is_set:
            error = (
                EventTimeout(str(reason)) if isinstance(reason, EventTimeout) else EventCancelled(_because("cancelled", reason))
            )
            error.reason = reason
            raise error from (reason if isinstance(reason, BaseException) else None)
        if self.check_timeout():
            raise _timed_out(self)

    @property
    def _event(self) -> threading.Event:
        """The event itself, which is a `threading.Event`."""
        return self

    @property
    def _timeout(self) -> float | None:
        """The timeout in seconds, or None."""
        return self._fe_period()[0]

    @property
    def _start_time(self) -> float | None:
        """What `time.monotonic()` said when the timeout started, or None without a timeout."""
        seconds, start, _ = self._fe_period()
        return None if seconds is None else start / 1e9

    @recursive_repr()
    def __repr__(self) -> str:
        # Not `self.is_set()`: to look at an event in a debugger must not set it.
        _, is_set, reason = self._fe_snapshot()
        state = _because("set", reason) if is_set else "unset"
        seconds, _, deadline = self._fe_period()
        if seconds is not None and not isinstance(reason, EventTimeout):
            left = inf if deadline == NEVER else (deadline - monotonic_ns()) / 1e9
            digits = 1 if seconds >= 1 else 3
            state += f", {round(left, digits):g} s of {seconds:g} s left" if left > 0 else f", timed out after {seconds:g} s"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle or copy {self!r}: threads wait for this very object, in this process; make a new one instead"
        )


class _SetsItself(Event):
    # What `set_on_timeout` makes of an event: every look at it looks at the clock, too, so that no thread has to. A timeout is
    # the cause if it has passed when another comes, even if nobody has looked since.

    __slots__ = ()

    __doc__ = Event.__doc__
    __module__ = Event.__module__
    __qualname__ = Event.__qualname__
    _fe_plain = Event

    def set(self, reason: object = None) -> None:
        self._fe_set_if_timed_out()
        Event.set(self, reason)  # not super(): a callback may have made it an event that does not set itself

    def clear(self) -> None:
        self._fe_set_if_timed_out()  # or who waited for that would wait for the next timeout
        Event.clear(self)
        self._fe_arm()

    def wait(self, timeout: float | None = None) -> bool:
        if self._fe_is_set_by_now():  # not is_set(), which a subclass may override
            return True
        deadline, sets = NEVER, self._fe_snapshot()[0]
        if timeout is not None:
            seconds = wait_seconds(timeout)
            if not seconds > 0:
                return False
            deadline = deadline_after(monotonic_ns(), seconds)
        while not Event.wait(self, (min(deadline, self._fe_sets_itself_at()) - monotonic_ns()) / 1e9):
            # Between two rounds it may have been set and cleared.
            if self._fe_is_set_by_now() or self._fe_snapshot()[0] != sets:
                return True
            if monotonic_ns() >= deadline:
                return False
        return True

    def _fe_set_if_timed_out(self) -> None:
        """Set the event if its timeout has passed."""
        if _EventCore.check_timeout(self) and not _EventCore.is_set(self):
            told: list[Told] = []
            try:
                self._fe_put_up(_timed_out(self), told, True)
                tell(told)
            except BaseException:  # a signal handler's: tell the others all the same; twice does no harm
                tell(told)
                raise

    def _fe_take_over(self, reason: object, told: list[Told]) -> None:
        if _EventCore.check_timeout(self):
            self._fe_put_up(_timed_out(self), told, True)
        Event._fe_take_over(self, reason, told)

    def _fe_arm(self) -> None:
        if self._fe_children or any(not isinstance(callback, Waker) for callback in list(self._fe_callbacks)):
            arm(self)

    def _fe_sets_itself_at(self) -> int:
        return self._fe_period()[2]


class _Quiet(Event):
    # Keeps from a subclass that it has one more: its `__init_subclass__` may want arguments, or count.

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


def _sets_itself(cls: type[Event]) -> type[Event]:
    """Return the class of the events of class *cls* that set themselves: it has the same name."""
    if issubclass(cls, _SetsItself):
        return cls
    if cls is Event:
        return _SetsItself
    if "_fe_that_sets_itself" not in vars(cls):
        names = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        names |= {"__slots__": (), "_fe_plain": cls}
        metaclass: Any = type(cls)
        cls._fe_that_sets_itself = metaclass(cls.__name__, (_Quiet, cls, _SetsItself), names)
    return cls._fe_that_sets_itself


def _plain(cls: type[Event]) -> type[Event]:
    return cls._fe_plain if issubclass(cls, _SetsItself) else cls


def _timed_out(event: Event) -> EventTimeout:
    seconds = event._fe_period()[0] or 0  # None if a second __init__() came meanwhile: then nothing is made of this
    return EventTimeout(f"timed out after {seconds:g} s")


def _because(state: str, reason: object) -> str:
    if reason is None:
        return state
    return _text(state, reason)


def _text(state: str, reason: object) -> str:
    try:
        if isinstance(reason, Enum):  # a signal
            return f"{state}: {reason.name}"
        return f"{state}: {reason}" if isinstance(reason, str | BaseException) else f"{state}: {reason!r}"
    except Exception:  # of its own __str__ or __repr__
        return f"{state}: {object.__repr__(reason)}"


@contextmanager
def _set_on_signals(event: _E, numbers: list[signal.Signals]) -> Iterator[_E]:
    before: dict[int, Any] = {}

    def handler(number: int, frame: object) -> None:
        if event.is_set() and callable(before[number]):
            before[number](number, frame)
        else:
            event.set(signal.Signals(number))

    with ExitStack() as restored:
        for number in numbers:
            before.setdefault(number, signal.getsignal(number))
            restored.callback(signal.signal, number, before[number])
            signal.signal(number, handler)
        yield event


def _signal(number: int) -> signal.Signals:
    try:
        return signal.Signals(number)
    except ValueError:
        raise ValueError(f"a signal must be one of this system's signal.Signals, not {number!r}") from None


for _name in ("timeout", "reason", "_event", "_timeout", "_start_time"):
    setattr(Event, _name, _Yielding(Event.__dict__[_name].fget))
    Event.__dict__[_name].__set_name__(Event, _name)  # for what it says as it refuses
_core.attach(Event)
_core.attach_method(_SetsItself, "is_set", "_fe_is_set_by_now")
_core.attach_method(_SetsItself, "check_timeout", "check_timeout")
_core.attach_method(_SetsItself, "check", "check")
setattr(_SetsItself, "flag", _EventCore._fe_flag_by_now)  # noqa: B010  # type checkers know it from the core
_SetsItself.__name__ = Event.__name__

# At the exit of the interpreter a module that somebody holds is emptied, and finalizers that come later call into the void.
del _core
