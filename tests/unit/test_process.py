"""Claims, tokens, the generation of a process, and what happens at forks and at the exit."""

import errno
import mmap
import os
import sys
import threading
import time

import pytest
from helpers import TIMEOUT, Threads, python

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
in_c = pytest.mark.skipif(sys.platform != "linux" or sys.implementation.name != "cpython", reason="calls the fork() of glibc")


def test_a_claim_has_one_holder(modules, tiny_switch_interval):
    for _ in range(200):
        claim, taken = modules._process.Claim(), []

        def takes(claim=claim, taken=taken):
            me = object()
            if claim.take(me):
                taken.append(claim.holder is me)

        with Threads(*[takes] * 4):
            pass
        assert taken == [True]


def test_only_its_holder_gives_a_claim_back(modules):
    claim, first, second = modules._process.Claim(), object(), object()
    assert claim.holder is None and claim.take(first) and claim.take(first) and not claim.take(second)
    claim.give_back(second)
    assert claim.holder is first
    claim.give_back(first)
    claim.give_back(first)
    assert claim.holder is None and claim.take(second)
    claim.clear()
    assert claim.take(first)


def test_a_token_ends_one_rest(modules):
    token, start = modules._process.Token(), time.monotonic()
    token.wake()
    token.wake()
    token.rest(int(TIMEOUT * 1e9))
    token.rest(20_000_000)
    assert TIMEOUT > time.monotonic() - start >= 0.02
    token.rest(-1)


def test_a_token_ends_a_rest_without_end(modules):
    token, rested = modules._process.Token(threading.Lock), []

    def rests():
        token.rest(modules._time.NEVER)
        rested.append(True)

    with Threads(rests):
        token.wake()
    assert rested


@forks
def test_a_fork_makes_a_generation(core):
    def program():
        import os

        from fastevent import _process

        def in_child(function):
            pid = os.fork()
            if pid == 0:
                function()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

        def child():
            assert (_process.generation(), calls) == (1, ["step"])
            in_child(grandchild)
            assert (_process.generation(), calls) == (1, ["step"])

        def grandchild():
            assert (_process.generation(), calls) == (2, ["step", "step"])

        calls = []
        _process.at_fork(in_child=lambda: calls.append("step"))
        assert _process.generation() == 0
        in_child(child)
        assert (_process.generation(), calls) == (0, [])

    python(program, core)


@in_c
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_each_process_knows_its_number(core, fork):
    """Also if a signal handler forks while the number is asked for."""

    def program():
        import ctypes  # noqa: F401
        import os
        import sys

        from helpers import SignalAt

        from fastevent import _process

        fork, pids, place, is_done = eval(sys.argv[1]), [], 0, True
        while is_done:
            getpid = _process._fast_getpid()
            with SignalAt(place, {_process.__file__}, lambda: pids.append(fork())) as forked:
                getpid()
            is_right = getpid() == os.getpid() == getpid()
            if 0 in pids:
                os._exit(not is_right)
            assert is_right and all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in pids)
            pids.clear()
            place, is_done = place + 1, forked.is_done
        assert place > 3

    python(program, core, fork)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system is asked each time")
def test_a_number_is_kept_where_forks_clear_it(modules, monkeypatch):
    class Ignores(mmap.mmap):
        def madvise(self, advice):
            pass

    class Refuses(mmap.mmap):
        def madvise(self, advice):
            raise OSError(errno.EINVAL, "Invalid argument")

    for kind in Ignores, Refuses:
        monkeypatch.setattr(mmap, "mmap", kind)
        assert modules._process._fast_getpid() is os.getpid


@in_c
def test_the_next_use_notices_a_fork_in_c(core):
    """As uWSGI forks its workers: none of Python's functions for a fork is called."""

    def program():
        import ctypes
        import os
        import time

        from helpers import until

        from fastevent import Event, _process, _timers

        before = Event(0.3, set_on_timeout=True)
        calls = []
        later = Event(3600, set_on_timeout=True)
        until(lambda: _timers.timers.events.asleep.get("until", 1 << 64) < 1 << 63)
        time.sleep(0.02)  # the thread rests: one that waits for the GIL may leave its mutex locked in the child
        pid = ctypes.PyDLL(None).fork()
        event = Event(0.01, set_on_timeout=True)
        event.callback(calls.append, "called")
        until(event.is_set)
        until(lambda: calls == ["called"])
        until(before.is_set)
        assert later.restart_timeout(0.01)
        until(later.is_set)
        if pid == 0:
            assert _process.generation() == 1
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and _process.generation() == 0

    python(program, core)


@in_c
@pytest.mark.parametrize("use", ["wait", "wait_any", "wait_async", "add_callback", "child", "fileno"])
def test_a_use_after_a_fork_in_c_keeps_deadlines(core, use):
    """That of an event without a deadline, too, because it may be the child of one that has."""

    def program():
        import asyncio
        import ctypes
        import os
        import sys
        import time

        from helpers import until

        from fastevent import Event, _timers, wait_any

        uses = {
            "wait": lambda: child.wait(0.001),
            "wait_any": lambda: wait_any([child], 0.001),
            "wait_async": lambda: asyncio.run(child.wait_async(0.001)),
            "add_callback": lambda: child.add_callback(print),
            "child": lambda: child.child(300),
            "fileno": lambda: child.fileno(),
        }
        before = Event(0.3, set_on_timeout=True)
        child = before.child()
        until(lambda: _timers.timers.events.asleep.get("until", 1 << 64) < 1 << 63)
        time.sleep(0.02)  # the thread rests: one that waits for the GIL may leave its mutex locked in the child
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            uses[sys.argv[1]]()
            until(child.is_set)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    python(program, core, use)


@in_c
def test_restarting_after_a_fork_in_c_starts_it(core):
    """A sign of life makes the deadline later, so that the thread of the timers has nothing new to read."""

    def program():
        import ctypes
        import os

        from helpers import until

        from fastevent import Event, _timers

        watchdog = Event(5, set_on_timeout=True)
        until(lambda: _timers.timers.events.asleep.get("until", 1 << 64) < 1 << 63)
        assert watchdog.restart_timeout(0.5)
        until(lambda: not _timers.timers.events.unread)
        pid = ctypes.PyDLL(None).fork()
        assert watchdog.restart_timeout(0.6)
        until(watchdog.is_set)
        if pid == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    python(program, core)


@forks
def test_the_next_use_finishes_an_interrupted_fork(core):
    def program():
        import os

        from fastevent import _process

        class Interrupted(BaseException):
            pass

        def interrupted():
            calls.append("begun")
            if len(calls) == 2:
                raise Interrupted

        calls, raised = [], []
        _process.at_fork(in_child=lambda: calls.append("first"))
        _process.at_fork(in_child=interrupted)
        _process.at_fork(in_child=lambda: calls.append("last"))
        _process._in_child[:] = _process._in_child[-3:]
        process = _process._Process(1, 0, os.getpid(), _process._in_child)
        try:
            process.take_steps()
        except Interrupted:
            raised.append(True)
        assert raised and calls == ["first", "begun"]
        process.take_steps()
        assert calls == ["first", "begun", "begun", "last"] and not process.steps

    python(program, core)


def test_the_steps_of_an_exit_keep_their_order(core):
    def program():
        from fastevent import _process as process

        for stage in process.SHARED, process.BRIDGES, process.THREADS, process.CALLBACKS, process.EVENTS:
            process.at_exit(stage, lambda stage=stage: print(stage))

    assert python(program, core) == "0\n1\n2\n3\n4\n"


@forks
@pytest.mark.parametrize("package", ["multiprocessing", "multiprocess", "billiard"])
def test_the_end_of_a_child_is_noticed(core, package):
    pytest.importorskip(package)

    def program():
        import importlib
        import os
        import sys
        import time
        import warnings

        from fastevent import Event, _process

        package = importlib.import_module(sys.argv[1])

        def work():
            _process.at_exit(_process.CALLBACKS, lambda: os.write(1, b"ended "))
            event = Event(0.01, set_on_timeout=True)
            event.callback(lambda: (time.sleep(0.1), os.write(1, b"called ")))
            event.wait()

        context = package.get_context("fork") if package.__name__ != "billiard" else package
        warnings.simplefilter("ignore")
        process = context.Process(target=work)
        process.start()
        process.join()
        assert process.exitcode == 0

    assert python(program, core, package).split() == ["called", "ended"]
