"""The proofs: `spin` takes each model through all its interleavings, and finds every planted bug. See docs/proofs.md."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROOFS = Path(__file__).parent.parent / "proofs"
CUT_SHORT = re.compile("max search depth too small|memory limit|out of memory|Search not completed", re.IGNORECASE)
UNREACHED = re.compile(r"^\t.*, state \d+, (?!\"-end-\")", re.MULTILINE)  # who serves the others never ends

HOLDS = [
    ("waiters", "CLEARERS=2"),
    ("waiters", "SETTERS=3"),
    ("waiters", "PATIENT=2"),
    ("waiters", "TIMED=2 SETTERS=1"),
    ("crowds", "CLEARERS=1"),
    ("crowds", "SETTERS=1"),
    ("crowds", "SETTERS=1 CLEARERS=1 TIMED=2"),
    ("crowds", "SETTERS=1 INTERRUPTS"),
    ("store_buffers", ""),
]
BUGS = [
    (model.stem, bug)
    for model in sorted(PROOFS.glob("*.pml"))
    for bug in sorted(set(re.findall(r"\bBUG_\w+", model.read_text(encoding="utf-8"))))
]


@pytest.fixture(scope="module", autouse=True)
def spin():
    if shutil.which("spin") is None:
        if os.environ.get("CI_PROOFS") == "1":
            pytest.fail("spin is not installed, and CI_PROOFS=1 asks for the proofs")
        pytest.skip("spin, the model checker, is not installed")


def search(model, switches, folder, optimisation="-O0"):
    """Search all states of a model. Return how many errors there are, up to the first, and the verifier's report."""

    def run(*command):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("spin", *(f"-D{switch}" for switch in switches.split()), "-a", str(PROOFS / f"{model}.pml"))
    run("gcc", optimisation, "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=900", "-o", "pan", "pan.c")
    report = run("./pan", "-m10000")
    return int(re.search(r"errors: (\d+)$", report, re.MULTILINE)[1]), report


@pytest.mark.parametrize(("model", "switches"), HOLDS)
def test_holds_over_all_interleavings(model, switches, tmp_path):
    errors, report = search(model, switches, tmp_path, "-O1")
    assert errors == 0, report
    assert not CUT_SHORT.search(report), report
    assert not UNREACHED.search(report), report  # what no run reaches, no run has checked


@pytest.mark.parametrize(("model", "bug"), BUGS)
def test_finds_the_planted_bug(model, bug, tmp_path):
    errors, report = search(model, bug + (" INTERRUPTS" if bug == "BUG_NO_RESCUE" else ""), tmp_path)
    assert errors >= 1, report
