"""What goes wrong around an event: each fault as a program, for any class with the methods of `threading.Event`.

    python tests/faults.py NAME [MODULE:CLASS [SCALE]]

runs one in this interpreter: exit code 0 and nothing printed if the event stood it. Some faults hang or crash what is not made
for them, so each runs in a process of its own, with a limit: `test_faults.py` runs all of them over both cores, `make faults`
over the peers, too. SCALE multiplies what a fault does often; 1 is what the tests take.
"""

import faulthandler
import gc
import importlib
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import weakref
from functools import partial
from math import inf

FAULTS = {}


def fault(function):
    FAULTS[function.__name__] = function
    return function


def joined(threads, limit=100.0):
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    stuck = sum(thread.is_alive() for thread in threads)
    assert not stuck, f"{stuck} of {len(threads)} threads hang"


def started(*functions):
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def waiting(event, count, answers=None, timeout=None):
    """Start *count* threads that wait for *event*, and give them the time to come to it."""
    answers, there = [] if answers is None else answers, []

    def wait():
        there.append(True)
        answers.append(event.wait() if timeout is None else event.wait(timeout))

    threads = started(*[wait] * count)
    while len(there) < count:
        time.sleep(0.001)
    time.sleep(0.1 + count / 10_000)  # from there into the call
    return threads


def as_good_as_new(event):
    """Check that nothing of the fault is left in *event*."""
    event.clear()
    assert not event.is_set()
    start = time.monotonic_ns()
    assert event.wait(0.01) is False
    assert time.monotonic_ns() - start >= 10_000_000
    answers = []
    threads = waiting(event, 2, answers)
    event.set()
    joined(threads)
    assert answers == [True, True] and event.is_set()


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


# Signals


@fault
def signal_storm(Event, scale):
    """A signal handler calls set(), clear() and is_set() at 2 kHz while the main thread is in every method, for 10 s"""
    event, fired, calls = Event(), [], 0

    def handler(*_):
        fired.append(1)
        event.set()
        event.is_set()
        event.clear()
        event.is_set()
        event.set()

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    end = time.monotonic() + 10 * scale
    while time.monotonic() < end:
        every_method(event)
        event.clear()
        assert event.wait(5)  # the next signal sets it
        calls += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(fired) > 1000 * scale and calls > 100 * scale, (len(fired), calls)
    as_good_as_new(event)


@fault
def handler_releases_its_own_wait(Event, scale):
    """A handler calls set() and clear() in the midst of the wait() that it interrupts"""
    event = Event()

    def handler(*_):
        event.set()
        event.clear()

    signal.signal(signal.SIGALRM, handler)
    for _ in range(20):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert event.wait() is True
    as_good_as_new(event)


@fault
def ctrl_c(Event, scale):
    """Ctrl-C in wait(), with and without a timeout, while other threads wait, too"""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
    event, answers = Event(), []
    others = waiting(event, 3, answers)
    main = threading.get_ident()
    for timeout in (None, 30.0, 1e6):
        timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        start = time.monotonic()
        try:
            event.wait(timeout)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("not interrupted")
        assert time.monotonic() - start < 20
        timer.join()
    event.set()
    joined(others)
    assert answers == [True] * 3
    as_good_as_new(event)


@fault
def handlers_that_raise(Event, scale):
    """A handler raises at a random moment of any method, thousands of times"""
    event = Event()

    class Interrupted(Exception):
        pass

    def handler(*_):
        if armed:
            raise Interrupted

    armed, caught = False, 0
    signal.signal(signal.SIGALRM, handler)
    end = time.monotonic() + 3 * scale
    while time.monotonic() < end:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + caught % 37 * 1e-5)
            while True:
                event.wait(0.0002)
                event.set()
                event.wait()
                event.clear()
        except Interrupted:
            armed = False
            caught += 1
    assert caught > 100 * scale, caught
    as_good_as_new(event)


# Finalizers


@fault
def finalizers(Event, scale):
    """set() from `__del__` and from weakref callbacks, while a collection is forced at any allocation"""
    event = Event()

    class Owner:
        def __del__(self):
            event.set()
            event.clear()
            event.set()

    callbacks = []
    stop = threading.Event()

    def waits():
        while not stop.is_set():
            event.wait(0.001)
            event.clear()

    threads = started(waits, waits)
    cpython = sys.implementation.name == "cpython"
    if cpython:
        thresholds = gc.get_threshold()
        gc.set_threshold(1)
    for _ in range(int(3000 * scale)):
        owner = Owner()
        owner.me = owner
        reference = weakref.ref(owner, lambda _: (event.set(), callbacks.append(1)))
        del owner
        event.wait(0.0)
        event.set()
        event.clear()
    if cpython:
        gc.set_threshold(*thresholds)
    stop.set()
    joined(threads)
    while reference() is not None or not callbacks:
        gc.collect()
    as_good_as_new(event)


# Forks


def in_child(function):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)
            function()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@fault
def fork_with_waiters(Event, scale):
    """A fork while threads wait; the child waits for and sets the same event"""
    event, answers = Event(), []
    threads = waiting(event, 5, answers)
    assert in_child(lambda: as_good_as_new(event)) == 0
    assert not event.is_set()
    event.set()
    joined(threads)
    assert answers == [True] * 5


@fault
def fork_in_the_midst(Event, scale):
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

    threads = started(sets, sets, waits, waits)
    assert {in_child(child) for _ in range(int(1000 * scale))} == {0}
    stop.append(True)
    joined(threads)
    as_good_as_new(event)


@fault
def fork_in_a_nested_wait(Event, scale):
    """A handler's wait() in the midst of a wait() is interrupted by a fork; one set() in the child ends both"""
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
            started(sets)

    def interrupts():
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            time.sleep(0.2)
            os.kill(parent, number)
        sets()  # on PyPy, the second handler runs only when the first is through

    signal.signal(signal.SIGUSR1, waits)
    signal.signal(signal.SIGUSR2, forks)
    others = waiting(event, 3)
    started(interrupts)
    waits()
    if os.getpid() != parent:
        os._exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 42
    joined(others)
    as_good_as_new(event)


@fault
def fork_while_a_herd_is_woken(Event, scale):
    """A fork by a handler in wait(), while another thread's set() is on its way to it: the child's wait() ends"""
    sys.setswitchinterval(0.5)  # who sets keeps the GIL from the signal to the set(), if its set() keeps it at all
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
        others = waiting(event, 100)
        started(interrupts_and_sets)
        event.wait()
        if os.getpid() != parent:
            os._exit(42)
        while not pids:
            time.sleep(0.001)
        assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 42
        joined(others)
    sys.setswitchinterval(0.005)
    as_good_as_new(event)


def _use_in_process(Event):
    as_good_as_new(Event())


@fault
def multiprocessing_children(Event, scale):
    """Processes of multiprocessing, by fork and by forkserver, while threads wait"""
    event, answers = Event(), []
    threads = waiting(event, 3, answers)
    for method in ("fork", "forkserver"):
        context = multiprocessing.get_context(method)
        processes = [context.Process(target=_use_in_process, args=(Event,)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(40)
        assert [process.exitcode for process in processes] == [0, 0, 0]
    event.set()
    joined(threads)
    assert answers == [True] * 3


# The end


@fault
def exit_while_daemons_wait(Event, scale):
    """250 exits of the interpreter while daemon threads wait, with events in globals and in cycles with finalizers"""
    code = f"""if True:
        import threading, time, importlib, sys
        sys.path[:0] = {[path for path in sys.path if path]!r}
        Event = getattr(importlib.import_module({Event.__module__!r}), {Event.__qualname__!r})
        event, timed = Event(), Event()
        class Last:
            def __del__(self):
                event.set(); timed.set()
        last = Last(); last.me = last
        class Holder: pass
        holder = Holder(); holder.event = Event(); holder.me = holder
        for _ in range(4):
            threading.Thread(target=event.wait, daemon=True).start()
            threading.Thread(target=timed.wait, args=(0.003,), daemon=True).start()
        time.sleep(0.003)
    """
    for _ in range(int(250 * scale) // 2):
        pair = [
            subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
        ]
        for process in pair:
            assert process.communicate(timeout=100) == (b"", b"")
            assert process.returncode == 0, process.returncode


# Crowds


@fault
def ten_thousand_waiters(Event, scale):
    """10,000 threads wait for one event and one set() wakes them"""
    before = threading.stack_size(256 * 1024)
    event, answers = Event(), []
    try:
        threads = waiting(event, int(10_000 * scale), answers)
    finally:
        threading.stack_size(before)
    event.set()
    event.clear()
    joined(threads)
    assert answers == [True] * len(threads)
    as_good_as_new(event)


#: PyPy's heap and compiled code grow by some tens of megabytes before they settle.
FLAT = (8 if sys.implementation.name == "cpython" else 160) << 20


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@fault
def a_million_events(Event, scale):
    """1,000,000 events made, set and dropped: memory stays flat"""

    def make(count):
        for _ in range(count):
            event = Event()
            event.set()

    make(10_000)
    before = resident()
    make(int(1_000_000 * scale))
    gc.collect()
    assert resident() - before < FLAT, resident() - before


@fault
def timed_out_waits(Event, scale):
    """50,000 waits that time out, in four threads: memory stays flat"""
    event = Event()

    def waits(count):
        for _ in range(count):
            assert event.wait(1e-6) is False

    waits(2_000)
    before = resident()
    joined(started(*[lambda: waits(int(12_500 * scale))] * 4), 300 * scale)
    gc.collect()
    assert resident() - before < FLAT, resident() - before
    as_good_as_new(event)


# Time


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

    joined(started(*[waits] * 8), 60 * scale)
    assert not early, early[:10]


@fault
def clock_jumps(Event, scale):
    """The system clock is set hours back and forth, a thousand times, while threads wait: no effect

    Needs faketime, which changes the time that this process reads, not the system's: a lock that waits already sees no jump.
    The locks of CPython 3.10 and of PyPy wait for a moment of the system clock, so there a wait with a timeout may last as
    long as that is set back: nothing of ours can help, and what is checked there is that no wait is early.
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
    threads = started(*[partial(waits, event, timeout) for timeout in (0.0003, 0.001, 0.01, 0.05)])
    for _ in range(int(500 * scale)):
        for hours in (5, -5):
            before = time.time()
            jump(hours)
            assert abs(time.time() - before) > 3600, "the clock does not jump"
            select.select([], [], [], 0.001)  # faketime breaks a sleep() during which the clock is set
            assert [it.check_timeout() for it in timed] in ([], [False, True])
    stop.append(True)
    if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
        event.set()
    joined(threads)
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


@fault
def set_then_clear(Event, scale):
    """set() and at once clear(): everyone who waited returns True"""
    event = Event()
    for _ in range(int(20 * scale)):
        answers = []
        threads = waiting(event, 8, answers, 20)
        event.set()
        event.clear()
        joined(threads)
        assert answers == [True] * 8


def meet(turn, me, other, i):
    """Come to step *i* with the other thread, or nearly so: who reads a list for ever can keep the other from writing it."""
    turn[me] = i
    for _ in range(2000):
        if turn[other] >= i:
            break


@fault
def clear_then_look_for_work(Event, scale):
    """clear(), look for work, wait if there is none, against: make work, set(). One of the two sees the other"""
    count, lost = 500, 0
    with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    for _ in range(int((20 if with_gil else 1500) * scale)):  # a matter of nanoseconds, and without the GIL only
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

        (thread,) = started(produce)
        sys.setswitchinterval(1e-6)
        barrier.wait()
        for i, event in enumerate(events):
            meet(turn, 0, 1, i)
            event.clear()
            found[i] = work[i]
        joined([thread])
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

    threads = started(sets, sets, clears, clears, waits, waits, waits_for_ever, waits_for_ever, waits_for_ever)
    time.sleep(3 * scale)
    stop.append(True)
    time.sleep(0.1)
    event.set()
    joined(threads)
    assert turns
    sys.setswitchinterval(0.005)
    as_good_as_new(event)


if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is what is tested
    name, path, scale = (*sys.argv[1:], *("fastevent:Event", "1")[len(sys.argv) - 2 :])
    module, _, attribute = path.partition(":")
    try:
        FAULTS[name](getattr(importlib.import_module(module), attribute), float(scale))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # its handler does not outlive the interpreter
