"""The thread "fastevent timers", which keeps deadlines."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from fastevent._process import at_fork, generation, log
from fastevent._threads import Helper, Life
from fastevent._time import NEVER, clock, monotonic_ns

AWAKE = NEVER + 1  # a thread that is awake has no time until which it rests

#: A deadline, what is called then, and with which reference.
Entry = tuple[int, Callable[[Any], object], Any]


class Schedule:
    """Deadlines by one clock, at each of which `fire(reference)` is called. All but `add()` is for the thread that keeps them.

    *reference* returns an object, or None once that is dead; then the call may be left out. Of several deadlines for one
    reference, only the first is kept, because what is called then checks whether that deadline still holds, and adds the next
    one.
    """

    def __init__(self, now: Callable[[], int], look: Callable[[], object]) -> None:
        self.now = now
        self._look = look  # has the thread look at the deadlines
        self.unread: deque[Entry] = deque()
        self.asleep: dict[str, int] = {}  # "until": when the thread looks at `unread` by itself
        self.firing = False  # whether the thread is about to make a call
        self.heap: list[tuple[int, int, Callable[[Any], object], Any]] = []
        self._first: dict[int, int] = {}  # the first deadline for each reference, by its id
        self._number = 0  # of entries so far: two with the same deadline must not be compared further
        self._limit = 1000  # above this size, the heap is searched for entries of dead objects

    def add(self, deadline: int, fire: Callable[[Any], object], reference: Any) -> None:
        """Have *fire* called at the *deadline*, in nanoseconds. Raises `RuntimeError` where no thread can be started.

        The compiled core does this by itself for the events that it makes.
        """
        generation()
        self.unread.append((deadline, fire, reference))
        # setdefault() and not get(): without the GIL, only a change of the dict is ordered against the thread's own.
        if deadline < self.asleep.setdefault("until", AWAKE) or len(self.unread) % 1000 == 0:
            self._look()

    def entries_until(self, time: int) -> list[Entry]:
        """Return the entries up to that *time*, in order. Any thread may ask."""
        # First `unread`, because the thread moves entries from there to the heap: one may be found twice, and none is missed.
        unread = [(deadline, NEVER, fire, reference) for deadline, fire, reference in _items(self.unread)]
        heap = list(self.heap)
        entries = sorted([entry for entry in (*heap, *unread) if entry[0] <= time], key=lambda entry: entry[:2])
        return [(deadline, fire, reference) for deadline, _, fire, reference in entries]

    def after_fork(self) -> None:
        self.firing = False
        self.asleep.clear()
        heapq.heapify(self.heap)
        self._first = {id(reference): deadline for deadline, _, _, reference in sorted(self.heap, reverse=True)}

    def until(self) -> int:
        """Return the next deadline, or `NEVER`."""
        return self.heap[0][0] if self.heap else NEVER

    def read(self) -> None:
        unread, first = self.unread, self._first
        for _ in range(len(unread)):  # no more than these, because reading must not delay deadlines that pass
            deadline, fire, reference = unread[0]
            if reference() is not None and deadline < first.get(id(reference), NEVER):
                first[id(reference)] = deadline
                self._number += 1
                heapq.heappush(self.heap, (deadline, self._number, fire, reference))
            unread.popleft()  # only now, so that the child of a fork in between reads it again
        if len(self.heap) > self._limit:
            self.heap = [entry for entry in self.heap if self._holds(entry) and entry[3]() is not None]
            self._first = {id(reference): deadline for deadline, _, _, reference in self.heap}
            self._limit = 2 * len(self.heap) + 1000
            heapq.heapify(self.heap)

    def fire(self, life: Life) -> None:
        """Make the calls whose deadlines have passed."""
        while self.heap and self.heap[0][0] <= self.now() and not life.ending:
            self.firing = True
            entry = self.heap[0]
            if self._holds(entry):
                del self._first[id(entry[3])]
                try:
                    entry[2](entry[3])
                except BaseException:
                    log("at a deadline")
            # Only now, so that the child of a fork in between repeats the call.
            if self.heap and self.heap[0] is entry:
                heapq.heappop(self.heap)
        self.firing = False

    def _holds(self, entry: tuple[int, int, Callable[[Any], object], Any]) -> bool:
        return self._first.get(id(entry[3])) == entry[0]


def _items(queue: deque[Entry]) -> list[Entry]:
    while True:
        try:
            return list(queue)
        except RuntimeError:  # without the GIL, another thread may change the queue meanwhile
            continue


class Timers:
    """The thread that keeps deadlines."""

    def __init__(self) -> None:
        self.helper = Helper("fastevent timers", self._work, self._needed)
        self.events = Schedule(lambda: clock.now(), self.look)
        self.real = Schedule(monotonic_ns, self.look)  # the package's own time-outs, also while a test has frozen the clock

    def look(self) -> None:
        """Have the thread look at its deadlines and the clock."""
        self.helper.start()
        self.helper.wake()

    def after_fork(self) -> None:
        """Have a new thread, in a forked child, begin where the parent's was."""
        self.events.after_fork()
        self.real.after_fork()

    def _needed(self) -> bool:
        return bool(self.events.unread or self.events.heap or self.real.unread or self.real.heap)

    def _work(self, life: Life) -> None:
        events, real = self.events, self.real
        while not life.ending:
            events.read()
            real.read()
            events.fire(life)
            real.fire(life)
            until, real_until = events.until(), real.until()
            events.asleep["until"] = until
            real.asleep["until"] = real_until
            if not (events.unread or real.unread):
                self.helper.rest(min(until - events.now(), real_until - real.now()))
            events.asleep["until"] = real.asleep["until"] = AWAKE


timers = Timers()
at_fork(in_child=timers.after_fork)
