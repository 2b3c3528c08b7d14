"""Every schedule of a few threads over the Python core: a stateless model checker.

The source of `fastevent._core_py` runs on real threads, one at a time. What they share is replaced: a dict display makes a
`Table`, and locks, the clock and the attributes that change are stand-ins. Each operation on one of those is a step: the thread
stops before it and says what the step will read and write, and the explorer chooses whose step comes next. All else is local to
a thread, so stopping there as well would lead to no other outcome. The steps are the operations that are atomic in Python.

All choices are tried, depth first, by running the same threads again. Two steps that touch nothing in common, or only read it,
lead to the same state in either order, so of the schedules that differ in such orders alone one is enough: sleep sets
(Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996) leave out the others, and no end state.
What is checked depends on the order of steps that are dependent: the checks are steps, too, and say what they read.

A thread that can go on does so: time passes in `Run.tick` alone, and a timeout may be noticed any time after it.
"""

import ast
import dis
import inspect
import sys
import threading
from _thread import allocate_lock
from functools import cache
from itertools import count
from types import CodeType, ModuleType
from typing import NamedTuple

import fastevent._core_py

SECOND = 10**9
PATIENCE = 60.0  # between two steps, in seconds: only a fault of the explorer takes that long

_SOURCE = inspect.getsource(fastevent._core_py)
_FILE = fastevent._core_py.__file__

_run = None  # the one in progress


class Flaw(Exception):
    """A schedule ends as none may."""


class Interrupted(Exception):
    """What a signal handler raises."""


class _Abandoned(BaseException):
    """Ends the threads of a run that is over."""


class _Tables(ast.NodeTransformer):
    def visit_Dict(self, node):
        return ast.Call(ast.Name("Table", ast.Load()), [self.generic_visit(node)], [])


def load(*substitutions):
    """Return the core as a module of its own, over stand-ins for what its threads share.

    A substitution is a pair: text of the source that occurs once, and what to put there.
    """
    source = _SOURCE
    for old, new in substitutions:
        assert source.count(old) == 1, f"the core has {source.count(old)} times, not once: {old!r}"
        source = source.replace(old, new)
    core = ModuleType("explored")
    core.Table = Table
    code = compile(ast.fix_missing_locations(_Tables().visit(ast.parse(source))), _FILE, "exec")
    if sys.version_info >= (3, 12):
        _watch(code)
    exec(code, vars(core))
    core.allocate_lock = Lock
    core.get_ident = lambda: _run.current
    core.monotonic_ns = monotonic_ns
    core.Event = type("Event", (core.EventCore,), {"_start": Attribute(0), "_deadline": Attribute(core.NEVER)})
    return core


# What the threads share


class Table:
    """The state of the event, or a crowd. What the core does with neither is missing, so that it is noticed."""

    def __init__(self, content):
        self.content = content
        self.kind = "state" if content else "crowd"
        if content:
            _run.state = self
        else:
            _run.crowds.append(self)

    def get(self, key, default=None):
        _run.step(f"{self.kind}.get", reads={self.kind})
        return self.content.get(key, default)

    def pop(self, key, default):
        if self.kind == "state":
            _run.step("state.pop", reads={"crowd", "clock"}, writes={"state"})
            if self.content:
                _run.went_up(self.content[key])
        else:
            _run.step("crowd.pop", writes={"crowd"})
        return self.content.pop(key, default)

    def setdefault(self, key, default):
        _run.step(f"{self.kind}.setdefault", writes={self.kind})
        return self.content.setdefault(key, default)

    def __setitem__(self, key, value):
        _run.step(f"{self.kind}[...] = ...", writes={self.kind})
        self.content[key] = value

    def __bool__(self):
        _run.step(f"bool({self.kind})", reads={self.kind})
        return bool(self.content)

    def __iter__(self):
        _run.step(f"list({self.kind})", reads={self.kind})
        return iter(list(self.content))


class Attribute:
    """An attribute of the event that changes."""

    def __init__(self, default):
        self.default = default

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, event, owner):
        _run.step(self.name, reads={self.name})
        return vars(event).get(self.name, self.default)

    def __set__(self, event, value):
        _run.step(f"{self.name} = ...", writes={self.name})
        vars(event)[self.name] = value


class Lock:
    def __init__(self):
        _run.locks += 1
        self.name = f"lock {_run.locks}"
        self.held = False

    def acquire(self, blocking=True, seconds=None):
        assert blocking
        if seconds is None:  # its maker takes it, and no one else knows it yet
            assert not self.held
        else:
            _run.interruptible()
            end = _run.now + round(seconds * SECOND)
            _run.step("lock.acquire", {"clock"}, {self.name}, lambda: not self.held or _run.now >= end)
            if self.held:
                return False
        self.held = True
        return True

    def release(self):
        _run.step("lock.release", writes={self.name})
        if not self.held:
            raise RuntimeError
        self.held = False


def monotonic_ns():
    _run.step("monotonic_ns", reads={"clock"})
    return _run.now


# The explorer


def explore(core, *threads, timeout=None):
    """Run the *threads*, functions of a `Run`, over an event with this *timeout* in all schedules; return how many these are.

    Raises `Flaw` for the first schedule that ends as none may.
    """
    global _run
    path, schedules = [], 0
    while True:
        _run = Run(path, threads)
        _run.event = core.Event(timeout)
        try:
            schedules += _run.complete()
        finally:
            _run = None
        while path and not path[-1].advance():
            path.pop()
        if not path:
            return schedules


def explore_interrupts(core, call, handler, *threads):
    """Explore *call* and the *threads*, with *handler* run inside *call* as by a signal, wherever that may happen.

    Return in how many places that is, and the number of schedules. A run where *call* ends before counts as one more place.
    """
    schedules = 0
    for place in count():
        fired = []

        def interrupted(run, place=place, fired=fired):
            run.interrupts[run.current] = _Interrupt(place, lambda: (fired.append(place), handler(run)))
            if sys.version_info < (3, 12):
                sys.settrace(_trace)
            try:
                call(run)
            except Interrupted:
                pass

        schedules += explore(core, interrupted, *threads)
        if not fired:
            return place, schedules


# After these the interpreter looks whether there are signals, and at the start of a function
_LOOKS = ("CALL", "RESUME", "JUMP_ABSOLUTE", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")
if sys.version_info < (3, 11):
    _LOOKS += ("POP_JUMP",)


@cache
def _names(code):
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


class _Interrupt:
    """A signal that comes to a thread at the *place*-th opportunity from here on: in the core, or while it is blocked."""

    def __init__(self, place, handler):
        self.left = place
        self.handler = handler
        self.before = {}  # the instruction that ran last, by frame

    def opportunity(self):
        self.left -= 1
        if self.left == -1:
            self.handler()

    def instruction(self, frame, offset):
        previous, self.before[frame] = self.before.get(frame), _names(frame.f_code)[offset]
        if previous is None or previous.startswith(_LOOKS):
            self.opportunity()


def _trace(frame, kind, _):
    if frame.f_code.co_filename != _FILE or _run.current is None:
        return None
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    if kind == "opcode":
        _run.interrupts[_run.current].instruction(frame, frame.f_lasti)
    return _trace


def _monitor(code, offset):
    if _run and _run.current in _run.interrupts:
        _run.interrupts[_run.current].instruction(sys._getframe(1), offset)


def _watch(code):
    """Have `_monitor` called for every instruction of this code and of what is defined in it."""
    sys.monitoring.set_local_events(_TOOL, code, sys.monitoring.events.INSTRUCTION)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _watch(constant)


# Where there is sys.monitoring, which instructions a trace function sees depends on what ran before: a schedule has no replay
_TOOL = 4
if sys.version_info >= (3, 12):
    sys.monitoring.use_tool_id(_TOOL, __name__)
    sys.monitoring.register_callback(_TOOL, sys.monitoring.events.INSTRUCTION, _monitor)


class _Step(NamedTuple):
    what: str
    reads: frozenset
    writes: frozenset
    ready: object

    def commutes(self, other):
        return not (self.writes & (other.reads | other.writes) or other.writes & self.reads)


class _Node:
    """A state on the path: the threads to continue with, the first of them in this run, and those that need not."""

    def __init__(self, todo, sleep):
        self.todo = todo
        self.sleep = sleep

    def advance(self):
        self.sleep = {*self.sleep, self.todo.pop(0)}
        return bool(self.todo)


class Run:
    """One schedule: along the *path* as far as it goes, then on, making it longer."""

    def __init__(self, path, threads):
        self.path = path
        self.threads = (*threads, self.final_set)
        self.current = None  # the number of the thread that runs; None outside the schedule
        self.pending = {}  # the next step of every thread that is not done
        self.batons = {}  # held by who may not run
        self.sleep = set()  # the threads whose next step was tried before and changes nothing now
        self.log = []
        self.error = None
        self.redundant = False
        self.over = allocate_lock()
        self.crowds = []
        self.locks = 0
        self.now = 0
        self.interrupts = {}  # the signals that come to threads
        self.quiet = False  # nobody could go on
        self.ups = 0  # how often the flag went from False to True
        self.until = {}  # of every thread in wait(): when its timeout has passed
        self.owed = set()  # the threads in wait() that a set() has found there

    def complete(self):
        """Run the schedule to its end; return whether it is one that was not seen before."""
        self.over.acquire()
        workers = [threading.Thread(target=self.work, args=item, daemon=True) for item in enumerate(self.threads)]
        for number, worker in enumerate(workers):
            self.pending[number] = _Step("start", frozenset(), frozenset(), lambda: True)
            self.batons[number] = allocate_lock()
            self.batons[number].acquire()
            worker.start()
        self.hand_over()
        assert self.over.acquire(timeout=PATIENCE), "the explorer hangs"
        left, self.current = list(self.pending), None
        for number in left:
            self.batons[number].release()
            workers[number].join(PATIENCE)
        for worker in workers:
            worker.join(PATIENCE)
        if not (self.error or self.redundant):
            if left:
                self.error = Flaw(f"{self.names(left)} hangs")
            elif any(crowd.content for crowd in self.crowds):
                self.error = Flaw("somebody is left in a crowd")
        if self.error:
            steps = "".join(f"\n{self.names([number]):>12}: {what}" for number, what in self.log)
            raise Flaw(f"{self.error}, after{steps}") from self.error
        return not self.redundant

    def names(self, numbers):
        return ", ".join(f"{self.threads[number].__name__} {number}" for number in numbers)

    def work(self, number, function):
        try:
            self.wait_for_turn(number)
            function(self)
        except _Abandoned:
            return
        except BaseException as error:
            self.error = error
        del self.pending[number]
        self.hand_over()

    def wait_for_turn(self, number):
        self.batons[number].acquire()
        if self.current is None:
            raise _Abandoned

    def hand_over(self):
        """Let the chosen thread run; return its number, None if the run is over."""
        choice = self.choose()
        if choice is None:
            self.over.release()
        else:
            self.log.append((choice, self.pending[choice].what))
            if self.current != choice:
                self.current = choice
                self.batons[choice].release()
        return choice

    def step(self, what, reads=frozenset(), writes=frozenset(), ready=lambda: True):
        """Stop the thread before its next step until that is chosen, which it is not before it is *ready*."""
        me = self.current
        if me is None:
            return
        self.pending[me] = _Step(what, reads, writes, ready)
        if self.hand_over() != me:
            self.wait_for_turn(me)

    def choose(self):
        """Return whose step comes next, None if the run is over."""
        if self.error:
            return None
        enabled = [number for number, step in self.pending.items() if step.ready()]
        if not enabled and not self.quiet:
            self.quiet = True
            self.check_quiet()
            return self.choose()
        if not enabled:
            return None
        depth = len(self.log)
        if depth == len(self.path):
            # A step that touches nothing commutes with all that ever comes
            todo = [number for number in enabled if not (self.pending[number].reads or self.pending[number].writes)][:1]
            todo = todo or sorted((n for n in enabled if n not in self.sleep), key=lambda number: number != self.current)
            if not todo:
                self.redundant = True
                return None
            self.path.append(_Node(todo, self.sleep))
        node = self.path[depth]
        choice = node.todo[0]
        self.sleep = {number for number in node.sleep if self.pending[number].commutes(self.pending[choice])}
        return choice

    def interruptible(self):
        if self.current in self.interrupts:
            self.interrupts[self.current].opportunity()

    # What must hold

    def went_up(self, crowd):
        """Note whom the set() that takes the *crowd* away owes a True."""
        self.ups += 1
        self.owed.update(waiter.thread for waiter in crowd.content if self.now < self.until.get(waiter.thread, 0))

    def is_up(self):
        return not self.state.content

    def wait(self, timeout=None, until=float("inf")):
        """Call `wait(timeout)`; check the answer. False is right *until* that time at the earliest, without a timeout."""
        me = self.current
        self.step("wait() begins", reads={"state", "clock"})
        ups = self.ups - self.is_up()
        self.until[me] = until if timeout is None else self.now + timeout * SECOND
        try:
            answer = self.event.wait(timeout)
            self.step(f"wait() is {answer}", reads={"state", "clock"})
            if answer and self.ups == ups:
                raise Flaw("True without a set()")
            if not answer and me in self.owed:
                raise Flaw("False in spite of a set()")
            if not answer and self.now < self.until[me]:
                raise Flaw("False too early")
        finally:
            del self.until[me]
            self.owed.discard(me)

    def tick(self):
        """Let a second pass."""
        self.step("a second passes", writes={"clock"})
        self.now += SECOND

    def check_quiet(self):
        """Check that who is blocked is so by right: no set() has found him, and the flag is not up."""
        blocked = [number for number in self.pending if self.threads[number] != self.final_set]
        if self.owed.intersection(blocked) or (blocked and self.is_up()):
            self.error = Flaw(f"{self.names(blocked)} waits in spite of a set()")

    def final_set(self, _):
        """Wake who is blocked by right: then everybody must come to an end."""
        self.step("the others are done or wait", ready=lambda: self.quiet)
        self.event.set()
