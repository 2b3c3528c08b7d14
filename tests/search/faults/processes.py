"""Faults of an event that several processes share: for any class whose events may be arguments of a forked process."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

from faults.common import join_all, start_all

PROCESS_FAULTS = {}
LIMIT = 100.0

#: How `multiprocessing` starts a process.
context = multiprocessing.get_context(os.environ.get("METHOD", "fork" if hasattr(os, "fork") else None))


def process_fault(function):
    PROCESS_FAULTS[function.__name__] = function
    return function


def start(target, *arguments):
    """Start a process. Return it with this end of a pipe, once it says that it runs."""
    here, there = context.Pipe()
    process = context.Process(target=target, args=(*arguments, there))
    process.start()
    there.close()
    assert here.poll(LIMIT) and here.recv() == "runs"
    time.sleep(0.1)  # from there into the call
    return process, here


def woken(process, connection):
    assert connection.poll(LIMIT) and connection.recv() == "woken", "a process is not woken"
    process.join(LIMIT)
    assert process.exitcode == 0


def kill(process):
    process.kill()
    process.join()


def waits(event, connection):
    connection.send("runs")
    event.wait()
    connection.send("woken")


def polls(event, connection):
    connection.send("runs")
    while not event.is_set():
        pass


def sets(event, connection):
    connection.send("runs")
    while True:
        event.set()


@process_fault
def killed_in_wait(Event, scale):
    """A process is killed in wait(): set() returns, and another process is woken"""
    for _ in range(int(10 * scale) or 1):
        event = Event()
        (killed, _), other = start(waits, event), start(waits, event)
        kill(killed)
        event.set()
        woken(*other)


@process_fault
def killed_in_is_set(Event, scale):
    """20 processes that poll are killed, one by one: set() returns, and another process is woken"""
    for _ in range(int(20 * scale) or 1):
        event = Event()
        (killed, _), other = start(polls, event), start(waits, event)
        kill(killed)
        event.set()
        woken(*other)


@process_fault
def killed_in_set(Event, scale):
    """20 processes that call set() are killed, one by one: the event can still be set, polled and waited for"""
    for _ in range(int(20 * scale) or 1):
        event = Event()
        kill(start(sets, event)[0])
        event.set()
        assert event.is_set()
        woken(*start(waits, event))


@process_fault
def stopped_in_wait(Event, scale):
    """A process is stopped in wait(), as by a debugger: set() returns, and another process is woken"""
    event = Event()
    stopped, other = start(waits, event), start(waits, event)
    os.kill(stopped[0].pid, signal.SIGSTOP)
    event.set()
    woken(*other)
    os.kill(stopped[0].pid, signal.SIGCONT)
    woken(*stopped)


def makes(Event, connection):
    event = Event()
    context.Process(target=waits, args=(event, connection)).start()
    signal.pause()


@process_fault
def maker_is_killed(Event, scale):
    """The process that made it is killed while another one waits: the wait() ends"""
    maker, connection = start(makes, Event)
    kill(maker)
    assert connection.poll(LIMIT) and connection.recv() == "woken"


def sets_and_exits(event):
    event.set()
    os._exit(0)


@process_fault
def sets_and_exits_at_once(Event, scale):
    """100 processes set one each and end by os._exit(): all are set"""
    for _ in range(int(100 * scale) or 1):
        event = Event()
        setter = context.Process(target=sets_and_exits, args=(event,))
        setter.start()
        assert event.wait(LIMIT)
        setter.join()


@process_fault
def set_in_a_handler_in_wait(Event, scale):
    """A signal handler calls set() during the wait() that it interrupts"""
    for _ in range(int(10 * scale) or 1):
        event = Event()
        signal.signal(signal.SIGALRM, lambda *_, event=event: event.set())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        event.wait()
        assert event.is_set()


def uses(event, connection):
    connection.send("runs")
    event.is_set()
    event.wait(0.001)
    event.set()
    assert event.wait(LIMIT)
    connection.send("woken")


@process_fault
def forks_while_threads_use_it(Event, scale):
    """50 forks while other threads call set(), is_set() and wait(); each child uses the event"""
    event, stop = Event(), []

    def uses_here():
        while not stop:
            event.is_set()
            event.set()
            event.wait()

    threads = start_all(uses_here, uses_here)
    for _ in range(int(50 * scale) or 1):
        woken(*start(uses, event))
    stop.append(True)
    join_all(threads)


@process_fault
def argument_of_a_task(Event, scale):
    """It is an argument of a task of a ProcessPoolExecutor"""
    event = Event()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        task = pool.submit(wait_for, event)
        event.set()
        assert task.result(LIMIT)


def wait_for(event):
    return event.wait(LIMIT)
