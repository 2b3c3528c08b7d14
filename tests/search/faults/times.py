"""Time."""

import os
import select
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from functools import partial
from math import inf

from faults.common import fault, join_all, start_all


@fault
def never_early(Event, scale):
    """wait(t) for t from 0 to 50 ms in eight threads: False never comes before its time"""
    event, early = Event(), []

    def waits():
        for _ in range(int(2 * scale)):
            for microseconds in range(0, 50_000, 313):
                start = time.monotonic_ns()
                if event.wait(microseconds / 1e6) is not False or time.monotonic_ns() - start < microseconds * 1000:
                    early.append(microseconds)

    join_all(start_all(*[waits] * 8), 60 * scale)
    assert not early, early[:10]


@fault
def clock_jumps(Event, scale):
    """The system clock is set hours back and forth, a thousand times, while threads wait: no effect

    Needs faketime, which changes the time that this process reads, not the system's: a lock that waits already sees no jump.
    The locks of CPython 3.10, of a CPython built for a libc without `sem_clockwait()` and of PyPy wait for a moment of the
    system clock, so there a wait with a timeout may last as long as that is set back: nothing of ours can help, and what is
    checked there is that no wait is early.
    """
    clock = os.environ.get("FAKETIME_TIMESTAMP_FILE")
    if clock is None:  # start over, where this file says how wrong the system clock is
        with tempfile.TemporaryDirectory() as folder:
            settings = f"FAKETIME_TIMESTAMP_FILE={folder}/clock", "FAKETIME_NO_CACHE=1"
            faked = "faketime", "-m", "--exclude-monotonic", "-f", "+0", "env", "-u", "FAKETIME", *settings
            raise SystemExit(subprocess.call([*faked, sys.executable, *sys.argv]))

    def jump(hours):
        with open(clock + ".new", "w") as new:
            new.write(f"{hours:+}h")
        os.replace(clock + ".new", clock)

    def waits(event, timeout):
        while not stop:
            start = time.monotonic_ns()
            if event.wait(timeout) is False and time.monotonic_ns() - start < timeout * 1e9:
                early.append(timeout)

    event, early, stop = Event(), [], []
    timed = [Event(3600), Event(0.001)] if hasattr(Event, "check_timeout") else []
    jump(0)
    threads = start_all(*[partial(waits, event, timeout) for timeout in (0.0003, 0.001, 0.01, 0.05)])
    for _ in range(int(500 * scale)):
        for hours in (5, -5):
            before = time.time()
            jump(hours)
            assert abs(time.time() - before) > 3600, "the clock does not jump"
            select.select([], [], [], 0.001)  # faketime breaks a sleep() during which the clock is set
            assert [it.check_timeout() for it in timed] in ([], [False, True])
    stop.append(True)
    if sys.version_info < (3, 11) or not sysconfig.get_config_var("HAVE_SEM_CLOCKWAIT"):
        event.set()
    join_all(threads)
    assert not early, early[:10]


@fault
def long_timeouts(Event, scale):
    """wait() with threading.TIMEOUT_MAX, above it, 1e300 and inf"""
    for timeout in (threading.TIMEOUT_MAX, threading.TIMEOUT_MAX + 1, threading.TIMEOUT_MAX * 4, 1e300, inf):
        event = Event()
        threading.Timer(0.05, event.set).start()
        assert event.wait(timeout) is True


@fault
def not_a_number(Event, scale):
    """wait() with a negative number is False at once, and NaN does not hang"""
    event = Event()
    assert event.wait(-1) is False and event.wait(-inf) is False
    try:
        assert event.wait(float("nan")) is False
    except ValueError:
        assert sys.version_info >= (3, 14)  # as threading.Event has it there
