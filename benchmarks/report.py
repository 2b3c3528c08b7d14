"""`make bench-report`: docs/performance.md, its plots and the README's numbers, from the JSON files of `make bench`."""

import json
import re
import sys
from collections import defaultdict
from functools import cached_property
from itertools import groupby
from pathlib import Path

from plots import bars, lines
from subjects import ALIVE, HANDOVER, MEMORY, OPERATIONS, POLLERS, SETTING, SUBJECTS, THREAD, WAKING

ROOT = Path(__file__).resolve().parent.parent
README_PYTHON = "3.13"  # whose numbers the README shows
NOTHING = "\N{EN DASH}"  # in the cell of what was not measured
NOISE, SCHEDULING = 1.03, 1.15  # a smaller difference counts as none: in a call, and where threads are woken
WAITERS = (1, 10, 100, 1_000, 4_000)


#: The rows of the README.
README_ROWS = (
    "is_set()",
    "check_timeout(), 300 s",
    "set() and clear()",
    "wait(0)",
    "Event()",
    HANDOVER,
    "set() until 1,000 waiters ran",
    MEMORY,
)


def woken(waiters):
    return f"set() until {waiters:,} waiter{'s' * (waiters > 1)} ran"


#: Why a peer may be faster, where it is.
WHY = {
    ("Event()", "cereggii"): "it has no dictionary, takes no weak references and is not seen by the garbage collector; ours is "
    "an instance of a Python class, which must have them to be a `threading.Event`",
    (HANDOVER, "eventfd"): "it lets go of the GIL while the system wakes the other thread, which makes one switch of threads; "
    "here the woken thread runs into the GIL, or into the event's mutex, that `set()` holds, so the system switches more often",
}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(nanoseconds):
    for limit, unit in ((1e3, "ns"), (1e6, "µs"), (1e9, "ms")):
        if nanoseconds < 0.9995 * limit:
            return f"{nanoseconds / limit * 1e3:.3g} {unit}"
    return f"{nanoseconds / 1e9:.3g} s"


def quantity(row, value):
    """Write what a row of the table says: a time, or the memory."""
    return NOTHING if value is None else f"{value:,.0f} B" if row == MEMORY else duration(value)


def table(head, rows):
    return [
        "| " + " | ".join(head) + " |",
        "|---" + "|--:" * (len(head) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


class Run:
    """What one interpreter's JSON says: `best[operation, subject]` and so on, in nanoseconds (or bytes) for a call."""

    def __init__(self, path):
        stored = json.loads(path.read_text("utf-8"))
        self.info, self.when = stored["machine_info"], stored["datetime"][:10]
        self.python = self.info["python"]
        self.minor = re.match(r"\d+\.\d+", self.python)[0] + ("t" if self.python.endswith("t") else "")
        self.best, self.bytes, self.statements = defaultdict(lambda: float("inf")), {}, {}
        for one in stored["benchmarks"]:
            facts, operation = one["extra_info"], one["group"]
            keys = [facts[key] for key in ("polled", "shared", "threads", "waiters", "events") if key in facts]
            key = (operation, facts["subject"], *keys)
            self.best[key] = min(self.best[key], one["stats"]["min"] / facts["calls"] * 1e9)
            if "bytes" in facts:
                self.bytes[key] = facts["bytes"]
            if "setting" in facts:
                setting = (SETTING, *key[1:])
                self.best[setting] = min(self.best[setting], facts["setting"] * 1e9)
            if "statement" in facts:
                self.statements[key] = facts["statement"]
        self.loop = self.best.pop(("loop", "floor"))

    def ns(self, *key):
        """Return the time of a call, or None if it was not measured."""
        if key not in self.best:
            return None
        return max(0.1, self.best[key] - self.loop * (key in self.statements))

    @cached_property
    def rows(self):
        """The rows of the table: a name, and what each subject takes."""
        names = [operation for operation, *_ in OPERATIONS]
        found = [(name, {one.name: self.ns(name, one.name) for one in SUBJECTS}) for name in [*names, HANDOVER, THREAD]]
        found += [(woken(n), {one.name: self.ns(WAKING, one.name, n) for one in SUBJECTS}) for n in WAITERS]
        return [*found, (MEMORY, {one.name: self.bytes.get((MEMORY, one.name)) for one in SUBJECTS})]


def targets(run):
    """Yield what is promised, its limit, and what it is here."""

    def of(operation, one, other, *key):
        return run.ns(operation, one, *key) / run.ns(operation, other, *key)

    yield "`is_set()` ÷ an empty method", "≤ 1.05", of("is_set()", "fastevent", "floor")
    yield "`flag` ÷ an attribute", "≤ 1.05", of("flag, for is_set()", "fastevent", "floor")
    yield "`check_timeout()` ÷ an empty method", "≤ 1.5", of("check_timeout(), 300 s", "fastevent", "floor")
    yield "`threading.Event()` ÷ `Event()`", "≥ 20 on 3.11, ≥ 10 later", of("Event()", "threading.Event", "fastevent")
    yield "hand-over ÷ two bare locks", "≤ 1.05", of(HANDOVER, "fastevent", "floor")
    yield "1,000 waiters ÷ `threading.Event`", "≤ 0.75", of(WAKING, "fastevent", "threading.Event", 1_000)
    yield "`set()` with 4,000 waiters, ms", "≤ 2", run.ns(SETTING, "fastevent", 4_000) / 1e6
    yield (
        "a callback ÷ `set()` and `clear()` of `threading.Event`",
        "≤ 1.1",
        (run.ns("a callback, added, called and cleared", "fastevent") / run.ns("set() and clear()", "threading.Event")),
    )
    yield (
        "a self-setting event ÷ an empty instance",
        "≤ 20",
        (run.ns("a self-setting event, made and dropped", "fastevent") / run.ns("Event()", "floor")),
    )
    yield "bytes of an event", "≤ 128", run.bytes[MEMORY, "fastevent"]


def kept(run, limit, value):
    sign, bound = limit.split()[:2]
    if "later" in limit and run.minor != "3.11":
        bound = 10
    return value <= float(bound) if sign == "≤" else value >= float(bound)


def promised(runs):
    columns = [list(targets(run)) for run in runs]
    rows = []
    for i, (what, limit, _) in enumerate(columns[0]):
        values = [column[i][2] for column in columns]
        cells = [number(v) if kept(run, limit, v) else f"**{number(v)}**" for run, v in zip(runs, values, strict=True)]
        rows.append([what, limit, *cells])
    return table(["", "promised", *(run.minor for run in runs)], rows)


def not_first(runs):
    for run in runs:
        for name, row in run.rows:
            ours = row["fastevent"]
            for one in SUBJECTS:
                if not one.is_event or one.name in {"fastevent", "Python core"} or not row[one.name]:
                    continue
                if row[one.name] * (NOISE if ours < 1_000 else SCHEDULING) < ours:
                    yield name, one.name, f"{run.minor}: {quantity(name, row[one.name])} against {quantity(name, ours)}"


def behind(runs):
    found = sorted(not_first(runs), key=lambda item: item[:2])
    if not found:
        return ["Nowhere: in every row no event of the same kind is faster or smaller."]
    return [
        f"- {code(name)}: {peer} is {'smaller' if name == MEMORY else 'faster'} ({'; '.join(where for *_, where in items)})"
        + (f": {WHY[name, peer]}." if (name, peer) in WHY else ".")
        for (name, peer), items in ((key, list(items)) for key, items in groupby(found, key=lambda item: item[:2]))
    ]


def operations(run):
    others = [one for one in SUBJECTS if one.name not in {"fastevent", "threading.Event", "floor"}]
    others = [one.name for one in others if one.name not in run.info["missing"]]
    rows = []
    for name, row in run.rows:
        ours, std, least = row["fastevent"], row["threading.Event"], row["floor"]
        shares = [f"{value / std:.3g}" if std and value else quantity(name, value) for value in (row[one] for one in others)]
        rows.append(
            [
                code(name),
                quantity(name, ours),
                quantity(name, least),
                f"{ours / least:.2f}" if least else NOTHING,
                quantity(name, std),
                f"{ours / std:.2g}" if std else NOTHING,
                *shares,
            ]
        )
    return table(
        ["", "fastevent", "floor", "÷ floor", "`threading.Event`", "fastevent ÷ it", *(f"{one} ÷ it" for one in others)], rows
    )


def waiting(run):
    names = [one.name for one in SUBJECTS if (WAKING, one.name, 1) in run.best]
    counts = sorted({key[2] for key in run.best if key[0] == WAKING})
    rows = [[f"{n:,}", *(quantity(WAKING, run.ns(WAKING, name, n)) for name in names)] for n in counts]
    itself = ["fastevent", "Python core", "threading.Event"]
    rows += [
        [
            f"{n:,}, `set()` itself",
            *(quantity(SETTING, run.ns(SETTING, name, n)) if name in itself else NOTHING for name in names),
        ]
        for n in counts
    ]
    return table(["waiters", *names], rows)


def alive(run):
    names = [one.name for one in SUBJECTS if (ALIVE, one.name, 1) in run.best]
    counts = sorted({key[2] for key in run.best if key[0] == ALIVE})

    def cell(name, count):
        size = run.bytes.get((ALIVE, name, count))
        return f"{number(run.ns(ALIVE, name, count))} ns" + (f", {size:,.0f} B" if size else "")

    return table(["events", *names], [[f"{n:,}", *(cell(name, n) for name in names)] for n in counts])


def pollers(run):
    keys = sorted({key[1:4] for key in run.best if key[0] == POLLERS})
    counts = sorted({key[4] for key in run.best if key[0] == POLLERS})
    rows = [
        [
            f"{name} {code(polled)}",
            "one for all" if shared else "one each",
            *(number(run.ns(POLLERS, name, polled, shared, n)) for n in counts),
        ]
        for name, polled, shared in keys
    ]
    return table(["", "event", *(f"{n} thread{'s' * (n > 1)}" for n in counts)], rows)


def machine(run):
    info, release = run.info, ".".join(run.info["release"].split(".")[:2])
    return f"{info['cpu'].get('brand_raw', info['machine'])}, {info['processors']} processors, {info['system']} {release}"


def plots(runs, main):
    """Return the plots, a question each: by the name of the file, the question and the drawing."""
    peers = [one.name for one in SUBJECTS if one.is_event and one.name not in {"fastevent", "multiprocessing"}]
    on = f"CPython {main.python}"

    def poll(run, label, operation, name):
        return label, run.ns(operation, name), name == "fastevent"

    polls = [
        poll(main, "fastevent: flag", "flag, for is_set()", "fastevent"),
        poll(main, "fastevent: is_set()", "is_set()", "fastevent"),
        poll(main, "an empty method in C", "is_set()", "floor"),
        *(poll(main, f"{name}: is_set()", "is_set()", name) for name in peers),
    ]
    versions = [
        [
            poll(run, f"{run.minor}  fastevent", "is_set()", "fastevent"),
            poll(run, "threading.Event", "is_set()", "threading.Event"),
        ]
        for run in runs
    ]
    sizes = [(name, main.bytes.get((MEMORY, name)), name == "fastevent") for name in ["fastevent", *peers]]
    waking = [
        (name, sorted((key[2], main.best[key]) for key in main.best if key[:2] == (WAKING, name)), name == "fastevent")
        for name in ("fastevent", "threading.Event", "aiologic")
    ]

    setting = [
        (name, sorted((key[2], main.best[key]) for key in main.best if key[:2] == (SETTING, name)), name == "fastevent")
        for name in ("fastevent", "threading.Event")
    ]

    def measured(rows):
        return sorted((row for row in rows if row[1]), key=lambda row: row[1])

    drawn = (
        ("poll", "What does a poll cost?", f"the loop itself taken off; {on}", bars, [measured(polls)], duration),
        (
            "setting",
            "How long does set() itself take, with many waiters?",
            f"the median; {on}",
            lines,
            setting,
            duration,
            "waiters",
        ),
        (
            "waiters",
            "How does waking grow with the number of waiters?",
            f"from set() until the last waiter runs; {on}",
            lines,
            waking,
            duration,
            "waiters",
        ),
        (
            "memory",
            "How much memory does an event take?",
            f"as tracemalloc sees it; {on}",
            bars,
            [measured(sizes)],
            "{:,.0f} B".format,
        ),
        ("versions", "What does is_set() cost, by Python version?", "the loop itself taken off", bars, versions, duration),
    )
    return {name: (title, draw(title, subtitle, *rest)) for name, title, subtitle, draw, *rest in drawn}


def readme_table(run):
    rows = []
    for name, row in run.rows:
        if name not in README_ROWS:
            continue
        ours = row["fastevent"]
        others = (
            (row[one], f" ({number(row[one] / ours)} x)") if row[one] else (None, "") for one in ("threading.Event", "wrapper")
        )
        rows.append(
            [
                code(name),
                quantity(name, ours),
                *(quantity(name, value) + times for value, times in others),
                quantity(name, row["floor"]),
            ]
        )
    return table(["", "fastevent", "`threading.Event`", "wrapper¹", "floor²"], rows)


def readme(run):
    return [
        "![What does a poll cost?](docs/img/poll.svg)",
        "",
        f"CPython {run.python}; {machine(run)}:",
        "",
        *readme_table(run),
    ]


def replace_between(path, lines):
    begin, end = "<!-- performance: from `make bench-report` -->", "<!-- performance: end -->"
    before, _, rest = path.read_text("utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path}: no {begin} … {end}")
    path.write_text("\n".join([before + begin, *lines, end]) + after, "utf-8")


def code(name):
    """Mark up what is Python in the name of a row."""
    return re.sub(r"[\w.]+\([^)]*\)|\bflag\b", r"`\g<0>`", name)


PAGE = """\
# Performance

Measured {when} on {machine}, with CPython {pythons}, by

```sh
{commands}
```

A time is the minimum of 64 rounds of at least a millisecond, which all subjects take in turns, with that of the empty loop
taken off. A hand-over and the start of a thread are measured on one processor: waking another one costs more than what is
measured. Compare numbers within one interpreter only: they are from one run.

{images}

## What is promised

What was missed in this run is in bold.

{promised}

- `check_timeout()` reads a clock, and the cheapest one takes about 4 ns: next to an empty method of 5 ns, that is a lot.
- A callback is added and called by code in Python, as children are. Its cost is that of some ten calls of functions.
- `Event()` makes an instance of a Python class, and the floor of that is in the tables below: where `threading.Event()` itself
  costs less than ten of those, nothing that can take its place is ten times faster.
- `set()` keeps the GIL while it wakes a thread. Letting go of it would make a hand-over faster if the other thread soon waits
  again. But if the other thread computes, `set()` would wait for the GIL, for milliseconds.
- With the GIL, `set()` wakes 32 threads, and each of them wakes another one. So it takes as long with any number of waiters.

## Where another event is faster or smaller

{behind}

## Every operation

The columns "÷ it" are shares of `threading.Event`: 0.5 takes half as long. Where it has no such operation, they are times.

{operations}

{notes}

## How cost grows

With CPython {python}: one `set()`, until the last waiter runs Python code:

{waiting}

Many events alive at once: what making one costs, with the work of the garbage collector, and by how much a fresh process grows
for each:

{alive}
{free_threaded}"""
FREE_THREADED = """
Polling threads with CPython {python}: nanoseconds per poll, whichever thread makes it. There were {processors} processors:
more threads than that cannot make it any faster.

{pollers}

Without the GIL, a thread that reaches the event by an attribute, a global or a closure counts a reference to it, and threads
that share an event write to one place in memory. On 3.14t two threads that poll `self.stop.is_set()` took 204 ns for each
poll, one alone 63 ns. A local variable costs nothing, because 3.14 borrows it: 49 and 50 ns. So write

```python
stop = self.stop
while not stop.is_set():
    ...
```

or give each thread a child of the event.
"""


def page(runs, main):
    notes = [
        f"- **{one.name}**{' ' + version if (version := main.info['versions'].get(one.distribution)) else ''}: {one.note}."
        for one in SUBJECTS
        if one.note
    ]
    notes += [f"- not measured on {run.minor}: {name} ({why})" for run in runs for name, why in run.info["missing"].items()]
    commands = [f"make bench PYTHON=python{run.minor} VENV=.venv-{run.minor}" for run in runs]
    free_threaded = "".join(
        FREE_THREADED.format(python=run.python, processors=run.info["processors"], pollers="\n".join(pollers(run)))
        for run in runs
        if run.minor.endswith("t")
    )
    return PAGE.format(
        when=main.when,
        machine=machine(main),
        pythons=", ".join(run.python for run in runs),
        python=main.python,
        commands="\n".join(commands),
        images="\n\n".join(f"![{title}](img/{name}.svg)" for name, (title, _) in plots(runs, main).items()),
        promised="\n".join(promised(runs)),
        behind="\n".join(behind(runs)),
        operations="\n\n".join("\n".join([f"### CPython {run.python}", "", *operations(run)]) for run in runs),
        notes="\n".join(notes),
        waiting="\n".join(waiting(main)),
        alive="\n".join(alive(main)),
        free_threaded=free_threaded,
    )


def version_key(run):
    major, minor = run.minor.rstrip("t").split(".")
    return int(major), int(minor), run.minor.endswith("t")


def main(paths):
    runs = sorted(map(Run, map(Path, paths)), key=version_key)
    if not runs:
        raise SystemExit("no JSON: make bench first")
    main_run = next((run for run in runs if run.minor == README_PYTHON), runs[0])
    images = ROOT / "docs/img"
    images.mkdir(exist_ok=True)
    for name, (_, content) in plots(runs, main_run).items():
        (images / f"{name}.svg").write_text(content, "utf-8")
    (ROOT / "docs/performance.md").write_text(page(runs, main_run), "utf-8")
    replace_between(ROOT / "README.md", readme(main_run))


if __name__ == "__main__":
    main(sys.argv[1:])
