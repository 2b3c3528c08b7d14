"""The thread "fastevent timers", which keeps deadlines."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from fastevent._process import at_fork, generation, log
from fastevent._threads import Helper, Life
from fastevent._time import NEVER, monotonic_ns

_AWAKE = NEVER + 1  # a thread that is awake has no time until which it rests


class Timers:
    """The thread that calls `fire(reference)` at each deadline.

    *reference* returns an object, or None once that is dead; then the call may be left out. Of several deadlines for one
    reference, only the first is kept, because *fire* checks whether that deadline still holds, and adds the next one.
    """

    def __init__(self) -> None:
        self.helper = Helper("fastevent timers", self._work, self._needed)
        self._unread: deque[tuple[int, Callable[[Any], object], Any]] = deque()
        self.firing = False  # whether the thread is about to set events
        self._asleep: dict[str, int] = {}  # "until": when the thread looks at `_unread` by itself
        # From here on, for the thread alone:
        self._heap: list[tuple[int, int, Callable[[Any], object], Any]] = []
        self._first: dict[int, int] = {}  # the first deadline for each reference, by its id
        self._number = 0  # of entries so far: two with the same deadline must not be compared further
        self._limit = 1000  # above this size, the heap is searched for entries of dead objects

    def add(self, deadline: int, fire: Callable[[Any], object], reference: Any) -> None:
        """Have *fire* called at the *deadline*, in nanoseconds. Raises `RuntimeError` where no thread can be started."""
        generation()
        self._unread.append((deadline, fire, reference))
        # setdefault() and not get(): without the GIL, only a change of the dict is ordered against the thread's own.
        if deadline < self._asleep.setdefault("until", _AWAKE) or len(self._unread) % 1000 == 0:
            self.helper.start()
            self.helper.wake()

    def after_fork(self) -> None:
        """Have a new thread, in a forked child, begin where the parent's was."""
        self.firing = False
        self._asleep.clear()
        heapq.heapify(self._heap)
        self._first = {id(reference): deadline for deadline, _, _, reference in sorted(self._heap, reverse=True)}

    def _needed(self) -> bool:
        return bool(self._unread or self._heap)

    def _work(self, life: Life) -> None:
        while not life.ending:
            self._read()
            self._fire(life)
            until = self._heap[0][0] if self._heap else NEVER
            self._asleep["until"] = until
            if not self._unread:
                self.helper.rest(until - monotonic_ns())
            self._asleep["until"] = _AWAKE

    def _read(self) -> None:
        for _ in range(len(self._unread)):  # no more than these, because reading must not delay deadlines that pass
            deadline, fire, reference = self._unread[0]
            if deadline < self._first.get(id(reference), NEVER):
                self._first[id(reference)] = deadline
                self._number += 1
                heapq.heappush(self._heap, (deadline, self._number, fire, reference))
            self._unread.popleft()  # only now, so that the child of a fork in between reads it again
        if len(self._heap) > self._limit:
            self._heap = [entry for entry in self._heap if self._holds(entry) and entry[3]() is not None]
            self._first = {id(reference): deadline for deadline, _, _, reference in self._heap}
            self._limit = 2 * len(self._heap) + 1000
            heapq.heapify(self._heap)

    def _holds(self, entry: tuple[int, int, Callable[[Any], object], Any]) -> bool:
        return self._first.get(id(entry[3])) == entry[0]

    def _fire(self, life: Life) -> None:
        while self._heap and self._heap[0][0] <= monotonic_ns() and not life.ending:
            self.firing = True
            entry = self._heap[0]
            if self._holds(entry):
                del self._first[id(entry[3])]
                try:
                    entry[2](entry[3])
                except BaseException:
                    log("at a deadline")
            # Only now, so that the child of a fork in between repeats the call.
            if self._heap and self._heap[0] is entry:
                heapq.heappop(self._heap)
        self.firing = False


timers = Timers()
at_fork(in_child=timers.after_fork)
