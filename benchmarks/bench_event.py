"""`make bench`: what every operation costs every subject, and how that grows.

A round calls a statement so often that the clock does not matter; the report takes the minimum of many rounds, less that of the
empty loop. Subjects and operations take turns at every round of a call, so that a good or bad moment of the machine does not
hit one of them alone.
"""

import _thread
import gc
import multiprocessing
import resource
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from timeit import Timer

import pytest
import subjects
from subjects import ALIVE, FLOOR, HANDOVER, HERE, MEMORY, NAMES, OPERATIONS, POLLERS, THREAD, WAKING

from fastevent._bench import LockAsEvent, bytes_per_event, handover, one_processor

MANY_TURNS = range(64)
TURNS = range(3)
ROUND = 1e-3  # seconds, at least
STARTS = 20  # of a thread, in a round
WAITERS = (1, 10, 100, 1_000, 4_000)
EVENTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
THREADS = (1, 2, 4, 8)
POLLS = 300_000  # of each thread
HANDOVERS = 1_000  # in a round: the start of the thread is timed, too

EVENT_LIKE = [subject for subject in HERE if subject.is_event and HANDOVER not in subject.says]
CORES_AND_THREADING = [subject for subject in HERE if subject.name in {"fastevent", "Python core", "threading.Event"}]


def by_name(chosen):
    return pytest.mark.parametrize("subject", chosen, ids=lambda subject: subject.name)


def record(benchmark, operation, subject, calls=1, **more):
    benchmark.group = operation
    benchmark.extra_info.update(subject=subject.name, calls=calls, **more)


def timer(subject, made, statement):
    """Return a timer of *statement* in which `event` is a local variable."""
    names = {**NAMES, "E": subject.E, "deadline": time.monotonic() + 300}
    exec(f"event = {made}", names)
    names["made"] = names.pop("event")
    return Timer(statement, "event = made", globals=names)


def calls_of(timed):
    calls = 1
    while timed.timeit(calls) < ROUND:
        calls *= 2
    return calls


@cache
def warm(subject, made, statement):
    timed = timer(subject, made, statement)
    return timed, calls_of(timed)


def cases():
    yield FLOOR, "loop", "None", "pass"
    for operation, made, statement, of_others in OPERATIONS:
        for subject in HERE:
            spelled = subject.spells(operation, made, statement, of_others)
            if spelled:
                yield subject, operation, *spelled


@pytest.mark.parametrize("subject, operation, made, statement", [*cases()], ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("turn", MANY_TURNS)
def test_call(benchmark, turn, subject, operation, made, statement):
    timed, calls = warm(subject, made, statement)
    record(benchmark, operation, subject, calls, statement=statement)
    benchmark.pedantic(timed.timeit, args=(calls,))


@by_name([*EVENT_LIKE, FLOOR])
@pytest.mark.parametrize("turn", MANY_TURNS)
def test_handover(benchmark, turn, subject):
    record(benchmark, HANDOVER, subject, 2 * HANDOVERS)
    with one_processor() as pinned:
        benchmark.extra_info["one_processor"] = pinned
        benchmark.pedantic(handover, args=(subject.E or LockAsEvent, HANDOVERS))


@by_name([*CORES_AND_THREADING, FLOOR])
@pytest.mark.parametrize("turn", MANY_TURNS)
def test_thread(benchmark, monkeypatch, turn, subject):
    """`threading` makes an event for each thread: here it makes the subject's."""

    def start_and_join():
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()

    def start_and_wait():
        done = subjects.held_lock()
        _thread.start_new_thread(done.release, ())
        done.acquire()

    def nothing():
        pass

    if subject is not FLOOR:
        monkeypatch.setattr(threading, "Event", subject.E)
    timed = Timer(start_and_wait if subject is FLOOR else start_and_join)
    with one_processor():
        record(benchmark, THREAD, subject, STARTS)
        benchmark.pedantic(timed.timeit, args=(STARTS,), warmup_rounds=1)


@by_name([subject for subject in HERE if subject.is_event])
def test_memory(benchmark, subject):
    """As tracemalloc sees it: all that Python's allocators gave."""
    record(benchmark, MEMORY, subject, bytes=bytes_per_event(subject.E))
    benchmark.pedantic(subject.E, rounds=1)


def waiting():
    for turn in TURNS:
        for waiters in WAITERS:
            for subject in [*EVENT_LIKE, FLOOR]:
                # Bare locks are no floor of more: their owner keeps the GIL, and the woken threads compete for it.
                most = 100 if subject is FLOOR else 4_000 if subject in CORES_AND_THREADING else 1_000
                if waiters <= most:
                    yield pytest.param(subject, waiters, id=f"{turn}-{waiters}-{subject.name}")


@pytest.mark.parametrize("subject, waiters", [*waiting()])
def test_waking(benchmark, subject, waiters):
    alone = _thread._count()
    stack_size = threading.stack_size(256 * 1024)

    def gather():
        while _thread._count() > alone:  # threads of the round before
            time.sleep(0.001)
        event = (subject.E or subjects.LockPerWaiter)()
        there, asleep, last = [], list(range(waiters)), subjects.held_lock()

        def wait():
            there.append(None)
            event.wait()
            if asleep.pop() == 0:
                last.release()

        for _ in range(waiters):
            _thread.start_new_thread(wait, ())
        while len(there) < waiters:
            time.sleep(0.001)
        time.sleep(0.02 + waiters / 20_000)  # from the list to the lock
        return (event, last), {}

    setting = []

    def wake(event, last):
        start = time.perf_counter()
        event.set()
        setting.append(time.perf_counter() - start)
        last.acquire()

    record(benchmark, WAKING, subject, waiters=waiters)
    try:
        benchmark.pedantic(wake, setup=gather, rounds=max(3, min(10, 2_000 // waiters)))
        benchmark.extra_info["setting"] = sorted(setting)[len(setting) // 2]
    finally:
        threading.stack_size(stack_size)


def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


def resident_bytes(name, count):
    """Return by how much each of *count* events lets this fresh process grow."""
    make = next(subject.E for subject in HERE if subject.name == name)
    before = resident()
    events = [make() for _ in repeat(None, count)]
    return (resident() - before) / len(events)


@pytest.mark.parametrize("events", EVENTS)
@by_name(CORES_AND_THREADING)
def test_alive(benchmark, subject, events):
    make = subject.E
    record(benchmark, ALIVE, subject, events, events=events)
    if events >= 10_000 and sys.platform == "linux":
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            benchmark.extra_info["bytes"] = fresh.submit(resident_bytes, subject.name, events).result()
    gc.collect()
    benchmark.pedantic(lambda: [make() for _ in repeat(None, events)], rounds=max(1, min(20, 100_000 // events)))


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("shared", (True, False), ids=("one event", "one each"))
@pytest.mark.parametrize(
    "subject, operation, made, statement",
    [
        case
        for case in cases()
        if case[0].name in {"fastevent", "threading.Event"}
        and case[1] in {"is_set()", "flag, for is_set()", "check_timeout(), 300 s"}
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_pollers(benchmark, subject, operation, made, statement, shared, threads):
    loops = [timer(subject, made, statement) for _ in range(threads)]
    if shared:  # the event alone: each thread has a loop of its own
        for loop in loops:
            loop.inner.__globals__["made"] = loops[0].inner.__globals__["made"]

    def poll():
        barrier = threading.Barrier(threads)

        def run(loop):
            barrier.wait()
            loop.inner(repeat(None, POLLS), time.perf_counter)

        runners = [threading.Thread(target=run, args=(loop,)) for loop in loops]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()

    record(benchmark, POLLERS, subject, POLLS * threads, polled=operation, shared=shared, threads=threads)
    benchmark.pedantic(poll, rounds=5, warmup_rounds=1)
