"""Subinterpreters that use events, for programs that tests run."""

import os
import sys
import threading

from helpers import body

try:
    import _interpreters as interpreters

    run = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters

    run = interpreters.run_string


def script(implementation):
    import sys
    import threading

    import fastevent

    assert implementation in (None, fastevent.IMPLEMENTATION), fastevent.IMPLEMENTATION
    event = fastevent.Event(timeout=100)
    thread = threading.Thread(target=event.wait)
    thread.start()
    event.set()
    thread.join()
    assert event.flag and event.is_set() and not event.check_timeout()
    event.clear()
    assert not event.wait(0.001)

    has_timers = sys.version_info >= (3, 12)  # those of before cannot be destroyed while a thread of theirs lives
    child, later = event.child(), event.child(100 if has_timers else None)
    called = []
    event.add_callback(called.append)
    fastevent.Event.set(event, reason="why")
    assert child.reason == later.reason == "why" and called == [event]
    assert not has_timers or fastevent.Event(0, set_on_timeout=True).wait(100)

    class Last(fastevent.Event):
        def __del__(self):
            self.set()

    last = Last()
    last.itself = last
    last.add_callback(lambda event: None)
    chain = None
    for _ in range(1_000):
        link = fastevent.Event()
        link.set(chain)
        chain = link
    del chain, link  # all of them at once


def create(isolated=True):
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated" if isolated else "legacy")
    return interpreters.create(isolated=isolated and sys.version_info >= (3, 12))  # isolated ones of before run no threads


def use_events_in(name, implementation=None):
    """Use events in this interpreter, whose core must be that *implementation*, if any."""
    failure = run(name, body(script, f"implementation = {implementation!r}; import sys; sys.path[:] = {sys.path!r}"))
    assert failure is None, failure


def use_events(implementation=None, isolated=True):
    """Use events in a new interpreter."""
    name = create(isolated)
    use_events_in(name, implementation)
    interpreters.destroy(name)


def use_events_in_many(count, threads):
    """Use events in *count* interpreters one after the other, in each of so many *threads*."""
    failures = []

    def work():
        try:
            for _ in range(count):
                use_events()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures
    assert len(interpreters.list_all()) == 1


def memory_left(count):
    """Return how many bytes of memory each of *count* interpreters leaves that used events and ended."""
    for _ in range(5):
        use_events()
    before = resident()
    for _ in range(count):
        use_events()
    return (resident() - before) / count


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
