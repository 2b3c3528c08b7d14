"""Signals and finalizers: what runs at any moment of a call."""

import gc
import signal
import sys
import threading
import time
import weakref

from faults.common import check_it_works, every_method, fault, join_all, start_all, start_waiters


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
    check_it_works(event)


@fault
def handler_releases_its_own_wait(Event, scale):
    """A handler calls set() and clear() during the wait() that it interrupts"""
    event = Event()

    def handler(*_):
        event.set()
        event.clear()

    signal.signal(signal.SIGALRM, handler)
    for _ in range(20):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert event.wait() is True
    check_it_works(event)


@fault
def ctrl_c(Event, scale):
    """Ctrl-C in wait(), with and without a timeout, while other threads wait, too"""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
    event, answers = Event(), []
    others = start_waiters(event, 3, answers)
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
    join_all(others)
    assert answers == [True] * 3
    check_it_works(event)


@fault
def handlers_that_raise(Event, scale):
    """A handler raises at a random moment of any method, thousands of times"""
    event = Event()

    class Interrupted(BaseException):  # as KeyboardInterrupt is: an Exception in a callback would be logged
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
    check_it_works(event)


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

    threads = start_all(waits, waits)
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
    join_all(threads)
    while reference() is not None or not callbacks:
        gc.collect()
    check_it_works(event)
