"""Events at the exit of an interpreter, and in subinterpreters."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers import CORE_SWITCH, HAS_GIL, SCALE, TIMEOUT, body, python


@pytest.mark.parametrize("timeout", [[], [1000]])
def test_the_interpreter_exits_while_daemons_wait(core, timeout):
    def program():
        import sys
        import threading

        from helpers import until_waiting

        from fastevent import Event

        event = Event()

        class Last:
            def __del__(self):
                event.set()

        keep = Last()
        keep.me = keep
        for _ in range(5):
            threading.Thread(target=event.wait, args=[float(timeout) for timeout in sys.argv[1:]], daemon=True).start()
        until_waiting(event, 5)

    for _ in range(5):
        assert python(program, core, *timeout) == ""


def test_events_in_cycles_and_globals_at_exit(core):
    def program():
        from fastevent import Event

        kept = Event()
        kept.me = kept

        class Sub(Event):
            def __del__(self):
                self.set()

        sub = Sub()
        sub.other = kept
        kept.other = sub

    assert python(program, core) == ""


on_cpython = pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython's subinterpreters")


def core_of_second(core):
    """Return which core an interpreter gets after another one. Up to 3.11, an extension module is of one interpreter."""
    return "c" if core == "c" and sys.version_info >= (3, 12) else "python"


def core_of_first(core):
    return "c" if core == "c" else "python"


@on_cpython
@pytest.mark.parametrize("isolated", [True, False])
def test_each_interpreter_has_the_core(core, isolated):
    def program():
        import sys

        from subinterpreters import use_events

        import fastevent

        for _ in range(5):
            use_events(sys.argv[1], bool(sys.argv[2]))
        event = fastevent.Event()
        event.set()
        print(fastevent.IMPLEMENTATION, event.wait())

    printed = python(program, core, core_of_second(core), "isolated" if isolated else "", PYTHONWARNINGS="ignore")
    assert printed == f"{core_of_first(core)} True\n"


@on_cpython
def test_the_main_interpreter_may_come_second(core):
    def program():
        import sys

        from subinterpreters import use_events

        use_events(sys.argv[1], isolated=False)
        import fastevent

        event = fastevent.Event()
        event.set()
        print(fastevent.IMPLEMENTATION, event.wait())

    printed = python(program, core, core_of_first(core), PYTHONWARNINGS="ignore")
    assert printed == f"{core_of_second(core)} True\n"


@on_cpython
@pytest.mark.skipif(sys.version_info < (3, 12), reason="one GIL for all")
def test_interpreters_come_and_go_in_many_threads(core):
    def program():
        import sys

        from subinterpreters import use_events_in_many

        import fastevent

        event = fastevent.Event()
        child = event.child()
        use_events_in_many(int(sys.argv[1]), 4)
        event.set("why")
        assert child.reason == "why"

    assert python(program, core, int(4 * SCALE), PYTHONWARNINGS="ignore") == ""


@on_cpython
@pytest.mark.core("c")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="the compiled core is of one interpreter")
def test_an_interpreter_that_ends_takes_no_other_along(core):
    """Of more than 32 interpreters, those that began last end first; the others still have what the core's module keeps."""

    def program():
        import sys

        from helpers import body
        from subinterpreters import create, interpreters, run

        def script():
            from fastevent import _core_c

            try:
                _core_c.attach_polls(int)
            except TypeError as error:
                assert "is not derived from EventCore" in str(error)

        text = body(script, f"import sys; sys.path[:] = {sys.path!r}")
        script()
        lasting = [create() for _ in range(2)]
        for name in lasting:
            assert run(name, text) is None
        for _ in range(2):
            others = [create() for _ in range(20)]
            for name in others:
                assert run(name, text) is None
            while others:
                interpreters.destroy(others.pop())
                script()
                for name in lasting + others[-1:]:
                    assert run(name, text) is None
        for name in lasting:
            interpreters.destroy(name)

    assert python(program, core, PYTHONWARNINGS="ignore") == ""


def embed(file, core, folder, *arguments):
    """Run a program in C that embeds this interpreter. It prints nothing if all goes well."""
    program, library = folder / "program", sysconfig.get_config_var("LIBDIR")
    flags = [f"-I{sysconfig.get_path('include')}", f"-L{library}", f"-Wl,-rpath,{library}", "-pthread"]
    name = sysconfig.get_config_var("LDLIBRARY").removeprefix("lib").partition(".so")[0].removesuffix(".dylib")
    source = Path(__file__).with_name(file)
    try:
        subprocess.run(["cc", "-o", program, source, *flags, f"-l{name}"], check=True, capture_output=True, timeout=TIMEOUT)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the interpreter cannot be embedded here: {error}")
    environment = {**os.environ, **CORE_SWITCH[core], "PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


embeds = pytest.mark.skipif(
    os.name != "posix" or not sysconfig.get_config_var("Py_ENABLE_SHARED"), reason="no library to embed"
)


@on_cpython
@embeds
@pytest.mark.not_sanitized
def test_a_server_has_an_interpreter_for_each_application(core, tmp_path):
    def script():
        import threading

        import fastevent

        stop, served = fastevent.Event(name="application"), []

        def serve():
            with stop.child(60) as request:
                request.add_callback(served.append)
                thread = threading.Thread(target=request.wait)
                thread.start()
                request.set("answered")
                thread.join(60)
                assert not thread.is_alive() and request.reason == "answered" and not stop.is_set()

        def end():
            assert len(served) == 80 and all(served)
            children = [stop.child() for _ in served]
            stop.set("shut down")
            assert {child.reason for child in children} == {"shut down"}

    embed("serving.c", core, tmp_path, body(script, f"import sys; sys.path[:] = {sys.path!r}"))


@on_cpython
@embeds
@pytest.mark.not_sanitized
@pytest.mark.parametrize("first", [[], ["first"]])
def test_a_program_begins_python_again(core, tmp_path, first):
    """Interpreters are numbered anew then, while a thread of the program and the variables of C stay."""

    def script():
        import gc
        import threading

        import fastevent

        event = fastevent.Event()
        child = event.child()
        event.add_callback(lambda event: None)
        event.set("why")
        assert child.reason == "why"
        try:
            event.check()
        except fastevent.EventCancelled as error:
            assert error.reason == "why"
        event.clear()
        assert not event.wait(0.001)
        thread = threading.Thread(target=event.wait)
        thread.start()
        event.set()
        thread.join()
        event.itself = event
        del event, child
        gc.collect()

    embed("embedding.c", core, tmp_path, body(script, f"import sys; sys.path[:] = {sys.path!r}"), *first)


@on_cpython
@pytest.mark.core("c")
@pytest.mark.not_sanitized
@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells the memory in use")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="the compiled core is of one interpreter")
def test_an_ended_interpreter_leaves_no_memory(core):
    """From 3.14 on, with the GIL, CPython itself leaves none. Elsewhere it does, and with the compiled core no more of it."""

    def program():
        import sys

        from subinterpreters import memory_left

        print(memory_left(int(sys.argv[1])))

    if sys.version_info >= (3, 14) and HAS_GIL:
        assert float(python(program, "c", 50)) < 50_000
    else:  # an interpreter of which a single object is left keeps 2,000,000 and more
        compiled, plain = (  # the system counts what it has lent, which may be more: the least of three
            min(float(python(program, core, 10, PYTHONWARNINGS="ignore")) for _ in range(3)) for core in ("c", "py")
        )
        assert compiled < 1.1 * plain + 500_000


@on_cpython
@pytest.mark.core("c")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="the compiled core is of one interpreter")
def test_the_default_timeout_is_read_once_for_all(core):
    def program():
        import os
        import sys

        from helpers import body
        from subinterpreters import create, interpreters, run

        import fastevent

        assert fastevent.Event()._timeout is None
        os.environ["WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT"] = "5"

        def script():
            import fastevent

            assert fastevent.Event()._timeout is None

        other = create()
        failure = run(other, body(script, f"import sys; sys.path[:] = {sys.path!r}"))
        assert failure is None, failure
        interpreters.destroy(other)

    assert python(program, core, PYTHONWARNINGS="ignore") == ""


@on_cpython
def test_importing_twice_in_one_interpreter_is_refused(core):
    """The events made before raise exceptions and make children of the first import's classes."""

    def program():
        import sys

        import fastevent

        event = fastevent.Event()
        for name in [name for name in sys.modules if name.startswith("fastevent")]:
            del sys.modules[name]
        try:
            import fastevent
        except ImportError as error:
            print(error)
        event.set()
        assert event.wait() and event.child().is_set()

    text = (
        "this interpreter has loaded fastevent before, and something has removed it from sys.modules: leave 'fastevent' and "
        "'fastevent._core_c' there, since events made before live on with the first one\n"
    )
    assert python(program, core) == (text if core_of_second(core) == "c" else "")


@on_cpython
@pytest.mark.skipif(sys.version_info < (3, 12), reason="the compiled core is of one interpreter")
def test_a_finalizer_may_run_another_interpreter(core):
    """A chain of events is dropped there while one is dropped here, at any depth."""

    def program():
        from subinterpreters import create, interpreters, use_events_in

        import fastevent

        other = create()
        use_events_in(other)

        class Reason:
            def __del__(self):
                use_events_in(other)

        chain = Reason()
        for depth in range(100):
            event = fastevent.Event()
            event.set((chain, Reason()) if depth % 20 == 10 else chain)
            chain = event
        del event, chain
        interpreters.destroy(other)

    assert python(program, core, PYTHONWARNINGS="ignore") == ""


@pytest.mark.skipif(sys.version_info < (3, 14) or sys.implementation.name != "cpython", reason="no pool of interpreters")
def test_a_shared_event_reaches_another_interpreter(core, tmp_path):
    def program():
        import threading
        from concurrent.futures import InterpreterPoolExecutor

        from fastevent import SharedEvent

        def work(cancel):
            return cancel.wait(60), cancel.reason

        if __name__ == "__main__":
            with InterpreterPoolExecutor(1) as pool, SharedEvent() as cancel:
                result = pool.submit(work, cancel)
                threading.Timer(0.1, cancel.set, ["why"]).start()
                print(result.result())

    file = tmp_path / "program.py"  # the interpreters of the pool import it
    file.write_text(body(program))
    environment = {**os.environ, **CORE_SWITCH[core]}
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    assert (done.stdout, done.stderr) == ("(True, 'why')\n", "")


@pytest.mark.skipif(sys.version_info < (3, 14) or sys.implementation.name != "cpython", reason="no concurrent.interpreters")
def test_an_interpreter_that_has_ended_is_named(core):
    """Its process lives, so the reason is not that the process is gone. One event is held here, the other one comes late."""

    def program():
        import pickle
        import sys
        from concurrent import interpreters

        from helpers import body

        def makes_events(path, tickets):
            import pickle
            import sys

            sys.path[:] = path.split("\0")
            from fastevent import SharedEvent

            events = [SharedEvent(), SharedEvent()]
            for event in events:
                tickets.put(pickle.dumps(event))

        interpreter, tickets = interpreters.create(), interpreters.create_queue()
        interpreter.prepare_main(tickets=tickets, path="\0".join(sys.path))
        interpreter.exec(body(makes_events))
        held, late = pickle.loads(tickets.get()), tickets.get()
        assert not held.wait(0.2)
        interpreter.close()
        for event in (held, pickle.loads(late)):
            assert event.wait(60)
            assert event.reason.startswith(f"interpreter {interpreter.id} of process "), event.reason

    assert python(program, core) == ""
