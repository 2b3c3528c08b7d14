"""How a SharedEvent reaches other processes, what of it does, and how it goes with forks and exits: see processes.py."""

import atexit
import gc
import logging
import os
import pickle
import signal
import stat
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from enum import Enum

from helpers import TIMEOUT, until
from programs import Programs, context, joined, reason_of, received, run, waiting, waits

from fastevent import EventTimeout, SharedEvent
from fastevent.shared import _hub

PROGRAMS = Programs()


# How an event reaches another process


initial = None


def initialise(event):
    global initial
    initial = event


def reason_of_initial(_):
    return reason_of(initial)


def through_queue(queue, answers):
    answers.put(reason_of(queue.get(timeout=TIMEOUT)))


def grandparent(event, connection):
    child = run(waits, event, connection)
    joined(child)


@PROGRAMS.every_method
def goes_every_way():
    warnings.simplefilter("ignore", DeprecationWarning)  # queues and pools have threads, with which they fork
    events = [SharedEvent() for _ in range(7)]
    argument, task, other_task, initializer, queued, piped, inherited = events
    initialise(inherited)
    processes = []
    for target, event in ((waits, argument), (grandparent, inherited)):
        here, there = context().Pipe()
        processes.append((run(target, event, there), here))
    queue, answers = context().Queue(), context().Queue()
    queue.put(queued)
    taker = run(through_queue, queue, answers)
    here, there = context().Pipe()
    asker = run(asks, there)
    here.send(piped)
    with (
        ProcessPoolExecutor(1, mp_context=context()) as executor,
        context().Pool(1) as pool,
        context().Pool(1, initialise, (initializer,)) as initialised,
    ):
        results = [
            executor.submit(reason_of, task).result,
            pool.apply_async(reason_of, (other_task,)).get,
            initialised.apply_async(reason_of_initial, (0,)).get,
        ]
        for number, event in enumerate(events):
            event.set(number)
        assert [result(timeout=TIMEOUT) for result in results] == [1, 2, 3]
    assert answers.get(timeout=TIMEOUT) == 4
    assert received(here) == 5
    for (process, connection), reason in zip(processes, (0, 6), strict=True):
        received(connection)
        assert received(connection) == reason
        joined(process)
    joined(taker, asker)


def asks(connection):
    connection.send(reason_of(received(connection)))


@PROGRAMS.under_fork
def is_inherited_as_a_global():
    initialise(SharedEvent())
    with context().Pool(1) as pool:
        result = pool.apply_async(reason_of_initial, (0,))
        initial.set("inherited")
        assert result.get(TIMEOUT) == "inherited"


@PROGRAMS.by_name
def goes_to_joblib():
    import joblib

    event = SharedEvent()
    threading.Timer(0.5, event.set, ("stop",)).start()
    with joblib.parallel_config("loky", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(reason_of)(event) for _ in range(4)) == ["stop"] * 4
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown()


@PROGRAMS.by_name
def goes_to_other_interpreters():
    from concurrent.futures import InterpreterPoolExecutor

    event = SharedEvent()
    with InterpreterPoolExecutor(2) as executor:
        tasks = [executor.submit(reason_of, event) for _ in range(2)]
        event.set("stop")
        assert [task.result(TIMEOUT) for task in tasks] == ["stop", "stop"]


# What travels


class Colour(Enum):
    RED = 1


class Odd:
    def __str__(self):
        raise ValueError("never")


def reasons_of(events, connection):
    connection.send([reason_of(event) for event in events])


@PROGRAMS.one_method
def reasons_travel_as_json():
    loop = []
    loop.append(loop)
    reasons = [
        (None, None),
        ("text \udcff\n", "text \udcff\n"),
        ({"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}),
        (Colour.RED, "RED"),
        (signal.SIGTERM, "SIGTERM"),
        (ValueError("why"), "why"),
        (b"bytes", "b'bytes'"),
        (loop, "[[...]]"),
        ("x" * 10_000_000, "x" * 4_000 + "…"),
        (["x"] * 1_000_000, str(["x"] * 1_000)[:4_000] + "…"),
        ("\U0001f600" * 10_000, "\U0001f600" * 4_000 + "…"),
    ]
    events = [SharedEvent() for _ in reasons]
    here, there = context().Pipe()
    process = run(reasons_of, events, there)
    for event, (reason, _) in zip(events, reasons, strict=True):
        event.set(reason)
        assert event.reason is reason
    assert received(here) == [arrived for _, arrived in reasons]
    joined(process)


@PROGRAMS.one_method
def any_object_is_a_reason():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for reason in (Odd(), deep, 10**5_000, float("nan"), object):
        event = SharedEvent()
        event.set(reason)
        assert pickle.loads(pickle.dumps(event)) is event


def down(depth, function):
    return down(depth - 1, function) if depth else function()


def waits_for_all(events, connection):
    connection.send([event.wait(TIMEOUT) for event in events])


@PROGRAMS.one_method
def a_set_at_the_end_of_the_stack_arrives():
    """If it does not raise. Then the last steps of the stack do not suffice to send it, and a helper does."""
    events = [SharedEvent() for _ in range(80)]
    here, there = context().Pipe()
    process = run(waits_for_all, events, there)
    depth = sys.getrecursionlimit() - len(traceback.extract_stack()) - 3
    for left, event in enumerate(events):
        try:
            down(depth - left, event.set)
        except RecursionError:
            event.set()
    assert received(here) == [True] * len(events)
    joined(process)


def describes(event, connection):
    event.wait()
    connection.send((event.name, event.timeout, event._fe_period(), event.reason, type(event.reason), event._fe_self_setting))


@PROGRAMS.one_method
def timeouts_travel_exactly():
    for self_setting in (False, True):
        event = SharedEvent(0.2, set_on_timeout=self_setting, name="crawl")
        here, there = context().Pipe()
        process = run(describes, event, there)
        name, timeout, period, reason, kind, travelled = received(here)
        assert (name, timeout, period, travelled) == ("crawl", 0.2, event._fe_period(), self_setting)
        assert time.monotonic_ns() >= period.deadline
        assert (kind, str(reason)) == ((EventTimeout, "timed out after 0.2 s: crawl") if self_setting else (type(None), "None"))
        joined(process)
    late = pickle.loads(pickle.dumps(event))
    assert late is event and late.is_set()


@PROGRAMS.one_method
def a_followed_event_travels_on():
    """The home drops the event; one process sets it, another waits, a third comes later."""
    event = SharedEvent()
    (waiter, connection), *_ = waiting((waits, event))
    ticket = pickle.dumps(event)
    del event
    here, there = context().Pipe()
    setter = run(passes_on, ticket, there)
    assert received(connection) == "from afar"
    joined(setter, waiter)
    assert received(here) == "from afar"
    assert pickle.loads(ticket).reason == "from afar"


def passes_on(ticket, connection):
    event = pickle.loads(ticket)
    assert pickle.loads(pickle.dumps(event)) is event
    event.set("from afar")
    joined(run(arrives, pickle.dumps(event), connection))


def arrives(ticket, connection):
    connection.send(reason_of(pickle.loads(ticket)))


def holds_many(connection):
    for _ in range(3):
        connection.send(pickle.loads(received(connection)).is_set())  # and drops it
        gc.collect()  # for PyPy
    kept = pickle.loads(received(connection))
    connection.send(kept.wait(TIMEOUT))


@PROGRAMS.one_method
def a_dropped_event_costs_the_home_nothing():
    here, there = context().Pipe()
    process = run(holds_many, there)
    event, other = SharedEvent(), SharedEvent()
    for _ in range(3):
        here.send(pickle.dumps(event))
        assert received(here) is False
    here.send(pickle.dumps(other))
    until(lambda: [set(follower.follows) for follower in _hub.hub().own().followers] == [{other._fe_key[1]}])
    other.set()
    assert received(here) is True
    until(lambda: not any(follower.follows for follower in _hub.hub().own().followers))
    joined(process)


# Forks and exits


@PROGRAMS.under_fork
def forks_are_silent_and_nest():
    """`-W error` makes an error of the warning that a process with threads has forked."""
    event = SharedEvent()
    others = [SharedEvent() for _ in range(3)]
    read, write = os.pipe()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            grandchild = os.fork()
            event.wait(TIMEOUT)
            os.write(write, b"x" if event.reason == "stop" else b"-")
            if grandchild:
                os.waitpid(grandchild, 0)
            os._exit(0)
        pids.append(pid)
    event.set("stop")
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    assert os.read(read, 100) == b"xxxxxx"
    assert not any(other.is_set() for other in others)
    pid = os.fork()
    if pid == 0:
        others[0].set("from a child")
        os._exit(0)
    assert others[0].wait(TIMEOUT)
    assert os.waitpid(pid, 0)[1] == 0
    assert "fastevent shared" in {thread.name for thread in threading.enumerate()} or not hasattr(threading, "_active")


@PROGRAMS.under_fork
def forks_from_many_threads():
    event = SharedEvent()
    pids = []

    def forks():
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if event.wait(TIMEOUT) else 1)
            pids.append(pid)

    warnings.simplefilter("ignore", DeprecationWarning)  # these threads are not ours
    threads = [threading.Thread(target=forks) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    event.set()
    assert len(pids) == 20
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


@PROGRAMS.every_method_of_posix
def the_directory_is_private():
    event = SharedEvent()
    directory = os.path.dirname(event._fe_key[0].address)
    mode = os.stat(directory).st_mode
    assert stat.S_IMODE(mode) == 0o700, oct(mode)
    here, there = context().Pipe()
    process = run(makes_its_own, there)
    its_directory = os.path.dirname(received(here)._fe_key[0].address)
    assert its_directory != directory
    joined(process)
    assert os.path.exists(directory) and not os.path.exists(its_directory)


def makes_its_own(connection):
    event = SharedEvent()
    connection.send(event)


@PROGRAMS.every_method
def children_are_relayed_while_they_are_joined_at_exit():
    """Nothing joins them before the program ends, but `multiprocessing` does then."""
    event = SharedEvent()
    here, there = context().Pipe()
    run(expects_late, event)
    run(sets_late, event, there)
    atexit.register(here.send, "the program ends")


def sets_at_last(event):
    initialise(SharedEvent())
    threading.Thread(target=lambda: [threading.main_thread().join(), event.set("at last")]).start()


@PROGRAMS.every_method
def a_thread_that_outlives_the_main_one_sets():
    event = SharedEvent()
    process = run(sets_at_last, event)
    assert event.wait(TIMEOUT) and event.reason == "at last"
    joined(process)


def expects_late(event):
    assert event.wait(TIMEOUT) and event.reason == "late", event


def sets_late(event, connection):
    received(connection)
    event.set("late")


def watch_imports(found):
    """Note in *found* what this package imports from now on."""

    class Watch:
        @staticmethod
        def find_spec(name, path=None, target=None):
            frame = sys._getframe(1)
            while frame is not None and "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            if frame is not None and f"{os.sep}fastevent{os.sep}" in frame.f_code.co_filename:
                found.append(name)

    sys.meta_path.insert(0, Watch)


def uses_all(events, connection):
    """Follow, set, make and pickle, with reasons of many kinds, a deadline, a fork, and a home that is gone."""
    found = []
    mine = SharedEvent(0.01, set_on_timeout=True)
    watch_imports(found)
    first, second, ending = map(pickle.loads, events)
    connection.send("here")
    reason = first.wait(TIMEOUT) and first.reason
    second.set(Colour.RED)
    mine.wait(TIMEOUT)
    for each in (Odd(), ValueError("why"), [[1, 2.5, None]], "x" * 10_000, EventTimeout("late"), 10**700):
        SharedEvent().set(each)
    if hasattr(os, "fork"):
        pid = os.fork()
        if not pid:
            again = SharedEvent()
            again.set("in a child")
            _hub.finish()  # which removes the directory
            os._exit(len(found) + (pickle.loads(pickle.dumps(again)).reason != "in a child"))
        assert os.waitpid(pid, 0)[1] == 0
    until(lambda: all(home.is_trusted for home in _hub.hub().homes.values()))
    connection.send("followed")
    gone = ending.wait(TIMEOUT) and ending.reason
    connection.send((reason, gone, found))


def lends(connection):
    connection.send(pickle.dumps(SharedEvent()))
    received(connection)


@PROGRAMS.every_method
def nothing_is_imported_later():
    """Neither where an event is made, nor where it is followed: after a change of rights, it may be impossible."""
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.getLogger("fastevent").propagate = False
    logging.getLogger("fastevent").addHandler(logging.NullHandler())
    found = []
    here, there = context().Pipe()
    lender = run(lends, there)
    ending = received(here)
    its_end, end = context().Pipe()
    first, second = SharedEvent(), SharedEvent()
    watch_imports(found)
    process = run(uses_all, [pickle.dumps(first), pickle.dumps(second), ending], end)
    assert received(its_end) == "here"
    first.set("go")
    assert second.wait(TIMEOUT) and second.reason == "RED"
    assert received(its_end) == "followed"
    here.send("end")
    reason, gone, found_there = received(its_end)
    assert (reason, gone) == ("go", f"process {lender.pid}, which made it, is gone")
    assert not found and not found_there, (found, found_there)
    joined(process, lender)


@PROGRAMS.under_fork
def exit_is_not_delayed():
    """By a follower that has stopped reading, with a full socket."""
    events = [SharedEvent() for _ in range(2_000)]
    here, there = context().Pipe()
    process = run(holds, events, there)
    received(here)
    until(lambda: sum(len(follower.follows) for follower in _hub.hub().own().followers) == len(events))
    os.kill(process.pid, signal.SIGSTOP)
    for event in events:
        event.set("stop")
    started = time.monotonic()
    _hub.finish()
    assert time.monotonic() - started < 5
    process.kill()
    joined(process, code=-signal.SIGKILL)


def holds(events, connection):
    connection.send(len(events))
    for event in events:
        event.wait(TIMEOUT)


if __name__ == "__main__":
    PROGRAMS.main()
