"""`with event:` and `async with event:`: blocks of code whose end sets an event, and tasks that it ends."""

from __future__ import annotations

import sys
from operator import methodcaller
from typing import Any
from weakref import WeakKeyDictionary

from fastevent._async import AsyncioWatch, TrioWatch, Watch, running_task, running_trio
from fastevent._core import EventCore
from fastevent._errors import EventCancelled, describe, ended_error


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


async def enter_async(event: EventCore) -> Any:
    """Begin `async with event:`. Return the event."""
    trio = running_trio()
    if trio is None:
        loop, task = running_task("async with event:")
        block: _Block = _AsyncioBlock(event, loop, task)
    else:
        block = _TrioBlock(event, trio)
    try:
        block.start()
    except BaseException:
        block.stop()
        raise
    return event


async def leave_async(event: EventCore, error: BaseException | None) -> None:
    """End the innermost `async with event:` of the running task."""
    # A block is one of the event's wakers. Several tasks may share an event, and a task may enter it again in the block.
    blocks = [waker for waker in list(event._fe_wakers) if isinstance(waker, _Block)]
    block = blocks[0] if len(blocks) == 1 else _innermost(blocks)
    block.stop()
    block.leave(error)


def _innermost(blocks: list[Any]) -> Any:
    """Return the innermost of the *blocks* that is the running task's."""
    trio = running_trio()
    try:
        task = running_task("async with event:")[1] if trio is None else trio.lowlevel.current_task()
    except RuntimeError:
        task = None
    own = [block for block in blocks if block.task is task]
    return (own or blocks)[-1]  # a generator that was not run to its end is closed by another task


class _Block(Watch):
    """An `async with event:` of a task."""

    __slots__ = ("_error",)

    waiter = None
    _error: EventCancelled | None  # what ended the block, once the body has been cancelled for it

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


class _AsyncioBlock(_Block, AsyncioWatch):
    """By the rules of `asyncio.timeout()`: of several requests to cancel the task, each block takes back its own.

    The cancellation ends at the block that leaves no more requests than it found.
    """

    __slots__ = ("_requests",)

    def __init__(self, event: EventCore, loop: Any, task: Any) -> None:
        Watch.__init__(self, event, loop, task)
        self._error = None
        self._requests = _cancelling(task)

    def _cancel(self) -> None:
        _cancel(self.task)

    def leave(self, error: BaseException | None) -> None:
        if self._error is None:
            set_at_end(self._event, error)
        else:
            is_last = _uncancel(self.task) <= self._requests
            self._leave(error, is_last and isinstance(error, sys.modules["asyncio"].CancelledError))


class _TrioBlock(_Block, TrioWatch):
    __slots__ = ("_scope",)

    def __init__(self, event: EventCore, trio: Any) -> None:
        super().__init__(event, trio)
        self._error = None
        self._scope = trio.CancelScope()

    def start(self) -> None:
        super().start()
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


# Of the requests to cancel a task: how many are in progress; one more; one less, and how many are left.
if sys.version_info >= (3, 11):
    _cancelling, _cancel, _uncancel = methodcaller("cancelling"), methodcaller("cancel"), methodcaller("uncancel")
else:  # our own alone
    _requests: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def _cancelling(task: Any) -> int:
        return _requests.get(task, 0)

    def _cancel(task: Any) -> None:
        _requests[task] = _cancelling(task) + 1
        task.cancel()

    def _uncancel(task: Any) -> int:
        _requests[task] = _cancelling(task) - 1
        return _requests[task]
