"""A loop with pauses."""

from __future__ import annotations

from fastevent import _async
from fastevent._core import EventCore
from fastevent._time import NEVER, clock, deadline_after


class Ticks:
    """What `Event.ticks()` returns: 0, 1, 2 and so on, for `for` and for `async for`.

    Thread safety: for one thread or task.
    """

    __slots__ = ("_event", "_next", "_number", "_step")

    def __init__(self, event: EventCore, interval: float) -> None:
        if not isinstance(event, EventCore):
            raise TypeError(f"ticks() is a method of fastevent.Event, not of {event!r}")
        self._event: EventCore | None = event  # None at the end, which is final
        self._step = deadline_after(0, interval)  # in nanoseconds
        self._next = 0  # when the next tick comes
        self._number = -1  # of the last tick

    def __iter__(self) -> Ticks:
        return self

    def __next__(self) -> int:
        if not self._advance() and self._event is not None and self._event._fe_wait_until(self._next):
            self._event = None  # it was set, even if a clear() has followed
        return self._tick(StopIteration)

    def __aiter__(self) -> Ticks:
        return self

    async def __anext__(self) -> int:
        if not self._advance() and self._event is not None and await _async.wait_until(self._event, self._next):
            self._event = None
        return self._tick(StopAsyncIteration)

    def _advance(self) -> bool:
        """Go to the next tick of the grid that has not passed. Return whether it is the first one."""
        self._number += 1
        if self._number == 0:
            self._next = clock.now()
            return True
        steps = max(1, -((self._next - clock.now()) // self._step))
        self._next = min(self._next + self._step * steps, NEVER)
        return False

    def _tick(self, end: type[Exception]) -> int:
        event = self._event
        if event is None or EventCore.is_set(event) or EventCore.check_timeout(event):
            self._event = None
            raise end
        return self._number
