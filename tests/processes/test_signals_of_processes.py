"""set_on_signals() around forks and in containers, and set_at_exit()."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from helpers import TIMEOUT, child_environment, command, python

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
PACKAGES = pytest.mark.parametrize("package", ["multiprocessing", "multiprocess", "billiard"])


@forks
@PACKAGES
def test_a_packages_child_acts_as_before_the_block(core, package):
    """`terminate()` ends it, whether the package was imported before the block or in it."""
    pytest.importorskip(package)

    def program():
        import importlib
        import signal
        import sys
        import time
        import warnings

        from fastevent import Event

        warnings.simplefilter("ignore")

        def exit_code(package):
            context = package if package.__name__ == "billiard" else package.get_context("fork")
            process = context.Process(target=time.sleep, args=(60,))
            process.start()
            time.sleep(0.2)
            process.terminate()
            process.join(30)
            return process.exitcode

        with Event() as stop, stop.set_on_signals():
            package = importlib.import_module(sys.argv[1])
            assert exit_code(package) == -signal.SIGTERM
            assert not stop.is_set()
        with Event() as stop, stop.set_on_signals():
            assert exit_code(package) == -signal.SIGTERM
            signal.raise_signal(signal.SIGTERM)
            assert stop.reason == "SIGTERM"

    python(program, core, package)


@forks
@PACKAGES
def test_a_child_that_has_not_begun_is_ended(core, package):
    """`terminate()` comes while the package prepares the child."""
    pytest.importorskip(package)

    def program():
        import importlib
        import signal
        import sys
        import time
        import warnings

        from fastevent import Event

        warnings.simplefilter("ignore")
        package = importlib.import_module(sys.argv[1])
        context = package if package.__name__ == "billiard" else package.get_context("fork")
        with Event() as stop, stop.set_on_signals():
            for number in range(40):
                process = context.Process(target=time.sleep, args=(60,))
                process.start()
                end = time.perf_counter() + number * 0.0001
                while time.perf_counter() < end:
                    pass
                process.terminate()
                process.join(30)
                assert process.exitcode == -signal.SIGTERM, (number, process.exitcode)
            assert not stop.is_set() and not signal.pthread_sigmask(signal.SIG_BLOCK, [])
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_set()

    python(program, core, package)


@forks
def test_a_child_ends_while_it_runs_no_python(core):
    """A handler of Python would wait for the end of the call in C."""

    def program():
        import multiprocessing
        import signal
        import time
        import warnings

        from fastevent import Event

        warnings.simplefilter("ignore")

        def work(begun):
            begun.set()
            sum(range(10**12))

        with Event() as stop, stop.set_on_signals():
            context = multiprocessing.get_context("fork")
            begun = context.Event()
            process = context.Process(target=work, args=(begun,))
            process.start()
            assert begun.wait(60)
            time.sleep(0.1)
            process.terminate()
            process.join(30)
            code = process.exitcode
            process.kill()
        assert code == -signal.SIGTERM, code

    python(program, core)


@forks
def test_a_packages_child_has_blocks_of_its_own(core):
    def program():
        import multiprocessing
        import signal
        import sys
        import warnings

        from fastevent import Event

        warnings.simplefilter("ignore")

        def work():
            with Event().set_on_signals() as own:
                signal.raise_signal(signal.SIGTERM)
                assert own.reason == "SIGTERM" and not stop.is_set() and not seen
                signal.raise_signal(signal.SIGTERM)
                assert len(seen) == 1
                own.clear()
                signal.raise_signal(signal.SIGTERM)
                assert own.reason == "SIGTERM" and len(seen) == 1
            sys.exit(3)

        seen = []
        signal.signal(signal.SIGTERM, lambda *_: seen.append(None))

        with Event() as stop, stop.set_on_signals():
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            process.join(60)
            assert process.exitcode == 3, process.exitcode

    python(program, core)


@forks
def test_a_pool_in_a_block_can_be_left(core):
    def program():
        import multiprocessing
        import warnings

        from fastevent import Event

        warnings.simplefilter("ignore")
        for _ in range(3):
            with Event() as stop, stop.set_on_signals(), multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(abs, [-1, -2]) == [1, 2]

    python(program, core)


@forks
def test_a_bare_fork_keeps_the_block(core):
    """As in a program that daemonizes in it, or that forks its own workers."""

    def program():
        import os
        import signal

        from fastevent import Event

        with Event() as stop, stop.set_on_signals("SIGTERM"):
            pid = os.fork()
            if pid == 0:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0 if stop.reason == "SIGTERM" else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    python(program, core)


def twice_in_a_block():
    import signal

    from fastevent import Event

    with Event() as stop, stop.set_on_signals():
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        print("set", flush=True)
        signal.raise_signal(signal.SIGTERM)
        print("alive", flush=True)


@pytest.mark.skipif(sys.platform != "linux", reason="no PID namespaces here")
def test_the_second_sigterm_ends_process_1(core):
    """The kernel discards default actions of the first process of a container."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a PID namespace")
    program = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, *command(twice_in_a_block)]
    done = subprocess.run(program, env=child_environment(core), capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.stdout, done.returncode) == ("set\n", 128 + signal.SIGTERM)


# set_at_exit()


def test_threads_stop_at_the_exit(core):
    """They are no daemons, so the exit waits for them before the functions of `atexit` run."""

    def program():
        import os
        import threading

        from fastevent import Event

        stop = Event()

        def work():
            stop.wait()
            os.write(1, f"stopped: {stop.reason}\n".encode())

        stop.callback(os.write, 1, b"callback\n")
        stop.set_at_exit()
        threading.Thread(target=work).start()
        os.write(1, b"main ends\n")

    lines = python(program, core).splitlines()
    assert lines[0] == "main ends" and sorted(lines[1:]) == ["callback", "stopped: the program ends"]


def test_an_exception_is_an_exit_too(core):
    def program():
        import sys
        import threading

        from fastevent import Event

        stop = Event()
        stop.set_at_exit()
        threading.Thread(target=stop.wait).start()
        sys.exit()

    python(program, core)


def test_a_dropped_event_is_forgotten(core):
    def program():
        import gc

        from fastevent import Event, _signals

        for _ in range(10_000):
            Event().set_at_exit()
        gc.collect()
        event = Event()
        for _ in range(10_000):
            event.set_at_exit()
        assert len(_signals._events) < 5_000, len(_signals._events)  # PyPy frees events some time after they are dropped

    python(program, core)


def test_during_the_exit_it_is_set_at_once(core):
    def program():
        import atexit

        def late():
            event = Event()
            event.set_at_exit()
            print(event.is_set(), event.reason)

        atexit.register(late)
        from fastevent import Event

    assert python(program, core) == "True the program ends\n"


@forks
@PACKAGES
def test_a_packages_child_sets_it_at_its_end(core, package):
    pytest.importorskip(package)

    def program():
        import importlib
        import os
        import sys
        import threading
        import warnings

        from fastevent import Event

        warnings.simplefilter("ignore")
        package = importlib.import_module(sys.argv[1])

        def work():
            stop = Event()
            stop.callback(lambda: os.write(1, b"callback "))
            stop.set_at_exit()
            if package.__name__ != "billiard":  # which ends without its threads
                threading.Thread(target=lambda: (stop.wait(), os.write(1, b"stopped "))).start()
            work.stop = stop

        context = package if package.__name__ == "billiard" else package.get_context("fork")
        process = context.Process(target=work)
        process.start()
        process.join(60)
        assert process.exitcode == 0, process.exitcode

    assert sorted(python(program, core, package).split()) == ["callback", "stopped"][: 1 + (package != "billiard")]


@pytest.mark.parametrize("executor", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_it_is_set_before_later_executors_wait(core, executor):
    """They, too, are called when the main thread has ended, and the last one that was registered is called first."""

    def program():
        import concurrent.futures
        import multiprocessing
        import os

        from fastevent import SharedEvent

        stop = SharedEvent()
        stop.set_at_exit()
        kind = os.environ["EXECUTOR"]
        options = {"mp_context": multiprocessing.get_context("spawn")} if kind.startswith("Process") else {}
        executor = getattr(concurrent.futures, kind)(1, **options)
        executor.submit(stop.wait)

    python(program, core, EXECUTOR=executor)
