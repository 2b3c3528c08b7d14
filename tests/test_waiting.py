"""Threads, signals, forks and the end of the interpreter: who waits is woken, once, and never early."""

import gc
import os
import sys
import time
import weakref

import pytest
from helpers import PATIENCE, Threads, in_wait, python

SECOND = 10**9

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and POSIX signals")


# Waking


@pytest.mark.parametrize("timeout", [None, 30, 1e9, float("inf")])
def test_set_wakes_who_waits(Event, timeout):
    event = Event()
    answers = []

    def waits():
        answers.append(event.wait(timeout))

    with Threads(waits, waits, waits):
        in_wait(3)
        event.set()
    assert answers == [True] * 3


def test_clear_takes_nothing_from_who_was_waiting(Event):
    event = Event()
    answers = []

    def waits():
        answers.append(event.wait(PATIENCE))

    for _ in range(8):
        answers.clear()
        with Threads(*[waits] * 5):
            in_wait(5)
            event.set()
            event.clear()
        assert answers == [True] * 5


def test_who_comes_after_a_clear_waits_anew(Event):
    event = Event()
    event.set()
    event.clear()
    assert event.wait(0.01) is False


def test_a_timed_out_waiter_leaves_the_others_alone(Event):
    event = Event()
    answers = {}

    def waits(timeout):
        def wait():
            answers[timeout] = event.wait(timeout)

        wait.__code__ = wait.__code__.replace(co_name="waits")
        return wait

    with Threads(*(waits(timeout) for timeout in (0.02, 40, 0.01, 50, 0.03))):
        time.sleep(0.2)
        event.set()
    assert answers == {0.02: False, 40: True, 0.01: False, 50: True, 0.03: False}


def test_waiters_of_two_events_do_not_meet(Event):
    first, second = Event(), Event()
    answers = []

    def waits():
        answers.append(("first", first.wait(PATIENCE)))
        answers.append(("second", second.wait(0.05)))

    with Threads(waits):
        in_wait(1)
        first.set()
    assert answers == [("first", True), ("second", False)]


@pytest.mark.parametrize("put_off", [1, 2])
def test_the_own_timeout_ends_a_wait_and_clear_puts_it_off(Event, put_off):
    timeout = 0.2
    while True:
        event, ended = Event(timeout), []

        def waits(event=event, ended=ended):
            assert event.wait() is False
            ended.append(time.monotonic_ns())

        with Threads(waits):
            in_wait(1)
            for _ in range(put_off):
                time.sleep(timeout / 4)
                event.clear()
            in_time = not ended
        if in_time:
            assert ended[0] - event._fe_period()[1] >= timeout * SECOND
            return
        timeout *= 4  # a loaded machine: the wait was over before the clear()


def test_what_is_written_before_set_is_seen_after_wait(Event, tiny_switch_interval):
    event, box = Event(), []

    def writes():
        for number in range(2000):
            box.append(number)
            event.set()
            while event.is_set():
                pass

    def reads():
        for number in range(2000):
            assert event.wait(PATIENCE)
            assert box[-1] == number
            event.clear()

    with Threads(writes, reads):
        pass


def test_ping_pong_loses_no_wakeup(Event, tiny_switch_interval):
    ping, pong = Event(), Event()

    def answers():
        for _ in range(5000):
            assert ping.wait(PATIENCE)
            ping.clear()
            pong.set()

    def asks():
        for _ in range(5000):
            ping.set()
            assert pong.wait(PATIENCE)
            pong.clear()

    with Threads(answers, asks):
        pass


def test_set_against_timeout_at_the_same_moment(Event, tiny_switch_interval):
    """A wait that times out while a set() wakes it: True or False, but never stuck, and the event is as good as before."""
    event = Event()
    stop = []

    def sets():
        while not stop:
            event.set()
            event.clear()

    def waits():
        for _ in range(1500):
            event.wait(1e-5)

    def waits_then_stops():
        waits()
        stop.append(True)

    with Threads(sets, sets, waits, waits, waits_then_stops):
        pass
    event.clear()
    assert event.wait(0.001) is False
    event.set()
    assert event.wait(0)


def test_a_herd_is_woken_whole(Event):
    event = Event()
    woken = []

    def waits():
        woken.append(event.wait())

    with Threads(*[waits] * 300):
        in_wait(300)
        event.set()
    assert woken == [True] * 300


@posix
def test_a_large_herd_wakes_its_own_and_nobody_who_comes_later(Event):
    """A set() of many waiters takes turns with them: who clears the event and waits anew in between must not be woken by it."""
    event, again = Event(), []

    def waits():
        assert event.wait(PATIENCE)
        event.clear()
        again.append(event.wait(0.3))

    with Threads(*[waits] * 200):
        in_wait(200)
        event.set()
    assert again == [False] * 200


def test_timed_out_waits_leave_no_memory_behind(Event):
    def waits(count):
        for _ in range(count):
            event.wait(1e-9)

    tracemalloc = pytest.importorskip("tracemalloc")
    event = Event()
    waits(1000)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    waits(20_000)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20_000  # less than a byte for each; what the interpreter itself keeps is some thousand in all


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="allocations of CPython fail")
def test_a_call_that_gets_no_memory_leaves_the_event_as_it_was(core):
    pytest.importorskip("_testcapi", reason="this interpreter cannot let an allocation fail")
    code = """if True:
        import _testcapi
        from fastevent import Event
        event, failed = Event(), set()
        def make(): Event(5)
        def wait(): event.wait(1e-9)
        for call in (make, wait):
            for allocation in range(3):
                _testcapi.set_nomemory(allocation, allocation + 1)
                try:
                    call()
                except (MemoryError, RuntimeError):  # the latter from Python's own lock
                    failed.add(call)
                finally:
                    _testcapi.remove_mem_hooks()
                assert event.wait(0.0001) is False
        event.set()
        print(len(failed), event.wait())
    """
    assert python(code, core) == "2 True\n"


# Reentrancy


def test_set_from_a_finalizer_and_a_weakref_callback(Event):
    event, other = Event(), Event()

    class Owner:
        def __del__(self):
            event.set()

    owner = Owner()
    owner.me = owner
    reference = weakref.ref(owner, lambda _: other.set())
    answers = []

    def waits():
        answers.append(event.wait(PATIENCE))

    with Threads(waits, waits):
        in_wait(2)
        del owner
        while reference() is not None or not other.is_set():
            gc.collect()
    assert answers == [True, True] and other.is_set() and reference() is None


@posix
def test_set_from_a_signal_handler_in_the_midst_of_every_method(core):
    code = """if True:
        import signal, sys, threading, time
        from fastevent import Event
        event, fired = Event(timeout=1e6), 0
        def handler(*_):
            global fired
            fired += 1
            event.set(); event.is_set(); event.check_timeout(); event.clear(); event.set()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        calls, end = 0, time.monotonic() + 2
        while time.monotonic() < end or fired < 100:
            event.clear(); event.wait(0.002); event.set(); event.clear(); event.check_timeout(); event.is_set()
            event.clear(); event.wait(); repr(event); calls += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        event.clear()
        assert event.wait(0.01) is False
        event.set()
        assert event.wait()
        print(fired >= 100, calls > 0)
    """
    assert python(code, core) == "True True\n"


@posix
@pytest.mark.parametrize("timeout", ["", "30", "1e9", "float('inf')"])
def test_ctrl_c_interrupts_wait_and_leaves_no_waiter_behind(core, timeout):
    code = f"""if True:
        import os, signal, threading, time
        from fastevent import Event
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
        event = Event()
        answers = []
        others = [threading.Thread(target=lambda: answers.append(event.wait())) for _ in range(3)]
        for other in others: other.start()
        main = threading.get_ident()
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
        try:
            event.wait({timeout})
        except KeyboardInterrupt:
            print("interrupted", end=" ")
        event.set()
        for other in others: other.join()
        event.clear()
        print(answers, event.wait(0.01))
    """
    assert python(code, core) == "interrupted [True, True, True] False\n"


@posix
def test_a_handler_that_returns_does_not_end_the_wait(core):
    code = """if True:
        import os, signal, threading, time
        from fastevent import Event
        event = Event()
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        start = time.monotonic_ns()
        assert event.wait(0.3) is False
        assert time.monotonic_ns() - start >= 0.3e9
        signal.setitimer(signal.ITIMER_REAL, 0)
    """
    assert python(code, core) == ""


@posix
def test_set_and_clear_in_a_handler_release_the_wait_that_they_interrupted(core):
    code = """if True:
        import signal
        from fastevent import Event
        event = Event()
        def handler(*_):
            event.set()
            event.clear()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        print(event.wait(), event.is_set())
    """
    assert python(code, core) == "True False\n"


@posix
def test_a_handler_that_sets_and_raises_leaves_alone_who_came_in_between(core):
    """The wait() that it ends was woken: it must not take away another that came after the clear()."""
    code = """if True:
        import signal, threading, time
        from fastevent import Event
        event, answers = Event(), []
        other = threading.Thread(target=lambda: answers.append(event.wait(30)))

        class Stop(Exception):
            pass

        def handler(*_):
            event.set()
            event.clear()
            other.start()
            while not event.status().waiters:
                time.sleep(0.001)
            raise Stop

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            event.wait()
        except Stop:
            print(event.status().waiters, end=" ")
        event.set()
        other.join()
        print(answers)
    """
    assert python(code, core) == "1 [True]\n"


# Forks

FORK = """if True:
    import os, signal, threading, time, warnings
    warnings.simplefilter("ignore")  # that a process with threads forks is what is tested
    from fastevent import Event

    def in_child(function):
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            status = 1
            try:
                function()
                status = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@posix
def test_a_child_forgets_the_waiters_of_its_parent(core):
    code = (
        FORK
        + """
    event, answers = Event(), []
    threads = [threading.Thread(target=lambda: answers.append(event.wait())) for _ in range(5)]
    for thread in threads: thread.start()
    time.sleep(0.2)

    def child():
        assert event.status().waiters == 0
        assert event.wait(0.01) is False
        thread = threading.Thread(target=event.wait)
        thread.start()
        time.sleep(0.05)
        event.set()
        thread.join()
        event.clear()
        event._at_fork_reinit()
        assert event.wait(0.01) is False

    print(in_child(child), in_child(child), event.is_set(), end=" ")
    event.set()
    for thread in threads: thread.join()
    print(answers)
    """
    )
    assert python(code, core) == "0 0 False [True, True, True, True, True]\n"


@posix
def test_a_wait_goes_on_in_the_child_that_its_signal_handler_forked(core):
    """In the child, the interrupted wait() must be woken by a set() there, after the parent's other waiters are forgotten."""
    code = (
        FORK
        + """
    event, pids = Event(), []
    other = threading.Thread(target=event.wait)
    other.start()
    time.sleep(0.1)
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
    """
    )
    assert python(code, core) == "42\n"


@posix
@pytest.mark.parametrize("is_set", [True, False])
def test_a_wait_that_a_fork_interrupted_ends_in_the_child_when_it_must(core, is_set):
    """By a set() there, though nothing else would end it; without one, not before its time. The other waiters are forgotten."""
    code = (
        FORK
        + """
    import sys
    is_set, event, pids, statuses, parent = sys.argv[1] == "True", Event(), [], [], os.getpid()

    def until(waiters):
        while event.status().waiters != waiters: time.sleep(0.001)

    def sets():
        until(1)
        event.set()

    def handler(*_):
        pid = os.fork()
        if pid:
            pids.append(pid)
            return
        signal.alarm(30)
        if is_set: threading.Thread(target=sets).start()

    def ends():
        until(3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        while not pids: time.sleep(0.001)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
        event.set()

    signal.signal(signal.SIGUSR1, handler)
    threads = [threading.Thread(target=target) for target in (event.wait, event.wait, ends)]
    for thread in threads: thread.start()
    until(2)
    while not statuses:
        answer = event.wait(None if is_set else 0.5)
        if os.getpid() != parent:
            os._exit(42 if answer is is_set else 1)
    for thread in threads: thread.join()
    print(statuses)
    """
    )
    assert python(code, core, str(is_set)) == "[42]\n"


@posix
def test_a_wait_that_a_set_came_for_whose_thread_stayed_behind_ends_in_the_child(core):
    """The fork comes between the flag and the waking, and only a thread that did not come along would have woken the waiter."""
    if core == "c":
        pytest.skip("nothing can come in between there but where a set() of a herd lets others run: see docs/proofs.md")
    code = (
        FORK
        + """
    from fastevent import _core_py
    event, pids, wake = Event(), [], _core_py._wake

    class Stop(Exception):
        pass

    def handler(*_):
        _core_py._wake = lambda crowd: None
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
    """
    )
    assert python(code, core) == "42\n"


@posix
def test_forks_in_the_midst_of_other_threads_at_work(core):
    if core == "py" and not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip(
            "without the GIL, a dict that other threads use at the fork may stay locked in the child: no remedy in Python"
        )
    code = (
        FORK
        + """
    event, stop = Event(), []
    def sets():
        while not stop: event.set(); event.clear()
    def waits():
        while not stop: event.wait(0.0005)
    threads = [threading.Thread(target=work) for work in (sets, sets, waits, waits, waits)]
    for thread in threads: thread.start()
    def child():
        event.clear()
        assert event.wait(0.001) is False
        event.set()
        assert event.wait(5)
    print({in_child(child) for _ in range(100)})
    stop.append(1)
    for thread in threads: thread.join()
    """
    )
    assert python(code, core) == "{0}\n"


# The end


@pytest.mark.parametrize("timeout", ["", "1000"])
def test_the_interpreter_exits_while_daemons_wait(core, timeout):
    code = f"""if True:
        import threading, time
        from fastevent import Event
        event = Event()
        class Last:
            def __del__(self): event.set()
        keep = Last(); keep.me = keep
        for _ in range(5):
            threading.Thread(target=event.wait, args=({timeout}), daemon=True).start()
        time.sleep(0.05)
    """.replace("args=(1000)", "args=(1000,)")
    for _ in range(5):
        assert python(code, core) == ""


def test_events_in_cycles_and_globals_at_exit(core):
    code = """if True:
        from fastevent import Event
        kept = Event(); kept.me = kept
        class Sub(Event):
            def __del__(self): self.set()
        sub = Sub(); sub.other = kept; kept.other = sub
    """
    assert python(code, core) == ""


SUBINTERPRETERS = """if True:
    import sys, threading
    try:
        import _interpreters as interpreters
        create, run = interpreters.create, interpreters.exec
    except ImportError:
        import _xxsubinterpreters as interpreters
        create, run = interpreters.create, interpreters.run_string
    script = '''if True:
        import threading
        import fastevent
        event = fastevent.Event(timeout=100)
        thread = threading.Thread(target=event.wait)
        thread.start()
        event.set()
        thread.join()
        assert event.flag and event.is_set() and not event.check_timeout()
        event.clear()
        assert not event.wait(0.001)
        assert fastevent.IMPLEMENTATION == "%s", fastevent.IMPLEMENTATION
    '''
    def one(implementation, *arguments, **options):
        name = create(*arguments, **options)
        failure = run(name, script % implementation)
        assert failure is None, failure
        interpreters.destroy(name)
"""

cpython = pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython's subinterpreters")


@cpython
def test_subinterpreters_get_the_python_core(core):
    """A module made by Cython serves one interpreter of a process; the others get the other core, not an error."""
    code = """
    import fastevent
    for _ in range(20):
        one("python", **({} if sys.version_info >= (3, 12) else {"isolated": False}))  # those ran no threads
    event = fastevent.Event()
    event.set()
    print(fastevent.IMPLEMENTATION, event.wait())
    """
    assert python(SUBINTERPRETERS + code, core, PYTHONWARNINGS="ignore") == f"{'c' if core == 'c' else 'python'} True\n"


@cpython
def test_the_main_interpreter_may_come_second(core):
    code = """
    shares_the_gil = (["legacy"], {}) if sys.version_info >= (3, 13) else ([], {"isolated": False})
    one(sys.argv[1], *shares_the_gil[0], **shares_the_gil[1])
    import fastevent
    event = fastevent.Event()
    event.set()
    print(fastevent.IMPLEMENTATION, event.wait())
    """
    assert python(SUBINTERPRETERS + code, core, "c" if core == "c" else "python", PYTHONWARNINGS="ignore") == "python True\n"
