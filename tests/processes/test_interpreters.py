"""Events at the exit of an interpreter, and in subinterpreters."""

import os
import subprocess
import sys

import pytest
from helpers import CORE_SWITCH, TIMEOUT, body, python


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


@on_cpython
def test_subinterpreters_get_the_python_core(core):
    """A module made by Cython serves one interpreter of a process; the others get the other core, not an error."""

    def program():
        import sys

        from subinterpreters import use_events

        import fastevent

        for _ in range(20):
            use_events("python", **({} if sys.version_info >= (3, 12) else {"isolated": False}))  # those ran no threads
        event = fastevent.Event()
        event.set()
        print(fastevent.IMPLEMENTATION, event.wait())

    assert python(program, core, PYTHONWARNINGS="ignore") == f"{'c' if core == 'c' else 'python'} True\n"


@on_cpython
def test_the_main_interpreter_may_come_second(core):
    def program():
        import sys

        from subinterpreters import use_events

        shares_the_gil = (["legacy"], {}) if sys.version_info >= (3, 13) else ([], {"isolated": False})
        use_events(sys.argv[1], *shares_the_gil[0], **shares_the_gil[1])
        import fastevent

        event = fastevent.Event()
        event.set()
        print(fastevent.IMPLEMENTATION, event.wait())

    assert python(program, core, "c" if core == "c" else "python", PYTHONWARNINGS="ignore") == "python True\n"


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
