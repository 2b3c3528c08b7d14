"""`make bench`: what every operation costs every subject, and how that grows.

A round calls a statement so often that the clock does not matter, ten times in each turn of its loop; the report takes the
least of many rounds, less that of the empty loop. Subjects and operations take turns at every round of a call, so that a good
or bad moment of the machine does not hit one of them alone.
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
from statistics import median
from timeit import Timer

import pytest
import subjects
from subjects import FLOOR, HANDOVER, HERE, NAMES, OPERATIONS, THREAD

from fastevent import _timers
from fastevent._bench import LockAsEvent, bytes_per_event, handover, one_processor

MANY_TURNS = range(64)
TURNS = range(3)
ROUND = 1e-3  # seconds, at least
IN_A_ROW = 10  # calls in a turn of a loop, which takes longer than the cheapest of them
STARTS = 20  # of a thread, in a round
WAITERS = (1, 10, 100, 1_000, 4_000)
WAITERS_BESIDE = (50, 100)
FAMILIES = (1, 10, 100, 1_000, 10_000)  # children of one parent
SELF_SETTING_ALIVE = (1_000, 10_000, 100_000, 1_000_000)
EVENTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
THREADS = (1, 2, 4, 8)
POLLS = 300_000  # of each thread
HANDOVERS = 1_000  # in a round: the start of the thread is timed, too
TIMEOUT = 0.02  # after which the lag is measured

EVENT_LIKE = [subject for subject in HERE if subject.is_event and HANDOVER not in subject.says]
CORES = [subject for subject in HERE if subject.name in {"fastevent", "Python core"}]
CORES_AND_THREADING = [*CORES, *(subject for subject in HERE if subject.name == "threading.Event")]


def by_name(chosen):
    return pytest.mark.parametrize("subject", chosen, ids=lambda subject: subject.name)


def record(benchmark, operation, subject, calls=1, *numbers, **measured):
    """Say what is measured: an operation, or None if that is in *measured*, `seconds` or `sizes`, by operations."""
    benchmark.group = operation
    benchmark.extra_info.update(subject=subject.name, calls=calls, numbers=numbers, **measured)


def timer(subject, made, statement):
    """Return a timer of *statement* in which `event` is a local variable."""
    names = {**NAMES, "E": subject.E, "deadline": time.monotonic() + 300}
    exec(f"event = {made}", names)
    names["made"] = names.pop("event")
    return Timer(statement, "event = made", globals=names)


def calls_of(timed):
    calls = 1
    while min(timed.repeat(3, calls)) < ROUND:  # the first call of all may start a thread
        calls *= 2
    return calls


@cache
def warm(subject, made, statement):
    timed = timer(subject, made, "\n".join([statement] * IN_A_ROW))
    return timed, calls_of(timed)


def cases():
    yield FLOOR, "loop", "None", ""
    for operation, made, statement, of_others in OPERATIONS:
        for subject in HERE:
            spelled = subject.spells(operation, made, statement, of_others)
            if spelled:
                yield subject, operation, *spelled


@pytest.mark.parametrize("subject, operation, made, statement", [*cases()], ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("turn", MANY_TURNS)
def test_call(benchmark, turn, subject, operation, made, statement):
    timed, calls = warm(subject, made, statement)
    record(benchmark, operation, subject, calls * IN_A_ROW)
    benchmark.extra_info["loop"] = True
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


def makers():
    for subject in HERE:
        if subject.is_event:
            yield subject, subjects.MEMORY, "None", "E()"
        children = next(operation for operation in OPERATIONS if operation[0] == subjects.CHILD)
        if spelled := subject is not FLOOR and subject.spells(*children):
            yield subject, subjects.CHILD_MEMORY, *spelled


@pytest.mark.parametrize("subject, operation, made, statement", [*makers()], ids=lambda value: getattr(value, "name", value))
def test_memory(benchmark, subject, operation, made, statement):
    """As tracemalloc sees it: all that Python's allocators gave."""
    names = {**NAMES, "E": subject.E}
    exec(f"event = {made}", names)
    make = eval(f"lambda: {statement}", names)
    record(benchmark, None, subject, sizes={operation: bytes_per_event(make)})
    benchmark.pedantic(make, rounds=1)


def children_of(parent, count):
    return [parent.child() for _ in repeat(None, count)]


def chain_of(parent, count):
    chain = [parent]
    for _ in repeat(None, count):
        chain.append(chain[-1].child())
    return chain[1:]


@pytest.mark.parametrize("children", FAMILIES)
@by_name(CORES)
@pytest.mark.parametrize(
    "operation, make", [(subjects.CHILDREN, children_of), (subjects.CHAIN, chain_of)], ids=["wide", "deep"]
)
def test_children(benchmark, operation, make, subject, children):
    parent = subject.E()
    family = [parent, *make(parent, children)]

    def clear():
        for event in family:
            event.clear()

    record(benchmark, operation, subject, children, children)
    benchmark.pedantic(parent.set, setup=clear, rounds=max(5, min(1_000, 200_000 // children)))


@by_name([*CORES_AND_THREADING, FLOOR])
@pytest.mark.parametrize("turn", TURNS)
def test_lag(benchmark, turn, subject):
    """The time from a deadline until a thread sees it; the median of 30. Others have no deadline: theirs is of a timed wait."""

    def waited(event):
        event.wait(None if subject in CORES else TIMEOUT)

    def acquired(lock):
        lock.acquire(True, TIMEOUT)

    def slept(event):
        while not event.is_set():
            time.sleep(0.001)

    def polled(event):
        while not event.is_set():
            pass

    def lag(see):
        lags = []
        for _ in range(30):
            event = (
                subject.E(timeout=TIMEOUT, set_on_timeout=True)
                if subject in CORES
                else subjects.held_lock()
                if subject is FLOOR
                else subject.E()
            )
            deadline = time.monotonic() + TIMEOUT
            see(event)
            lags.append(time.monotonic() - deadline)
        return median(lags)

    kinds = {subjects.LAG: acquired if subject is FLOOR else waited}
    if subject in CORES:
        kinds |= {subjects.LAG_SLEEPING: slept, subjects.LAG_POLLING: polled}
    record(benchmark, None, subject, seconds={operation: lag(see) for operation, see in kinds.items()})
    benchmark.pedantic(int, rounds=1)


def waiting():
    for turn in TURNS:
        for beside, counts in (False, WAITERS), (True, WAITERS_BESIDE):
            for waiters in counts:
                for subject in [*EVENT_LIKE, FLOOR]:
                    # Bare locks are no floor of more: their owner keeps the GIL, and the woken threads compete for it.
                    most = 100 if subject is FLOOR else 4_000 if subject in CORES_AND_THREADING else 1_000
                    if waiters <= most and (not beside or subject in CORES_AND_THREADING):
                        name = f"{turn}-{waiters}{' beside' * beside}-{subject.name}"
                        yield pytest.param(subject, waiters, beside, id=name)


@pytest.mark.parametrize("subject, waiters, beside", [*waiting()])
def test_waking(benchmark, subject, waiters, beside):
    """One set(): until the last waiter runs, and until it returns. *beside* a thread that computes meanwhile, or not.

    The threads live until the last one has run, because the end of a thread costs more than its wake-up.
    """
    alone = _thread._count()
    stack_size = threading.stack_size(256 * 1024)
    computing, held, ending = [], [], []

    def compute():
        while computing:
            pass

    def end_all():
        computing.clear()
        start = time.perf_counter()
        for lock in held:
            lock.release()
        while _thread._count() > alone:
            time.sleep(0.001)
        if held:
            ending.append(time.perf_counter() - start)
        held.clear()

    def gather():
        end_all()
        event = (subject.E or subjects.LockPerWaiter)()
        there, asleep, last, living = [], list(range(waiters)), subjects.held_lock(), subjects.held_lock()
        held.append(living)

        def wait():
            there.append(None)
            event.wait()
            if asleep.pop() == 0:
                last.release()
            with living:
                pass

        for _ in range(waiters):
            _thread.start_new_thread(wait, ())
        while len(there) < waiters:
            time.sleep(0.001)
        time.sleep(0.02 + waiters / 20_000)  # from the list to the lock
        if beside:
            computing.append(None)
            _thread.start_new_thread(compute, ())
            time.sleep(0.02)
        return (event, last), {}

    setting = []

    def wake(event, last):
        start = time.perf_counter()
        event.set()
        setting.append(time.perf_counter() - start)
        last.acquire()

    record(benchmark, subjects.WAKING_BESIDE if beside else subjects.WAKING, subject, 1, waiters)
    try:
        benchmark.pedantic(wake, setup=gather, rounds=max(3, min(10, 2_000 // waiters)))
        benchmark.extra_info["seconds"] = {subjects.SETTING_BESIDE if beside else subjects.SETTING: median(setting)}
    finally:
        end_all()
        threading.stack_size(stack_size)
    if not beside:
        benchmark.extra_info["seconds"][subjects.ENDING] = median(ending)


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
@by_name([subject for subject in CORES_AND_THREADING if subject.name != "Python core"])
def test_alive(benchmark, subject, events):
    make = subject.E
    record(benchmark, subjects.ALIVE, subject, events, events)
    if events >= 10_000 and sys.platform == "linux":
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            size = fresh.submit(resident_bytes, subject.name, events).result()
        benchmark.extra_info["sizes"] = {subjects.ALIVE_MEMORY: size}
    gc.collect()
    benchmark.pedantic(lambda: [make() for _ in repeat(None, events)], rounds=max(1, min(20, 100_000 // events)))


def self_setting_events(count):
    """Return the seconds that each of *count* events with different deadlines takes, in this fresh process, and its bytes."""
    from fastevent import Event

    Event(300, set_on_timeout=True)  # the thread starts

    def seconds_each(work):
        start = time.perf_counter()
        work()
        while _timers.timers.events.unread:
            _timers.timers.helper.wake()
            time.sleep(0.0005)
        return (time.perf_counter() - start) / count

    def restart():
        for event in events:
            event.restart_timeout(600)

    events, before = [], resident()
    made = seconds_each(
        lambda: events.extend(Event(300 + i * 7_919 % count / 1_000, set_on_timeout=True) for i in range(count))
    )
    size = (resident() - before) / count
    restarted, dropped = seconds_each(restart), seconds_each(events.clear)
    return {subjects.MADE: made, subjects.RESTARTED: restarted, subjects.DROPPED: dropped}, {subjects.TIMER_MEMORY: size}


@pytest.mark.parametrize("events", SELF_SETTING_ALIVE)
def test_self_setting(benchmark, events):
    """Many alive at once. The time includes that of the thread that keeps their deadlines."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        seconds, sizes = fresh.submit(self_setting_events, events).result()
    record(benchmark, None, HERE[0], 1, events, seconds=seconds, sizes=sizes)
    benchmark.pedantic(int, rounds=1)


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

    of_each = "which share one" if shared else "each its own"
    record(benchmark, subjects.POLLERS, subject, POLLS * threads, operation, threads, of_each)
    benchmark.pedantic(poll, rounds=5, warmup_rounds=1)
