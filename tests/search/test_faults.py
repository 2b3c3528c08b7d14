"""Every fault of `faults`, over both cores."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from faults import FAULTS, PROCESS_FAULTS
from helpers import SCALE, TOO_LONG, child_environment, need

PROGRAM = Path(__file__).with_name("faults")

#: Without the GIL, a dict that other threads use at the moment of a fork may stay locked in the child: no remedy in Python. On
#: 3.15, forking while threads end fails now and then with `threading.Event`, too.
NOT_WITHOUT_THE_GIL = {
    "forks_during_every_method": {"py"},
    "forks_while_many_are_woken": {"py", "c"} if sys.version_info >= (3, 15) else {"py"},
}

#: The subscribers of a watched event are in a dict over the compiled core, too.
WATCHED_NOT_ON_3_13T = {"forks_during_every_method"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the faults are those of POSIX: signals and forks")


#: The faults of a moment, for a self-setting event with a child, a callback and a waker.
WATCHED = [
    "signal_storm",
    "handler_releases_its_own_wait",
    "ctrl_c",
    "handlers_that_raise",
    "finalizers",
    "fork_with_waiters",
    "forks_during_every_method",
    "multiprocessing_children",
    "exit_while_daemons_wait",
    "races_of_everything",
    "many_waiters_that_leave",
    "forks_while_many_are_woken",
]


#: Dear ones, of which a part finds the same; `make soak` has them whole.
PART = {"exit_while_daemons_wait": 0.2, "forks_while_threads_use_it": 0.4}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(core, name):
    passes(core, name, "fastevent:Event", SCALE)


@pytest.mark.parametrize("name", WATCHED)
def test_fault_of_a_watched_event(core, name):
    passes(core, name, "watched:Watched", 0.3 * SCALE)


@pytest.mark.parametrize("name", PROCESS_FAULTS)
def test_fault_of_processes(core, name, tmp_path_factory):
    passes(core, name, "fastevent:SharedEvent", 0.5 * SCALE, TMPDIR=str(tmp_path_factory.mktemp("f")))


@pytest.mark.parametrize("name", ["killed_in_wait", "killed_in_is_set", "stopped_in_wait"])
@pytest.mark.parametrize("method", ["spawn", "forkserver", "loopback"])
def test_fault_of_other_processes(core, name, method, tmp_path_factory):
    folder = tmp_path_factory.mktemp("f")
    if method == "loopback":
        method, folder = "fork", folder / TOO_LONG
        folder.mkdir(parents=True)
    passes(core, name, "fastevent:SharedEvent", 0.1 * SCALE, METHOD=method, TMPDIR=str(folder))


def passes(core, name, event, scale, **settings):
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        on_3_13 = sys.version_info < (3, 14) and event.startswith("watched:") and name in WATCHED_NOT_ON_3_13T
        if on_3_13 or core in NOT_WITHOUT_THE_GIL.get(name, ()):
            pytest.skip("what other threads use at a fork may stay locked in the child")
    if name == "clock_jumps":
        need("faketime")
    if SCALE == 1:
        scale *= PART.get(name, 1)
    done = subprocess.run(
        [sys.executable, PROGRAM, name, event, str(scale)],
        env=child_environment(core, **settings),
        capture_output=True,
        text=True,
        timeout=240 * max(1.0, scale),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
