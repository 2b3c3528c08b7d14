"""`make instructions`: what the hot calls execute inside the extension, counted by valgrind's callgrind, not timed.

A count does not depend on the machine's mood, so a small step is seen: a call out of the extension that was not there before,
or more instructions than the tolerance. `make instructions UPDATE=1` writes instructions.json again, for this Python; the diff
says what a change costs. The compiler and its flags are part of the figures: the Makefile fixes them.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

FIGURES = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05  # of the instructions, and less than one never counts
CALLS = 2_000

#: A hot call, how its event is made, and what is run.
HOT = {
    "is_set()": ("Event()", "event.is_set()"),
    "check_timeout(), no timeout": ("Event()", "event.check_timeout()"),
    "check_timeout(), 300 s": ("Event(300)", "event.check_timeout()"),
    "set() and clear()": ("Event()", "event.set(); event.clear()"),
    "set() and clear(), 300 s": ("Event(300)", "event.set(); event.clear()"),
    "wait() on a set event": ("Event(); event.set()", "event.wait()"),
    "wait(0)": ("Event()", "event.wait(0)"),
    "Event()": ("None", "Event()"),
    "Event(300)": ("None", "Event(300)"),
    "Event(timeout=300)": ("None", "Event(timeout=300)"),
}
PROGRAM = "from fastevent import Event; event = {}\nfor _ in range({}): {}\n"


@cache
def counts(made, statement, calls):
    """Return the instructions executed inside the extension, and the calls out of it, of a program that runs *calls* calls."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", "--compress-pos=no", "--compress-strings=no", f"--callgrind-out-file={out}"]
        program = PROGRAM.format(made, calls, statement)
        done = subprocess.run([*command, sys.executable, "-c", program], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
        return inside(out.read_text("utf-8", "replace"))


def inside(profile):
    """Sum up what callgrind says of the extension: see "Callgrind Format Specification" in valgrind's manual."""
    instructions = calls_out = 0
    here = target = False
    lines = iter(profile.splitlines())
    for line in lines:
        if line.startswith("ob="):
            here = target = "_core_c" in line
        elif line.startswith("cob="):
            target = "_core_c" in line
        elif line.startswith("calls="):
            next(lines)  # what the callee took
            if here and not target:
                calls_out += int(line[6:].split()[0])
            target = here
        elif here and line[:1].isdigit():
            instructions += int(line.split()[1])
    return instructions, calls_out


def measure():
    """Return the figures of each hot call: what *CALLS* calls execute more than none, divided by them."""
    figures = {}
    for name, (made, statement) in HOT.items():
        none, some = counts(made, "pass", 0), counts(made, statement, CALLS)
        instructions, calls_out = (round((after - before) / CALLS, 1) for before, after in zip(none, some, strict=True))
        figures[name] = {"instructions": instructions, "calls out": calls_out}
    return figures


def compiler():
    return subprocess.run([os.environ["CC"], "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main():
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stored = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    measured = measure()
    if "--update" in sys.argv:
        stored[python] = {"compiler": compiler(), "calls": measured}
        FIGURES.write_text(json.dumps(dict(sorted(stored.items())), indent=2) + "\n", "utf-8")
        return
    if python not in stored:
        raise SystemExit(f"{FIGURES.name} has no figures for Python {python}: make instructions UPDATE=1")
    expected, grown = stored[python], []
    for name, now in measured.items():
        before = expected["calls"][name]
        more = now["instructions"] - before["instructions"]
        bad = more >= max(1, TOLERANCE * before["instructions"]) or now["calls out"] > before["calls out"] + 0.05
        grown += [name] * bad
        print(f"{'GREW' if bad else 'fine'}  {name:30} {before} -> {now}")
    if grown:
        raise SystemExit(
            f"more is executed than instructions.json says, by {', '.join(grown)}.\n"
            f"The figures were made with {expected['compiler']}, this is {compiler()}.\n"
            "If it has to be: make instructions UPDATE=1, and say why in the commit."
        )


if __name__ == "__main__":
    main()
