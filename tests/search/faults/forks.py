"""Forks."""

import multiprocessing
import os
import signal
import sys
import threading
import time

from helpers import in_child

from faults.common import check_it_works, fault, join_all, start_all, start_waiters


@fault
def fork_with_waiters(Event, scale):
    """A fork while threads wait; the child waits for and sets the same event"""
    event, answers = Event(), []
    threads = start_waiters(event, 5, answers)
    assert in_child(lambda: check_it_works(event)) == 0
    assert not event.is_set()
    event.set()
    join_all(threads)
    assert answers == [True] * 5


@fault
def forks_during_every_method(Event, scale):
    """1,000 forks while other threads call set(), clear() and wait(); each child uses the event"""
    event, stop = Event(), []

    def sets():
        while not stop:
            event.set()
            event.clear()
            time.sleep(1e-5)

    def waits():
        while not stop:
            event.wait(0.0005)

    def child():
        event.clear()
        assert event.wait(0.0001) is False
        event.set()
        assert event.wait(5)

    threads = start_all(sets, sets, waits, waits)
    assert {in_child(child) for _ in range(int(1000 * scale))} == {0}
    stop.append(True)
    join_all(threads)
    check_it_works(event)


@fault
def fork_in_a_nested_wait(Event, scale):
    """A handler's wait() during a wait() is interrupted by a fork; one set() in the child ends both"""
    event, parent, pids = Event(), os.getpid(), []

    def waits(*_):
        assert event.wait() in (True, None)

    def sets():
        time.sleep(0.2)
        event.set()

    def forks(*_):
        pids.append(os.fork())
        if pids[-1] == 0:
            signal.alarm(20)
            start_all(sets)

    def interrupts():
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            time.sleep(0.2)
            os.kill(parent, number)
        sets()  # on PyPy, the second handler runs only when the first is through

    signal.signal(signal.SIGUSR1, waits)
    signal.signal(signal.SIGUSR2, forks)
    others = start_waiters(event, 3)
    start_all(interrupts)
    waits()
    if os.getpid() != parent:
        os._exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 42
    join_all(others)
    check_it_works(event)


@fault
def fork_while_many_are_woken(Event, scale):
    """A fork by a handler in wait(), while another thread's set() is on its way to it: the child's wait() ends"""
    sys.setswitchinterval(0.5)  # the thread that sets keeps the GIL from the signal to the set()
    for _ in range(int(10 * scale) or 1):
        event, parent, pids = Event(), os.getpid(), []

        def forks(*_, event=event, pids=pids):
            pids.append(os.fork())
            if pids[-1] == 0:
                signal.alarm(20)
                threading.Timer(0.2, event.set).start()  # the other one may have come too late for this process

        def interrupts_and_sets(event=event):
            time.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            event.set()

        signal.signal(signal.SIGUSR1, forks)
        others = start_waiters(event, 100)
        start_all(interrupts_and_sets)
        event.wait()
        if os.getpid() != parent:
            os._exit(42)
        while not pids:
            time.sleep(0.001)
        assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 42
        join_all(others)
    sys.setswitchinterval(0.005)
    check_it_works(event)


@fault
def forks_while_many_are_woken(Event, scale):
    """Another thread forks again and again while set() wakes 200 waiters; all of them return, and each child uses the event"""
    event = Event()
    for _ in range(int(10 * scale) or 1):
        answers, statuses = [], []
        threads = start_waiters(event, 200, answers)

        def forks(threads=threads, statuses=statuses):
            while any(thread.is_alive() for thread in threads) or not statuses:
                statuses.append(in_child(lambda: check_it_works(event)))

        (forking,) = start_all(forks)
        event.set()
        join_all([*threads, forking])
        assert answers == [True] * 200 and set(statuses) == {0}
        event.clear()
    check_it_works(event)


def _use_in_process(Event):
    check_it_works(Event())


@fault
def multiprocessing_children(Event, scale):
    """Processes of multiprocessing, by fork and by forkserver, while threads wait"""
    event, answers = Event(), []
    threads = start_waiters(event, 3, answers)
    for method in ("fork", "forkserver"):
        context = multiprocessing.get_context(method)
        processes = [context.Process(target=_use_in_process, args=(Event,)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(40)
        assert [process.exitcode for process in processes] == [0, 0, 0]
    event.set()
    join_all(threads)
    assert answers == [True] * 3
