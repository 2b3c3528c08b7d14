"""Tasks of asyncio and trio that an event ends, and threads that a task waits for."""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from fastevent._async import Asyncio, Trio, Watch, running_task
from fastevent._core import EventCore
from fastevent._errors import EventCancelled, describe, ended_error
from fastevent._process import log
from fastevent._registration import check_callback

_E = TypeVar("_E")
_T = TypeVar("_T")


def set_at_end(event: Any, error: BaseException | None) -> None:
    """Set the *event* at the end of its block, for the reason that the *error* gives."""
    if not isinstance(event, EventCore):
        raise TypeError(f"the block of a fastevent.Event ends, not of {event!r}")
    if error is None:
        if type(event).set is EventCore.set:
            event.set("the block was left")
        else:
            event.set()  # without an argument, as a subclass may have it
    else:  # the text alone: the exception itself would keep the frames alive that it went through, and all that they hold
        name = type(error).__name__
        text = describe(name, error)
        event.set(name if text == f"{name}: {name}" else text)


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
