"""Every fault of `faults.py`, over both cores."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from faults import FAULTS
from helpers import CORE_SWITCH

#: `make soak` asks for more.
SCALE = os.environ.get("FASTEVENT_TEST_SCALE", "1")

PROGRAM = Path(__file__).with_name("faults.py")

#: Without the GIL, a dict that other threads use at the moment of a fork may stay locked in the child: no remedy in Python.
NOT_IN_PYTHON_WITHOUT_THE_GIL = {"fork_in_the_midst"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the faults are those of POSIX: signals and forks")


@pytest.mark.parametrize("name", FAULTS)
def test_fault(core, name):
    if core == "py" and sysconfig.get_config_var("Py_GIL_DISABLED") and name in NOT_IN_PYTHON_WITHOUT_THE_GIL:
        pytest.skip("a dict that other threads use at a fork may stay locked in the child")
    if name == "clock_jumps" and shutil.which("faketime") is None:
        if os.environ.get("CI_FAKETIME") == "1":
            pytest.fail("faketime is not installed, and CI_FAKETIME=1 asks for it")
        pytest.skip("faketime, which sets the clock for one process, is not installed")
    done = subprocess.run(
        [sys.executable, PROGRAM, name, "fastevent:Event", SCALE],
        env={**os.environ, **CORE_SWITCH[core]},
        capture_output=True,
        text=True,
        timeout=240 * max(1.0, float(SCALE)),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
