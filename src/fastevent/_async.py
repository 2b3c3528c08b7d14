"""Watching an event from a task of asyncio or trio.

The library whose loop runs has been imported already, so this module imports neither of them.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from contextlib import suppress
from typing import Any

from fastevent._core import EventCore
from fastevent._notify import Waker, expire, unsubscribe
from fastevent._process import log, this_thread
from fastevent._time import NEVER, clock, deadline_after, wait_seconds

_in_trio_task: Any = None  # trio's own question, once trio has been imported


def running_trio() -> Any:
    """Return the module `trio` if a task of it runs here, otherwise None. Its guest mode has a running asyncio, too."""
    global _in_trio_task
    if _in_trio_task is None:
        trio = sys.modules.get("trio")
        if trio is None:
            return None
        _in_trio_task = getattr(getattr(trio, "lowlevel", None), "in_trio_task", None)  # missing while trio is being imported
        if _in_trio_task is None:
            return None
    return sys.modules["trio"] if _in_trio_task() else None


def running_task(caller: str) -> tuple[Any, Any]:
    """Return the running loop and task of asyncio. Raises `RuntimeError` naming the *caller* where there is none."""
    asyncio: Any = sys.modules.get("asyncio")
    try:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
    except (AttributeError, RuntimeError):  # it is not imported, or its loop does not run here
        task = loop = None
    if task is None:
        raise RuntimeError(f"{caller} needs a running task of asyncio or trio")
    return loop, task


class Watch(Waker):
    """From `start()` to `stop()`, calls `_end()` in the loop, once, when the event has been set or time is over.

    Time is over at the *deadline*, or at the event's own if that is None. *loop* is the running loop of asyncio, or the token
    of trio's.
    """

    __slots__ = ("_deadline", "_event", "_is_over", "_loop", "_sets", "_timer", "task")

    def __init__(self, event: EventCore, loop: Any, task: Any, deadline: int | None = None) -> None:
        self.thread = this_thread()
        self.task = task
        self._event = event
        self._loop = loop
        self._deadline = deadline
        self._is_over = False
        self._timer: Any = None

    def start(self) -> None:
        self._sets = self._event._fe_add_waker(self)
        self._schedule()

    def stop(self) -> None:
        try:
            self._stop()
        except BaseException:  # from a signal handler: no waker and no timer is left behind
            self._stop()
            raise

    def was_set(self) -> bool:
        """Return whether the event is set, or has been set since the watch was started."""
        return self._event._fe_set_since(self._sets)

    def _stop(self) -> None:
        self._is_over = True
        unsubscribe(self._event, self)
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Call `_end()` if it is time; otherwise look again when it may be."""
        if self._is_over:
            return
        if self._event._fe_self_setting and clock.now() >= self._event._fe_deadline():
            expire(self._event)
        if clock.now() >= self._until():
            self._is_over = True
            self._end()
        else:
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        until = self._until()
        if until != NEVER:
            self._timer = self._look_after(min(until - clock.now(), clock.longest_wait) / 1e9)

    def _until(self) -> int:
        """Return when the watch ends, in nanoseconds: 0 if the event has been set."""
        event, deadline = self._event, self._deadline
        if event._fe_set_since(self._sets):
            return 0
        own = event._fe_deadline()
        if deadline is None:
            return own
        return min(deadline, own) if event._fe_self_setting else deadline

    def _look_after(self, seconds: float) -> Any:
        """Have `_look()` called in the loop after so many *seconds*. Return an object whose `cancel()` prevents the call."""
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class AsyncioWatch(Watch):
    __slots__ = ()

    def wake(self) -> None:
        loop = self._loop
        is_here = self.thread is not None and get_ident() == self.thread[0]
        if is_here and sys.modules["asyncio"].current_task(loop) is not None:
            # A task of this loop runs in this very thread: the loop does not sleep, and looks at its queue before it does. So
            # it needs no byte through its pipe, which costs more than all else here.
            loop.call_soon(self._look)
            return
        try:
            loop.call_soon_threadsafe(self._look)
        except RuntimeError:
            if not loop.is_closed():
                log("a task of %r could not be woken", loop)

    def _look_after(self, seconds: float) -> Any:
        # A task cannot be cancelled while it runs: a body that never awaits would leave the cancellation to the code after it.
        return self._loop.call_later(seconds, self._look) if seconds > 0 else self._loop.call_soon(self._look)


class TrioWatch(Watch):
    __slots__ = ()

    def __init__(self, event: EventCore, trio: Any, deadline: int | None = None) -> None:
        super().__init__(event, trio.lowlevel.current_trio_token(), trio.lowlevel.current_task(), deadline)

    def wake(self) -> None:
        with suppress(sys.modules["trio"].RunFinishedError):
            self._loop.run_sync_soon(self._look, idempotent=True)

    def _look_after(self, seconds: float) -> Any:
        trio: Any = sys.modules["trio"]
        scope = trio.CancelScope()

        async def timer() -> None:
            with scope:
                await trio.sleep(seconds)
                self._look()

        if seconds > 0:
            trio.lowlevel.spawn_system_task(timer, name=f"fastevent timer of {self.task.name}")
        else:
            self._look()
        return scope


class _AsyncioWait(AsyncioWatch):
    __slots__ = ("done",)

    def __init__(self, event: EventCore, loop: Any, task: Any, deadline: int | None) -> None:
        super().__init__(event, loop, task, deadline)
        self.done = loop.create_future()

    @property
    def waiter(self) -> str:  # type: ignore[override]  # read by few
        name: str = self.task.get_name()
        return name

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class _TrioWait(TrioWatch):
    __slots__ = ("done",)

    def __init__(self, event: EventCore, trio: Any, deadline: int | None) -> None:
        super().__init__(event, trio, deadline)
        self.done = trio.Event()

    @property
    def waiter(self) -> str:  # type: ignore[override]  # read by few
        name: str = self.task.name
        return name

    def _end(self) -> None:
        self.done.set()


async def wait_async(event: EventCore, timeout: float | None) -> bool:
    """What `Event.wait_async()` does."""
    trio = running_trio()
    loop, task = running_task("wait_async()") if trio is None else (None, None)
    if EventCore.is_set(event):
        if trio is not None:
            await trio.lowlevel.checkpoint()
        return True
    deadline = None if timeout is None else deadline_after(clock.now(), wait_seconds(timeout))
    if trio is None:
        return await _wait_in_asyncio(event, loop, task, deadline)
    return await _wait_in_trio(event, trio, deadline)


async def _wait_in_asyncio(event: EventCore, loop: Any, task: Any, deadline: int | None) -> bool:
    watch = _AsyncioWait(event, loop, task, deadline)
    try:
        watch.start()
        await watch.done
    finally:
        watch.stop()
    return watch.was_set()  # a set() may have come as time ran out


async def _wait_in_trio(event: EventCore, trio: Any, deadline: int | None) -> bool:
    watch = _TrioWait(event, trio, deadline)
    try:
        watch.start()
        await watch.done.wait()
    finally:
        watch.stop()
    return watch.was_set()


async def wait_until(event: EventCore, deadline: int) -> bool:
    """Wait until the event is set or has timed out, or until *deadline*, in nanoseconds. Return whether it was set."""
    until = min(deadline, event._fe_deadline())
    return await wait_async(event, max(until - clock.now(), 0) / 1e9)
