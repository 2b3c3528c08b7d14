"""SharedEvent: each behaviour and each fault in a program of several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TIMEOUT, TOO_LONG, child_environment, python
from programs import METHODS
from shared_attacks import ATTACKS
from shared_faults import FAULTS
from shared_programs import PROGRAMS

from fastevent.shared import _place

HERE = Path(__file__).parent
PORTABLE = [
    (file, name)
    for file, programs in (("shared_programs.py", PROGRAMS), ("shared_faults.py", FAULTS))
    for name, program in programs.items()
    if not program.needs_posix
]

#: What other systems do not have.
OTHER_SYSTEMS = {
    "macos": "HAS_NAMES HAS_PROC REFUSAL_IS_CERTAIN",
    "windows": "HAS_NAMES HAS_PROC REFUSAL_IS_CERTAIN HAS_PATHS SENT_IS_KEPT",
}


@pytest.fixture
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("t")


def each(programs):
    cases = [(name, method) for name, program in programs.items() for method in program.methods]
    return [pytest.param(*case, id="-".join(case)) for case in cases]


def run(file, arguments, core, directory, method=METHODS[0], seconds=2 * TIMEOUT, without=""):
    """Run a program, which must print nothing. Return the directories that it leaves behind."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", HERE / file, *arguments],
        env=child_environment(core, TMPDIR=str(directory), METHOD=method, WITHOUT=without),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    printed = f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), printed
    return list(directory.glob("fastevent-*"))


@pytest.mark.parametrize(("name", "method"), each(PROGRAMS))
def test_program(core, name, method, directory):
    assert run("shared_programs.py", [name], core, directory, method) == []


@pytest.mark.parametrize(("name", "method"), each(FAULTS))
def test_fault(core, name, method, directory):
    left = run("shared_faults.py", [name], core, directory, method)
    leaves_one = _place.HAS_PATHS and name == "a_killed_home_sets_its_events"
    assert len(left) == leaves_one, left


@pytest.mark.skipif(sys.platform != "linux", reason="they find a home in /proc")
@pytest.mark.parametrize(("name", "method"), each(ATTACKS))
def test_attack(core, name, method, directory):
    if "fork_in_c" in name and sys.implementation.name == "pypy":
        pytest.skip("has no ctypes.PyDLL, by which a program could fork in C")
    run("shared_attacks.py", [name], core, directory, method, seconds=4 * TIMEOUT)


@pytest.mark.skipif(sys.platform != "linux", reason="which has what the other systems have")
@pytest.mark.parametrize(("file", "name"), PORTABLE)
@pytest.mark.parametrize("without", OTHER_SYSTEMS.values(), ids=OTHER_SYSTEMS)
def test_program_on_another_system(core, file, name, without, directory):
    left = run(file, [name], core, directory, "spawn", without=without)
    assert len(left) == (name == "a_killed_home_sets_its_events" and "HAS_PATHS" not in without), left


def test_paths_that_are_too_long_are_not_needed(core, directory):
    (directory / TOO_LONG).mkdir(parents=True)
    assert run("shared_faults.py", ["a_worker_sets_and_exits_at_once"], core, directory / TOO_LONG) == []


@pytest.mark.skipif(os.name != "posix", reason="has no signals to stop a process, and no forks")
def test_chaos_loses_no_set(core, directory):
    """Workers are killed and stopped at random: 5 seconds, a minute for FASTEVENT_TEST_SCALE."""
    scale = int(os.environ.get("FASTEVENT_TEST_SCALE", "1"))
    seconds = 5 if scale == 1 else 60
    run("shared_chaos.py", [str(seconds)], core, directory, seconds=seconds + 2 * TIMEOUT)


def test_is_imported_when_it_is_used(core):
    def program():
        import sys
        import threading

        import fastevent

        fastevent.Event(0.01, set_on_timeout=True).wait()
        assert not {"fastevent.shared", "fastevent._reasons", "_socket", "hmac", "multiprocessing"} & set(sys.modules)
        assert fastevent.SharedEvent
        assert "fastevent.shared._hub" in sys.modules and "multiprocessing" not in sys.modules
        assert "fastevent shared" not in {thread.name for thread in threading.enumerate()}

    python(program, core)


def test_refuses_what_others_would_not_notice(core):
    def program():
        from fastevent import SharedEvent

        event = SharedEvent(60)
        for call, text in [
            (event.clear, "make a new SharedEvent"),
            (event.restart_timeout, "make a child(timeout)"),
            (lambda: event.restart_timeout(5), "make a child(timeout)"),
            (lambda: event.__init__(), "make a new SharedEvent"),
            (lambda: event.__init__(5), "make a new SharedEvent"),
        ]:
            try:
                call()
            except TypeError as error:
                assert text in str(error), error
            else:
                raise AssertionError(text)
        assert event.timeout == 60 and not event.is_set()
        child = event.child(30)
        assert child.restart_timeout(60)
        try:
            SharedEvent(timeout=-1)
        except ValueError as error:
            assert "-1" in str(error)
        else:
            raise AssertionError("a timeout below zero is taken")

    python(program, core)


def test_a_copy_is_the_event_itself(core):
    def program():
        import copy
        import pickle

        from fastevent import Event, SharedEvent

        event = SharedEvent(name="x")
        copies = [copy.copy(event), copy.deepcopy([event])[0], *(pickle.loads(pickle.dumps(event, each)) for each in range(6))]
        assert all(each is event for each in copies)
        assert repr(event).startswith("<fastevent.SharedEvent 'x' at"), repr(event)
        for call in (copy.copy, copy.deepcopy, pickle.dumps):
            try:
                call(Event())
            except TypeError as error:
                assert "SharedEvent" in str(error)
            else:
                raise AssertionError(call)

    python(program, core)


def test_dropped_events_leave_nothing(core):
    def program():
        import gc
        import pickle

        from fastevent import SharedEvent
        from fastevent.shared import _hub, _sets

        tickets = [pickle.dumps(SharedEvent(60, set_on_timeout=True)) for _ in range(100)]
        gc.collect()
        assert not _hub.hub().held.references
        again = pickle.loads(tickets[0])
        assert pickle.loads(tickets[0]) is again and len(_hub.hub().held.references) == 1
        again.set("known by its number")
        del again
        gc.collect()
        assert pickle.loads(tickets[0]).reason == "known by its number"
        _sets.MOST_CAUSES = 10
        for _ in range(20):
            SharedEvent().set("why")
        causes = _hub.hub().own().causes
        causes.trim()
        assert len(causes._lines) == 10
        assert pickle.loads(tickets[0]).is_set() and not pickle.loads(tickets[1]).is_set()

    python(program, core)


def test_polls_are_those_of_event(core):
    """Each class has them itself: that is what the interpreter makes short calls of."""

    def program():
        from fastevent import IMPLEMENTATION, SharedEvent

        assert IMPLEMENTATION == "python" or {"is_set", "check_timeout", "check", "flag"} <= set(vars(SharedEvent))

    python(program, core)


def test_tasks_of_joblib_receive_it(core, directory):
    pytest.importorskip("joblib")
    run("shared_programs.py", ["goes_to_joblib"], core, directory)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="has no InterpreterPoolExecutor")
def test_tasks_of_other_interpreters_receive_it(core, directory):
    run("shared_programs.py", ["goes_to_other_interpreters"], core, directory)
