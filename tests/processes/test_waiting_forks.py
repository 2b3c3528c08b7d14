"""Forks during `wait()`: the child forgets the waiters of its parent, and goes on with its own."""

import os

import pytest
from helpers import HAS_GIL, python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def test_a_child_forgets_the_waiters_of_its_parent(core):
    def program():
        import threading
        import warnings

        from helpers import in_child, until_waiting

        from fastevent import Event

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested

        event, answers = Event(), []
        threads = [threading.Thread(target=lambda: answers.append(event.wait())) for _ in range(5)]
        for thread in threads:
            thread.start()
        until_waiting(event, 5)

        def child():
            assert event.status().waiters == 0
            assert event.wait(0.01) is False
            thread = threading.Thread(target=event.wait)
            thread.start()
            until_waiting(event)
            event.set()
            thread.join()
            event.clear()
            event._at_fork_reinit()
            assert event.wait(0.01) is False

        print(in_child(child), in_child(child), event.is_set(), end=" ")
        event.set()
        for thread in threads:
            thread.join()
        print(answers)

    assert python(program, core) == "0 0 False [True, True, True, True, True]\n"


def test_a_child_forgets_other_waits_of_its_parent(core):
    """By wait_any() and in tasks. Otherwise each set() there would put a call into a loop that does not run."""

    def program():
        import asyncio
        import threading
        import warnings

        from helpers import in_child, until, until_waiting

        from fastevent import Event, wait_any

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested

        event = Event()

        async def waits():
            await event.wait_async()

        threads = [threading.Thread(target=wait_any, args=([event],)), threading.Thread(target=lambda: asyncio.run(waits()))]
        for thread in threads:
            thread.start()
        until_waiting(event, 2)

        def child():
            assert event.status().waiters == 0
            threading.Thread(target=wait_any, args=([event, Event()],)).start()
            until_waiting(event)
            assert len(event._fe_wakers) == 3
            event.set()
            until(lambda: not event._fe_wakers)

        print(in_child(child), end=" ")
        event.set()
        for thread in threads:
            thread.join()
        print(len(event._fe_wakers))

    assert python(program, core) == "0 0\n"


def test_a_forked_wait_is_woken_in_the_child(core):
    """A handler forks during the wait. A set() in the child must wake it, after the parent's other waiters are forgotten."""

    def program():
        import os
        import signal
        import threading
        import time
        import warnings

        from helpers import until_waiting

        from fastevent import Event

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested

        event, pids = Event(), []
        other = threading.Thread(target=event.wait)
        other.start()
        until_waiting(event)
        parent = os.getpid()

        def handler(*_):
            pids.append(os.fork())
            if pids[0] == 0:
                signal.alarm(30)

                def later():
                    time.sleep(0.2)
                    event.set()
                    event.clear()

                threading.Thread(target=later).start()

        signal.signal(signal.SIGUSR1, handler)
        threading.Timer(0.2, os.kill, (parent, signal.SIGUSR1)).start()
        if pids or event.wait(1):
            if os.getpid() != parent:
                os._exit(42)
        if os.getpid() != parent:
            os._exit(1)
        event.set()
        other.join()
        print(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))

    assert python(program, core) == "42\n"


@pytest.mark.parametrize("is_set", [True, False])
def test_a_forked_wait_ends_in_the_child(core, is_set):
    """By a set() there, though nothing else would end it; without one, not before its time. The other waiters are forgotten."""

    def program():
        import os
        import signal
        import sys
        import threading
        import warnings

        from helpers import until, until_waiting

        from fastevent import Event

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested

        is_set, event, pids, statuses, parent = sys.argv[1] == "True", Event(), [], [], os.getpid()

        def sets():
            until(lambda: event.status().waiters == 1)
            event.set()

        def handler(*_):
            pid = os.fork()
            if pid:
                pids.append(pid)
                return
            signal.alarm(30)
            if is_set:
                threading.Thread(target=sets).start()

        def ends():
            until_waiting(event, 3)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            until(lambda: pids)
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
            event.set()

        signal.signal(signal.SIGUSR1, handler)
        threads = [threading.Thread(target=target) for target in (event.wait, event.wait, ends)]
        for thread in threads:
            thread.start()
        until_waiting(event, 2)
        while not statuses:
            answer = event.wait(None if is_set else 0.5)
            if os.getpid() != parent:
                os._exit(42 if answer is is_set else 1)
        for thread in threads:
            thread.join()
        print(statuses)

    assert python(program, core, str(is_set)) == "[42]\n"


def test_a_pending_wait_ends_in_the_child(core):
    """The fork comes between the flag and the wake-up, and the thread that would have woken the waiter stays behind."""
    if core == "c":
        pytest.skip("nothing can come in between there but where a set() of many waiters lets others run: see proofs/")

    def program():
        import os
        import signal
        import warnings

        from fastevent import Event

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested

        from fastevent import _core_py

        event, pids = Event(), []

        class Stop(Exception):
            pass

        def handler(*_):
            _core_py._wake = lambda waiters, count: None
            event.set()
            pids.append(os.fork())
            if pids[0]:
                raise Stop
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            answer = event.wait()
            os._exit(42 if answer and pids == [0] else 1)
        except Stop:
            print(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))

    assert python(program, core) == "42\n"


@pytest.mark.parametrize("call", ["wait", "wait_any"])
def test_a_pending_set_ends_the_childs_wait(core, call):
    """A set() has many children to set before it comes to the waker of wait_any(), and a handler forks meanwhile."""

    def program():
        import os
        import signal
        import sys
        import threading
        import warnings

        from helpers import until, until_waiting

        from fastevent import Event, wait_any

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested
        event, entered = Event(), []

        class Slow(Event):
            def _fe_try_set(self, *arguments):
                entered.append(True)
                until(lambda: pids)
                super()._fe_try_set(*arguments)

        _child = Slow(parents=[event])
        parent, pids = os.getpid(), []

        def forks(*_):
            pids.append(os.fork())
            if pids[-1] == 0:
                signal.alarm(20)

        def interrupts():
            until(lambda: entered)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        def sets():
            until_waiting(event)
            event.set()

        signal.signal(signal.SIGUSR1, forks)
        threads = [threading.Thread(target=target) for target in (interrupts, sets)]
        for thread in threads:
            thread.start()
        event.wait() if sys.argv[1] == "wait" else wait_any([event])
        until(lambda: pids)
        if os.getpid() != parent:
            os._exit(42)
        for thread in threads:
            thread.join()
        print(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))

    assert python(program, core, call) == "42\n"


def test_a_thread_waits_before_our_fork_handler(core):
    """Functions for a fork run in the order in which they were registered, and one of them starts a thread that waits."""

    def program():
        import os
        import threading

        event, woken, threads = None, [], []

        def waits():
            woken.append(event.wait())

        def after_fork():
            threads.append(threading.Thread(target=waits, daemon=True))
            threads[0].start()
            until_waiting(event)

        os.register_at_fork(after_in_child=after_fork)
        import warnings

        from helpers import until_waiting

        warnings.simplefilter("ignore")
        from fastevent import Event

        event = Event()
        pid = os.fork()
        if pid == 0:
            event.set()
            threads[0].join(20)
            os._exit(42 if woken == [True] else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    assert python(program, core) == "42\n"


def test_a_reused_ident_is_no_waiter(core):
    """A thread of the child may get the ident of one that waited in the parent; when it forks, its child has no waiter."""

    def program():
        import os
        import threading
        import warnings

        from helpers import in_child, until_waiting

        from fastevent import Event

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested

        event = Event()
        waiter = threading.Thread(target=event.wait, daemon=True)
        waiter.start()
        until_waiting(event)
        counts = []

        def forks():
            counts.append(in_child(lambda: os._exit(10 + event.status().waiters)))

        def child():
            thread = threading.Thread(target=forks)
            thread.start()
            thread.join()
            os._exit(counts[0])

        print(in_child(child))
        event.set()
        waiter.join()

    assert python(program, core) == "10\n"


@pytest.mark.not_traced
def test_forks_while_other_threads_use_the_event(core):
    if core == "py" and not HAS_GIL:
        pytest.skip(
            "without the GIL, a dict that other threads use at the fork may stay locked in the child: no remedy in Python"
        )

    def program():
        import threading
        import warnings

        from helpers import in_child

        from fastevent import Event

        warnings.simplefilter("ignore")  # that a process with threads forks is what is tested

        event, stop = Event(), []

        def sets():
            while not stop:
                event.set()
                event.clear()

        def waits():
            while not stop:
                event.wait(0.0005)

        threads = [threading.Thread(target=work) for work in (sets, sets, waits, waits, waits)]
        for thread in threads:
            thread.start()

        def child():
            event.clear()
            assert event.wait(0.001) is False
            event.set()
            assert event.wait(5)

        print({in_child(child) for _ in range(100)})
        stop.append(1)
        for thread in threads:
            thread.join()

    assert python(program, core) == "{0}\n"
