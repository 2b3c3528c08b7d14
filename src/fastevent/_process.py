"""Which process this is, and what happens as it forks and ends; and three primitives that signal handlers may use.

Whatever belongs to one process (a thread, a socket, a lock) asks `generation()` when it is used, because a fork may come at any
point, and because a host that forks in C, as uWSGI does, calls none of Python's functions. The functions of `at_fork()` and
`at_exit()` stand in one ordered list each.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from fastevent._time import LONGEST_WAIT, NEVER, begin_wait, private_copy, until_next_look

native = private_copy("_thread")  # the interpreter's own threads and locks, whatever gevent or eventlet have replaced
sleep = private_copy("time").sleep

Function = Callable[[], object]

#: What is done as a process ends, in this order: events are set that wait for it, pending callbacks are called, bridges to
#: other machines send what was set, helper threads end, and last, when processes of `multiprocessing` have been joined, other
#: processes are notified.
STAGES = EVENTS, CALLBACKS, BRIDGES, THREADS, SHARED = range(5)


class Claim:
    """What at most one caller holds at a time.

    It is a dict with one key, because `dict.setdefault` is one step, which no thread, signal handler or finalizer comes into,
    with the GIL or without. A lock would stop a signal handler that needs what it has interrupted.
    """

    __slots__ = ("_holders",)

    def __init__(self) -> None:
        self._holders: dict[str, Any] = {}

    def take(self, me: object) -> bool:
        """Return whether *me*, an object of this call alone, holds the claim now."""
        return self._holders.setdefault("holder", me) is me

    @property
    def holder(self) -> Any:
        return self._holders.get("holder")

    def give_back(self, me: object) -> None:
        """Let others hold the claim; do nothing if *me* does not hold it."""
        if self._holders.get("holder") is me:
            self._holders.pop("holder", None)

    def clear(self) -> None:
        """Let others hold the claim, whichever call holds it."""
        self._holders.clear()


class Call:
    """A call in progress, by its thread. It serves as the holder of a `Claim`."""

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread = native.get_ident()


class Token:
    """A lock that another thread releases: `wake()` ends the present `rest()`, or the next one."""

    __slots__ = ("_lock",)

    def __init__(self, allocate_lock: Callable[[], Any] = native.allocate_lock) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def wake(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # it is unlocked already
            pass

    def rest(self, nanoseconds: int) -> None:
        """Wait until `wake()`, or for that time at most, which `LONGEST_WAIT` bounds; with `NEVER` without end."""
        timeout = -1 if nanoseconds == NEVER else min(max(nanoseconds, 0), LONGEST_WAIT) / 1e9
        self._lock.acquire(True, timeout)


# Which process this is

_MADV_WIPEONFORK = 18  # of Linux: the module `mmap` has no name for it


def _fast_getpid() -> Callable[[], int]:
    """Return a function that does what `os.getpid()` does without a system call, which would cost as much as a child.

    It keeps the number in memory that the kernel clears in a forked child, also in one that was forked in C. Where there is no
    such memory, the function is `os.getpid` itself.
    """
    if sys.platform != "linux" or sys.implementation.name != "cpython":  # a refused advice crashes in PyPy
        return os.getpid
    try:
        from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap

        page = mmap(-1, PAGESIZE, MAP_PRIVATE | MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (ImportError, AttributeError, OSError):
        return os.getpid
    try:
        page.madvise(-1)
        return os.getpid  # an emulator that ignores advice which it does not know
    except OSError:
        kept = memoryview(page).cast("q")

    def getpid() -> int:
        pid: int = kept[0]
        if not pid:
            while kept[0] != (pid := os.getpid()):  # again, because a signal handler may have forked in between
                kept[0] = pid
        return pid

    return getpid


getpid = _fast_getpid()

#: For each fork on the way to this process that was announced, the thread that came along: all others stayed behind.
survivors: list[int] = []


class _Process:
    """A process on the way from the one that imported this module to this one."""

    def __init__(self, number: int, forks: int, pid: int, steps: list[Function]) -> None:
        self.number = number
        self.forks = forks
        self.pid = pid
        self.steps = deque(steps)  # that are still to be taken after the fork which made this process
        self.stages = deque(STAGES)  # of its end that are still to come
        self.registering = Claim()  # held for good by the call that registers `_at_exit()`
        self.finalizers: dict[str, Any] = {}  # by package, what was registered there
        self._taking = Claim()

    def take_steps(self) -> None:
        """Take all steps that are left. What a signal handler raises goes on, and the next call takes the rest."""
        me = Call()
        try:
            while self.steps and not self._taking.take(me):
                holder = self._taking.holder
                if holder is not None and holder.thread == me.thread:  # a step asks, or a handler that has interrupted one
                    return
                sleep(0.0001)
            while self.steps:
                _take_step(self.steps[0])
                self.steps.popleft()
        finally:
            try:
                self._taking.give_back(me)
            except BaseException:  # from a signal handler: other threads would wait for ever
                self._taking.give_back(me)
                raise


def _take_step(step: Function) -> None:
    """Call *step*. One that raises once and then not was interrupted by a signal handler, whose exception goes on."""
    try:
        step()
    except Exception:
        try:
            step()
        except Exception:
            log("after a fork")
        else:
            raise


_here = _Process(0, 0, getpid(), [])
_arrivals: dict[tuple[int, int], _Process] = {}  # the present one alone, by what tells it from the process before


def generation() -> int:
    """Return the number of this process, counted over forks. First, finish what a fork has left to do.

    Thread safety: atomic. It may be called from a signal handler.
    """
    here = _here
    if here.pid != getpid() or here.forks != len(survivors):
        here = _next_process()
    if here.steps:
        here.take_steps()
    return here.number


def arrive() -> bool:
    """Finish what a fork has left to do. Return False if another call in progress is to finish it."""
    generation()
    return not _here.steps


def begin_rest() -> int:
    """Do what `begin_wait()` does, for a wait at a lock of Python.

    In a process that was forked in C, the helpers start, which set what the wait is for. Without the GIL, such a lock spins for
    a moment before it sleeps, and a signal that comes in that moment does not wake it. So there the main thread looks for
    signals at every check interval, too.
    """
    generation()
    longest = begin_wait()
    return until_next_look() if _LOCKS_SPIN else longest


_LOCKS_SPIN = "t" in getattr(sys, "abiflags", "")  # the builds without the GIL, also where it is switched on


def _this_process() -> _Process:
    generation()
    return _here


def _next_process() -> _Process:
    global _here
    key = len(survivors), getpid()
    arrived = _arrivals.setdefault(key, _Process(_here.number + 1, *key, _in_child))
    for other in list(_arrivals):
        if other != key:
            _arrivals.pop(other, None)
    _here = arrived
    return arrived


#: A thread: its ident, how many forks were announced before, and its process.
Thread = tuple[int, int, int]


def this_thread() -> Thread:
    """Return what identifies the calling thread for `exists()`."""
    return native.get_ident(), len(survivors), getpid()


def exists(thread: Thread) -> bool:
    """Return whether no fork has left the *thread* behind."""
    ident, forks, pid = thread
    if pid == getpid():
        return True
    came_along = survivors[forks:] or [native.get_ident()]  # of a fork that was not announced, the thread that asks
    return all(survivor == ident for survivor in came_along)


# Forks

_before: list[Function] = []
_in_parent: list[Function] = []
_in_child: list[Function] = []
_forks: list[None] = []  # an item for each fork in progress


def at_fork(*, before: Function | None = None, in_parent: Function | None = None, in_child: Function | None = None) -> None:
    """Have functions called at each fork: *before* it, then in one of the two processes.

    Those of one moment are called in the order of their registration; *before*, in the reverse order. *in_child* may be called
    again if a signal handler has interrupted it, and it may be called late, by the first `generation()` in a process that was
    forked in C.
    """
    for function, functions in (before, _before), (in_parent, _in_parent), (in_child, _in_child):
        if function is not None:
            functions.append(function)


def is_forking() -> bool:
    """Return whether a thread of this process is about to fork."""
    return bool(_forks)


def _before_fork() -> None:
    for function in reversed(_before):
        function()


def _after_fork_in_parent() -> None:
    for function in _in_parent:
        function()


if hasattr(os, "register_at_fork"):
    # A signal that comes during a fork is handled as the next Python function begins. If its handler raises, that function does
    # nothing. So what must not be missed is done by functions in C, and what may be repeated is registered twice. The functions
    # for "before" are called in the reverse order: the fork is counted first.
    _count, _count_back = partial(_forks.append, None), partial(_forks.__delitem__, slice(1))
    _note_survivor = partial(next, map(survivors.append, iter(native.get_ident, None)))
    os.register_at_fork(before=_before_fork, after_in_parent=_count_back, after_in_child=_note_survivor)
    os.register_at_fork(before=_count, after_in_parent=_after_fork_in_parent, after_in_child=_forks.clear)
    os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=generation)
    os.register_at_fork(after_in_child=generation)


# The end of the process

_exits: dict[int, list[Function]] = {stage: [] for stage in STAGES}
#: Packages that start processes in the same way, and copies of it.
PACKAGES = "multiprocessing", "billiard", "multiprocess"


def at_exit(stage: int, function: Function) -> None:
    """Have *function* called once as this process ends, or a forked child of it, at that *stage*."""
    _exits[stage].append(function)


def expect_exit() -> None:
    """See to it that the functions of `at_exit()` are called, also if this is a child of `multiprocessing` or a copy of it.

    These packages, and others that fork, clear what was registered before the child begins. So whatever needs the end of the
    process calls this when it is used.
    """
    here = _this_process()
    # Just after a fork, a package may clear this, and the next call registers it again. Later, one call registers it, because
    # `atexit` of 3.13t is not for several threads.
    if here.steps or here.registering.take(Call()):
        atexit.register(_at_exit)
    for package in PACKAGES:
        util: Any = sys.modules.get(f"{package}.util")
        if hasattr(util, "Finalize"):  # another thread may be importing it
            finalizer = here.finalizers.get(package)
            if finalizer is None or not finalizer.still_active():
                # With this priority, it is called after the package has joined its processes.
                here.finalizers[package] = util.Finalize(None, _finalize, (package,), exitpriority=-100)


def processes() -> list[Any]:
    """Return the objects for this process of `multiprocessing` and its copies, if it is a child of theirs."""
    modules: list[Any] = [sys.modules.get(f"{package}.process") for package in PACKAGES]
    present = [module.current_process() for module in modules if module is not None]
    return [process for process in present if process._parent_pid is not None]


def _finalize(package: str) -> None:
    process: Any = sys.modules[f"{package}.process"]
    if process.current_process() in processes():  # a child, which ends without the functions of `atexit`
        after_threads(partial(_end, SHARED))
    elif list(_this_process().stages) == [SHARED]:  # the functions of `atexit` have been called before
        _end(SHARED)


def _at_exit() -> None:
    waits = any(finalizer.still_active() for finalizer in _this_process().finalizers.values())
    _end(THREADS if waits else SHARED)


def _end(last: int) -> None:
    """Go through the stages up to the *last*. A stage that a signal handler interrupts is gone through again."""
    stages = _this_process().stages
    while stages and stages[0] <= last:
        for function in _exits[stages[0]]:
            function()
        stages.popleft()


def after_threads(function: Function) -> None:
    """Call *function* once no other thread runs that the exit of the process waits for: now, or in one more such thread."""

    def others() -> list[threading.Thread]:
        no_others = threading.current_thread(), threading.main_thread()
        return [thread for thread in threading.enumerate() if not thread.daemon and thread not in no_others]

    def wait_and_call() -> None:
        while threads := others():
            threads[0].join()
        function()

    if others():  # only as a process of `multiprocessing` ends
        threading.Thread(target=wait_and_call, daemon=False).start()
    else:
        function()


# Early, because `atexit` ignores what its own functions register, and one of them may be the first to need this.
_here.registering.take(Call())
atexit.register(_at_exit)


def log(text: str, *arguments: object) -> None:
    """Log the exception that is being handled, to the logger `fastevent`. A handler or filter that raises stops nothing."""
    _log("exception", text, arguments)


def warn(text: str, *arguments: object) -> None:
    """Log a warning to the logger `fastevent`, as `log()` does with an exception."""
    _log("warning", text, arguments)


def _log(level: str, text: str, arguments: tuple[object, ...]) -> None:
    try:
        import logging  # takes as long to import as a third of this package

        getattr(logging.getLogger("fastevent"), level)(text, *arguments)
    except Exception:  # also where the interpreter exits, and nothing can be imported
        pass
