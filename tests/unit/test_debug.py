"""`fastevent.debug`: what a program waits for."""

import gc
import io
import logging
import os
import re
import signal
import threading

import pytest
from helpers import TIMEOUT, Threads, python, self_setting, until, until_waiting


@pytest.fixture
def lines(modules):
    """The lines of `log()` so far; the last ones come in a moment."""
    lines, handler = [], logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("fastevent")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def states(lines):
    return [re.sub(r", in thread .*", "", line) for line in lines]


# log()


def test_log_shows_every_change(Event, modules, lines):
    parent = Event()
    event = parent.child(name="job")
    modules.debug.log(event)
    event.set("by hand")
    event.set()
    event.clear()
    event.clear()
    parent.set("by its parent")
    expected = ["job: set: by hand", "job: unset", "job: set: by its parent"]
    until(lambda: states(lines) == expected)
    for line in lines:
        assert 0 <= float(re.search(r", in thread 'MainThread', after (\d+\.\d{6}) s$", line)[1]) < TIMEOUT


def test_log_shows_a_timeout(Event, modules, lines):
    event = Event(0.01, set_on_timeout=True, name="job")
    modules.debug.log(event)
    until(lambda: states(lines) == ["job: set: timed out after 0.01 s: job"])
    assert "in thread 'fastevent timers'" in lines[0]


def test_log_ends(Event, modules, lines):
    event, other = Event(name="mine"), Event(name="other")
    registration = modules.debug.log(event)
    modules.debug.log(other)
    event.set()
    registration.remove()
    registration.remove()
    event.clear()
    event.set()
    other.set()
    until(lambda: "other: set" in states(lines))
    assert states(lines) == ["mine: set", "other: set"]
    assert not event._fe_wakers


def test_log_keeps_no_event_alive(Event, modules, lines):
    event = Event(name="mine")
    registration = modules.debug.log(event)
    event.set()
    until(lambda: lines)
    del event
    gc.collect()
    registration.remove()
    assert registration._event() is None


def test_a_set_events_log_begins_with_clear(Event, modules, lines):
    event = Event(name="mine")
    event.set()
    modules.debug.log(event)
    event.clear()
    until(lambda: states(lines) == ["mine: unset"])


def test_log_takes_another_logger(Event, modules, caplog):
    event = Event(name="mine")
    caplog.set_level(logging.DEBUG, "app")
    modules.debug.log(event, logging.getLogger("app"), logging.DEBUG)
    event.set()
    until(lambda: ("app", logging.DEBUG) in [(record.name, record.levelno) for record in caplog.records])


def test_log_loses_no_line_of_a_storm(Event, modules, lines, tiny_switch_interval):
    event = Event(name="mine")
    modules.debug.log(event)

    def changes():
        for _ in range(300):
            event.set()
            event.clear()

    with Threads(changes, changes):
        pass
    sets = event._fe_read().sets
    until(lambda: len(lines) == 2 * sets)
    assert sorted(states(lines)) == ["mine: set"] * sets + ["mine: unset"] * sets


def test_log_takes_no_lock_of_a_signal_handler(core):
    """The signal comes while the main thread holds the lock of the log's handler."""

    def program():
        import logging
        import signal
        import sys

        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
        from fastevent import Event
        from fastevent.debug import log

        event = Event(name="stop")
        log(event)
        handler = logging.getLogger().handlers[0]
        with event.set_on_signals(signal.SIGINT):
            handler.acquire()
            signal.raise_signal(signal.SIGINT)
            handler.release()

    assert python(program, core).startswith("stop: set: SIGINT, in thread 'MainThread', after ")


@pytest.mark.parametrize("wrong", [None, threading.Event(), 5])
def test_log_refuses_what_is_no_event(modules, wrong):
    with pytest.raises(TypeError, match=r"^log\(\) is for a fastevent.Event, not for "):
        modules.debug.log(wrong)


# dump()


def dumped(modules):
    file = io.StringIO()
    modules.debug.dump(file)
    first, *lines = file.getvalue().splitlines()
    assert first == f"fastevent in process {os.getpid()}:"
    return lines


def test_dump_shows_names_children_and_waiters(Event, modules):
    run, alone, plain = Event(name="run of this test"), Event(), Event()
    job = run.child(300, name="job")
    part = job.child()
    foot = Event(parents=[run, alone])
    with Threads(part.wait):
        until_waiting(part)
        lines = dumped(modules)
        run.set()
    start = lines.index("run of this test: unset")
    assert re.fullmatch(r"  job: unset, (300|299) s left", lines[start + 1])
    assert re.fullmatch(rf"    Event at {id(part):#x}: unset, waiting: Thread-\d+ \(run\)", lines[start + 2])
    assert lines[start + 3].startswith(f"  Event at {id(foot):#x}: unset")
    assert f"Event at {id(alone):#x}: unset" in lines
    assert not any(f"{id(plain):#x}" in line for line in lines)


def test_dump_runs_no_code_of_the_program(fastevent, modules):
    class Mine(fastevent.Event):
        def is_set(self):
            raise AssertionError

        __repr__ = __hash__ = __eq__ = is_set

    class Reason(str):
        def __repr__(self):
            raise AssertionError

        __str__ = __format__ = replace = __repr__

    class MyError(ValueError):
        __str__ = Reason.__repr__

    events = [Mine(name=f"dumped {number}") for number in range(4)]
    for event, reason in zip(events, [Reason("x"), MyError(), ValueError(Reason("x")), "plain"], strict=True):
        event.set(reason)
    found = sorted(line for line in dumped(modules) if line.startswith("dumped"))
    where = f"{__name__}.test_dump_runs_no_code_of_the_program.<locals>."
    assert found == [
        f"dumped 0: set: <{where}Reason>",
        f"dumped 1: set: <{where}MyError>",
        "dumped 2: set: <builtins.ValueError>",
        "dumped 3: set: plain",
    ]


def test_dump_sets_nothing(Event, modules, no_timers):
    event = Event(300, set_on_timeout=True, name="not by a dump")
    event.restart_timeout(0)
    assert "not by a dump: unset, timed out after 0 s" in dumped(modules)
    assert not event.is_set()


def test_dump_goes_past_the_buffer(Event, modules, tmp_path):
    event = Event(name="past the buffer")
    event.set("Grüße \ud800")
    with open(tmp_path / "dump", "w", encoding="ascii") as file:
        modules.debug.dump(file)
        text = (tmp_path / "dump").read_text("utf-8")
    assert "past the buffer: set: Grüße \\ud800\n" in text


def test_dump_of_a_program_without_events(core):
    def program():
        import os
        import sys

        from fastevent.debug import dump

        dump(sys.stdout)
        sys.stderr = None
        dump()
        print(os.getpid())

    *lines, pid = python(program, core).splitlines()
    assert lines == [f"fastevent in process {pid}:", "no event has a name, a child, or a thread or task that waits"]


def test_dump_finds_one_of_many(Event, modules):
    events = [Event() for _ in range(100_000)]
    events.append(self_setting(Event, 300).child(name="one of many"))
    assert any("one of many" in line for line in dumped(modules))


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows")
def test_dump_on_refuses(modules):
    with pytest.raises(ValueError):
        modules.debug.dump_on(0)
    with pytest.raises(ValueError, match=r"^SIGKILL cannot be handled$"):
        modules.debug.dump_on(signal.SIGKILL)


# debug.tree()


def test_tree_shows_all_events_below(Event, modules):
    root = Event(name="root")
    part = root.child(300, name="part")
    leaf = part.child(name="leaf")
    other = Event(parents=[root, part], name="other")
    plain = root.child()
    with Threads(leaf.wait):
        until_waiting(leaf)
        lines = modules.debug.tree(root).splitlines()
        part.set("enough")
    assert lines[0] == "root: unset"
    assert re.fullmatch(r"  part: unset, (300|299) s left", lines[1])
    assert re.fullmatch(r"    leaf: unset, waiting: Thread-\d+ \(run\)", lines[2])
    assert lines[3:] == ["    other: unset", "  other: unset (see above)", f"  Event at {id(plain):#x}: unset"]
    assert modules.debug.tree(part).splitlines() == ["part: set: enough", "  leaf: set: enough", "  other: set: enough"]
    assert other.is_set()


def test_tree_forgets_dropped_events(Event, modules):
    root = Event(name="root")
    root.child()
    gc.collect()
    assert modules.debug.tree(root) == "root: unset"


def test_tree_sets_nothing(Event, modules, no_timers):
    root = Event(name="root")
    child = root.child(300, name="child")
    child.restart_timeout(0)
    assert modules.debug.tree(root) == "root: unset\n  child: unset, timed out after 0 s"
    assert not child.is_set()


def test_tree_of_a_deep_tree(Event, modules):
    root = event = Event()
    events = [event := event.child() for _ in range(2000)]
    assert len(modules.debug.tree(root).splitlines()) == len(events) + 1
