"""Every example of the API reference, run as written, in a process of its own, from the installed package.

All of them start together: they sleep most of the time.
"""

import os
import re
import subprocess
import sys

import pytest
from conftest import CORES
from helpers import CORE_SWITCH, ROOT

REFERENCE = ROOT / "docs" / "event-api.md"

IMPORTS = "from ddeutil.workflow.event import Event\nimport threading, time\n"

#: The names that the fragment under "Event Usage Patterns" uses without defining them.
PATTERN_NAMES = """
def long_running_operation(event):
    print("operation")
def worker(event):
    print("released", event.wait())
def timed_operation(event):
    print("timed")
"""

#: Stands for the processor's load, so that the example alerts at once, and for the package, which is not what is tested.
PSUTIL = """
class memory:
    percent = 99.0
def cpu_percent(interval):
    return 99.0
def virtual_memory():
    return memory
"""

#: heading of the example -> what comes before it, and what it must print
EXAMPLES = {
    "Quick Start": ("", ["Processing step 5", "Operation cancelled", "Event status: True"]),
    "Basic Event Control": ("", ["Completed step 10", "Operation cancelled by event"]),
    "Multi-Thread Coordination": ("", ["Worker 2 stopping", "All workers stopped"]),
    "Timeout Management": ("", ["Operation timed out after ", "Testing 10-second timeout:"]),
    "Resource Cleanup with Events": ("", ["Operation cancelled, cleaning up...", "Cleaning up resources..."]),
    "Event-Based Workflow Orchestration": ("", ["Cancelled workflow workflow-1", "Workflow cancelled"]),
    "Event-Based Monitoring": ("", ["Received system alert!"]),
    "Producer-Consumer Pattern": ("", ["Consumed item 3"]),
    "Barrier Pattern": ("", ["Worker 0 passed barrier", "Worker 2 passed barrier", "All workers completed"]),
    "Event Not Triggering": (IMPORTS, ["Event is set: False", "Event is set: True"]),
    "Timeout Issues": (IMPORTS, ["Elapsed time: 4.", "Timeout detected"]),
    "Thread Coordination Issues": (IMPORTS, ["Coordinating workers...", "Worker 2 continuing"]),
    "Event Usage Patterns": (IMPORTS + PATTERN_NAMES, ["operation", "released True", "timed"]),
}

#: Needs the engine; `examples` and the engine's tests have it at work.
LEFT_OUT = {"Workflow Cancellation Control"}

#: Keeps a processor busy for ever, by design: it is ended once it has shown what it shows.
ENDLESS = {"Event-Based Monitoring"}

#: The orchestrator iterates over a dict that its own threads shrink: its race, not ours.
MAY_END_WITH = {"Event-Based Workflow Orchestration": "RuntimeError: dictionary changed size during iteration"}


def blocks():
    heading, found = "", {}
    for title, code in re.findall(r"^#+ ([^\n]+)$|^```python\n(.*?)^```", REFERENCE.read_text(encoding="utf-8"), re.M | re.S):
        heading = title or heading
        if code:
            assert heading not in found
            found[heading] = code
    return found


def test_every_example_is_run():
    assert set(blocks()) == set(EXAMPLES) | LEFT_OUT


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    (folder / "psutil.py").write_text(PSUTIL)
    processes = []

    def start(core, title):
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", EXAMPLES[title][0] + blocks()[title]],
            cwd=folder,
            env={**os.environ, **CORE_SWITCH[core], "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def running(start):
    """All examples that end, over all cores, at once."""
    return {(core, title): start(core, title) for core in CORES for title in EXAMPLES if title not in ENDLESS}


def check(title, output):
    for expected in EXAMPLES[title][1]:
        assert expected in output, output
    if title not in MAY_END_WITH:
        assert "Traceback" not in output, output


@pytest.mark.parametrize("title", sorted(set(EXAMPLES) - ENDLESS))
def test_example(core, title, running):
    process = running[core, title]
    output, _ = process.communicate(timeout=120)
    if process.returncode:
        assert MAY_END_WITH.get(title, "exit code 0") in output, output
    check(title, output)


@pytest.mark.parametrize("title", sorted(ENDLESS))
def test_endless_example(core, title, start):
    process = start(core, title)
    output = ""
    for line in process.stdout:
        output += line
        if EXAMPLES[title][1][-1] in line:
            break
    process.kill()
    check(title, output)
