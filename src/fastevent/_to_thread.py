"""A blocking function in a thread, for a task of asyncio or trio that waits for it even when it is cancelled."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from threading import Thread
from typing import Any, TypeVar

from fastevent._async import running_task, running_trio
from fastevent._call import check_callback
from fastevent._core import EventCore
from fastevent._errors import EventCancelled
from fastevent._process import Claim, log
from fastevent._tasks import set_at_end

_T = TypeVar("_T")

#: What holds the claim of a call: that it has begun, or that it never will.
_BEGUN, _DROPPED = object(), object()


def to_thread(
    event: EventCore, function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[Any, Any, _T]:
    """What `Event.to_thread()` does."""
    check_callback(function, "the function of to_thread()")
    return _to_thread(event, partial(function, *args, **kwargs))


async def _to_thread(event: EventCore, function: partial[_T]) -> _T:
    trio = running_trio()
    host = _InAsyncio(*running_task("to_thread()")) if trio is None else _InTrio(trio)
    call = _ThreadCall(function)

    def run() -> None:
        try:
            call.run()
        finally:
            host.finish()

    try:
        await host.run(run)
    except (host.Cancelled, KeyboardInterrupt) as cancellation:
        try:
            set_at_end(event, cancellation)
        finally:
            if not call.drop():
                await host.wait_shielded()
        try:
            call.result()
        except EventCancelled:
            pass
        except BaseException:
            log("%r raised after its task was cancelled", function.func)
        raise
    result: _T = call.result()
    return result


class _ThreadCall:
    """A call in another thread: its result or exception, for the task."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._claim = Claim()  # taken by the thread before the call, or by the task to prevent it
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        if self._claim.take(_BEGUN):
            try:
                self._result = self._function()
            except BaseException as error:
                self._error = error

    def drop(self) -> bool:
        """Prevent the call. Return False if it has begun."""
        return self._claim.take(_DROPPED)

    def result(self) -> Any:
        # Neither is kept: the thread may be one that waits for other work and holds this object meanwhile.
        result, self._result = self._result, None
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return result
        finally:
            del error  # it refers to this frame


def _in_thread_of_anyio(function: Callable[[], None]) -> Awaitable[None] | None:
    """Have anyio run *function* if it is imported, so that `anyio.from_thread` works in there; otherwise return None."""
    if getattr(sys.modules.get("anyio"), "CapacityLimiter", None) is None:
        return None
    anyio: Any = sys.modules["anyio"]
    import_module("anyio.to_thread")
    # A limiter of its own: if the threads of the default one all waited for each other, the function would never begin.
    with suppress(TypeError):  # by a release without that parameter
        running: Awaitable[None] = anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
        return running
    return None


class _InAsyncio:
    """The running task of asyncio, which waits for a thread."""

    def __init__(self, loop: Any, task: Any) -> None:
        asyncio = sys.modules["asyncio"]
        self.Cancelled: type[BaseException] = asyncio.CancelledError
        self._loop = loop
        self._task = task
        self._done = asyncio.Event()

    def finish(self) -> None:
        """Say from the thread that the call has ended."""
        try:
            self._loop.call_soon_threadsafe(self._done.set)
        except RuntimeError:
            if not self._loop.is_closed():
                log("a task of %r could not be woken", self._loop)

    async def run(self, function: Callable[[], None]) -> None:
        """Call *function* in a thread. Wait for it, unless the task is cancelled before."""
        by_anyio = _in_thread_of_anyio(function)
        if by_anyio is not None:
            await by_anyio
            return
        # Not in the loop's executor: if its threads all waited for each other, the function would never begin.
        name = f"fastevent to_thread of {self._task.get_name()}"
        from contextvars import copy_context  # here, since a loop has imported it, and a plain event does without

        Thread(target=copy_context().run, args=(function,), name=name).start()
        await self._done.wait()

    async def wait_shielded(self) -> None:
        """Wait for the end of the call, whatever cancellations come."""
        # A cancelled scope of anyio cancels the task again in each turn of the loop, unless anyio itself shields it.
        scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
        with nullcontext() if scope is None else scope(shield=True):
            while not self._done.is_set():
                with suppress(self.Cancelled):
                    await self._done.wait()


class _InTrio:
    """The running task of trio, which waits for a thread."""

    def __init__(self, trio: Any) -> None:
        self.Cancelled: type[BaseException] = trio.Cancelled
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._done = trio.Event()

    def finish(self) -> None:
        with suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(self._done.set, idempotent=True)

    async def run(self, function: Callable[[], None]) -> None:
        by_anyio = _in_thread_of_anyio(function)
        if by_anyio is not None:
            await by_anyio
            return
        limiter = self._trio.CapacityLimiter(1)
        await self._trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)

    async def wait_shielded(self) -> None:
        with self._trio.CancelScope(shield=True):
            await self._done.wait()
