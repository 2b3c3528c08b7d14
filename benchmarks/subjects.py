"""What is measured: a table of operations, and one of subjects that says how each of them spells an operation.

A new operation is one line in `OPERATIONS` (or in that of `fastevent._bench`, if `python -m fastevent` shall show it, too),
a new peer is one entry in `SUBJECTS`.
"""

import os
import sysconfig
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pkgutil import resolve_name
from time import monotonic
from typing import Any

from helpers import load

from fastevent import _bench

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
if FREE_THREADED:
    os.environ["EVENTFD_PUREPYTHON"] = "1"  # its extension would bring the GIL back for everybody

# What is measured, if it is no operation of the table below. Braces stand for the numbers that it depends on.
HANDOVER = "hand-over to a thread"
THREAD = "Thread: start and join"
MEMORY = "memory per event"
CHILD_MEMORY = "memory per child"
WAKING = "set() until the last of {:,} waiters runs"
SETTING = "set() itself with {:,} waiters"
WAKING_BESIDE = "set() until the last of {:,} waiters runs, beside a thread that computes"
ENDING = "the end of {:,} threads that have waited, which no other figure has in it"
SETTING_BESIDE = "set() itself with {:,} waiters, beside a thread that computes"
CHILDREN = "set() of a parent of {:,} children, for each"
CHAIN = "set() of the first of a chain of {:,} events, for each"
ALIVE = "one of {:,} events, made"
ALIVE_MEMORY = "memory of one of {:,} events"
MADE, RESTARTED, DROPPED = (f"one of {{:,}} self-setting events, {what}" for what in ("made", "restarted", "dropped"))
TIMER_MEMORY = "memory of one of {:,} self-setting events"
POLLERS = "{} by {} threads, {}"
LAG = "lag of wait() after a deadline"
LAG_SLEEPING = "lag of a poller that sleeps 1 ms"
LAG_POLLING = "lag of a poller without a pause"

# What waits, by the time of the processor:
SCOPE = "async with Event(300), entered and left"
BY_TASK, BY_THREAD = "wait_async(), set by a task of the loop", "wait_async(), set by a thread"
SCOPE_BESIDE_TRIO = f"{SCOPE}, where trio is imported"
IN_TRIO = TRIO_SCOPE, TRIO_BY_TASK = f"{SCOPE}, in trio", f"{BY_TASK}, in trio"
ANY = "wait_any() of {:,} events, one of which a thread sets"
CONDITION, SELECTOR = "flags under one condition", "a selector over fileno()"  # in place of wait_any()
TICK = "a tick of 0.5 ms"
IMPORT = "the import"
START = "an interpreter that does nothing"

# Of events that several processes hold:
SHARED_POLL = "is_set() of an event of processes"
SHARED_MADE = "an event of processes, made and dropped"
BETWEEN = "hand-over to another process"
MANY_EVENTS = "set() of 1,000 events until another process has seen them, for each"
MANY_PROCESSES = "set() until 100 processes have seen it"

# Operations that the report names:
SELF_SETTING = "a self-setting event, made and dropped"
CHILD = "a child, made and dropped"
TIMED_CHILD = "a child with a timeout, made and dropped"
CALLBACK = "a callback, added, called and cleared"

OURS = {"threading": None, "wrapper": None}  # which have no such operation

#: An operation, how its event is made, the statement that is timed, that of the others if it differs; None: they have none.
OPERATIONS = (
    *_bench.OPERATIONS,
    ("check_timeout(), near its end", "E(timeout=0)", "event.check_timeout()", {"threading": None}),
    (
        "is_set() or check_timeout()",
        "E(timeout=300)",
        "event.is_set() or event.check_timeout()",
        {"threading": "event.is_set() or monotonic() >= deadline"},
    ),
    ("wait(0.0005)", "E()", "event.wait(0.0005)", {}),
    ("check(), 300 s", "E(timeout=300)", "event.check()", OURS),
    (SELF_SETTING, "E", "event(timeout=300, set_on_timeout=True)", OURS),
    ("restart_timeout()", "E(timeout=300)", "event.restart_timeout()", OURS),
    (CHILD, "E()", "event.child()", OURS),
    ("Event(parents=(parent,)), made and dropped", "E()", "type(event)(parents=(event,))", OURS),
    (TIMED_CHILD, "E()", "event.child(300)", OURS),
    (CALLBACK, "E()", "event.add_callback(id); event.set(); event.clear()", OURS),
    ("a callback, added and removed", "E()", "event.add_callback(id).remove()", OURS),
    ("with event.callback(), entered and left", "E()", "with event.callback(id): pass", OURS),
    ("Event().fileno(), opened and closed", "E", "event().fileno()", OURS),
)


class Plain:
    """What an instance of a Python class costs at least."""


class Slot:
    __slots__ = ("flag",)

    def __init__(self):
        self.flag = False


def held_lock():
    lock = threading.Lock()
    lock.acquire()
    return lock


class LockPerWaiter:
    """One bare lock for each waiter: the least that waking many threads can cost."""

    def __init__(self):
        self.locks = []

    def wait(self):
        lock = held_lock()
        self.locks.append(lock)
        lock.acquire()

    def set(self):
        for lock in self.locks:
            lock.release()


def scope(module, **options):
    """Return a cancelscope that runs: only then it watches its deadline."""
    return module.CancelScope(**options).__enter__()


#: What the statements may use, besides `E` (the subject) and `event` (a local variable, as in a loop that polls).
NAMES = {
    "deque": deque,
    "held_lock": held_lock,
    "Plain": Plain,
    "Slot": Slot,
    "monotonic": monotonic,
    "scope": scope,
}


@dataclass(frozen=True, eq=False)
class Subject:
    name: str
    path: str = ""  # of the class or module, for pkgutil.resolve_name
    distribution: str = ""  # on PyPI
    like: str = ""  # whose statements it understands: a key of the last column of OPERATIONS, or "fastevent"
    says: dict[str, tuple[str, str] | None] = field(default_factory=dict)  # how its event is made and what is timed, if not so
    note: str = ""  # what it is, or lacks, and what follows for its numbers

    @cached_property
    def E(self) -> Any:
        return resolve_name(self.path) if self.path else None

    @property
    def package(self) -> Any:
        return resolve_name(self.path.partition(":")[0])

    @property
    def is_event(self) -> bool:
        """Whether it is an event: the report compares ours with these."""
        return bool(self.like)

    def missing(self) -> str:
        """Return why it cannot be measured here, or nothing."""
        try:
            self.E  # noqa: B018
            return "" if not self.distribution else version(self.distribution) and ""
        except (ImportError, AttributeError, OSError) as error:
            return f"{type(error).__name__}: {error}"

    def spells(self, operation, made, statement, of_others):
        """Return how its event is made and what is timed, or None if it cannot do that."""
        if operation in self.says:
            return self.says[operation]
        timed = of_others.get(self.like, statement) if self.like else None
        if self.like == "threading":
            made = made.replace("timeout=300", "")
        return None if timed is None else (made, timed)


class PythonCore(Subject):
    @cached_property
    def package(self):
        return load(pure=True)

    @property
    def E(self):
        return self.package.Event


CANCEL_SCOPE, CANCEL_SCOPE_300 = "scope(E)", "scope(E, timeout=300)"
TOKEN, TOKEN_300 = "E.SimpleToken()", "E.TimeoutToken(300, monotonic=True)"
EMPTY_METHOD = ("deque()", "event.clear()")
TWO_EMPTY_METHODS = ("deque()", "event.clear() or event.clear()")
EMPTY_INSTANCE = ("None", "Plain()")

FLOOR = Subject(
    "floor",
    says={
        "is_set()": EMPTY_METHOD,
        "flag, for is_set()": ("Slot()", "event.flag"),
        "check_timeout(), no timeout": EMPTY_METHOD,
        "check_timeout(), 300 s": EMPTY_METHOD,
        "check_timeout(), near its end": ("monotonic", "event()"),
        "is_set() or check_timeout()": TWO_EMPTY_METHODS,
        "set() and clear()": TWO_EMPTY_METHODS,
        "wait() on a set event": EMPTY_METHOD,
        "wait(0)": ("held_lock()", "event.acquire(False)"),
        "wait(0.0005)": ("held_lock()", "event.acquire(True, 0.0005)"),
        "Event()": EMPTY_INSTANCE,
        "Event(timeout=300)": EMPTY_INSTANCE,
        SELF_SETTING: EMPTY_INSTANCE,
        CHILD: EMPTY_INSTANCE,
        TIMED_CHILD: EMPTY_INSTANCE,
    },
    note="what CPython itself charges: an empty method in C (twice where two calls are made), an attribute in a slot, "
    "`time.monotonic()`, a bare lock that is held, an instance of an empty Python class; for a hand-over two bare locks, "
    "for many waiters one bare lock for each, for a thread `_thread.start_new_thread` and a lock",
)

SUBJECTS = (
    Subject("fastevent", "fastevent:Event", like="fastevent"),
    PythonCore("Python core", like="fastevent", note="fastevent without its extension"),
    Subject("threading.Event", "threading:Event", like="threading", note="has no timeout of its own"),
    Subject(
        "wrapper",
        "fastevent._bench:Wrapper",
        like="wrapper",
        note="the class that the API reference describes: a `threading.Event` and a timeout inside",
    ),
    Subject(
        "aiologic.REvent",
        "aiologic:REvent",
        "aiologic",
        like="threading",
        note="an event with `clear()`, for coroutines, too; has no timeout of its own",
    ),
    Subject(
        "cereggii.AtomicEvent",
        "cereggii:AtomicEvent",
        "cereggii",
        like="threading",
        says={"set() and clear()": None, "wait(0)": None, "wait(0.0005)": None, HANDOVER: None},
        note="has neither `clear()` nor a timeout, and Ctrl-C does not end its `wait()`",
    ),
    Subject("eventfd", "eventfd:EventFD", "eventfd", like="threading", note="a file descriptor for each event"),
    Subject(
        "threading-value-event",
        "threading_value_event:ThreadingValueEvent",
        "threading-value-event",
        like="threading",
        says={
            "set() and clear()": ("E()", "event.set(True); event.clear()"),
            "wait() on a set event": ("E(); event.set(True)", "event.wait()"),
            HANDOVER: None,
        },
        note="its `set()` takes a value, which its `wait()` returns",
    ),
    Subject("multiprocessing", "multiprocessing:Event", like="threading", note="works between processes: what that costs"),
    Subject(
        "cantok",
        "cantok",
        "cantok",
        says={
            "is_set()": (TOKEN, "event.cancelled"),
            "check_timeout(), no timeout": (TOKEN, "event.cancelled"),
            "check_timeout(), 300 s": (TOKEN_300, "event.cancelled"),
            "is_set() or check_timeout()": (TOKEN_300, "event.cancelled"),
            "Event()": ("None", TOKEN),
            "Event(timeout=300)": ("None", TOKEN_300),
            "check(), 300 s": (TOKEN_300, "event.check()"),
            CHILD: (TOKEN, "E.SimpleToken(event)"),
            TIMED_CHILD: (TOKEN, "E.TimeoutToken(300, event, monotonic=True)"),
        },
        note="a cancellation token: no `clear()`; its `wait()` polls, so nothing is handed over",
    ),
    Subject(
        "cancelscope",
        "cancelscope",
        "cancelscope",
        says={
            "is_set()": (CANCEL_SCOPE, "event.cancelled"),
            "check_timeout(), 300 s": (CANCEL_SCOPE_300, "event.cancelled"),
            "is_set() or check_timeout()": (CANCEL_SCOPE_300, "event.cancelled"),
            "Event()": ("None", "E.CancelScope()"),
            "Event(timeout=300)": ("None", "E.CancelScope(timeout=300)"),
        },
        note="a cancel scope of one thread: a service thread sets it at its deadline; nothing waits for it",
    ),
    FLOOR,
)
MISSING = {subject.name: why for subject in SUBJECTS if (why := subject.missing())}
HERE = tuple(subject for subject in SUBJECTS if subject.name not in MISSING)
