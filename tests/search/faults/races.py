"""Races, and many waiters."""

import signal
import sys
import threading
import time

from helpers import HAS_GIL

from faults.common import check_it_works, fault, join_all, start_all, start_waiters


@fault
def set_then_clear(Event, scale):
    """set() and at once clear(): every waiter returns True"""
    event = Event()
    for _ in range(int(20 * scale)):
        answers = []
        threads = start_waiters(event, 8, answers, 20)
        event.set()
        event.clear()
        join_all(threads)
        assert answers == [True] * 8


def meet(turn, me, other, i):
    """Come to step *i* with the other thread, or nearly so: a thread that only reads a list may keep others from writing it."""
    turn[me] = i
    for _ in range(2000):
        if turn[other] >= i:
            break


@fault
def clear_then_look_for_work(Event, scale):
    """clear(), look for work, wait if there is none, against: make work, set(). One of the two sees the other"""
    count, lost = 500, 0
    for _ in range(int((20 if HAS_GIL else 1500) * scale)):  # a matter of nanoseconds, and without the GIL only
        events, work, found = [Event() for _ in range(count)], [False] * count, [False] * count
        for event in events:
            event.set()
        turn = [-1, -1]
        barrier = threading.Barrier(2)

        def produce(events=events, work=work, turn=turn, barrier=barrier):
            barrier.wait()
            for i, event in enumerate(events):
                meet(turn, 1, 0, i)
                work[i] = True
                event.set()

        (thread,) = start_all(produce)
        sys.setswitchinterval(1e-6)
        barrier.wait()
        for i, event in enumerate(events):
            meet(turn, 0, 1, i)
            event.clear()
            found[i] = work[i]
        join_all([thread])
        sys.setswitchinterval(0.005)
        lost += sum(not found[i] and not event.is_set() for i, event in enumerate(events))
    assert not lost, f"{lost} wake-ups lost"


@fault
def races_of_everything(Event, scale):
    """set(), clear(), timed and untimed waits in nine threads at a tiny switch interval: nothing is stuck, nothing lost"""
    sys.setswitchinterval(1e-6)
    event, stop, turns = Event(), [], []

    def sets():
        while not stop:
            event.set()

    def clears():
        while not stop:
            event.clear()

    def waits():
        while not stop:
            event.wait(1e-5)

    def waits_for_ever():
        while not stop:
            assert event.wait() is True
            turns.append(1)

    threads = start_all(sets, sets, clears, clears, waits, waits, waits_for_ever, waits_for_ever, waits_for_ever)
    time.sleep(3 * scale)
    stop.append(True)
    time.sleep(0.1)
    event.set()
    join_all(threads)
    assert turns
    sys.setswitchinterval(0.005)
    check_it_works(event)


@fault
def ten_thousand_waiters(Event, scale):
    """10,000 threads wait for one event and one set() wakes them"""
    before = threading.stack_size(256 * 1024)
    event, answers = Event(), []
    try:
        # Free-threaded 3.15 maps eight areas of memory for each thread, and Linux gives a process 65,530.
        threads = start_waiters(event, int((10_000 if HAS_GIL or sys.version_info < (3, 15) else 6_000) * scale), answers)
    finally:
        threading.stack_size(before)
    event.set()
    event.clear()
    join_all(threads, 200)  # without the GIL, so many threads of any kind take a minute and more to end
    assert answers == [True] * len(threads)
    check_it_works(event)


@fault
def many_waiters_that_leave(Event, scale):
    """Of 300 threads that wait, some leave by a timeout and the main thread by an exception, as set() and clear() come"""
    event, answers, armed, caught = Event(), [], [], 0

    class Interrupted(BaseException):
        pass

    def handler(*_):
        if armed:
            armed.clear()
            raise Interrupted

    signal.signal(signal.SIGALRM, handler)
    for round_ in range(int(20 * scale) or 1):
        threads = start_waiters(event, 100, answers)
        threads += start_waiters(event, 50, timeout=0.001 * round_)
        threads += start_waiters(event, 100, answers)
        sets = threading.Timer(0.002 * round_, lambda: (event.set(), event.clear()))
        sets.start()
        armed.append(True)
        try:
            # Again and again: a signal that comes just before a call blocks, or to another thread, does not end the call.
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.002 * round_, 0.005)
            while True:
                event.wait(20)
        except Interrupted:
            caught += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        join_all([sets, *threads])
    assert caught and answers == [True] * len(answers)
    check_it_works(event)
