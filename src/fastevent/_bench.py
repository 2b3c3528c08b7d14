"""What operations of events cost here: the measurements that `python -m fastevent` shows."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from timeit import Timer
from typing import Any

from fastevent import Event

ROUNDS = 25
CALLS = 5_000
HANDOVERS = 300
HANDOVER_ROUNDS = 60


class Wrapper:
    """The class of the API reference, written as it says: a `threading.Event` inside, and a timeout beside it."""

    def __init__(self, timeout: float | None = None) -> None:
        self._event = threading.Event()
        self._timeout = timeout
        self._start_time = time.monotonic() if timeout is not None else None

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()
        if self._timeout is not None:
            self._start_time = time.monotonic()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(timeout)

    def check_timeout(self) -> bool:
        if self._timeout is None or self._start_time is None:
            return False
        return time.monotonic() - self._start_time >= self._timeout


CLASSES: dict[str, Callable[..., Any]] = {"fastevent": Event, "threading": threading.Event, "wrapper": Wrapper}

#: An operation, how its event is made, the statement that is timed, and the other classes' statements that differ.
#: None: that class lacks the operation.
OPERATIONS: tuple[tuple[str, str, str, dict[str, str | None]], ...] = (
    ("is_set()", "E()", "event.is_set()", {}),
    ("flag, for is_set()", "E()", "event.flag", {"threading": "event.is_set()", "wrapper": "event.is_set()"}),
    ("check_timeout(), no timeout", "E()", "event.check_timeout()", {"threading": None}),
    ("check_timeout(), 300 s", "E(timeout=300)", "event.check_timeout()", {"threading": None}),
    ("set() and clear()", "E()", "event.set(); event.clear()", {}),
    ("wait() on a set event", "E(); event.set()", "event.wait()", {}),
    ("wait(0)", "E()", "event.wait(0)", {}),
    ("Event()", "None", "E()", {}),
    ("Event(timeout=300)", "None", "E(timeout=300)", {"threading": None}),
)


def nanoseconds_per_call() -> tuple[list[dict[str, Any]], float]:
    """Time every operation. Return the rows of the table and the cost of an empty method.

    The rounds of all operations take turns, so that a slow moment of the machine does not hit one of them alone. The result is
    the minimum of the rounds, less the cost of the loop.
    """
    timers = [("loop", "", Timer("pass")), ("floor", "", Timer("queue.clear()", globals={"queue": deque()}))]
    for operation, setup, statement, of_others in OPERATIONS:
        for name, make in CLASSES.items():
            timed = of_others.get(name, statement)
            if timed is not None:
                timers.append((operation, name, Timer(timed, f"event = {setup}", globals={"E": make})))
    best = [inf] * len(timers)
    for _ in range(ROUNDS):
        for i, (_, _, timer) in enumerate(timers):
            best[i] = min(best[i], timer.timeit(CALLS))
    rows: dict[str, dict[str, Any]] = {}
    for (operation, name, _), seconds in zip(timers, best, strict=True):
        row = rows.setdefault(operation, {"operation": operation, "unit": "ns"})
        row[name] = max(0.1, round((seconds - best[0]) / CALLS * 1e9, 1))  # PyPy's compiler may leave nothing of a call
    del rows["loop"]
    empty_method: float = rows.pop("floor")[""]
    return list(rows.values()), empty_method


@contextmanager
def one_processor() -> Iterator[bool]:
    """Keep this process on one processor where the system can do that. Yield whether it can.

    Waking another processor costs more than what is measured.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield True
    finally:
        os.sched_setaffinity(0, allowed)


def handover(make: Callable[[], Any], count: int = HANDOVERS) -> float:
    """Return the microseconds that one hand-over takes, in a loop that wakes another thread and is woken by it."""
    ping, pong = make(), make()

    def answer() -> None:
        for _ in range(count):
            ping.wait()
            ping.clear()
            pong.set()

    thread = threading.Thread(target=answer)
    thread.start()
    start = time.perf_counter()
    for _ in range(count):
        ping.set()
        pong.wait()
        pong.clear()
    seconds = time.perf_counter() - start
    thread.join()
    return seconds / count / 2 * 1e6


class LockAsEvent:
    """A bare lock with the methods of an event: two threads cannot take turns faster, so this is the floor of a hand-over."""

    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.set: Callable[[], None] = lock.release
        self.wait: Callable[[], bool] = lock.acquire

    def clear(self) -> None:
        pass


def microseconds_per_handover() -> tuple[dict[str, Any], float]:
    classes: dict[str, Callable[..., Any]] = {**CLASSES, "floor": LockAsEvent}
    best = dict.fromkeys(classes, inf)
    for _ in range(HANDOVER_ROUNDS):
        for name, make in classes.items():
            best[name] = min(best[name], handover(make))
    row = {"operation": "hand-over to a thread", "unit": "us", **{name: round(best[name], 2) for name in CLASSES}}
    return row, round(best["floor"], 2)


def bytes_per_event(make: Callable[[], object], count: int = 2_000) -> int:
    import tracemalloc  # PyPy has none

    events: list[object] = [None] * count
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(count):
            events[i] = make()
        return round((tracemalloc.get_traced_memory()[0] - before) / count)
    finally:
        tracemalloc.stop()


def measure() -> dict[str, Any]:
    """Measure everything. Return the rows of the table, and the floors that no event can go below."""
    rows, empty_method = nanoseconds_per_call()
    with one_processor() as pinned:
        handovers, bare_locks = microseconds_per_handover()
    rows.append(handovers)
    if sys.implementation.name == "cpython":
        memory = {name: bytes_per_event(make) for name, make in CLASSES.items()}
        rows.append({"operation": "memory per event", "unit": "B", **memory})
    return {
        "measurements": rows,
        "floor": {"empty_method_ns": empty_method, "two_bare_locks_us": bare_locks},
        "handover_on_one_processor": pinned,
    }


def show_measured(results: dict[str, Any]) -> None:
    print(f"\n{'':33}fastevent{'threading.Event':>21}{'wrapper of the reference':>29}")
    for row in results["measurements"]:
        line = f"  {row['operation']:<29}{number(row['fastevent']):>8} {row['unit']:<2}"
        for name, width in ("threading", 14), ("wrapper", 22):
            text = f"{number(row[name])} {row['unit']:<2}{row[name] / row['fastevent']:7.1f} x" if name in row else f"-{'':12}"
            line += f"{text:>{width + 7}}"
        print(line.rstrip())
    floor = results["floor"]
    where = "on one processor" if results["handover_on_one_processor"] else "between any processors"
    print(
        f"\n  The floor: an empty method in C {number(floor['empty_method_ns'])} ns, "
        f"a hand-over by two bare locks {number(floor['two_bare_locks_us'])} us.\n"
        f"  Measured just now: the minimum of {ROUNDS} rounds that take turns, the cost of the loop taken off;\n"
        f"  a hand-over {where}, the minimum of {HANDOVER_ROUNDS}; memory as tracemalloc sees it."
    )


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or isinstance(value, int) else f"{value:.2f}" if value < 10 else f"{value:.1f}"
