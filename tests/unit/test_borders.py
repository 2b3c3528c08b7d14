"""What lies outside of one thread of one process: of each such border, one test. The other folders have them all."""

import os
import signal
import sys
import threading

import pytest
from helpers import TIMEOUT, python

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@has_fork
def test_a_fork_keeps_flag_and_deadline(core):
    def program():
        from helpers import TIMEOUT, in_child

        from fastevent import Event

        set_before, has_deadline = Event(), Event(0.05, set_on_timeout=True)
        set_before.set("before the fork")

        def child():
            assert set_before.reason == "before the fork"
            assert has_deadline.wait(TIMEOUT)

        assert in_child(child) == 0
        assert has_deadline.wait(TIMEOUT)

    assert python(program, core) == ""


@has_fork
def test_a_handler_sets_what_its_thread_awaits(Event):
    event = Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: event.set("by the handler"))
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert event.wait(TIMEOUT) and event.reason == "by the handler"
        timer.join(TIMEOUT)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_exit_waits_for_callbacks_not_for_daemons(core):
    def program():
        import threading
        import time

        from helpers import until_waiting

        from fastevent import Event

        def calls(event):
            time.sleep(0.05)
            print(event.reason)

        waited_for, timed = Event(), Event(0.01, set_on_timeout=True)
        threading.Thread(target=waited_for.wait, daemon=True).start()
        until_waiting(waited_for)
        timed.add_callback(calls)
        timed.wait()

    assert python(program, core) == "timed out after 0.01 s\n"


@has_fork
def test_a_set_reaches_another_process(core):
    def program():
        import multiprocessing
        import sys

        from fastevent import SharedEvent

        def child(event, answer):
            answer.set("the child is there")
            sys.exit(0 if event.wait(60) and event.reason == "stop" else "the set did not arrive")

        context = multiprocessing.get_context("fork")
        event, answer = SharedEvent(), SharedEvent()
        process = context.Process(target=child, args=(event, answer))
        process.start()
        assert answer.wait(60) and answer.reason == "the child is there"
        event.set("stop")
        process.join(60)
        assert process.exitcode == 0

    assert python(program, core) == ""


@has_fork
def test_a_process_that_dies_sets_its_events(core):
    def program():
        import multiprocessing
        import os
        import signal

        from fastevent import SharedEvent

        def home(connection):
            connection.send(SharedEvent())
            connection.recv()

        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        process = context.Process(target=home, args=(there,))
        process.start()
        event = here.recv()
        os.kill(process.pid, signal.SIGKILL)
        assert event.wait(60) and f"process {process.pid}" in event.reason, event

    assert python(program, core) == ""


def test_a_set_reaches_another_bridge_by_redis(core):
    from redis_server import Server

    def program():
        import sys

        import redis

        from fastevent.redis import RedisEvents

        with RedisEvents(redis.Redis(port=int(sys.argv[1]))) as one, RedisEvents(redis.Redis(port=int(sys.argv[1]))) as other:
            here, there = one.event("run"), other.event("run")
            here.set("stop")
            assert there.wait(60) and there.reason == "stop"

    server = Server()
    try:
        assert python(program, core, server.port) == ""
    finally:
        server.end()


@pytest.mark.not_traced
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython's subinterpreters")
def test_another_interpreter_has_events_of_its_own(core):
    def program():
        import sys

        try:
            import _interpreters as interpreters
            from _interpreters import exec as run
        except ImportError:
            import _xxsubinterpreters as interpreters
            from _xxsubinterpreters import run_string as run

        there = interpreters.create() if sys.version_info >= (3, 12) else interpreters.create(isolated=False)
        # Up to 3.11, such an interpreter cannot be destroyed by this call while it has a second thread.
        options = ", set_on_timeout=True" if sys.version_info >= (3, 12) else ""
        run(there, f"from fastevent import Event; event = Event(0.01{options}); event.wait(); event.set(); event.clear()")
        interpreters.destroy(there)

    assert python(program, core) == ""
