"""The core as a module of its own, over stand-ins for what its threads share."""

import ast
import builtins
import inspect
import os
import sys
from types import ModuleType, SimpleNamespace
from unittest import mock

import fastevent
from fastevent import _call, _core, _core_py, _event, _foreign, _notify, _options, _registration, _several

SECOND = 10**9
TIMED_OUT = "timed out"  # the reason of an event that is set by its timeout

#: Each needs those before it.
_MODULES = (_notify, _foreign, _options, _call, _core_py, _core, _registration, _several, _event)
FILES = {module.__file__ for module in _MODULES}

#: The run in progress, or None.
current = SimpleNamespace(run=None)


class Flaw(Exception):
    """A schedule ends as none may."""


class Crash(Exception):
    """A thread of a schedule raises what is no flaw."""


class Interrupted(Exception):
    """What a signal handler raises."""


class _Tables(ast.NodeTransformer):
    def visit_Dict(self, node):
        return self.generic_visit(node) if node.keys else ast.Call(ast.Name("Table", ast.Load()), [], [])


def load(plant=None, window=None, watch=lambda code: None):
    """Return the core as a module of its own, with `Event`, over stand-ins.

    *plant*, a function of that module, plants a bug. *window* is how many waiters one `set()` wakes. *watch* is called with the
    code of each module before that runs.
    """
    loaded = {module.__name__.rpartition(".")[2]: ModuleType(module.__name__) for module in _MODULES}
    with (
        mock.patch.dict(os.environ, FASTEVENT_PURE_PYTHON="1"),
        mock.patch.dict(sys.modules, {module.__name__: module for module in loaded.values()}),
        mock.patch.multiple(fastevent, **loaded),
    ):
        for original, module in zip(_MODULES, loaded.values(), strict=True):
            vars(module).update(Table=Table, dict=Table, vars=_vars)
            tree = _Tables().visit(ast.parse(inspect.getsource(original)))
            code = compile(ast.fix_missing_locations(tree), original.__file__, "exec")
            watch(code)
            exec(code, vars(module))
    names = "_call", "_core_py", "_notify", "_registration", "_several", "_event"
    call, core, notify, registration, several, event = (loaded[name] for name in names)
    for module in call, core, registration, several:
        module.allocate_lock = Lock
        module.get_ident = lambda: current.run.current
    core.this_thread = lambda: (current.run.current,)
    core.exists = bool
    for module in core, several, event:
        module.clock = SimpleNamespace(now=monotonic_ns)
    core._State.__setattr__ = _set_once
    core.EventCore._fe_state = SomeState(vars(core.EventCore)["_fe_state"])
    for name in ("_fe_children", "_fe_callbacks", "_fe_wakers"):
        setattr(core.EventCore, name, Attribute(name, vars(core.EventCore)[name]))
    notify.timeout_error = lambda _: TIMED_OUT
    notify.timers = Timers()
    notify.in_helper = lambda function, *arguments: function(*arguments)
    core.Event, core.notify, core.wait_any = event.Event, notify, several.wait_any
    core.Registration = registration.Registration
    if window is not None:
        core._WINDOW = window
    if plant is not None:
        plant(core)
    return core


class Table:
    """A dict. An operation that the core has no use for is missing, so that a new one is noticed."""

    def __new__(cls):
        table = super().__new__(cls)
        table.content = {}
        table.is_constant = current.run is None  # the empty one of a class
        table.name = "constant" if table.is_constant else f"table {current.run.number()}"
        table.state = None  # if it is the `next` of a state: that state
        table.history = None  # and the history that the state is part of
        return table

    def __class_getitem__(cls, _):
        return cls

    def read(self, what):
        # The successor of a state never changes.
        if not (self.is_constant or (self.history and self.content)):
            current.run.step(f"{self.name}: {what}", {self.name})

    def write(self, what):
        if self.is_constant:
            raise Flaw("a dict of a class changes")
        reads, writes = {self.name}, {self.name}
        if self.history:
            reads |= self.history.read_by_a_change()
            writes |= {self.history.name}
        current.run.step(f"{self.name}: {what}", reads, writes)

    def get(self, key, default=None):
        self.read("get")
        return self.content.get(key, default)

    def __getitem__(self, key):
        self.read("[...]")
        return self.content[key]

    def __contains__(self, key):
        self.read("in")
        return key in self.content

    def __bool__(self):
        self.read("bool")
        return bool(self.content)

    def __len__(self):
        self.read("len")
        return len(self.content)

    def __iter__(self):
        self.read("list")
        return iter(list(self.content))

    def items(self):
        self.read("list items")
        return list(self.content.items())

    def values(self):
        self.read("list values")
        return list(self.content.values())

    def pop(self, key, default):
        if self.is_constant:
            return default
        self.write("pop")
        return self.content.pop(key, default)

    def __delitem__(self, key):
        self.write("del [...]")
        del self.content[key]

    def popitem(self):
        self.write("popitem")
        return self.content.popitem()

    def setdefault(self, key, default):
        self.write("setdefault")
        if key not in self.content:
            self._put(key, default)
        return self.content[key]

    def __setitem__(self, key, value):
        self.write("[...] = ...")
        self._put(key, value)

    def _put(self, key, value):
        if self.history:
            self.history.follow(self.state, value)
        self.content[key] = value


class Attribute:
    """An attribute of events that changes."""

    def __init__(self, name, default):
        self.name = name
        self.default = default

    def __get__(self, event, owner):
        if event not in current.run.histories:
            return self.default
        current.run.step(self.name, reads={_name(event, self.name)})
        return vars(event).get(self.name, self.default)


class SomeState:
    """The attribute `_fe_state` of events: any of the states. It makes no difference which, as the newest follows from each.

    So a read of it is no step. What counts is the read that finds no `next` of a state.
    """

    def __init__(self, first):
        self.first = first

    def __get__(self, event, owner):
        return vars(event)["_fe_state"] if "_fe_state" in vars(event) else self.first.__get__(event, owner)

    def __set__(self, event, state):
        if state not in current.run.histories[event].states:
            raise Flaw("an event has a state that was not taken")
        vars(event)["_fe_state"] = state


def _name(event, attribute):
    return f"{attribute} of {current.run.histories[event].name}"


class _Attributes:
    """The attributes of an event as `vars()` gives them."""

    def __init__(self, event):
        self.event = event

    def setdefault(self, name, default):
        current.run.step(f"setdefault {name}", writes={_name(self.event, name)})
        attributes = vars(self.event)
        if name == "_fe_state" and name not in attributes:
            current.run.histories[self.event].begin(default)
        return attributes.setdefault(name, default)

    def __setitem__(self, name, value):
        vars(self.event)[name] = value


def _vars(of):
    return _Attributes(of) if current.run and of in current.run.histories else builtins.vars(of)


def _set_once(state, name, value):
    if hasattr(state, name):
        raise Flaw(f"the {name} of a state changes")
    object.__setattr__(state, name, value)


class Lock:
    def __init__(self):
        self.name = f"lock {current.run.number()}"
        self.held = False

    def acquire(self, blocking=True, seconds=None):
        run = current.run
        assert blocking
        if seconds is None:  # the thread that made it takes it, and no other thread knows it yet
            assert not self.held
        else:
            run.blocks()
            end = run.now + round(seconds * SECOND) if seconds >= 0 else float("inf")
            run.step(f"{self.name}: acquire", {"clock"}, {self.name}, lambda: not self.held or run.now >= end)
            if self.held:
                return False
        self.held = True
        return True

    def release(self):
        current.run.step(f"{self.name}: release", writes={self.name})
        if not self.held:
            raise RuntimeError
        self.held = False


def monotonic_ns():
    current.run.step("monotonic_ns", reads={"clock"})
    return current.run.now


class Timers:
    """In place of the helper thread: what it has to do is kept for `Run.keep_deadlines()`."""

    @property
    def helper(self):
        return self

    @property
    def events(self):
        return self

    @property
    def life(self):
        return self  # as if the thread ran

    def add(self, deadline, fire, reference):
        current.run.step("a timer is added", writes={"timers"})
        current.run.timers.append((deadline, fire, reference))


class History:
    """The states of an event so far, and what must hold between two of them."""

    def __init__(self, name, event):
        self.name = name
        self.event = event
        self.reads = frozenset()  # what else a change of the event is checked against
        self.allows = lambda reason: True  # whether the event may be set now for this reason
        self.states = []

    def begin(self, state):
        self.states.append(state)
        state.next.state, state.next.history = state, self

    def is_set(self):
        return self.states[-1].is_set

    def wakers(self):
        wakers = vars(self.event).get("_fe_wakers")
        return [] if wakers is None else [wakers]

    def waiting(self):
        """Return the threads that wait."""
        waiting = [waiter.thread[0] for waiter in self.states[-1].waiters.content]
        return waiting + [waker.waiter for wakers in self.wakers() for waker in wakers.content]

    def read_by_a_change(self):
        tables = [self.states[-1].waiters, *self.wakers()]
        return {"clock", f"_fe_wakers of {self.name}", *(table.name for table in tables), *self.reads}

    def follow(self, state, successor):
        if state is not self.states[-1]:
            raise Flaw("a change is undone")
        if successor.is_set:
            self._follow_set(state, successor)
        elif state.is_set and current.run.current not in current.run.clearing:
            raise Flaw("a set() is undone")
        elif successor.sets != state.sets:
            raise Flaw("a set() is counted that was none")
        elif successor.reason is not None:
            raise Flaw("a reason without a set()")
        self.begin(successor)

    def _follow_set(self, state, successor):
        run = current.run
        if state.is_set:
            raise Flaw("set while it is set")
        if successor.sets != state.sets + 1:
            raise Flaw("a set() is not counted")
        if not self.allows(successor.reason):
            raise Flaw(f"{self.name} is set, for the reason {successor.reason!r}")
        if successor.reason is TIMED_OUT and state.seconds is not None and run.now < state.deadline:
            raise Flaw("an old timeout reaches a new period")
        run.released.update(thread for thread in self.waiting() if run.now < run.until.get(thread, 0))
