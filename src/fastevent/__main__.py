"""`python -m fastevent`: what is active here, and how fast it is here; `run`: a program under the patch."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from math import inf
from timeit import Timer
from typing import Any

from fastevent import IMPLEMENTATION, Event, _config, check_interval, default_timeout, patch_threading
from fastevent._run import run

ROUNDS = 25
CALLS = 5_000
HANDOVERS = 300
HANDOVER_ROUNDS = 60
CLOCK_MONOTONIC_COARSE = 6  # Linux's number; the time module does not name it


class Wrapper:
    """What the API reference describes, written as it says: a `threading.Event` inside, a timeout beside it."""

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

#: An operation, how its event is made, the statement that is timed, and that of the others if it differs; None: they have none.
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
    """Time every operation: the minimum of rounds that take turns, less the loop. Return the rows and the empty method."""
    timers = [("loop", "", Timer("pass")), ("floor", "", Timer("queue.clear()", globals={"queue": deque()}))]
    for operation, setup, statement, of_others in OPERATIONS:
        for who, make in CLASSES.items():
            timed = of_others.get(who, statement)
            if timed is not None:
                timers.append((operation, who, Timer(timed, f"event = {setup}", globals={"E": make})))
    best = [inf] * len(timers)
    for _ in range(ROUNDS):
        for i, (_, _, timer) in enumerate(timers):
            best[i] = min(best[i], timer.timeit(CALLS))
    rows: dict[str, dict[str, Any]] = {}
    for (operation, who, _), seconds in zip(timers, best, strict=True):
        row = rows.setdefault(operation, {"operation": operation, "unit": "ns"})
        row[who] = max(0.1, round((seconds - best[0]) / CALLS * 1e9, 1))  # a compiler may leave nothing of a call: PyPy's
    del rows["loop"]
    empty_method: float = rows.pop("floor")[""]
    return list(rows.values()), empty_method


@contextmanager
def one_processor() -> Iterator[bool]:
    """Keep this process on one processor where that can be asked for: waking another one costs more than what is measured."""
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
    """Return what it takes to wake another thread and to be woken by it, in microseconds for one of the two ways."""
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
    """Two threads can take turns no faster than with two bare locks: the floor of the hand-over."""

    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.set: Callable[[], None] = lock.release
        self.wait: Callable[[], bool] = lock.acquire

    def clear(self) -> None:
        pass


def microseconds_per_handover() -> tuple[dict[str, Any], float]:
    who: dict[str, Callable[..., Any]] = {**CLASSES, "floor": LockAsEvent}
    best = dict.fromkeys(who, inf)
    for _ in range(HANDOVER_ROUNDS):
        for one, make in who.items():
            best[one] = min(best[one], handover(make))
    row = {"operation": "hand-over to a thread", "unit": "us", **{one: round(best[one], 2) for one in CLASSES}}
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


def active() -> dict[str, Any]:
    """Return what runs here and with which settings. Raises `ValueError` if an environment variable is broken."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    clock = time.get_clock_info("monotonic")
    coarse = IMPLEMENTATION == "c" and sys.platform == "linux"
    return {
        "fastevent": version("fastevent"),
        "core": IMPLEMENTATION,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": gil,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "clock": clock.implementation,
        "clock_resolution": clock.resolution,
        "coarse_clock_resolution": time.clock_getres(CLOCK_MONOTONIC_COARSE) if coarse else None,
        "default_timeout": default_timeout(),
        "default_timeout_applies": _config.implicit_timeout() is not None,
        "check_interval": check_interval(),
    }


def measure() -> dict[str, Any]:
    rows, empty_method = nanoseconds_per_call()
    with one_processor() as pinned:
        handovers, bare_locks = microseconds_per_handover()
    rows.append(handovers)
    if sys.implementation.name == "cpython":
        memory = {one: bytes_per_event(make) for one, make in CLASSES.items()}
        rows.append({"operation": "memory per event", "unit": "B", **memory})
    return {
        "measurements": rows,
        "floor": {"empty_method_ns": empty_method, "two_bare_locks_us": bare_locks},
        "handover_on_one_processor": pinned,
    }


def show_active(facts: dict[str, Any]) -> None:
    core = {"c": "compiled core", "python": "Python core"}[facts["core"]]
    coarse = facts["coarse_clock_resolution"]
    applies = (
        "for every Event()" if facts["default_timeout_applies"] else f"not for Event(): {_config.DEFAULT_TIMEOUT} is unset"
    )
    lines = (
        ("Python", f"{facts['python']}, GIL {'on' if facts['gil'] else 'off'}, {facts['machine']}"),
        ("clock", f"{facts['clock']}, {facts['clock_resolution'] * 1e9:g} ns"),
        ("coarse clock", f"{coarse * 1e3:g} ms, for polls that are far from the deadline" if coarse else "not used"),
        ("default timeout", f"{facts['default_timeout']:g} s ({applies})"),
        ("check interval", f"{facts['check_interval']:g} s"),
    )
    print(f"fastevent {facts['fastevent']}, {core}\n")
    for name, text in lines:
        print(f"  {name:<17}{text}")


def show_measured(results: dict[str, Any]) -> None:
    print(f"\n{'':33}fastevent{'threading.Event':>21}{'wrapper of the reference':>29}")
    for row in results["measurements"]:
        line = f"  {row['operation']:<29}{number(row['fastevent']):>8} {row['unit']:<2}"
        for who, width in ("threading", 14), ("wrapper", 22):
            text = f"{number(row[who])} {row['unit']:<2}{row[who] / row['fastevent']:5.1f} x" if who in row else f"-{'':10}"
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m fastevent", description="Show what is active here, and how fast it is here.")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    runner = parser.add_subparsers(title="commands").add_parser(
        "run", help="run a program with threading.Event replaced by fastevent.Event", usage="%(prog)s [-m] PROGRAM [ARGUMENTS]"
    )
    runner.add_argument("-m", dest="as_module", action="store_true", help="PROGRAM is the name of a module, not a path")
    runner.add_argument("program", nargs=argparse.PARSER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if "program" in options:
            if not options.as_module and not os.path.exists(options.program[0]):
                runner.error(f"there is no file {options.program[0]!r}")
            patch_threading()
            facts = {}
        else:
            facts = active()
    except ValueError as error:
        parser.error(str(error))
    if "program" in options:
        run(*options.program, as_module=options.as_module)
        return 0
    if options.json:
        print(json.dumps({**facts, **measure()}, indent=2))
        return 0
    show_active(facts)
    sys.stdout.flush()
    show_measured(measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())
