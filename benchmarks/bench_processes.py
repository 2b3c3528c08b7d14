"""The second part of `make bench`: events that several processes hold, and what their borders cost.

Each measurement runs in a fresh process, which forks those that it needs.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat

import pytest
from bench_event import TURNS, record
from subjects import BETWEEN, MANY_EVENTS, MANY_PROCESSES, SHARED_MADE, SHARED_POLL, Subject

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
TIMEOUT = 60.0
TIMES = {SHARED_POLL: 100_000, SHARED_MADE: 300, BETWEEN: 300, MANY_EVENTS: 1_000, MANY_PROCESSES: 1}
PROCESSES = 100


@contextmanager
def shared_events():
    from fastevent import SharedEvent

    yield SharedEvent


@contextmanager
def multiprocessing_events():
    yield multiprocessing.get_context("fork").Event


@contextmanager
def redis_events():
    from itertools import count

    from redis_server import Server

    from fastevent.redis import RedisEvents

    server = Server()
    try:
        with RedisEvents(server.client()) as events:
            names = map(str, count())
            yield lambda: events.event(next(names))
    finally:
        server.end()


@contextmanager
def pipes():
    """The floor: a byte through a pipe of its own."""

    class Pipe:
        def __init__(self):
            self.reads, self.writes = os.pipe()

        def set(self):
            os.write(self.writes, b".")

        def wait(self, _):
            os.read(self.reads, 1)

    yield Pipe


KINDS = {
    Subject("SharedEvent"): shared_events,
    Subject("multiprocessing.Event"): multiprocessing_events,
    Subject("RedisEvents"): redis_events,
    Subject("floor"): pipes,
}


@contextmanager
def another_process(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    try:
        yield
        process.join(TIMEOUT)
        assert process.exitcode == 0
    finally:
        process.kill()


def poll(make, count):
    event = make()
    start = time.perf_counter()
    for _ in repeat(None, count):
        event.is_set()
    return time.perf_counter() - start


def make_and_drop(make, count):
    make()
    start = time.perf_counter()
    for _ in repeat(None, count):
        make()
    return time.perf_counter() - start


def take_turns(make, count):
    pairs = [(make(), make()) for _ in range(count // 2)]

    def answer():
        for asked, answered in pairs:
            asked.wait(TIMEOUT)
            answered.set()

    with another_process(answer):
        time.sleep(0.2)
        start = time.perf_counter()
        for asked, answered in pairs:
            asked.set()
            answered.wait(TIMEOUT)
        return time.perf_counter() - start


def set_all(make, count, processes=1):
    """Set *count* events. Return the seconds until each of the *processes* has seen them all."""
    events = [make() for _ in range(count)]
    reads, writes = os.pipe()

    def see():
        os.write(writes, b".")
        for event in events:
            event.wait(TIMEOUT)
        os.write(writes, b".")

    def read_all():
        for _ in range(processes):
            os.read(reads, 1)

    with ExitStack() as all_processes:
        for _ in range(processes):
            all_processes.enter_context(another_process(see))
        read_all()
        time.sleep(0.5)
        start = time.perf_counter()
        for event in events:
            event.set()
        read_all()
        return time.perf_counter() - start


WORK = {SHARED_POLL: poll, SHARED_MADE: make_and_drop, BETWEEN: take_turns, MANY_EVENTS: set_all}


def measured(kind, operation):
    with kind() as make:
        if operation == MANY_PROCESSES:
            return set_all(make, 1, PROCESSES)
        return WORK[operation](make, TIMES[operation])


@pytest.mark.parametrize("operation", TIMES)
@pytest.mark.parametrize("subject", KINDS, ids=lambda subject: subject.name)
@pytest.mark.parametrize("turn", TURNS)
def test_processes(benchmark, turn, subject, operation):
    if subject.name == "floor" and operation != BETWEEN:
        pytest.skip("a pipe is no event")
    if subject.name == "RedisEvents":
        if operation == MANY_PROCESSES:
            pytest.skip("a connection for each process: measured by the server, not by us")
        pytest.importorskip("redis_server")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        seconds = fresh.submit(measured, KINDS[subject], operation).result() / TIMES[operation]
    record(benchmark, None, subject, seconds={operation: seconds})
    benchmark.pedantic(int, rounds=1)
