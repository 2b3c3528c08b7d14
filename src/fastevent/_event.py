"""Event: the documented class."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from reprlib import recursive_repr
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from fastevent import _async, _descriptor, _signals, _tasks, _to_thread
from fastevent._config import check_interval
from fastevent._core import EventCore, attach
from fastevent._errors import EventTimeout, describe, one_line
from fastevent._foreign import ThreadingEvent
from fastevent._notify import restart
from fastevent._registration import Registration
from fastevent._status import EventStatus, remaining, status
from fastevent._ticks import Ticks
from fastevent._time import NEVER, SAME, clock, event_seconds, positive_seconds

_E = TypeVar("_E", bound="Event")
_T = TypeVar("_T")
_P = ParamSpec("_P")


class _Attribute:
    """A read-only attribute. An instance may have its own of the same name, as with any descriptor without `__set__`.

    Classes derived from `threading.Event`, and so perhaps from ours, keep what they like under such names.
    """

    def __init__(self, get: Callable[[Any], Any]) -> None:
        self._get = get
        self.__doc__ = get.__doc__

    def __get__(self, event: Any, cls: type | None = None) -> Any:
        return self if event is None else self._get(event)


class _Timeout(_Attribute):
    """The attribute `timeout`. Events of our own classes refuse another value, which would change no deadline.

    A subclass, or an event under the patch, may have its own, because `threading.Event` lets it.
    """

    _is_replaced = False  # whether an event of our own classes has its own

    def __get__(self, event: Any, cls: type | None = None) -> Any:
        if event is None:
            return self
        if self._is_replaced or not _is_ours(type(event)):  # a look at its `__dict__` would make it one, and polls slower
            return vars(event).get("timeout", self) if "timeout" in vars(event) else self._get(event)
        return self._get(event)

    def __set__(self, event: Any, value: object) -> None:
        if _is_ours(type(event)):
            if not issubclass(threading.Event, EventCore):
                raise AttributeError(
                    f"the timeout of an event cannot be set to {value!r}: "
                    f"call restart_timeout({value!r}), or make an Event({value!r})"
                )
            self._is_replaced = True
        vars(event)["timeout"] = value

    def __delete__(self, event: Any) -> None:
        if "timeout" not in vars(event):
            raise AttributeError("the timeout of an event cannot be deleted: restart_timeout(inf) never times out")
        del vars(event)["timeout"]


def _is_ours(cls: type) -> bool:
    return cls.__module__ == "fastevent" or cls.__module__.startswith("fastevent.")


class Event(EventCore, ThreadingEvent):
    """A `threading.Event` with a timeout and with cancellation: a flag that threads and tasks set, poll and wait for.

    *timeout* is in seconds and runs from now, by the clock of `time.monotonic()`. `check_timeout()` returns whether it
    has passed. Zero times out at once, `inf` never. Without a timeout the event never times out, unless
    `WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT` is set. With *set_on_timeout* the event is self-setting: it is set at its deadline,
    with an `EventTimeout` as the reason.

    *parents* are other events, plain `threading.Event` objects among them. When one of them is set, this event is set for the
    same reason, before the parent's `set()` returns; if a parent is set already, it is set from the start. It keeps its parents
    alive; they do not keep it alive. Parents are named when an event is made, so there are no cycles.

    *name* is any text. It appears in `repr()`, `status()` and the texts of exceptions.

    Raises `TypeError` for a timeout that is not a number, for a parent that is not an event and for a name that is not a text;
    `ValueError` for a timeout that is negative or NaN; `RuntimeError` for *set_on_timeout* where no thread can be started.

    Thread safety: any thread, signal handler or finalizer may call any method at any time, except `set_on_signals()`, which is
    for the main thread, and `wait()` on an unset event in a finalizer, which would block the thread that it interrupts.
    """

    # The core supplies __init__, is_set, flag, check_timeout, check, set, clear and wait: see `_core_py.py` for their code.
    # Private names begin with `_fe_`, because classes derived from `threading.Event` have names of their own.

    @_Attribute
    def name(self) -> str | None:
        """The name that the event was made with, or None."""
        return self._fe_name

    @_Timeout
    def timeout(self) -> float | None:
        """The timeout in seconds, or None."""
        return self._fe_period().timeout

    @_Attribute
    def reason(self) -> Any:
        """Why the event is set: what `set()` was called with; None if that was nothing, and while the event is not set.

        Thread safety: atomic.
        """
        return self._fe_read().reason

    def restart_timeout(self, timeout: float = SAME) -> bool:
        """Restart the timeout, with *timeout* as the new number of seconds if given. Return True if that was in time.

        If the event is set or has timed out, return False and change nothing. Flag and reason stay. So a watchdog's sign of
        life loses no cancellation, as `clear()` may. Calls that already wait for the event follow the new deadline.

        Raises `ValueError` without a number if the event has no timeout, and for a number that is negative or NaN; `TypeError`
        for what is not a number (None is none: `inf` never times out).

        Thread safety: atomic.
        """
        given: Any = timeout
        seconds = None
        if given is not SAME:
            if given is None:
                raise TypeError("timeout must be a number of seconds, not None; inf never times out")
            seconds = event_seconds(given)
        elif self._fe_period().timeout is None:
            raise ValueError(f"restart_timeout() without a number needs an event with a timeout, not {self!r}")
        return restart(self, seconds)

    def remaining(self) -> float | None:
        """Return the seconds until a timeout ends the event: its own, or that of a self-setting ancestor, whichever is first.

        Zero once that has passed, `inf` if it never does, None if there is no such timeout. An ancestor that is set has none.

        Thread safety: safe on shared objects.
        """
        return remaining(self)  # not by its module, which is emptied before the last finalizers run

    def status(self) -> EventStatus:
        """Return all there is to know about the event, as an `EventStatus`, for a monitor to show.

        Thread safety: safe on shared objects. Each item was true at some moment of the call, not all at the same one.
        """
        return status(self)

    def child(self, timeout: float | None = None, *, name: str | None = None) -> Event:
        """Return a new `Event` with this one for a parent. With a *timeout*, it is self-setting.

        The default timeout does not apply to it. Raises as `Event()` does.

        Thread safety: safe on shared objects.
        """
        child: Event = self._fe_child(timeout, name)
        return child

    def add_callback(self: _E, function: Callable[[_E], object]) -> Registration:
        """Have `function(event)` called, once, the next time the event is set; at once if it is set already.

        The thread that calls `set()` makes the call, after it has woken the waiters and set the children, in the order in which
        callbacks were added. If a timeout, a signal of `set_on_signals()` or a plain `threading.Event` sets the event, a helper
        thread makes it instead, and so it does for a set that arrives from another process or machine. What *function* raises
        is logged to the logger `fastevent`, and stops neither the other callbacks nor `set()`.

        Return a `Registration`: `remove()` takes the function back and says whether that was in time. As a context manager it
        is removed at the end of the block, where a call that another thread has begun is waited for. The event keeps
        *function*; it is not kept alive by it, unless *function* itself refers to the event.

        Raises `TypeError` if *function* is not callable, or is a coroutine function.

        Thread safety: safe on shared objects. No lock is held while a callback runs.
        """
        return self._fe_add_callback(function, None, None)

    def callback(self, function: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> Registration:
        """Have `function(*args, **kwargs)` called, once, the next time the event is set; at once if it is set already.

        All else is as in `add_callback()`, which calls `function(event)`.

        Thread safety: safe on shared objects. No lock is held while a callback runs.
        """
        return self._fe_add_callback(function, args, kwargs)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Do what `wait()` does, for a task of `asyncio` or `trio`: other tasks run meanwhile, and no thread is blocked.

        A task that is cancelled leaves nothing behind. Raises as `wait()` does, and `RuntimeError` outside `asyncio` and
        `trio`.

        Thread safety: safe on shared objects. Any number of tasks, in any number of loops and threads, may wait for an event.
        """
        return await _async.wait_async(self, timeout)

    def to_thread(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _T]:
        """Run `function(*args, **kwargs)` in a thread, with the context variables of the task. Return or raise what it does.

        If the task is cancelled, the event is set, the thread is waited for, and then the cancellation goes on. A further
        cancellation does not end that waiting. The function's result is dropped then, and what it raises is logged unless it is
        an `EventCancelled`. An event that is set raises nothing here: the function decides what that means.

        Raises `RuntimeError` outside `asyncio` and `trio`.

        Thread safety: safe on shared objects.
        """
        return _to_thread.to_thread(self, function, args, kwargs)

    def ticks(self, interval: float | None = None) -> Ticks:
        """Count 0, 1, 2 and so on, one every *interval* seconds, until the event is set or has timed out.

        What is returned is for a `for` loop, or for `async for` in a task of `asyncio` or `trio`.

        The first tick comes at once; the others keep to its grid. A round that takes longer than the interval skips the ticks
        that it missed, and the numbers go on without a gap. Without *interval* the check interval counts: see
        `check_interval()`. A pause ends when the event is set or times out, and no tick follows.

        Raises `TypeError` for an interval that is not a number, `ValueError` for one that is not above zero; `async for` raises
        `RuntimeError` outside `asyncio` and `trio`.

        Thread safety: safe on shared objects; the iterator itself is for one thread.
        """
        return Ticks(self, check_interval() if interval is None else positive_seconds(interval, "interval"))

    def fileno(self) -> int:
        """Return a file descriptor that is readable while the event is set, for `select`, `selectors` and event loops.

        It is made at the first call and closed with the event. Do not read from it. In a forked child, the first use replaces
        it by another one of the same number. Raises `OSError` if the system has no descriptor left.

        Thread safety: safe on shared objects.
        """
        return _descriptor.fileno(self)

    def set_on_signals(self: _E, *signals: int | str) -> AbstractContextManager[_E]:
        """Return a context manager in which the first of the *signals* sets the event; SIGINT and SIGTERM if none is named.

        The reason is the name of the signal, a str such as `"SIGTERM"`; `signal.Signals[event.reason]` is the number. The first
        signal is the first one since the block was entered or the event was last cleared. A second one does what that signal
        did before the block: a second Ctrl-C raises `KeyboardInterrupt`, a second SIGTERM ends the process if that was its
        action, as process 1 of a container, too.

        Such blocks may be nested and may overlap: a signal sets the events of all that are open, and the last one to end
        restores the earlier handler, unless the program has installed another one since. A signal that was ignored before the
        block, as `nohup` has it, stays ignored. A child of `multiprocessing`, `billiard` or `multiprocess` that is forked in
        the block acts as before the block; a child of `os.fork()` keeps it.

        Callbacks run in a helper thread, since a signal handler may have interrupted code that holds the locks that they need.
        On leaving the block, callbacks that its signals caused are waited for. The event stays as it is.

        Raises `ValueError` outside the main thread, for what is not a signal or cannot be handled, and for a signal whose
        present handler was not installed from Python, as that could not be restored.

        Thread safety: for the main thread.
        """
        return _signals.set_on_signals(self, signals)

    def set_at_exit(self) -> None:
        """Have the event set when the main thread has ended, before the program waits for its other threads.

        The reason is "the program ends". So threads that are no daemons can stop, which a function of `atexit` would come too
        late for. A child of `multiprocessing` does so at its end, too. An event that is dropped is forgotten.

        Callbacks run in a helper thread, and the exit waits for them.

        Thread safety: safe on shared objects.
        """
        _signals.set_at_exit(self)

    def __enter__(self: _E) -> _E:
        """Return the event, for `with event:`. On leaving the block it is set, so that what was started inside stops.

        If an exception leaves the block, its type and text are the reason; otherwise it is "the block was left".
        """
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        _tasks.set_at_end(self, error)

    def __aenter__(self: _E) -> Coroutine[Any, Any, _E]:
        """Return the event, for `async with event:` in `asyncio` or `trio`. The block owns the event: leaving sets it.

        If the event is set or its own timeout passes, the body is cancelled, and `EventCancelled` or `EventTimeout` is raised
        in place of the cancellation. To listen to an event that others share, use `async with event.child():`.
        """
        return _tasks.enter_async(self)

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        return _tasks.leave_async(self, error)

    @_Attribute
    def _event(self) -> threading.Event:
        """The event itself, which is a `threading.Event`."""
        return self

    @_Attribute
    def _timeout(self) -> float | None:
        """The timeout in seconds, or None."""
        return self._fe_period().timeout

    @_Attribute
    def _start_time(self) -> float | None:
        """What `time.monotonic()` said when the timeout started, or None without a timeout."""
        timeout, start, _ = self._fe_period()
        return None if timeout is None else start / 1e9

    @recursive_repr()
    def __repr__(self) -> str:
        _, is_set, reason = self._fe_read()
        state = one_line(describe("set", reason)) if is_set else "unset"
        timeout, _, deadline = self._fe_period()
        if timeout is not None and not issubclass(type(reason), EventTimeout):
            left = timeout if deadline == NEVER else min((deadline - clock.now()) / 1e9, timeout)
            digits = 1 if timeout >= 1 else 3
            state += f", {round(left, digits):g} s of {timeout:g} s left" if left > 0 else f", timed out after {timeout:g} s"
        text = self._fe_name  # read once: another thread may call __init__() again
        name = f" {one_line(text)!r}" if text else ""
        return f"<{type(self).__module__}.{type(self).__qualname__}{name} at {id(self):#x}: {state}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        cls = type(self)
        if cls.__reduce__ is not object.__reduce__ or getattr(cls, "__getstate__", None) is not getattr(
            object, "__getstate__", None
        ):
            return super().__reduce_ex__(protocol)  # a subclass that says how it is pickled
        raise TypeError(
            f"cannot pickle or copy {self!r}: threads of this process wait for this very object; "
            "a fastevent.SharedEvent can be sent to other processes"
        )


attach(Event, Registration)
