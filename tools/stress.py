"""Every operation of an event, from many threads at once, for a number of seconds: what valgrind and the sanitizers watch.

    PYTHONPATH=tests python tools/stress.py 10

The exit code is 0 if no wake-up was lost and every forked child went on well.
"""

import faulthandler
import os
import sys
import threading
import time
import warnings

from helpers import TIMEOUT, Threads

from fastevent import IMPLEMENTATION, Event, EventCancelled, wait_any


class Derived(Event):
    """Made by the interpreter's way, not by the short one."""

    def __init__(self, timeout):
        super().__init__(timeout)


# Its timeout is never None, so a wait without one ends after the last set(), too.
shared = Event(0.001)
ping, pong = Event(), Event()
latest = [Event(0.001)]
handing_over = threading.Lock()  # not for the events: 3.13t reads a list without a lock, and TSan reports that
finished = []
asked = []  # once nobody asks any more


def repeat(function):
    def until_finished():
        while not finished:
            function()

    return until_finished


def newest():
    with handing_over:
        return latest[0]


def sets():
    shared.set()
    shared.clear()
    newest().set()


def waits():
    shared.wait()
    for timeout in (0, 1e-9, 1e-5, 0.0003, 1):
        shared.wait(timeout)
    newest().wait(0.0001)


def polls():
    for event in (shared, newest()):
        event.is_set(), event.flag, event.check_timeout(), event._fe_period(), repr(event)


def initialises_again():
    shared.__init__(0.001)
    shared.__init__(timeout=2)
    shared.__init__(0.0005)


def makes():
    Event(), Event(1), Event(timeout=None), Derived(5).set()
    with handing_over:
        latest[0] = Event(timeout=0.001)


def gives_reasons():
    shared.set(["why"])
    shared.reason, shared.status(), repr(shared)
    try:
        shared.check()
    except EventCancelled:
        pass
    shared.clear()


def subscribes():
    registration = shared.add_callback(repr)
    child = Event(parents=[shared, newest()])
    wait_any([child, shared], 0.0002)
    child.clear()
    registration.remove()


def expires():
    event = Event(0.0005, set_on_timeout=True)
    child = event.child(TIMEOUT, name="child")
    event.add_callback(repr)
    assert child.wait(TIMEOUT), "lost: the timeout of the parent"
    event.clear()
    event.restart_timeout(0.0001)
    assert event.wait(TIMEOUT), "lost: the restarted timeout"


def restarts():
    shared.restart_timeout(0.0005)
    shared.restart_timeout()
    newest().restart_timeout(0.01)


def wakes_many():
    event, woken = Event(), []
    threads = [threading.Thread(target=lambda: woken.append(event.wait(TIMEOUT))) for _ in range(50)]
    for thread in threads:
        thread.start()
    while event.status().waiters < 50:
        time.sleep(0.001)
    event.set()
    event.clear()
    for thread in threads:
        thread.join(TIMEOUT)
    assert woken == [True] * 50, f"lost: of 50 waiters, {woken.count(False)} timed out and {50 - len(woken)} wait still"


def refuses():
    for attempt in (lambda: Event(-1), lambda: Event(1, 2), lambda: Event(1).wait("1"), lambda: Event(seconds=1)):
        try:
            attempt()
        except (TypeError, ValueError):
            continue
        raise AssertionError("accepted")


def asks():
    try:
        while not finished:
            ping.set()
            assert pong.wait(TIMEOUT), "lost: pong"
            pong.clear()
    finally:
        asked.append(True)


def answers():
    while not asked:
        if ping.wait(0.01):
            ping.clear()
            pong.set()


def forks():
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            shared.clear()
            assert shared.wait(0.0005) is False
            shared.set()
            assert shared.wait(TIMEOUT)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "lost in a child"
    time.sleep(0.05)


def main(seconds):
    assert IMPLEMENTATION == "c"
    warnings.simplefilter("ignore")  # that a process with threads forks is what is tested
    sys.setswitchinterval(1e-5)
    work = [sets, sets, waits, waits, waits, waits, polls, initialises_again, makes, refuses]
    work += [gives_reasons, subscribes, expires, restarts, wakes_many]
    # Without the GIL, locks of CPython itself may stay locked in the child of a process with threads: it hangs in os.fork().
    if hasattr(os, "fork") and getattr(sys, "_is_gil_enabled", lambda: True)():
        work.append(forks)
    faulthandler.dump_traceback_later(seconds + TIMEOUT / 2)  # of a thread that hangs
    with Threads(*map(repeat, work), asks, answers):
        time.sleep(seconds)
        finished.append(True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 20.0)
