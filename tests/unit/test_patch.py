"""`threading.Event` replaced for the whole process, and `python -m fastevent run`."""

import json
import os
import py_compile
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest
from helpers import CORE_SWITCH, TIMEOUT, Threads, body, python, until_waiting

DEFAULT = "WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT"
NATIVE = threading.Event

# Other test modules derive classes from `threading.Event`, which the patch warns of.
pytestmark = pytest.mark.filterwarnings("ignore:derived from threading.Event before")


@pytest.fixture
def patched(fastevent):
    fastevent.patch_threading()
    yield fastevent
    fastevent.unpatch_threading()
    assert threading.Event is NATIVE


def test_it_replaces_and_gives_back(fastevent):
    before = threading.Thread(target=int)
    fastevent.patch_threading()
    try:
        assert threading.Event is fastevent.Event
        during = threading.Thread(target=int)
        assert type(before._started) is NATIVE and type(during._started) is fastevent.Event
    finally:
        fastevent.unpatch_threading()
    assert threading.Event is NATIVE
    for thread in before, during, threading.Thread(target=int):
        thread.start()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_it_warns_of_classes_derived_before(fastevent):
    class Stop(NATIVE):
        pass

    class Later(Stop):
        pass

    with pytest.warns(RuntimeWarning, match=r"test_patch\..*Stop\b.* before these classes are defined") as caught:
        fastevent.patch_threading()
    fastevent.unpatch_threading()
    assert f"{Later.__module__}.{Later.__qualname__}" in str(caught[0].message) and caught[0].filename == __file__


def test_it_does_not_warn_of_our_own_classes(core):
    def program():
        import threading

        import fastevent
        import fastevent.debug

        class Mine(fastevent.Event):
            pass

        fastevent.patch_threading()
        print(threading.Event is fastevent.Event)

    assert python(program, core) == "True\n"


def test_it_refuses_where_locks_are_green(core):
    def program():
        import _thread

        import fastevent

        real = _thread.allocate_lock
        _thread.allocate_lock = lambda: real()
        try:
            fastevent.patch_threading()
        except RuntimeError as error:
            print(str(error)[:50])

    assert python(program, core) == "patch_threading() would stop all green threads at \n"


def test_twice_is_as_once(fastevent):
    fastevent.unpatch_threading()
    assert threading.Event is NATIVE
    fastevent.patch_threading()
    fastevent.patch_threading()
    assert threading.Event is fastevent.Event
    fastevent.unpatch_threading()
    assert threading.Event is NATIVE
    fastevent.unpatch_threading()
    assert threading.Event is NATIVE


def test_another_class_that_was_put_there_stays(fastevent, monkeypatch):
    class Theirs(NATIVE):
        pass

    class Later(NATIVE):
        pass

    monkeypatch.setattr(threading, "Event", Theirs)
    fastevent.patch_threading()
    assert threading.Event is fastevent.Event
    fastevent.unpatch_threading()
    assert threading.Event is Theirs
    fastevent.patch_threading()
    monkeypatch.setattr(threading, "Event", Later)
    fastevent.unpatch_threading()
    assert threading.Event is Later


def test_threads_that_patch_and_unpatch_at_once(fastevent, tiny_switch_interval):
    def toggle():
        for _ in range(500):
            fastevent.patch_threading()
            assert threading.Event in (fastevent.Event, NATIVE)
            fastevent.unpatch_threading()

    with Threads(*[toggle] * 4):
        pass
    assert threading.Event is NATIVE


def test_threads_in_wait_do_not_notice(fastevent):
    events, woken = [NATIVE(), fastevent.Event()], []

    def waits(event):
        woken.append(event.wait(TIMEOUT))

    with Threads(*[partial(waits, event) for event in events]):
        until_waiting(events[1])
        fastevent.patch_threading()
        fastevent.unpatch_threading()
        for event in events:
            event.set()
    assert woken == [True, True]


def test_what_threading_builds_on_events(patched):
    ran = []
    timer = threading.Timer(0.01, ran.append, [1])
    cancelled = threading.Timer(TIMEOUT, ran.append, [2])
    assert type(timer.finished) is patched.Event
    timer.start()
    cancelled.start()
    cancelled.cancel()
    for thread in timer, cancelled:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert ran == [1]
    barrier = threading.Barrier(2)
    with Threads(lambda: barrier.wait(TIMEOUT), lambda: barrier.wait(TIMEOUT)):
        pass
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        timer.start()
    with pytest.raises(RuntimeError, match="cannot join thread before it is started"):
        threading.Thread().join()


def test_a_thread_that_threading_did_not_start(core):
    def program():
        import _thread
        import threading

        import fastevent

        fastevent.patch_threading()
        done = threading.Event()
        found = []
        _thread.start_new_thread(lambda: (found.append(threading.current_thread()), done.set()), ())
        done.wait(60)
        print(type(found[0]).__name__, type(found[0]._started) is fastevent.Event, found[0].is_alive())

    assert python(program, core) == "_DummyThread True True\n"


def test_the_standard_library_at_work(core):
    def program():
        import fastevent

        fastevent.patch_threading()
        import concurrent.futures
        import socket
        import socketserver
        import threading
        from multiprocessing.dummy import Event, Pool

        assert Event is threading.Event is fastevent.Event

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(pow, 2, n) for n in range(50)]
            _done, rest = concurrent.futures.wait(futures, timeout=60)
            assert not rest and sum(f.result() for f in concurrent.futures.as_completed(futures)) == 2**50 - 1
        with Pool(3) as pool:
            assert pool.map(str, range(5)) == list("01234")

        class Echo(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(self.rfile.readline())

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            with socket.create_connection(server.server_address) as client:
                client.sendall(b"hello\n")
                assert client.makefile().readline() == "hello\n"
            server.shutdown()
        print("done")

    assert python(program, core) == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child(core):
    # Forking with threads is what is tested; newer releases warn of it.

    def program():
        import os
        import threading
        import warnings

        import fastevent

        warnings.simplefilter("ignore", DeprecationWarning)
        fastevent.patch_threading()
        event = threading.Event()
        waiter = threading.Thread(target=event.wait, daemon=True)
        waiter.start()
        pid = os.fork()
        if pid == 0:
            assert threading.Event is fastevent.Event and not waiter.is_alive()
            new = threading.Thread(target=event.wait, args=(60,))
            new.start()
            event.set()
            new.join(60)
            os._exit(3 if new.is_alive() else 7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        event.set()
        waiter.join(60)
        print(waiter.is_alive())

    assert python(program, core) == "False\n"


def test_a_package_is_imported_again_under_the_patch(core):
    def program():
        import sys
        import threading

        import fastevent

        native = threading.Event
        fastevent.patch_threading()
        first = fastevent.Event
        ours = [name for name in sys.modules if name.partition(".")[0] == "fastevent"]
        for name in ours:
            if name != "fastevent._core_c":  # which is loaded once in an interpreter
                del sys.modules[name]
        import fastevent

        assert fastevent.Event is not first and first not in fastevent.Event.__mro__ and native in fastevent.Event.__mro__
        event = fastevent.Event()
        event.set()
        fastevent.patch_threading()
        assert threading.Event is fastevent.Event
        fastevent.unpatch_threading()
        print(threading.Event is first, event.wait())

    assert python(program, core) == "True True\n"


def test_the_default_timeout_spares_the_standard_library(core):
    def program():
        import threading

        import fastevent

        fastevent.patch_threading()
        assert issubclass(threading.Event, fastevent.Event) and threading.Event is not fastevent.Event
        assert fastevent.Event().wait() is False
        event = threading.Event()
        thread = threading.Timer(0.2, event.set)
        thread.start()
        assert event.wait() is True and not event.check_timeout()
        assert threading.Event(timeout=0.01).wait() is False
        event.clear()
        assert event.wait(0.01) is False
        thread.join()
        fastevent.unpatch_threading()
        print(threading.Event.__module__)

    assert python(program, core, **{DEFAULT: "0.01"}) == "threading\n"


def test_a_bad_default_timeout_prevents_the_patch(core):
    def program():
        import threading

        import fastevent

        try:
            fastevent.patch_threading()
        except ValueError as error:
            print(error)
        print(threading.Event.__module__)

    expected = f"{DEFAULT} must be a number of seconds above zero, not 'soon'\nthreading\n"
    assert python(program, core, **{DEFAULT: "soon"}) == expected


# python -m fastevent run

LINK = [] if sys.platform == "win32" else ["folder/link.py"]  # on Windows, making one is a right that not everybody has

#: A program that shows how it was started.
PROBE = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")


def start(core, *arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **CORE_SWITCH[core], **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    (folder / "probe.py").write_text(PROBE)
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("import sys; assert sys.argv[0] == '-m' or sys.argv[0].endswith('.py')")
    (package / "__main__.py").write_text(PROBE)
    (folder / "folder").mkdir()
    (folder / "folder/__main__.py").write_text(PROBE)
    for link in LINK:
        (folder / link).symlink_to(folder / "probe.py")
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", PROBE)
    py_compile.compile(str(folder / "probe.py"), cfile=str(folder / "compiled.pyc"))
    return folder


@pytest.mark.parametrize(
    "program",
    ["probe.py", *LINK, "compiled.pyc", "folder", "archive.zip", "-m probe", "-m package", "-m package.__main__", "-c"],
)
def test_a_program_sees_what_it_sees_without(core, programs, program):
    started = [*program.split(), *([PROBE] if program == "-c" else []), "3", "-m", "--json", "run", "--", "-x"]
    with_patch = start(core, "-m", "fastevent", "run", *started, cwd=programs)
    without = start(core, *started, cwd=programs)
    assert (with_patch.returncode, with_patch.stderr) == (without.returncode, without.stderr) == (3, "")
    assert json.loads(with_patch.stdout) == json.loads(without.stdout)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is new in 3.11")
@pytest.mark.parametrize("program", [["probe.py"], ["folder"], ["archive.zip"], ["-c", PROBE]])
def test_a_safe_path_stays_safe(core, programs, program):
    with_patch = start(core, "-P", "-m", "fastevent", "run", *program, "0", cwd=programs)
    without = start(core, "-P", *program, "0", cwd=programs)
    assert json.loads(with_patch.stdout) == json.loads(without.stdout)


@pytest.mark.parametrize("as_module", [False, True])
def test_a_whole_program(core, tmp_path, as_module):
    """Its threads, exit handlers and worker processes find its names, also after its last line."""

    def program():
        import atexit
        import multiprocessing
        import pickle
        import threading

        class Job:
            def __call__(self):
                return "job"

        def work(queue, job):
            queue.put(job())

        def afterwards():
            threading.main_thread().join()
            assert type(pickle.loads(pickle.dumps(Job()))) is Job
            context = multiprocessing.get_context("spawn")
            queue = context.SimpleQueue()
            process = context.Process(target=work, args=(queue, Job()))
            process.start()
            print(queue.get(), flush=True)
            process.join()
            print(process.exitcode, flush=True)

        if __name__ == "__main__":
            import fastevent

            atexit.register(lambda: print("exit", Job()()))
            threading.Thread(target=afterwards).start()
            print(threading.Event is fastevent.Event, flush=True)

    (tmp_path / "program.py").write_text(body(program))
    done = start(core, "-m", "fastevent", "run", *(["-m", "program"] if as_module else ["program.py"]), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "True\njob\n0\nexit job\n"


def test_how_a_program_ends(core, tmp_path):
    program = tmp_path / "program.py"
    for text, code, message in (
        ("", 0, ""),
        ("raise SystemExit('bye')", 1, "bye\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise ValueError('the program\\'s own')", 1, "ValueError: the program's own\n"),
    ):
        program.write_text(text)
        done = start(core, "-m", "fastevent", "run", program)
        assert done.returncode == code and done.stdout == "" and done.stderr.endswith(message), done


def test_a_folder_is_run_once(core, tmp_path):
    (tmp_path / "__main__.py").write_text("print('ran')")
    done = start(core, "-m", "fastevent", "run", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "python -m fastevent run: error: the following arguments are required"),
        (["run", "-x", "program.py"], "python -m fastevent run: error: unrecognized arguments: -x"),
        (["run", "-m", "-c", "program"], "python -m fastevent run: error: argument -c: not allowed with argument -m"),
        (["run", "no-such-file.py"], "python -m fastevent run: error: there is no file 'no-such-file.py'"),
        (["run", "-m", "no_such_module"], "No module named no_such_module"),
    ],
)
def test_nothing_to_run(core, arguments, message):
    done = start(core, "-m", "fastevent", *arguments)
    assert done.returncode in {1, 2} and message in done.stderr and "Traceback" not in done.stderr


def test_run_names_a_broken_variable(core, tmp_path):
    (tmp_path / "program.py").write_text("print('ran')")
    done = start(core, "-m", "fastevent", "run", "program.py", cwd=tmp_path, **{DEFAULT: "soon"})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{DEFAULT} must be a number of seconds above zero, not 'soon'" in done.stderr
