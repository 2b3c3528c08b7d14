"""A loop with pauses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastevent._several import wait_while_unset
from fastevent._time import deadline_after, monotonic_ns


def ticks(event: Any, interval: float) -> Iterator[int]:
    """What `Event.ticks()` does."""
    step = deadline_after(0, interval)
    tick, next_tick = 0, monotonic_ns()

    def end(unset: Iterable[Any]) -> int:
        deadline: int = event._fe_deadline()
        return min(next_tick, deadline)

    while not (event.is_set() or event.check_timeout()):
        yield tick
        tick += 1
        next_tick += step * max(1, -((next_tick - monotonic_ns()) // step))
        unset = {0: event}
        wait_while_unset(unset, {0: event._fe_read().sets}, 1, end)
        if not unset:  # it was set, even if a clear() has followed
            return
