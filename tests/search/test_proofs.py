"""The models in `proofs/`: the model checker spin searches all their interleavings. See proofs/README.md."""

import re
import subprocess

import pytest
from helpers import ROOT, SCALE, need

PROOFS = ROOT / "proofs"
INCOMPLETE = re.compile("max search depth too small|memory limit|out of memory|Search not completed", re.IGNORECASE)
UNREACHED = re.compile(r"^unreached in (\w+ ?\w*)|, (state \d+), (?!\"-end-\")", re.MULTILINE)

# The defines of each search. They say how many threads call what: see the top of the model.
SEARCHES = {
    "compiled_core": [
        "UNTIMED=2",
        "TIMED=0 OWN=1 RESTARTERS=1",
        "TIMED=2 WINDOW=2",
        "SETTERS=2 CLEARERS=2",
        "SETTERS=2",
    ],
    "store_buffers": [""],
    "shared": ["KILLED=3"],
    "shared_exit": ["OTHERS=2", "FOLLOWERS=3"],
    "shared_forgetting": ["", "SETTERS=1 ARRIVALS=3"],
    "shared_proof": [""],
    "shared_reconnect": [""],
}
LONG_SEARCHES = {
    "compiled_core": ["SETTERS=2 UNTIMED=2", "UNTIMED=2 TIMED=0 OWN=1 RESTARTERS=1", "OWN=1 RESTARTERS=1"],
    "shared": ["INTERRUPTS KILLED=0", "INTERRUPTS"],
    "shared_forgetting": ["SETTERS=2 ARRIVALS=2"],
    "shared_reconnect": ["ENDS=2"],
}
if SCALE > 1:
    for name, searches in LONG_SEARCHES.items():
        SEARCHES[name] += searches

BUGS = [
    (model, bug)
    for model in SEARCHES
    for bug in sorted(set(re.findall(r"\bBUG_\w+", (PROOFS / f"{model}.pml").read_text(encoding="utf-8"))))
]


@pytest.fixture(scope="module", autouse=True)
def spin():
    need("spin")


def search(model, defines, folder, optimisation="-O0"):
    """Search the states of a *model* until the first error. Return whether there is one, and the report."""

    def run(*command):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("spin", *(f"-D{define}" for define in defines.split()), "-a", str(PROOFS / f"{model}.pml"))
    run("gcc", optimisation, "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000", "-o", "pan", "pan.c")
    report = run("./pan", "-m10000")
    return int(re.search(r"errors: (\d+)$", report, re.MULTILINE)[1]) > 0, report


def unreached(report):
    """Return the statements that a search has not reached, each by its process and number."""
    found, process = set(), ""
    for name, state in UNREACHED.findall(report):
        process = name or process
        if state:
            found.add((process, state))
    return found


@pytest.mark.parametrize("model", SEARCHES)
def test_model_holds_over_all_interleavings(model, tmp_path):
    never_reached = []
    for defines in SEARCHES[model]:
        has_error, report = search(model, defines, tmp_path, "-O1")
        assert not has_error, report
        assert not INCOMPLETE.search(report), report
        never_reached.append(unreached(report))
    assert not set.intersection(*never_reached), "no search has checked these statements"


@pytest.mark.parametrize(("model", "bug"), BUGS)
def test_search_finds_planted_bug(model, bug, tmp_path):
    assert any(search(model, f"{bug} {defines}", tmp_path)[0] for defines in SEARCHES[model])
