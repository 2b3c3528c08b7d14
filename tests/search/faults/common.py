"""What the faults have in common."""

import os
import sys
import threading
import time

FAULTS = {}


def fault(function):
    FAULTS[function.__name__] = function
    return function


def join_all(threads, limit=100.0):
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    stuck = sum(thread.is_alive() for thread in threads)
    assert not stuck, f"{stuck} of {len(threads)} threads hang"


def start_all(*functions):
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def start_waiters(event, count, answers=None, timeout=None):
    """Start *count* threads that wait for *event*, and give them the time to come to it."""
    answers, ready = [] if answers is None else answers, []

    def wait():
        ready.append(True)
        answers.append(event.wait() if timeout is None else event.wait(timeout))

    threads = start_all(*[wait] * count)
    while len(ready) < count:
        time.sleep(0.001)
    if hasattr(event, "status"):
        while event.status().waiters < count:
            time.sleep(0.001)
    else:
        time.sleep(0.1 + count / 10_000)  # from there into the call
    return threads


def check_it_works(event):
    """Check that nothing of the fault is left in *event*."""
    event.clear()
    assert not event.is_set()
    start = time.monotonic_ns()
    assert event.wait(0.01) is False
    assert time.monotonic_ns() - start >= 10_000_000
    answers = []
    threads = start_waiters(event, 2, answers)
    event.set()
    join_all(threads)
    assert answers == [True, True] and event.is_set()
    if hasattr(event, "check_subscribers"):  # a `watched.Watched`
        event.check_subscribers()


def every_method(event):
    event.clear()
    event.wait(0.0005)
    event.set()
    event.is_set()
    event.wait()
    event.clear()
    event.is_set()
    event.wait(0.0)
    repr(event)


#: PyPy's heap and compiled code grow by some tens of megabytes before they settle.
FLAT = (8 if sys.implementation.name == "cpython" else 160) << 20


def resident():
    """Return how many bytes of memory this process has; on macOS, the most it ever had."""
    if sys.platform == "win32":
        from ctypes import byref, c_size_t, c_void_p, sizeof, windll

        counters = (c_size_t * 10)()  # the third of them, in a 64-bit process, is the size of the working set
        assert windll.psapi.GetProcessMemoryInfo(c_void_p(-1), byref(counters), sizeof(counters))
        return counters[2]
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
