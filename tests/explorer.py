"""Every schedule of a few threads over the Python core: a stateless model checker.

The sources of `_core_py`, `_subscribers` and `_event` run on real threads, one at a time. What these share is replaced: an
empty dict display makes a `Table`, and locks, the clock and the attributes that change are stand-ins. Each operation on one of
those is a step: the thread stops before it and says what the step will read and write, and the explorer chooses whose step
comes next. All else is local to a thread or constant, so stopping there as well would lead to no other outcome. The steps are
the operations that are atomic in Python.

All choices that matter are tried, depth first, by running the same threads again. Two steps that touch nothing in common, or
only read it, lead to the same state in either order, so of the schedules that differ in such orders alone one is enough: only
races are reversed (see `Run.do`), and sleep sets (Godefroid, "Partial-Order Methods for the Verification of Concurrent
Systems", 1996) leave out what was seen, and no end state. What is checked depends on the order of steps that are dependent:
the checks are steps, too, and say what they read.

A thread that can go on does so: time passes in `Run.tick` alone, and a timeout may be noticed any time after it.
"""

import ast
import builtins
import dis
import inspect
import os
import sys
import threading
from _thread import allocate_lock
from functools import cache
from itertools import count
from types import CodeType, ModuleType
from typing import NamedTuple
from unittest import mock

import fastevent
from fastevent import _core_py, _event, _subscribers

SECOND = 10**9
PATIENCE = 60.0  # between two steps, in seconds: only a fault of the explorer takes that long
TIMEOUT = "timed out"  # the reason of an event that is set by its timeout

_MODULES = (_subscribers, _core_py, _event)  # each needs those before it
_FILES = {module.__file__ for module in _MODULES}

_run = None  # the one in progress


class Flaw(Exception):
    """A schedule ends as none may."""


class Interrupted(Exception):
    """What a signal handler raises."""


class _Abandoned(BaseException):
    """Ends the threads of a run that is over."""


class _Tables(ast.NodeTransformer):
    def visit_Dict(self, node):
        return self.generic_visit(node) if node.keys else ast.Call(ast.Name("Table", ast.Load()), [], [])


def load(*substitutions):
    """Return the core as a module of its own, with `Event`, over stand-ins for what its threads share.

    A substitution is a pair: text of the sources that occurs once, and what to put there.
    """
    sources = {module.__name__.rpartition(".")[2]: inspect.getsource(module) for module in _MODULES}
    for old, new in substitutions:
        found = sum(source.count(old) for source in sources.values())
        assert found == 1, f"the core has {found} times, not once: {old!r}"
        sources = {name: source.replace(old, new) for name, source in sources.items()}
    explored = {name: ModuleType(f"fastevent.{name}") for name in sources}
    with (
        mock.patch.dict(os.environ, FASTEVENT_PURE_PYTHON="1"),
        mock.patch.dict(sys.modules, {module.__name__: module for module in explored.values()}),
        mock.patch.multiple(fastevent, **explored),
    ):
        for name, module in explored.items():
            vars(module).update(Table=Table, vars=_vars)
            code = compile(ast.fix_missing_locations(_Tables().visit(ast.parse(sources[name]))), _file(name), "exec")
            if sys.version_info >= (3, 12):
                _watch(code)
            exec(code, vars(module))
    core = explored["_core_py"]
    core.allocate_lock = Lock
    core.get_ident = lambda: _run.current
    core._State.__setattr__ = _set_once
    core.tell = explored["_subscribers"].tell
    core.Event = explored["_event"].Event
    core.monotonic_ns = explored["_event"].monotonic_ns = monotonic_ns
    core.EventCore._fe_state = SomeState(vars(core.EventCore)["_fe_state"])
    for name in ("_fe_children", "_fe_callbacks", "_fe_told"):
        setattr(core.Event, name, Attribute(name, vars(core.Event)[name]))
    return core


def _file(name):
    return next(file for file in _FILES if file.endswith(f"{name}.py"))


# What the threads share


class Table:
    """A dict. What the core does with none is missing, so that it is noticed."""

    def __init__(self):
        self.content = {}
        self.name = f"table {_run.number() if _run else 0}"
        self.state = None  # the one whose successor it holds
        self.history = None  # and what that is part of

    def step(self, what, writes=frozenset()):
        reads = {self.name}
        if self.history and self.content and "=" not in what:  # that never changes again
            return
        if self.history and writes:
            reads = {"clock", *self.history.reads, *([] if self.state.crowd is None else [self.state.crowd.name])}
            writes = {*writes, self.history.name}
        _run.step(f"{self.name}: {what}", reads, writes)

    def get(self, key, default=None):
        self.step("get")
        return self.content.get(key, default)

    def __getitem__(self, key):
        self.step("[...]")
        return self.content[key]

    def __bool__(self):
        self.step("bool")
        return bool(self.content)

    def __iter__(self):
        self.step("list")
        return iter(list(self.content))

    def pop(self, key, default):
        self.step("pop", {self.name})
        return self.content.pop(key, default)

    def setdefault(self, key, default):
        self.step("setdefault", {self.name})
        if key not in self.content:
            self.put(key, default)
        return self.content[key]

    def __setitem__(self, key, value):
        self.step("[...] = ...", {self.name})
        self.put(key, value)

    def put(self, key, value):
        if self.history:
            self.history.follow(self.state, value)
        self.content[key] = value


class Attribute:
    """An attribute of events that changes."""

    def __init__(self, name, default):
        self.name = name
        self.default = default

    def __get__(self, event, owner):
        _run.step(self.name, reads={_name(event, self.name)})
        return vars(event).get(self.name, self.default)

    def __set__(self, event, value):
        _run.step(f"{self.name} = ...", writes={_name(event, self.name)})
        vars(event)[self.name] = value


class SomeState:
    """The attribute `_state` of events: any of the states. It makes no difference which, as the newest follows from each.

    So looking at it is no step, as long as it is a state at all: what counts is the look that finds no other next to it.
    """

    def __init__(self, first):
        self.first = first

    def __get__(self, event, owner):
        return vars(event)["_fe_state"] if "_fe_state" in vars(event) else self.first.__get__(event, owner)

    def __set__(self, event, state):
        if state not in _run.histories[event].states:
            raise Flaw("what was not taken is what the event is")
        vars(event)["_fe_state"] = state


def _name(event, attribute):
    return f"{attribute} of {_run.histories[event].name}"


class _Attributes:
    """The attributes of an event as `vars()` gives them."""

    def __init__(self, event):
        self.event = event

    def setdefault(self, name, default):
        _run.step(f"setdefault {name}", writes={_name(self.event, name)})
        attributes = vars(self.event)
        if name == "_fe_state" and name not in attributes:
            _run.histories[self.event].begin(default)
        return attributes.setdefault(name, default)


def _vars(of):
    return _Attributes(of) if of in _run.histories else builtins.vars(of)


def _set_once(state, name, value):
    if hasattr(state, name):
        raise Flaw(f"the {name} of a state changes")
    object.__setattr__(state, name, value)


class Lock:
    def __init__(self):
        self.name = f"lock {_run.number()}"
        self.held = False

    def acquire(self, blocking=True, seconds=None):
        assert blocking
        if seconds is None:  # its maker takes it, and no one else knows it yet
            assert not self.held
        else:
            _run.interruptible()
            end = _run.now + round(seconds * SECOND)
            _run.step(f"{self.name}: acquire", {"clock"}, {self.name}, lambda: not self.held or _run.now >= end)
            if self.held:
                return False
        self.held = True
        return True

    def release(self):
        _run.step(f"{self.name}: release", writes={self.name})
        if not self.held:
            raise RuntimeError
        self.held = False


def monotonic_ns():
    _run.step("monotonic_ns", reads={"clock"})
    return _run.now


class History:
    """The states of an event so far, and what must hold between two of them."""

    def __init__(self, name):
        self.name = name
        self.reads = frozenset()  # what else a change of the event is checked against
        self.allows = lambda reason: True  # whether the event may be set now for this reason
        self.states = []
        self.crowds = []

    def begin(self, state):
        self.states.append(state)
        self.crowds.append(state.crowd)
        state.next.state, state.next.history = state, self

    def follow(self, state, successor):
        if state is not self.states[-1]:
            raise Flaw("a change is undone")
        if successor.crowd is None:
            self.go_up(state, successor)
        elif successor.sets != state.sets:
            raise Flaw("a set() is counted that was none")
        self.begin(successor)

    def go_up(self, state, successor):
        if state.crowd is None:
            raise Flaw("set while it is set")
        if successor.sets != state.sets + 1:
            raise Flaw("a set() is not counted")
        if not self.allows(successor.reason):
            raise Flaw(f"{self.name} is set, for the reason {successor.reason!r}")
        if successor.reason is TIMEOUT and state.seconds is not None and _run.now < state.deadline:
            raise Flaw("an old timeout reaches a new period")
        _run.owed.update(waiter.thread for waiter in state.crowd.content if _run.now < _run.until.get(waiter.thread, 0))

    def is_up(self):
        return self.states[-1].crowd is None


# The explorer


def explore(core, *threads, timeout=None, first=None):
    """Run the *threads*, functions of a `Run`, over an event with this *timeout* in all schedules; return how many these are.

    What is to be done *first* is done before they start.

    Raises `Flaw` for the first schedule that ends as none may.
    """
    global _run
    path, schedules = [], 0
    while True:
        _run = Run(core, path, threads)
        _run.event = _run.new_event(timeout)
        if first:
            first(_run)
        try:
            schedules += _run.complete()
        finally:
            _run = None
        while path and not path[-1].advance():
            path.pop()
        if not path:
            return schedules


def explore_interrupts(core, call, handler, *threads, timeout=None, first=None):
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

        schedules += explore(core, interrupted, *threads, timeout=timeout, first=first)
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
    if frame.f_code.co_filename not in _FILES or _run.current is None:
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

    def __init__(self, choice, enabled, sleep):
        self.todo = [choice]
        self.enabled = enabled
        self.sleep = sleep

    def reverse(self, initials):
        """See to it that one of these threads goes first here, too; where none can, that every other one does."""
        if not self.sleep.union(self.todo).intersection(initials):
            possible = [number for number in initials if number in self.enabled]
            self.todo += possible[:1] or [n for n in self.enabled if n not in self.sleep and n not in self.todo]

    def advance(self):
        self.sleep = {*self.sleep, self.todo.pop(0)}
        return bool(self.todo)


class _Done(NamedTuple):
    number: int
    step: _Step
    knows: dict  # of every thread: how many of its steps come before this one, itself included, in every order of this kind

    def before(self, other):
        return self.knows[self.number] <= other.knows.get(self.number, 0)


def _learn(knows, done):
    for number, known in done.knows.items():
        knows[number] = max(known, knows.get(number, 0))


class Run:
    """One schedule: along the *path* as far as it goes, then on, making it longer."""

    def __init__(self, core, path, threads):
        self.core = core
        self.path = path
        self.threads = (*threads, self.final_set)
        self.current = None  # the number of the thread that runs; None outside the schedule
        self.pending = {}  # the next step of every thread that is not done
        self.batons = {}  # held by who may not run
        self.sleep = set()  # the threads whose next step was tried before and changes nothing now
        self.done = []  # the steps so far
        self.knows = {number: {} for number in range(len(self.threads))}  # see _Done
        self.error = None
        self.redundant = False
        self.over = allocate_lock()
        self.number = count(1).__next__  # names for what is shared
        self.now = 0
        self.interrupts = {}  # the signals that come to threads
        self.quiet = False  # nobody could go on
        self.histories = {}  # of the events
        self.until = {}  # of every thread in wait(): when its timeout has passed
        self.owed = set()  # the threads in wait() that a set() has found there
        self.reasons = {}  # of every thread in set()
        self.children = []
        self.callbacks = []

    def new_event(self, timeout=None):
        """Return an event whose history is kept; with "bare" for a timeout, of a subclass that never calls `__init__`."""
        event = self.core.Event.__new__(self.core.Event)
        self.histories[event] = History(f"event {len(self.histories)}")
        if timeout != "bare":
            event.__init__(timeout)
        self.histories[event].allows = lambda reason: reason is self.reasons.get(self.current, reason)
        return event

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
            elif any(crowd and crowd.content for history in self.histories.values() for crowd in history.crowds):
                self.error = Flaw("somebody is left in a crowd")
            else:
                self.check_subscribers()
        if self.error:
            steps = "".join(f"\n{self.names([number]):>18}: {step.what}" for number, step, _ in self.done)
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
            for done in self.done:
                _learn(self.knows[len(self.threads) - 1], done)  # the final set() comes after all else
            return self.choose()
        if not enabled:
            return None
        depth = len(self.done)
        if depth == len(self.path):
            # A step that touches nothing commutes with all that ever comes
            awake = [n for n in enabled if not (self.pending[n].reads or self.pending[n].writes)]
            awake = awake or sorted((n for n in enabled if n not in self.sleep), key=lambda number: number != self.current)
            if not awake:
                self.redundant = True
                return None
            self.path.append(_Node(awake[0], enabled, self.sleep))
        node = self.path[depth]
        choice = node.todo[0]
        step = self.pending[choice]
        self.sleep = {number for number in node.sleep if self.pending[number].commutes(step)}
        self.do(choice, step)
        return choice

    def do(self, number, step):
        """Note the step. Where it could have come before one that it depends on, have that tried, too.

        These are the races that source sets ask for (Abdulla, Aronis, Jonsson, Sagonas, "Optimal Dynamic Partial Order
        Reduction", 2014): who goes first there is a thread that begins what comes without the other step.
        """
        knows = self.knows[number]
        knows[number] = knows.get(number, 0) + 1
        done = _Done(number, step, knows)
        races = []
        for n in reversed(range(len(self.done))):
            earlier = self.done[n]
            if not earlier.step.commutes(step) and not earlier.before(done):
                races.append(n)
                _learn(knows, earlier)
        done = _Done(number, step, dict(knows))
        self.done.append(done)
        for n in races:
            rest = [later for later in self.done[n + 1 : -1] if not self.done[n].before(later)] + [done]
            firsts = {later.number: later for later in reversed(rest)}
            initials = [i for i, first in firsts.items() if not any(r.before(first) for r in rest[: rest.index(first)])]
            self.path[n].reverse(initials)

    def interruptible(self):
        if self.current in self.interrupts:
            self.interrupts[self.current].opportunity()

    # What the threads do, and what must hold

    def during(self, what, call, reads=frozenset(), writes=frozenset()):
        """Make the *call*; return its answer, and the states in which the event was meanwhile, from the first to the last."""
        history = self.histories[self.event]
        reads = {*reads, *(known.name for known in self.histories.values())}
        self.step(f"{what} begins", reads)
        first = max(len(history.states) - 1, 0)
        answer = call()
        self.step(f"{what} is {answer}", reads, writes)
        return answer, history.states[first:]

    def wait(self, timeout=None, until=float("inf")):
        """Call `wait(timeout)`. False is right *until* that time at the earliest, without a timeout."""
        me = self.current
        now = set() if timeout is None else {"clock"}
        self.step("wait() is called", now)
        self.until[me] = until if timeout is None else self.now + timeout * SECOND
        try:
            answer, states = self.during("wait()", lambda: self.event.wait(timeout), now)
            if answer and all(state.crowd is not None for state in states):
                raise Flaw("True without a set()")
            if not answer and me in self.owed:
                raise Flaw("False in spite of a set()")
            if not answer and self.now < self.until[me]:
                raise Flaw("False too early")
        finally:
            self.until.pop(me, None)
            self.owed.discard(me)

    def set(self, reason=None):
        """Call `set(reason)`: the event was set then, for that reason or for an earlier one, and its children are."""
        self.up("set()", reason, lambda: self.event.set(reason))

    def up(self, what, reason, call):
        self.step("what to find is noted", {"children"})
        children = [self.histories[child] for child in self.children]
        me = self.current
        self.reasons[me] = reason
        try:
            _, states = self.during(what, call)
        finally:
            del self.reasons[me]
        ups = [state.crowd is None for state in states]
        if reason is not TIMEOUT and not any(ups):
            raise Flaw("set() has no effect")
        # A timeout that comes too late promises nothing.
        if (all(ups) if reason is TIMEOUT else any(ups)) and not all(child.is_up() for child in children):
            raise Flaw("set() leaves a child behind")

    def time_out(self):
        """Do what an event does that sets itself."""

        def put_up():
            told = []
            self.event._fe_put_up(TIMEOUT, told, True)
            self.core.tell(told)

        self.up("_put_up()", TIMEOUT, put_up)

    def clear(self):
        """Call `clear()`: the event was unset then, and the timeout began anew."""
        self.step("clear() is called", {"clock"})
        now = self.now
        _, states = self.during("clear()", self.event.clear)
        if not any(state.crowd is not None and (state.seconds is None or state.start >= now) for state in states):
            raise Flaw("clear() has no effect")

    def look(self):
        """Read flag and reason: each is what it was at some moment of the look at it."""
        is_set, states = self.during("is_set()", self.event.is_set)
        if is_set not in [state.crowd is None for state in states]:
            raise Flaw(f"is_set() is {is_set}")
        reason, states = self.during("reason", lambda: self.event.reason)
        if reason not in [state.reason if state.crowd is None else None for state in states]:
            raise Flaw(f"the reason is {reason!r}")

    def adopt(self, child):
        """Make *child* a child of the event: it is set by each set() from now on, and for no reason but theirs."""
        parent, history = self.histories[self.event], self.histories[child]
        first = None

        def adopt():
            nonlocal first
            first = max(len(parent.states) - 1, 0)
            return self.event._fe_adopt(child)

        history.reads = {parent.name}
        history.allows = lambda reason: any(state.crowd is None and state.reason is reason for state in parent.states[first:])
        _, states = self.during("_adopt()", adopt, writes={"children"})
        if all(state.crowd is None for state in states) and not history.is_up():
            raise Flaw("a child is not born set")
        self.children.append(child)

    def add_callback(self):
        """Add a callback, and return it: a set() calls it that is not over, or that is yet to come."""
        history = self.histories[self.event]
        first = None
        calls = []

        def callback(event):
            self.step("the callback is called", {history.name})
            if all(state.crowd is not None for state in history.states[first:]):
                self.error = Flaw("a callback is called for a set() of the past")
            calls.append(event)

        def add_callback():
            nonlocal first
            first = max(len(history.states) - 1, 0)
            self.event.add_callback(callback)

        self.callbacks.append((callback, calls, []))
        self.during("add_callback()", add_callback)
        return callback

    def remove_callback(self, callback):
        removed, _ = self.during("remove_callback()", lambda: self.event.remove_callback(callback))
        next(gone for known, _, gone in self.callbacks if known is callback).extend([self.event] * removed)

    def tick(self):
        """Let a second pass."""
        self.step("a second passes", writes={"clock"})
        self.now += SECOND

    def check_quiet(self):
        """Check that who is blocked is so by right: no set() has found him, and the flag is not up."""
        blocked = [number for number in self.pending if self.threads[number] != self.final_set]
        if self.owed.intersection(blocked) or (blocked and self.histories[self.event].is_up()):
            self.error = Flaw(f"{self.names(blocked)} waits in spite of a set()")
        elif self.histories[self.event].is_up():
            self.check_subscribers()

    def check_subscribers(self):
        """Check, when a set() is over, that whoever has subscribed was told: a callback once, if it was not removed."""
        if not all(self.histories[child].is_up() for child in self.children):
            self.error = Flaw("a child is left behind")
        for _, calls, removed in self.callbacks:
            if len(calls) + len(removed) != 1:
                self.error = Flaw(f"a callback is called {len(calls)} times, and removed {len(removed)} times")

    def final_set(self, _):
        """Wake who is blocked by right: then everybody must come to an end."""
        self.step("the others are done or wait", ready=lambda: self.quiet)
        self.event.set()
