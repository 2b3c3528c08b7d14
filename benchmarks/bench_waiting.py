"""The third part of `make bench`: tasks that wait, several events at once, ticks, and the import.

Threads, loops and fresh processes take part, so what is measured is the time of the processor, of all of them together.
"""

import asyncio
import gc
import os
import resource
import selectors
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count, repeat
from unittest import mock

import pytest
import subjects
from bench_event import CORES, record
from subjects import FLOOR, Subject

from fastevent._bench import one_processor

TURNS = range(12)
IMPORT_TURNS = range(20)
TICK_TURNS = range(48)
SCOPES, TASKS, HANDOVERS, TICKS = 1_000, 300, 300, 100  # in a round
EVENTS = (2, 10, 100)
INTERVAL = 0.0005
TIMEOUT = 300

THREADING, CONDITION, SELECTOR = map(Subject, ("threading.Event", subjects.CONDITION, subjects.SELECTOR))
ASYNCIO, ANYIO, AIOLOGIC, TRIO = (Subject(name, name) for name in ("asyncio", "anyio", "aiologic", "trio"))


def by_turns(cases, turns=TURNS):
    """Have all *cases*, a list of an operation and a subject and what more, take turns."""
    chosen = [case for case in cases if not case[1].missing()]
    names = [f"{subject.name}-{operation}" for operation, subject, *_ in chosen]
    both = pytest.mark.parametrize("operation, subject, run", chosen, ids=names)
    return lambda test: both(pytest.mark.parametrize("turn", turns)(test))


def measure(benchmark, operation, subject, run, times, *numbers):
    """Record what each of so many *times* took: what `run(times)` returns, in seconds."""
    gc.collect()
    gc.disable()  # as `timeit` does
    try:
        with one_processor():
            record(benchmark, None, subject, 1, *numbers, seconds={operation: run(times) / times})
    finally:
        gc.enable()
    benchmark.pedantic(int, rounds=1)


# Tasks


@contextmanager
def without_trio(subject):
    """A block in which trio seems not to be imported: where it is, an event asks it first."""
    with mock.patch.dict(sys.modules):
        sys.modules.pop("trio", None)
        if subject in CORES:
            subject.package._async._in_trio_task = None
        yield


def in_asyncio(body):
    """Return a function that runs *body*, a coroutine function, for so many times, and returns the seconds."""

    async def timed(times):
        start = time.process_time()
        await body(times)
        return time.process_time() - start

    return lambda times: asyncio.run(timed(times))


def in_trio(body):
    async def timed(times):
        start = time.process_time()
        await body(times)
        return time.process_time() - start

    return lambda times: TRIO.E.run(timed, times)


async def async_scopes(make, times):
    for _ in repeat(None, times):
        async with make(TIMEOUT):
            pass


async def scopes(make, times):
    for _ in repeat(None, times):
        with make(TIMEOUT):
            pass


async def wait_async(event):
    await event.wait_async()


async def wait(event):
    await event.wait()


async def wait_for_it(event):
    await event


async def set_by_a_task(make, wait, times):
    for _ in repeat(None, times):
        event = make()
        task = asyncio.create_task(wait(event))
        await asyncio.sleep(0)
        event.set()
        await task


async def set_by_a_trio_task(make, wait, times):
    for _ in repeat(None, times):
        event = make()
        async with TRIO.E.open_nursery() as nursery:
            nursery.start_soon(wait, event)
            await TRIO.E.lowlevel.checkpoint()
            event.set()


class Setter:
    """A thread that calls a function whenever `go()` was called."""

    def __init__(self, function):
        self._function = function
        self._ready = threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._work)
        self.go = self._ready.release

    def _work(self):
        while self._ready.acquire() and not self._ended:
            self._function()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self.go()
        self._thread.join()


async def set_by_a_thread(make, wait, set_event, times):
    waiting = []
    loop = asyncio.get_running_loop()
    with Setter(lambda: set_event(loop.call_soon_threadsafe, waiting.pop())) as setter:
        for _ in repeat(None, times):
            waiting.append(event := make())
            loop.call_soon(setter.go)
            await wait(event)


def set_directly(call_soon, event):
    event.set()


def set_in_the_loop(call_soon, event):
    call_soon(event.set)


def tasks():
    for subject in CORES:
        yield subjects.SCOPE, subject, in_asyncio(partial(async_scopes, subject.E))
        yield subjects.BY_TASK, subject, in_asyncio(partial(set_by_a_task, subject.E, wait_async))
        yield subjects.BY_THREAD, subject, in_asyncio(partial(set_by_a_thread, subject.E, wait_async, set_directly))
        yield subjects.SCOPE_BESIDE_TRIO, subject, in_asyncio(partial(async_scopes, subject.E))
        yield subjects.TRIO_SCOPE, subject, in_trio(partial(async_scopes, subject.E))
        yield subjects.TRIO_BY_TASK, subject, in_trio(partial(set_by_a_trio_task, subject.E, wait_async))
    if sys.version_info >= (3, 11):
        yield subjects.SCOPE, ASYNCIO, in_asyncio(partial(async_scopes, asyncio.timeout))
    yield subjects.BY_TASK, ASYNCIO, in_asyncio(partial(set_by_a_task, asyncio.Event, wait))
    yield subjects.BY_THREAD, ASYNCIO, in_asyncio(partial(set_by_a_thread, asyncio.Event, wait, set_in_the_loop))
    if not ANYIO.missing():
        yield subjects.SCOPE, ANYIO, in_asyncio(partial(scopes, ANYIO.E.move_on_after))
        yield subjects.BY_TASK, ANYIO, in_asyncio(partial(set_by_a_task, ANYIO.E.Event, wait))
        yield subjects.BY_THREAD, ANYIO, in_asyncio(partial(set_by_a_thread, ANYIO.E.Event, wait, set_in_the_loop))
    if not AIOLOGIC.missing():
        yield subjects.BY_TASK, AIOLOGIC, in_asyncio(partial(set_by_a_task, AIOLOGIC.E.REvent, wait_for_it))
        yield subjects.BY_THREAD, AIOLOGIC, in_asyncio(partial(set_by_a_thread, AIOLOGIC.E.REvent, wait_for_it, set_directly))
    if not TRIO.missing():
        yield subjects.TRIO_SCOPE, TRIO, in_trio(partial(scopes, TRIO.E.move_on_after))
        yield subjects.TRIO_BY_TASK, TRIO, in_trio(partial(set_by_a_trio_task, TRIO.E.Event, wait))


@by_turns([*tasks()])
def test_tasks(benchmark, turn, operation, subject, run):
    needs_trio = "trio" in operation
    if needs_trio and TRIO.missing():
        pytest.skip("trio is missing")
    with nullcontext() if needs_trio else without_trio(subject):
        measure(benchmark, operation, subject, run, SCOPES if "async with" in operation else TASKS)


# Several events


def wait_any(subject, events, times):
    """Have a thread set one event after another. Wait for any of them, and clear it."""
    several = [subject.E() for _ in range(events)]
    turns = count()
    with Setter(lambda: several[next(turns) % events].set()) as setter:
        start = time.process_time()
        for _ in repeat(None, times):
            setter.go()
            for event in subject.package.wait_any(several):
                event.clear()
        return time.process_time() - start


def wait_for_a_condition(events, times):
    condition, flags, turns = threading.Condition(), [False] * events, count()

    def set_next():
        with condition:
            flags[next(turns) % events] = True
            condition.notify_all()

    with Setter(set_next) as setter:
        start = time.process_time()
        for _ in repeat(None, times):
            setter.go()
            with condition:
                while not any(flags):
                    condition.wait()
                for i, flag in enumerate(flags):
                    if flag:
                        flags[i] = False
        return time.process_time() - start


def select(events, times):
    several, turns = [CORES[0].E() for _ in range(events)], count()
    with selectors.DefaultSelector() as selector, Setter(lambda: several[next(turns) % events].set()) as setter:
        for event in several:
            selector.register(event, selectors.EVENT_READ)
        start = time.process_time()
        for _ in repeat(None, times):
            setter.go()
            for key, _ in selector.select():
                key.fileobj.clear()
        return time.process_time() - start


def waits_for_any():
    for events in EVENTS:
        for subject in CORES:
            yield events, subject, partial(wait_any, subject, events)
        yield events, CONDITION, partial(wait_for_a_condition, events)
        yield events, SELECTOR, partial(select, events)


@by_turns([*waits_for_any()])
def test_several(benchmark, turn, operation, subject, run):
    measure(benchmark, subjects.ANY, subject, run, HANDOVERS, operation)


# Ticks


def tick(make, times):
    start = time.process_time()
    for number in make().ticks(INTERVAL):
        if number == times:
            return time.process_time() - start


def wait_again(make, times):
    event = make()
    start = time.process_time()
    for _ in repeat(None, times):
        event.wait(INTERVAL)
    return time.process_time() - start


def sleep_again(times):
    start = time.process_time()
    for _ in repeat(None, times):
        time.sleep(INTERVAL)
    return time.process_time() - start


def ticks():
    for subject in CORES:
        yield subjects.TICK, subject, partial(tick, subject.E)
    yield subjects.TICK, THREADING, partial(wait_again, threading.Event)
    yield subjects.TICK, FLOOR, sleep_again


@by_turns([*ticks()], TICK_TURNS)
def test_ticks(benchmark, turn, operation, subject, run):
    measure(benchmark, operation, subject, run, TICKS)


# The import


def start(statement, environment, times):
    """Return the seconds that fresh interpreters take."""

    def seconds():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = seconds()
    for _ in repeat(None, times):
        subprocess.run([sys.executable, "-c", statement], env={**os.environ, **environment}, check=True)
    return seconds() - before


def imports():
    for subject in CORES:
        pure = "1" if subject is not CORES[0] else ""
        yield subjects.IMPORT, subject, partial(start, "import fastevent", {"FASTEVENT_PURE_PYTHON": pure})
    for subject in Subject("threading", "threading"), ASYNCIO, ANYIO, AIOLOGIC, TRIO, Subject("cantok", "cantok"):
        yield subjects.IMPORT, subject, partial(start, f"import {subject.name}", {})
    yield subjects.START, FLOOR, partial(start, "pass", {})


@by_turns([*imports()], IMPORT_TURNS)
def test_import(benchmark, turn, operation, subject, run):
    measure(benchmark, operation, subject, run, 1)
