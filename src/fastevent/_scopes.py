"""Blocks of code that an event begins or ends with: signals, callbacks, tasks and threads of tasks."""

from __future__ import annotations

import os
import signal
import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from fastevent._async import Asyncio, Trio, Watch, running_task
from fastevent._callbacks import in_helper
from fastevent._errors import EventCancelled, describe, ended_error
from fastevent._notify import call_now, set_and_notify
from fastevent._process import log
from fastevent._registration import check_callback
from fastevent._time import begin_wait

_E = TypeVar("_E")
_T = TypeVar("_T")


def set_at_end(event: Any, error: BaseException | None) -> None:
    """Set the *event* at the end of its block, for the reason that the *error* gives."""
    if error is None:
        event.set()  # without an argument, as a subclass may have it
    else:  # the text alone: the exception itself would keep the frames alive that it went through, and all that they hold
        name = type(error).__name__
        text = describe(name, error)
        event.set(name if text == f"{name}: {name}" else text)


# Signals


def set_on_signals(event: _E, signals: Sequence[int]) -> AbstractContextManager[_E]:
    """What `Event.set_on_signals()` does."""
    numbers = [_signal(number) for number in signals] or [signal.SIGINT, signal.SIGTERM]
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(f"set_on_signals() works in the main thread only, not in {threading.current_thread().name!r}")
    for number in numbers:
        if number.name in {"SIGKILL", "SIGSTOP"}:
            raise ValueError(f"{number.name} cannot be handled")
        if signal.getsignal(number) is None:
            raise ValueError(f"the handler of {number.name} was not installed from Python and could not be restored")
    return _handling_signals(event, numbers)


def _signal(number: Any) -> signal.Signals:
    try:
        if number in signal.valid_signals():
            return signal.Signals(number)
    except (TypeError, ValueError):
        pass
    hint = "; pass several signals one by one" if isinstance(number, (list, tuple, set)) else ""
    raise ValueError(f"a signal must be one of this system's signal.Signals, not {number!r}{hint}")


@contextmanager
def _handling_signals(event: Any, numbers: list[signal.Signals]) -> Iterator[Any]:
    before: dict[int, Any] = {}
    calls = _Calls()
    first: list[int] = []  # the event's count of sets after the first signal

    def handler(number: int, frame: Any) -> None:
        sets, is_set, _ = event._fe_read()
        if is_set and first == [sets]:  # no clear() has come since
            act_as_before(number, frame)
        else:
            first[:] = [sets if is_set else sets + 1]  # before the set(), whose notifying the second signal may interrupt
            set_and_notify(event, signal.Signals(number), call=calls.call_in_helper)

    def act_as_before(number: int, frame: Any) -> None:
        """Do what the signal did before the block."""
        action = before[number]
        if callable(action):
            action(number, frame)
        elif action == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, handler)

    try:
        with ExitStack() as restored:
            for number in numbers:
                before.setdefault(number, signal.getsignal(number))
                restored.callback(signal.signal, number, before[number])
                signal.signal(number, handler)
            yield event
    finally:
        calls.wait()  # a second Ctrl-C ends this, too


class _Calls:
    """Calls of callbacks in a helper, to be waited for."""

    def __init__(self) -> None:
        self._pending: dict[object, int] = {}  # each in its process: a child that is forked has no thread that makes it
        self._token = threading.Lock()
        self._token.acquire()

    def call_in_helper(self, event: Any, key: object, function: Callable[[Any], object]) -> None:
        call = object()
        self._pending[call] = os.getpid()
        in_helper(self._call, call, event, key, function)

    def _call(self, call: object, event: Any, key: object, function: Callable[[Any], object]) -> None:
        try:
            call_now(event, key, function)
        finally:
            self._pending.pop(call, None)
            try:
                self._token.release()
            except RuntimeError:  # it is unlocked already
                pass

    def wait(self) -> None:
        while os.getpid() in list(self._pending.values()):
            self._token.acquire(True, begin_wait() / 1e9)


# async with


async def enter_async(event: Any) -> None:
    """Begin `async with event:`."""
    task = running_task("async with event:")
    block = _TrioBlock(event, task) if isinstance(task, Trio) else _AsyncioBlock(event, task)
    try:
        block.enter()
        # Tasks share an event, and a task may enter it again in the block.
        vars(event).setdefault("_fe_blocks", {}).setdefault(task.task, []).append(block)
    except BaseException:
        block.watch.stop()
        raise


async def leave_async(event: Any, error: BaseException | None) -> None:
    """End the innermost `async with event:` of the running task."""
    blocks: dict[Any, list[_AsyncioBlock | _TrioBlock]] = vars(event)["_fe_blocks"]
    try:
        task = running_task("async with event:").task
    except RuntimeError:
        task = None
    if task not in blocks:
        task = next(reversed(blocks))  # a generator that was not run to its end is closed by another task
    block = blocks[task].pop()
    if not blocks[task]:
        del blocks[task]
    block.watch.stop()
    block.leave(error)


class _Block:
    """An `async with event:` of a task."""

    def __init__(self, event: Any, task: Asyncio | Trio) -> None:
        self.watch = Watch(event, task, self._end)
        self._event = event
        self._error: EventCancelled | None = None  # what ended the block, once the body has been cancelled for it

    def enter(self) -> None:
        self.watch.start()

    def leave(self, error: BaseException | None) -> None:
        """Set the event, and raise what ended the block in place of the cancellation *error*."""
        raise NotImplementedError

    def _cancel(self) -> None:
        """Cancel the body."""
        raise NotImplementedError

    def _end(self) -> None:
        self._error = ended_error(self._event) or EventCancelled("cancelled")  # a clear() has come in between
        self._cancel()

    def _leave(self, error: BaseException | None, is_ours: bool) -> None:
        ours, self._error = self._error, None
        try:
            if ours is None or not is_ours:
                set_at_end(self._event, error)
            else:
                set_at_end(self._event, ours)
                raise ours from ours.__cause__ or error
        finally:
            del ours  # it refers to this frame


class _AsyncioBlock(_Block):
    """By the rules of `asyncio.timeout()`: of several requests to cancel the task, each block takes back its own.

    The cancellation ends at the block that leaves no more requests than it found.
    """

    def __init__(self, event: Any, task: Asyncio) -> None:
        super().__init__(event, task)
        self._task = task
        self._requests = _cancelling(task.task)

    def _cancel(self) -> None:
        _cancel(self._task.task)

    def leave(self, error: BaseException | None) -> None:
        is_last = self._error is not None and _uncancel(self._task.task) <= self._requests
        self._leave(error, is_last and isinstance(error, self._task.Cancelled))


class _TrioBlock(_Block):
    def __init__(self, event: Any, task: Trio) -> None:
        super().__init__(event, task)
        self._scope = task.make_scope()

    def enter(self) -> None:
        super().enter()
        self._scope.__enter__()

    def _cancel(self) -> None:
        self._scope.cancel()

    def leave(self, error: BaseException | None) -> None:
        try:
            self._scope.__exit__(error and type(error), error, error and error.__traceback__)
        except BaseException as others:  # what it leaves of a group
            set_at_end(self._event, others)
            raise
        self._leave(error, self._scope.cancelled_caught)


if sys.version_info >= (3, 11):

    def _cancelling(task: Any) -> int:
        """Return how many requests to cancel the *task* are in progress."""
        requests: int = task.cancelling()
        return requests

    def _cancel(task: Any) -> None:
        task.cancel()

    def _uncancel(task: Any) -> int:
        """Take one request back. Return how many are left."""
        requests: int = task.uncancel()
        return requests

else:  # count our own
    _requests: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def _cancelling(task: Any) -> int:
        return _requests.get(task, 0)

    def _cancel(task: Any) -> None:
        _requests[task] = _cancelling(task) + 1
        task.cancel()

    def _uncancel(task: Any) -> int:
        _requests[task] = _cancelling(task) - 1
        return _requests[task]


# to_thread


class _ThreadCall:
    """A call in another thread: its result or exception, for the task."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._claim = allocate_lock()  # taken by the thread before the call, or by the task to prevent it
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        if self._claim.acquire(False):
            try:
                self._result = self._function()
            except BaseException as error:
                self._error = error

    def drop(self) -> bool:
        """Prevent the call. Return False if it has begun."""
        return self._claim.acquire(False)

    def result(self) -> Any:
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            self._error = None  # it refers to this frame


def to_thread(
    event: Any, function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[Any, Any, _T]:
    """What `Event.to_thread()` does."""
    check_callback(function, "the function of to_thread()")
    return _to_thread(event, partial(function, *args, **kwargs))


async def _to_thread(event: Any, function: partial[_T]) -> _T:
    task = running_task("to_thread()")
    call = _ThreadCall(function)
    done = task.make_event()

    def run() -> None:
        try:
            call.run()
        finally:
            task.call_soon(done.set)

    try:
        await task.run_in_thread(run, done)
    except (task.Cancelled, KeyboardInterrupt) as cancellation:
        try:
            set_at_end(event, cancellation)
        finally:
            if not call.drop():
                await task.wait_shielded(done)
        try:
            call.result()
        except EventCancelled:
            pass
        except BaseException:
            log("%r raised after its task was cancelled", function.func)
        raise
    result: _T = call.result()
    return result
