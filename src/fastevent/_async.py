"""Watching an event from a task of asyncio or trio.

The library whose loop runs has been imported already, so this module imports neither of them. `Asyncio` and `Trio` give both
libraries the same few methods.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import Any

from fastevent._core import EventCore
from fastevent._notify import Waker, expire, subscribe, unsubscribe
from fastevent._process import log, this_thread
from fastevent._time import LONGEST_WAIT, NEVER, deadline_after, monotonic_ns, wait_seconds


class Asyncio:
    """The running task of asyncio."""

    def __init__(self, asyncio: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        if self.task is None:
            raise RuntimeError("not in a task")
        self.name: str = self.task.get_name()
        self.make_event = asyncio.Event
        self.Cancelled: type[BaseException] = asyncio.CancelledError

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have *function* called in the loop, from any thread or signal handler. Do nothing if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            if not self._loop.is_closed():
                log("a task of %r could not be woken", self._loop)

    def call_later(self, seconds: float, function: Callable[[], object]) -> Any:
        """Have *function* called in the loop after so many *seconds*. Return an object whose `cancel()` prevents the call."""
        # A task cannot be cancelled while it runs: a body that never awaits would leave the cancellation to the code after it.
        return self._loop.call_later(seconds, function) if seconds > 0 else self._loop.call_soon(function)

    async def checkpoint(self) -> None:
        """Do what an asynchronous function of this library does where it need not wait."""

    async def run_in_thread(self, function: Callable[[], object], done: Any) -> None:
        """Call *function*, which sets *done* in the end, in a thread. Wait until then, unless the task is cancelled before."""
        # Not in the loop's executor: if its threads all waited for each other, the function would never begin.
        Thread(target=copy_context().run, args=(function,), name=f"fastevent to_thread of {self.name}").start()
        await done.wait()

    async def wait_shielded(self, done: Any) -> None:
        """Wait for *done*, whatever cancellations come."""
        while not done.is_set():
            with suppress(self.Cancelled):
                await done.wait()


class Trio:
    """The running task of trio."""

    def __init__(self, trio: Any) -> None:
        self.task = trio.lowlevel.current_task()
        self.name: str = self.task.name
        self._token = trio.lowlevel.current_trio_token()
        self._trio = trio
        self.make_event = trio.Event
        self.Cancelled: type[BaseException] = trio.Cancelled
        self.make_scope = trio.CancelScope
        self.checkpoint: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    def call_soon(self, function: Callable[[], object]) -> None:
        with suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(function, idempotent=True)

    def call_later(self, seconds: float, function: Callable[[], object]) -> Any:
        scope = self._trio.CancelScope()

        async def timer() -> None:
            with scope:
                await self._trio.sleep(seconds)
                function()

        if seconds > 0:
            self._trio.lowlevel.spawn_system_task(timer, name=f"fastevent timer of {self.name}")
        else:
            function()
        return scope

    async def run_in_thread(self, function: Callable[[], object], done: Any) -> None:
        # A limiter of its own: if the threads of the default one all waited for each other, the function would never begin.
        limiter = self._trio.CapacityLimiter(1)
        await self._trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)

    async def wait_shielded(self, done: Any) -> None:
        with self._trio.CancelScope(shield=True):
            await done.wait()


def running_task(caller: str) -> Asyncio | Trio:
    """Return the running task. Raises `RuntimeError` naming the *caller* where there is none."""
    for kind, name in (Trio, "trio"), (Asyncio, "asyncio"):  # trio first: in its guest mode, both run
        library = sys.modules.get(name)
        if library is not None:
            try:
                return kind(library)
            except (AttributeError, RuntimeError):  # it is still being imported, or does not run here
                pass
    raise RuntimeError(f"{caller} needs a running task of asyncio or trio")


class Watch(Waker):
    """From `start()` to `stop()`, calls *end* in the loop, once, when the event has been set or time is over.

    Time is over at the *deadline*, or at the event's own if that is None. If the task waits by this, *waiter* is its name.
    """

    __slots__ = ("_deadline", "_end", "_event", "_sets", "_task", "_timer")

    def __init__(
        self,
        event: EventCore,
        task: Asyncio | Trio,
        end: Callable[[], object],
        deadline: int | None = None,
        waiter: str | None = None,
    ) -> None:
        self.waiter = waiter
        self.thread = this_thread()
        self._event = event
        self._task = task
        self._end: Callable[[], object] | None = end
        self._deadline = deadline
        self._timer: Any = None
        self._sets = event._fe_read().sets

    def start(self) -> None:
        subscribe(self._event, self)
        self._schedule()

    def stop(self) -> None:
        try:
            self._stop()
        except BaseException:  # from a signal handler: no waker and no timer is left behind
            self._stop()
            raise

    def _stop(self) -> None:
        self._end = None
        unsubscribe(self._event, self)
        if self._timer is not None:
            self._timer.cancel()

    def was_set(self) -> bool:
        """Return whether the event is set, or has been set since the watch was made."""
        return self._event._fe_set_since(self._sets)

    def wake(self) -> None:
        self._task.call_soon(self._look)

    def _look(self) -> None:
        """Call *end* if it is time; otherwise look again when it may be."""
        if self._end is None:
            return
        if self._event._fe_self_setting and monotonic_ns() >= self._event._fe_deadline():
            expire(self._event)
        if monotonic_ns() >= self._until():
            end, self._end = self._end, None
            end()
        else:
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        until = self._until()
        if until != NEVER:
            self._timer = self._task.call_later(min(until - monotonic_ns(), LONGEST_WAIT) / 1e9, self._look)

    def _until(self) -> int:
        """Return when the watch ends, in nanoseconds: 0 if the event has been set."""
        if self.was_set():
            return 0
        own = self._event._fe_deadline()
        if self._deadline is None:
            return own
        return min(self._deadline, own) if self._event._fe_self_setting else self._deadline


async def wait_until(event: EventCore, deadline: int) -> bool:
    """Wait until the event is set or has timed out, or until *deadline*, in nanoseconds. Return whether it was set."""
    until = min(deadline, event._fe_deadline())
    return await wait_async(event, max(until - monotonic_ns(), 0) / 1e9)


async def wait_async(event: EventCore, timeout: float | None) -> bool:
    """What `Event.wait_async()` does."""
    task = running_task("wait_async()")
    if event._fe_read().is_set:
        await task.checkpoint()
        return True
    deadline = None if timeout is None else deadline_after(monotonic_ns(), wait_seconds(timeout))
    done = task.make_event()
    watch = Watch(event, task, done.set, deadline, task.name)
    try:
        watch.start()
        await done.wait()
    finally:
        watch.stop()
    return watch.was_set()  # a set() may have come as time ran out
