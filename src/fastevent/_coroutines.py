"""Waiting in a coroutine of asyncio, which is imported by then, but not by us."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from fastevent._subscribers import Waker
from fastevent._timeouts import LONGEST_WAIT, NEVER, deadline_after, wait_seconds

if TYPE_CHECKING:
    from asyncio import Future

    from fastevent._event import Event


async def wait_async(event: Event, timeout: float | None) -> bool:
    """What `Event.wait_async()` does."""
    import asyncio

    loop = asyncio.get_running_loop()
    if event.is_set():
        return True
    deadline = NEVER
    if timeout is not None:
        seconds = wait_seconds(timeout)
        if not seconds > 0:
            return False
        deadline = deadline_after(monotonic_ns(), seconds)
    future = loop.create_future()

    def wake(event: Event) -> None:
        try:
            loop.call_soon_threadsafe(_finish, future)
        except RuntimeError:
            if not loop.is_closed():
                raise

    waker = Waker(wake)
    try:
        event._fe_subscribe(waker)
        while True:
            if timeout is None:
                deadline = event._fe_period()[2]  # clear() may have put it off
            now = monotonic_ns()
            if now >= deadline:
                return not event._fe_unsubscribe(waker)  # a set() may have come as time ran out
            left = min(min(deadline, event._fe_sets_itself_at()) - now, LONGEST_WAIT)
            await asyncio.wait([future], timeout=max(left, 0) / 1e9)
            if future.done() or event.is_set():
                return True
    finally:
        event._fe_unsubscribe(waker)


def _finish(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
