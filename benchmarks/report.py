"""What `make bench` ends with: the numbers of docs/performance.md and the README, the plots, and build/performance.json.

Everything is made from the JSON files of the interpreters that were measured. The pages keep their words; what stands between
two markers is replaced.
"""

import json
import re
import sys
from collections import defaultdict
from functools import cached_property
from itertools import groupby
from pathlib import Path

import subjects
from plots import bars, lines
from subjects import CALLBACK, CHILD, CHILD_MEMORY, HANDOVER, MEMORY, SELF_SETTING, SUBJECTS, TIMED_CHILD

ROOT = Path(__file__).resolve().parent.parent
README_PYTHON = "3.13"  # whose numbers the README and the plots show
NOTHING = "\N{EN DASH}"  # in the cell of what was not measured
NOISE, SCHEDULING = 1.05, 1.15  # a smaller difference counts as none: in a call, and where threads are woken

THOUSAND_CHILDREN = subjects.CHILDREN.format(1_000)
THOUSAND_WAITERS = subjects.WAKING.format(1_000)
SETTING_1000, SETTING_4000 = (subjects.SETTING.format(waiters) for waiters in (1_000, 4_000))
ANY_OF_10, ANY_OF_100 = (subjects.ANY.format(events) for events in (10, 100))

#: The rows of each interpreter's table.
ROWS = (
    "is_set()",
    "flag, for is_set()",
    "check_timeout(), 300 s",
    "set() and clear()",
    "wait(0)",
    "Event()",
    "Event(timeout=300)",
    "restart_timeout()",
    SELF_SETTING,
    CHILD,
    TIMED_CHILD,
    THOUSAND_CHILDREN,
    subjects.CHAIN.format(1_000),
    CALLBACK,
    HANDOVER,
    SETTING_4000,
    THOUSAND_WAITERS,
    subjects.LAG,
    MEMORY,
    CHILD_MEMORY,
)

#: The rows of the table of peers, and of the README.
PEER_ROWS = (
    "is_set()",
    "check_timeout(), 300 s",
    "check(), 300 s",
    "set() and clear()",
    "wait(0)",
    "Event()",
    "Event(timeout=300)",
    CHILD,
    TIMED_CHILD,
    HANDOVER,
    THOUSAND_WAITERS,
    MEMORY,
    CHILD_MEMORY,
)
README_ROWS = (
    "is_set()",
    "check_timeout(), 300 s",
    "set() and clear()",
    "wait(0)",
    "Event()",
    HANDOVER,
    THOUSAND_WAITERS,
    MEMORY,
)
TASK_ROWS = (
    subjects.SCOPE,
    subjects.SCOPE_BESIDE_TRIO,
    subjects.BY_TASK,
    subjects.BY_THREAD,
    subjects.TRIO_SCOPE,
    subjects.TRIO_BY_TASK,
)
TASK_SUBJECTS = ("fastevent", "Python core", "asyncio", "anyio", "aiologic", "trio")
THREAD_ROWS = (*(subjects.ANY.format(events) for events in (2, 10, 100)), subjects.TICK)
THREAD_SUBJECTS = ("fastevent", "Python core", "threading.Event", subjects.CONDITION, subjects.SELECTOR, "floor")
IMPORTED = ("fastevent", "Python core", "threading", "asyncio", "anyio", "trio", "aiologic", "cantok")
PROCESS_ROWS = (
    subjects.SHARED_POLL,
    subjects.SHARED_MADE,
    subjects.BETWEEN,
    subjects.MANY_EVENTS,
    subjects.MANY_PROCESSES,
)
PROCESS_SUBJECTS = ("SharedEvent", "RedisEvents", "multiprocessing.Event", "floor")
ALIVE = (1_000, 10_000, 100_000, 1_000_000)

#: Why a peer may be faster, where it is.
WHY = {
    ("Event()", "cereggii.AtomicEvent"): "it has no dictionary, takes no weak references and is not seen by the garbage "
    "collector; ours is an instance of a Python class, which must have them to be a `threading.Event`",
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


def memory(size):
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def quantity(row, value):
    """Write what a row says: a time in nanoseconds, or memory in bytes."""
    return NOTHING if value is None else f"{value:,.0f} B" if row.startswith("memory") else duration(value)


def code(name):
    """Mark up what is Python in the name of a row."""
    return re.sub(r"async with |[\w.]+\([^)]*\)|\bflag\b", lambda found: f"`{found[0]}`", name).replace(" ``", " ")


def table(head, rows):
    return [
        "| " + " | ".join(head) + " |",
        "|---" + "|--:" * (len(head) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def least(values):
    """Return the minimum, without the lowest tenth: for a millisecond, a machine may run faster than it ever does again."""
    return sorted(values)[len(values) // 10]


class Run:
    """What one interpreter's JSON says: `best[operation, subject, *numbers]`, in nanoseconds for a call or in bytes."""

    def __init__(self, path):
        stored = json.loads(path.read_text("utf-8"))
        self.info, self.when = stored["machine_info"], stored["datetime"][:10]
        self.python = self.info["python"]
        self.minor = re.match(r"\d+\.\d+", self.python)[0] + ("t" if self.python.endswith("t") else "")
        rounds, in_loop = defaultdict(list), set()
        for one in stored["benchmarks"]:
            facts = one["extra_info"]
            found = {name: seconds * 1e9 for name, seconds in facts.get("seconds", {}).items()} | facts.get("sizes", {})
            if one["group"]:
                found[one["group"]] = one["stats"]["min"] / facts["calls"] * 1e9
            for operation, value in found.items():
                key = (operation, facts["subject"], *facts["numbers"])
                rounds[key].append(value)
                if facts.get("loop"):
                    in_loop.add(key)
        self.best = {key: least(values) for key, values in rounds.items()}
        loop = self.best.pop(("loop", "floor"))
        for key in in_loop & self.best.keys():
            self.best[key] = max(0.1, self.best[key] - loop)
        start = self.best.pop((subjects.START, "floor"))
        for key in self.best:
            if key[0] == subjects.IMPORT:
                self.best[key] = max(0.1, self.best[key] - start)

    @cached_property
    def rows(self):
        """By the name of a row: what each subject takes."""
        rows = {}
        for (operation, subject, *numbers), value in self.best.items():
            rows.setdefault(operation.format(*numbers), {})[subject] = value
        return rows

    def get(self, row, subject="fastevent"):
        """Return what *subject* takes, or None if that was not measured."""
        return self.rows.get(row, {}).get(subject)

    def series(self, operation, subject="fastevent"):
        """Return the points of what depends on one number."""
        return sorted((key[2], value) for key, value in self.best.items() if key[:2] == (operation, subject))

    def peers(self):
        return [one.name for one in SUBJECTS if one.name not in {"fastevent", "floor", *self.info["missing"]}]

    def machine(self):
        info, release = self.info, ".".join(self.info["release"].split(".")[:2])
        return f"{info['cpu'].get('brand_raw', info['machine'])}, {info['processors']} processors, {info['system']} {release}"


# What it aims at


def targets(run):
    """Yield what is measured, the most that it may be, on which Pythons it may be another, and what it is here."""

    def of(row, other, other_row=None):
        ours, theirs = run.get(row), run.get(other_row or row, other)
        return None if ours is None or theirs is None else ours / theirs

    def beyond(row, other):
        return None if run.get(row) is None else run.get(row) - run.get(row, other)

    def milliseconds(row):
        return None if run.get(row) is None else run.get(row) / 1e6

    check_timeout, pair = "check_timeout(), 300 s", "set() and clear()"
    no_gil = {"3.13t": 8, "3.14t": 8, "3.15t": 8}
    yield "`is_set()` ÷ an empty method", 1.05, {}, of("is_set()", "floor")
    yield "`flag` ÷ an attribute", 1.05, {}, of("flag, for is_set()", "floor")
    yield "nanoseconds of `check_timeout()` beyond an empty method", 4, {}, beyond(check_timeout, "floor")
    yield "`Event()` ÷ `threading.Event()`", 0.1, {"3.11": 0.05}, of("Event()", "threading.Event")
    yield "hand-over ÷ two bare locks", 1.05, {}, of(HANDOVER, "floor")
    yield "1,000 waiters ÷ `threading.Event`", 0.75, {}, of(THOUSAND_WAITERS, "threading.Event")
    yield "`set()` itself with 1,000 waiters, in ms", 1, {}, milliseconds(SETTING_1000)
    yield "`set()` itself with 4,000 waiters, in ms", 2, no_gil, milliseconds(SETTING_4000)
    yield "a child ÷ cantok's", 0.45, {}, of(CHILD, "cantok")
    yield "a child with a timeout ÷ an empty instance", 13, {"3.14": 20}, of(TIMED_CHILD, "floor")
    yield "a self-setting event ÷ an empty instance", 13, {"3.14": 20}, of(SELF_SETTING, "floor")
    yield "`set()` of each of 1,000 children ÷ an empty instance", 2.2, {}, of(THOUSAND_CHILDREN, "floor", "Event()")
    yield "a callback ÷ `threading.Event`'s `set()` and `clear()`", 1.1, {"3.14": 2}, of(CALLBACK, "threading.Event", pair)
    yield "`async with Event(300)` ÷ `asyncio.timeout(300)`", 2.3, {}, of(subjects.SCOPE, "asyncio")
    yield "the same, where trio is imported", 2.3, {}, of(subjects.SCOPE_BESIDE_TRIO, "asyncio", subjects.SCOPE)
    yield "`wait_async()` ÷ `asyncio.Event`, set by a task", 1.6, {}, of(subjects.BY_TASK, "asyncio")
    yield "`wait_async()` ÷ `asyncio.Event`, set by a thread", 1.35, {}, of(subjects.BY_THREAD, "asyncio")
    yield "`wait_any()` of 10 ÷ flags under one condition", 2, {}, of(ANY_OF_10, subjects.CONDITION)
    yield "`wait_any()` of 100 ÷ flags under one condition", 6, {}, of(ANY_OF_100, subjects.CONDITION)
    yield "a tick ÷ `threading.Event.wait()`", 1, {}, of(subjects.TICK, "threading.Event")
    yield "bytes of an event", 128, {}, run.get(MEMORY)


def against_targets(runs):
    rows = []
    for kinds in zip(*map(targets, runs), strict=True):
        what, most, elsewhere, _ = kinds[0]
        cells = []
        for run, (*_, value) in zip(runs, kinds, strict=True):
            text = NOTHING if value is None else number(value)
            cells.append(
                text
                if value is None or value <= elsewhere.get(run.minor, elsewhere.get(run.minor.rstrip("t"), most))
                else f"**{text}**"
            )
        there = [f"{bound} on {minor}" for minor, bound in elsewhere.items() if minor in {run.minor for run in runs}]
        rows.append([what, "; ".join([f"≤ {most}", *there]), *cells])
    return table(["", "target", *(run.minor for run in runs)], rows)


# Where another event is better


def better(runs):
    for run in runs:
        for name in dict.fromkeys([*ROWS, *PEER_ROWS, *TASK_ROWS, *THREAD_ROWS]):
            ours = run.get(name)
            for one, theirs in run.rows.get(name, {}).items():
                known = ours and one not in {"fastevent", "Python core", "floor", subjects.CONDITION, subjects.SELECTOR}
                if known and theirs * (NOISE if ours < 1_000 else SCHEDULING) < ours:
                    yield name, one, f"{run.minor}: {quantity(name, theirs)} against {quantity(name, ours)}"


def behind(runs):
    found = sorted(better(runs), key=lambda item: item[:2])
    if not found:
        return ["In this run no other event is faster or smaller in any row."]
    lines = []
    for (name, peer), items in groupby(found, key=lambda item: item[:2]):
        word = "smaller" if name.startswith("memory") else "faster"
        why = f": {WHY[name, peer]}" if (name, peer) in WHY else ""
        lines.append(f"- {code(name)}: {peer} is {word} ({'; '.join(where for *_, where in items)}){why}.")
    return lines


# The tables


def operations(runs):
    """Return a table of each interpreter: beside `threading.Event` and the floor."""
    found = []
    for run in runs:
        rows = []
        for name in ROWS:
            ours, std, least = (run.get(name, one) for one in ("fastevent", "threading.Event", "floor"))
            if ours is not None:
                shares = [number(ours / other) if other else NOTHING for other in (std, least)]
                cells = [quantity(name, value) for value in (ours, std, least)]
                rows.append([code(name), cells[0], cells[1], shares[0], cells[2], shares[1]])
        head = ["", "fastevent", "`threading.Event`", "÷ it", "floor", "÷ floor"]
        found += ["", f"### CPython {run.python}", "", *table(head, rows)]
    return found[1:]


def peers(run):
    names = ["fastevent", *(name for name in run.peers() if name != "threading.Event")]
    rows = [[code(row), *(quantity(row, run.get(row, name)) for name in names)] for row in PEER_ROWS]
    notes = [
        f"- **{one.name}**{' ' + version if (version := run.info['versions'].get(one.distribution)) else ''}: {one.note}."
        for one in SUBJECTS
        if one.note
    ]
    missing = [f"- not measured: {name} ({why})" for name, why in run.info["missing"].items()]
    return [f"With CPython {run.python}:", "", *table(["", *names], rows), "", *notes, *missing]


def alive(run):
    kinds = (
        (subjects.ALIVE, subjects.ALIVE_MEMORY, "fastevent", "an event, made"),
        (subjects.ALIVE, subjects.ALIVE_MEMORY, "threading.Event", "a `threading.Event`, made"),
        (subjects.MADE, subjects.TIMER_MEMORY, "fastevent", "a self-setting event, made"),
        (subjects.RESTARTED, None, "fastevent", "its timeout restarted"),
        (subjects.DROPPED, None, "fastevent", "it dropped"),
    )

    def cell(time, size, name, count):
        value, bytes_each = run.get(time.format(count), name), size and run.get(size.format(count), name)
        return NOTHING if value is None else duration(value) + (f", {bytes_each:,.0f} B" if bytes_each else "")

    rows = [[what, *(cell(time, size, name, count) for count in ALIVE)] for time, size, name, what in kinds]
    return table(["one of so many alive", *(f"{count:,}" for count in ALIVE)], rows)


def beside(run):
    names = ("fastevent", "Python core", "threading.Event")
    rows = []
    for waiters in (50, 100):
        for operation in (subjects.SETTING_BESIDE, subjects.WAKING_BESIDE):
            row = operation.format(waiters)
            rows.append([code(row), *(quantity(row, run.get(row, name)) for name in names)])
    for row in (subjects.LAG, subjects.LAG_SLEEPING, subjects.LAG_POLLING):
        rows.append([code(row), *(quantity(row, run.get(row, name)) for name in names)])
    return table(["", "fastevent", "Python core", "`threading.Event`"], rows)


def by_subject(run, rows, names):
    found = [[code(row), *(quantity(row, run.get(row, name)) for name in names)] for row in rows]
    return table(["", *names], found)


def processes(run):
    rows = [[code(row), *(quantity(row, run.get(row, name)) for name in PROCESS_SUBJECTS)] for row in PROCESS_ROWS]
    return table(["", "`SharedEvent`", "`RedisEvents`", "`multiprocessing.Event`", "a pipe"], rows)


def pollers(runs):
    """Return what polls of many threads cost without the GIL."""
    found = []
    for run in runs:
        if run.minor.endswith("t"):
            keys = {(name, key[2], key[4]) for key in run.best if key[0] == subjects.POLLERS for name in [key[1]]}
            counts = sorted({key[3] for key in run.best if key[0] == subjects.POLLERS})
            rows = [
                [
                    f"{name} {code(polled)}",
                    which,
                    *(duration(run.best[subjects.POLLERS, name, polled, n, which]) for n in counts),
                ]
                for name, polled, which in sorted(keys)
            ]
            head = ["a poll, with so many threads", "on the event", *map(str, counts)]
            found += ["", f"With CPython {run.python}, on {run.info['processors']} processors:", "", *table(head, rows)]
    return found[1:] or ["No interpreter without the GIL was measured in this run."]


def data(runs):
    """Return all that was measured, by interpreter and row: times in nanoseconds, memory in bytes."""
    return {
        run.python: {"when": run.when, "machine": run.machine(), "versions": run.info["versions"], "rows": run.rows}
        for run in runs
    }


# The plots


def plots(runs, main):
    """Return the plots, a question each: by the name of the file, the question and the drawing."""
    on = f"CPython {main.python}"
    events = [one.name for one in SUBJECTS if one.is_event and one.name not in {"fastevent", "multiprocessing"}]
    polls = [
        ("fastevent: flag", main.get("flag, for is_set()"), True),
        ("fastevent: is_set()", main.get("is_set()"), True),
        ("an empty method in C", main.get("is_set()", "floor"), False),
        *((f"{name}: is_set()", main.get("is_set()", name), False) for name in events),
    ]
    polls = sorted((row for row in polls if row[1]), key=lambda row: row[1])

    def series(*rows):
        found = [(label, main.series(operation, name), name == "fastevent") for label, operation, name in rows]
        return [one for one in found if one[1]]

    def total(label, size, name="fastevent"):
        return label, [(count, count * each) for count, each in main.series(size, name)], name == "fastevent"

    three = ("fastevent", "Python core", "threading.Event")
    sizes = [
        total("an event", subjects.ALIVE_MEMORY),
        total("self-setting", subjects.TIMER_MEMORY),
        total("threading.Event", subjects.ALIVE_MEMORY, "threading.Event"),
    ]
    drawn = (
        ("poll", "What does a poll cost?", f"the loop itself taken off; {on}", bars, [polls], duration),
        (
            "setting",
            "How long does set() itself take?",
            f"the median; {on}",
            lines,
            series(*((name, subjects.SETTING, name) for name in three)),
            duration,
            "waiters",
        ),
        (
            "waiters",
            "When has set() woken all waiters?",
            f"from set() until the last waiter runs; {on}",
            lines,
            series(*((name, subjects.WAKING, name) for name in three)),
            duration,
            "waiters",
        ),
        (
            "children",
            "How long does set() of a parent take?",
            f"for each child; {on}",
            lines,
            series(*((name, subjects.CHILDREN, name) for name in three[:2])),
            duration,
            "children",
        ),
        (
            "timers",
            "What does a self-setting event cost?",
            f"for each of so many, which have different deadlines; {on}",
            lines,
            series(*((row.split()[-1], row, "fastevent") for row in (subjects.MADE, subjects.RESTARTED, subjects.DROPPED))),
            duration,
            "events alive",
        ),
        (
            "memory",
            "How much memory do many events take?",
            f"by how much a fresh process grows; {on}",
            lines,
            [one for one in sizes if one[1]],
            memory,
            "events alive",
        ),
    )
    return {name: (title, draw(title, subtitle, *rest)) for name, title, subtitle, draw, *rest in drawn}


# The pages


def readme(run):
    rows = []
    for name in README_ROWS:
        ours = run.get(name)
        others = ((run.get(name, one), one) for one in ("threading.Event", "wrapper"))
        times = [quantity(name, value) + (f" ({number(value / ours)} x)" if value else "") for value, _ in others]
        rows.append([code(name), quantity(name, ours), *times, quantity(name, run.get(name, "floor"))])
    return [
        "![What does a poll cost?](docs/img/poll.svg)",
        "",
        f"CPython {run.python}; {run.machine()}:",
        "",
        *table(["", "fastevent", "`threading.Event`", "wrapper¹", "floor²"], rows),
    ]


def measured(runs, main):
    commands = [f"make bench PYTHON=python{run.minor} VENV=.venv-{run.minor}" for run in runs]
    pythons = ", ".join(run.python for run in runs)
    return [f"Measured {main.when} on {main.machine()}, with CPython {pythons}, by", "", "```sh", *commands, "```"]


def replace_between(path, contents):
    """Replace what stands between the markers of each of the *contents*, by name."""
    page = path.read_text("utf-8")
    for name, content in contents.items():
        marker, end = f"<!-- performance: {name} -->", "<!-- performance: end -->"
        before, found, rest = page.partition(marker)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise SystemExit(f"{path}: no {marker} … {end}")
        page = "\n".join([before + marker, *content, end]) + after
    path.write_text(page, "utf-8")


def version_key(run):
    major, minor = run.minor.rstrip("t").split(".")
    return int(major), int(minor), run.minor.endswith("t")


def main(paths):
    runs = sorted(map(Run, map(Path, paths)), key=version_key)
    if not runs:
        raise SystemExit("no JSON: make bench first")
    main_run = next((run for run in runs if run.minor == README_PYTHON), runs[0])
    images = plots(runs, main_run)
    for name, (_, content) in images.items():
        (ROOT / f"docs/img/{name}.svg").write_text(content, "utf-8")
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/performance.json").write_text(json.dumps(data(runs), indent=1) + "\n", "utf-8")
    page = {
        "measured": measured(runs, main_run),
        "targets": against_targets(runs),
        "behind": behind(runs),
        "operations": operations(runs),
        "peers": peers(main_run),
        "alive": alive(main_run),
        "beside": beside(main_run),
        "tasks": by_subject(main_run, TASK_ROWS, TASK_SUBJECTS),
        "several": by_subject(main_run, THREAD_ROWS, THREAD_SUBJECTS),
        "import": by_subject(main_run, [subjects.IMPORT], IMPORTED),
        "processes": processes(main_run),
        "pollers": pollers(runs),
    }
    replace_between(ROOT / "docs/performance.md", page)
    replace_between(ROOT / "README.md", {"from `make bench`": readme(main_run)})


if __name__ == "__main__":
    main(sys.argv[1:])
