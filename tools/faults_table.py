"""`make faults`: run every fault over our cores, `threading.Event` and the peers, and write the table of docs/faults.md.

A process that says nothing for the limit of its fault hangs; the limits are several times what a fault takes.
"""

import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten

from faults import FAULTS, PROCESS_FAULTS

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tests/search/faults"
PAGE = ROOT / "docs/faults.md"
MARKER = "<!-- faults: the rest of the page is made by `make faults` -->\n"
LIMIT = 40
SCALE = 0.3

#: name in the table -> the class, the distribution, and settings of the environment
SUBJECTS = {
    "fastevent": ("fastevent:Event", "fastevent", {}),
    "threading.Event": ("threading:Event", None, {}),
    "fastevent, Python core": ("fastevent:Event", "fastevent", {"FASTEVENT_PURE_PYTHON": "1"}),
    "aiologic.REvent": ("faults_table:AiologicEvent", "aiologic", {}),
    "cereggii.AtomicEvent": ("cereggii:AtomicEvent", "cereggii", {}),
    "eventfd.EventFD": ("eventfd:EventFD", "eventfd", {}),
    "ThreadingValueEvent": ("faults_table:ValueEvent", "threading-value-event", {}),
}

#: The same for an event of several processes.
SHARED = {
    "`SharedEvent`": ("fastevent:SharedEvent", "fastevent", {}),
    "multiprocessing.Event": ("multiprocessing:Event", None, {}),
    "a manager's Event": ("faults_table:ManagerEvent", None, {}),
    "`SharedEvent`, Python core": ("fastevent:SharedEvent", "fastevent", {"FASTEVENT_PURE_PYTHON": "1"}),
}

HEADER = """
Made on CPython {python}, {system}: {versions}.

Each cell is a process that ran one of the programs in `tests/search/faults`, with {scale} times the numbers that the row
names. They use only what `threading.Event` has, too:

- ✓: the event passed. No thread was stuck; nothing was lost, too early or left behind.
- **hangs**: the process did not end within {limit} seconds, several times what it takes.
- **crashes**: a signal ended it.
- **…Error**: what it raised. An `AssertionError` is a broken promise, such as a lost wake-up or a `False` before its time.
- has no…, takes no…: it lacks what the program needs.

Much of this depends on the timing: what one run does not find, another may.
"""

OF_PROCESSES = """
### Events of several processes

In the same way, with events that are arguments of forked processes."""


def AiologicEvent():
    """aiologic calls the event that can be cleared REvent."""
    import aiologic

    return aiologic.REvent()


def ValueEvent():
    """Its set() takes a value, its wait() returns it."""
    import threading_value_event

    event = threading_value_event.ThreadingValueEvent()
    event.set = partial(event.set, True)
    event.wait = partial(event.wait, default=False)
    return event


def ManagerEvent():
    """It lives in a process of its own, as long as its manager."""
    manager = multiprocessing.Manager()
    event = manager.Event()
    event.manager = manager
    return event


def outcome(name, path, settings):
    process = subprocess.Popen(
        [sys.executable, PROGRAM, name, path, str(SCALE)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools"), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "**hangs**"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # the children of a fork that hang
        except ProcessLookupError:
            pass
    if process.returncode == 0 and not output:
        return "✓"
    if process.returncode < 0:
        return f"**crashes**: {signal.Signals(-process.returncode).name}"
    last = output.strip().splitlines()[-1] if output.strip() else "says nothing"
    kind, _, text = last.partition(": ")
    if kind == "AttributeError":
        return f"has no `{text.split(chr(39))[-2]}`"
    if "takes no arguments" in text:
        return "takes no timeout"
    if "threads hang" in text:
        return f"**{text} for ever**"
    return f"**{kind}**: {shorten(text, 60, placeholder=' …')}" if text else f"**{kind[:60].rstrip(':')}**"


def table(faults, subjects):
    rows = {name: [] for name in faults}

    def run(names):
        for name in names:
            for path, _, settings in subjects.values():
                rows[name].append(outcome(name, path, settings))
            print(name, rows[name], file=sys.stderr)

    # Two at a time: more would disturb each other's clocks.
    threads = [threading.Thread(target=run, args=(list(faults)[part::2],)) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [
        "",
        f"| | {' | '.join(subjects)} |",
        f"|---|{'---|' * len(subjects)}",
        *(f"| `{name}`: {faults[name].__doc__.splitlines()[0]} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]


def main():
    if shutil.which("faketime") is None:
        sys.exit("faketime is not installed, and the fault clock_jumps needs it")
    versions = ", ".join(f"{dist} {version(dist)}" for dist in dict.fromkeys(dist for _, dist, _ in SUBJECTS.values() if dist))
    of = {"python": platform.python_version(), "system": platform.system(), "versions": versions}
    header = HEADER.format(**of, limit=LIMIT, scale=SCALE)
    lines = [header, *table(FAULTS, SUBJECTS), OF_PROCESSES, *table(PROCESS_FAULTS, SHARED)]
    written_by_hand = PAGE.read_text(encoding="utf-8").partition(MARKER)[0]
    PAGE.write_text(written_by_hand + MARKER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
