"""The threads of this package: one keeps deadlines, others call callbacks. How such threads start and end.

A helper thread starts at the first need. It ends before a fork, since a process with several threads is not safe to fork, and
starts again afterwards if it is still needed, in both processes. It ends with its interpreter, since a subinterpreter must not
leave a thread behind. A signal handler may ask for a helper at any point, so nothing here takes a lock that it could meet.

Threads are raw ones of the interpreter: starting a `threading.Thread` waits for a lock, and gevent or eventlet may have
replaced it. `current_thread()` and debuggers still show their names.
"""

from __future__ import annotations

import atexit
import heapq
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from fastevent._time import LONGEST_WAIT, NEVER, monotonic_ns, private_copy

_thread = private_copy("_thread")
sleep = private_copy("time").sleep

FORK_TIMEOUT = 10**8  # how long a fork waits for helpers to end, in nanoseconds
EXIT_TIMEOUT = 10**9  # how long the interpreter waits for them as it exits
CALL_TIMEOUT = 10**10  # how long the interpreter waits for callbacks before that
STUCK = 10**8  # a callback that takes longer no longer delays the next one

_AWAKE = NEVER + 1  # a thread that is awake has no time until which it sleeps

_registered: list[Helper] = []  # that end before a fork, start after it, and end with the interpreter
_forks: list[None] = []  # an item for each fork in progress, during which no helper starts
_exits: dict[str, Run] = {}  # not empty once `_at_exit()` is registered in this process
helpers_ended: list[None] = []  # not empty once the interpreter has ended the helpers


class Run:
    """One life of a helper, from its start to its end."""

    __slots__ = ("busy", "count", "ended", "ending", "ident", "native")

    def __init__(self) -> None:
        self.ident = 0
        self.native = 0
        self.busy = False  # it calls a function of a user, for which a fork does not wait
        self.ending = False
        self.ended = False
        self.count = 0  # how many threads there were as this one ended


class Helper:
    """A thread that runs `work(run)` as long as `needed()` is true, under a *name* that debuggers show.

    *work* returns soon after `run.ending` becomes true. It rests in `sleep()`, which `wake()` ends.
    """

    def __init__(self, name: str, work: Callable[[Run], object], needed: Callable[[], object]) -> None:
        self.name = name
        self._work = work
        self._needed = needed
        self._runs: dict[str, Run] = {}  # "run" while there is a thread
        self._token = _locked()
        _registered.append(self)

    def start(self) -> None:
        """Start the thread unless it runs. During a fork, leave that to the end of the fork.

        Raises `RuntimeError` where no thread can be started.
        """
        if "run" in self._runs or _forks:
            return
        if helpers_ended:
            raise RuntimeError("no thread can be started while the interpreter exits")
        run = Run()
        try:
            if self._runs.setdefault("run", run) is run:
                if _exits.setdefault("", run) is run:  # by one thread, because `atexit` of 3.13t is not for several
                    atexit.register(_at_exit)
                _thread.start_new_thread(self._main, (run,))
        except BaseException:  # from a signal handler, perhaps: before the start or after it
            if self.run() is run:
                self._runs.pop("run", None)
            run.ending = True
            raise

    def wake(self) -> None:
        """End the present `sleep()`, or the next one."""
        try:
            self._token.release()
        except RuntimeError:  # it is unlocked already
            pass

    def sleep(self, nanoseconds: int) -> None:
        """Rest until `wake()`, or for that time."""
        self._token.acquire(True, min(max(nanoseconds, 0), LONGEST_WAIT) / 1e9)

    def run(self) -> Run | None:
        """Return the present run of the thread, or None."""
        return self._runs.get("run")

    def end(self) -> Run | None:
        """Ask the thread to end, and return its run. Return None if there is no thread, or if it is the calling one."""
        run = self.run()
        if run is None or run.ident == _thread.get_ident():
            return None
        run.ending = True
        self.wake()
        return run

    def forget(self) -> None:
        """Forget, in a forked child, the thread of the parent."""
        run = self._runs.pop("run", None)
        if run is not None:
            run.ending = True  # because the thread itself may have forked, in a callback: it ends after that
        self._token = _locked()

    def unregister(self) -> None:
        """Take no part in forks and in the end of the interpreter any more. A second call does nothing."""
        with suppress(ValueError):
            _registered.remove(self)

    def restart(self) -> None:
        """Start the thread if it is needed. Where that fails, the next use tries again."""
        if self._needed():
            try:
                self.start()
            except RuntimeError:
                pass

    def _main(self, run: Run) -> None:
        run.native = _thread.get_native_id()
        run.ident = _thread.get_ident()
        try:
            threading.current_thread().name = self.name
        except Exception:  # where `threading` is patched, it may not know this thread
            pass
        try:
            self._work(run)
        except BaseException:
            log("the thread %r ends", self.name)
        finally:
            if self.run() is run:
                self._runs.pop("run", None)
            if not helpers_ended:
                self.restart()  # because more work may have come since it last looked; during a fork, this does nothing
            getattr(threading, "_active", {}).pop(run.ident, None)
            run.count = _thread._count()
            run.ended = True


def _locked() -> Any:
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def wait_for_end(runs: list[Run | None], nanoseconds: int) -> None:
    """Wait until all these runs have ended, or for that time."""
    deadline = monotonic_ns() + nanoseconds
    for run in runs:
        while run is not None and not _is_gone(run) and monotonic_ns() < deadline:
            sleep(0.0002)


def _is_gone(run: Run) -> bool:
    if not run.ended:
        return False
    if sys.platform == "linux":  # where the kernel counts a thread for a moment longer than the interpreter does
        return not os.path.exists(f"/proc/self/task/{run.native}")
    return bool(_thread._count() < run.count)


class Timers:
    """The thread "fastevent timers", which calls `fire(reference)` at each deadline.

    *reference* returns an object, or None once that is dead; then the call may be left out. Of several deadlines for one
    reference, only the first is kept, because *fire* checks whether that deadline still holds, and adds the next one.
    """

    def __init__(self) -> None:
        self.helper = Helper("fastevent timers", self._work, self._needed)
        self._unread: deque[tuple[int, Callable[[Any], object], Any]] = deque()
        self.firing = False  # whether the thread is about to set events
        self._asleep: dict[str, int] = {}  # "until": when the thread looks at `_unread` by itself
        # From here on, for the thread alone:
        self._heap: list[tuple[int, int, Callable[[Any], object], Any]] = []
        self._first: dict[int, int] = {}  # the first deadline for each reference, by its id
        self._number = 0  # of entries so far: two with the same deadline must not be compared further
        self._limit = 1000  # above this size, the heap is searched for entries of dead objects

    def add(self, deadline: int, fire: Callable[[Any], object], reference: Any) -> None:
        """Have *fire* called at the *deadline*, in nanoseconds. Raises `RuntimeError` where no thread can be started."""
        self._unread.append((deadline, fire, reference))
        # setdefault() and not get(): without the GIL, only a change of the dict is ordered against the thread's own.
        if deadline < self._asleep.setdefault("until", _AWAKE) or len(self._unread) % 1000 == 0:
            self.helper.start()
            self.helper.wake()

    def forget(self) -> None:
        """Have a new thread, in a forked child, begin where the parent's was."""
        self.firing = False
        self._asleep.clear()
        heapq.heapify(self._heap)
        self._first = {id(reference): deadline for deadline, _, _, reference in sorted(self._heap, reverse=True)}

    def _needed(self) -> bool:
        return bool(self._unread or self._heap)

    def _work(self, run: Run) -> None:
        while not run.ending:
            self._read()
            self._fire(run)
            until = self._heap[0][0] if self._heap else NEVER
            self._asleep["until"] = until
            if not self._unread:
                self.helper.sleep(until - monotonic_ns())
            self._asleep["until"] = _AWAKE

    def _read(self) -> None:
        for _ in range(len(self._unread)):  # no more than these, because reading must not delay deadlines that pass
            deadline, fire, reference = self._unread[0]
            if deadline < self._first.get(id(reference), NEVER):
                self._first[id(reference)] = deadline
                self._number += 1
                heapq.heappush(self._heap, (deadline, self._number, fire, reference))
            self._unread.popleft()  # only now, so that the child of a fork in between reads it again
        if len(self._heap) > self._limit:
            self._heap = [entry for entry in self._heap if self._holds(entry) and entry[3]() is not None]
            self._first = {id(reference): deadline for deadline, _, _, reference in self._heap}
            self._limit = 2 * len(self._heap) + 1000
            heapq.heapify(self._heap)

    def _holds(self, entry: tuple[int, int, Callable[[Any], object], Any]) -> bool:
        return self._first.get(id(entry[3])) == entry[0]

    def _fire(self, run: Run) -> None:
        while self._heap and self._heap[0][0] <= monotonic_ns() and not run.ending:
            self.firing = True
            entry = self._heap[0]
            if self._holds(entry):
                del self._first[id(entry[3])]
                try:
                    entry[2](entry[3])
                except BaseException:
                    log("at a deadline")
            # Only now, so that the child of a fork in between repeats the call.
            if self._heap and self._heap[0] is entry:
                heapq.heappop(self._heap)
        self.firing = False


class Callbacks:
    """The threads "fastevent callbacks", which call functions of users: one, and another whenever a call is stuck."""

    def __init__(self, timers: Timers) -> None:
        self.helpers = [Helper("fastevent callbacks", self._work, lambda: self._pending)]
        self._timers = timers
        self._pending: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._taken = 0  # how many calls have begun
        self._taken_before = 0  # how many had begun when `_grow()` was scheduled
        self._watching: dict[str, object] = {}  # not empty while `_grow()` is scheduled
        self._reference = lambda: self

    def call_later(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have *function* called with these *arguments* in a helper; call it here if the interpreter has ended the helpers."""
        if helpers_ended:
            function(*arguments)
            return
        self._pending.append((function, arguments))
        first = self.helpers[0]
        try:
            first.start()
        except RuntimeError:  # the next call tries again, or the exit makes this one
            return
        first.wake()
        run = first.run()
        if len(self._pending) > 1 or (run is not None and run.busy):
            self._watch()

    def busy(self) -> bool:
        """Return whether a call is pending or in progress in another thread."""
        runs = [helper.run() for helper in self.helpers]
        return bool(self._pending) or any(run is not None and run.busy and run.ident != _thread.get_ident() for run in runs)

    def finish(self) -> None:
        """Wait for all calls that are pending or in progress, as the interpreter exits."""
        deadline = monotonic_ns() + CALL_TIMEOUT
        while (self.busy() or self._timers.firing) and monotonic_ns() < deadline:
            self.helpers[0].restart()
            if self.helpers[0].run() is None:
                self.call_pending()
            sleep(0.0005)

    def call_pending(self) -> None:
        """Make the pending calls in this thread."""
        while self._pending:
            self._call_next()

    def forget(self) -> None:
        """Forget, in a forked child, the calls of the parent and the threads beyond the first one."""
        self._pending.clear()
        self._watching.clear()
        for helper in self.helpers[1:]:
            helper.forget()
            helper.unregister()
        del self.helpers[1:]

    def _work(self, run: Run) -> None:
        first = self.helpers[0]
        while not run.ending:
            run.busy = True  # before it takes a call, so that `call_later()` sees the call as pending or this thread as busy
            called = self._call_next()
            run.busy = False
            if not called:
                if first.run() is not run:
                    return  # only the first thread waits for work
                first.sleep(LONGEST_WAIT)

    def _call_next(self) -> bool:
        try:
            function, arguments = self._pending.popleft()
        except IndexError:
            return False
        self._taken += 1
        if self._pending:
            self._watch()
        try:
            function(*arguments)
        except BaseException:  # even SystemExit, because the thread serves other events, too
            log("%r raised", function)
        return True

    def _watch(self) -> None:
        """Schedule `_grow()`, unless it is scheduled already."""
        me = object()
        if self._watching.setdefault("", me) is me:
            self._taken_before = self._taken
            try:
                self._timers.add(monotonic_ns() + STUCK, Callbacks._grow, self._reference)
            except RuntimeError:
                self._watching.clear()

    @staticmethod
    def _grow(reference: Callable[[], Callbacks]) -> None:
        """Start another thread if calls are pending and none has begun since this was scheduled."""
        self = reference()
        self._watching.clear()
        if not self._pending:
            return
        if self._taken == self._taken_before:
            for helper in self.helpers:
                if helper.run() is None:
                    break
            else:
                helper = Helper("fastevent callbacks", self._work, lambda: False)
                self.helpers.append(helper)
            try:
                helper.start()
            except RuntimeError:  # the next `_grow()` tries again
                pass
        self._watch()


def log(text: str, *arguments: object) -> None:
    """Log the exception that is being handled, to the logger `fastevent`. A handler or filter that raises stops nothing."""
    try:
        import logging

        logging.getLogger("fastevent").exception(text, *arguments)
    except Exception:  # also where the interpreter exits, and nothing can be imported
        pass


timers = Timers()
callbacks = Callbacks(timers)
call_later = callbacks.call_later


def after_threads(function: Callable[[], object]) -> None:
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


def _at_exit() -> None:
    callbacks.finish()
    helpers_ended.append(None)
    wait_for_end([helper.end() for helper in list(_registered)], EXIT_TIMEOUT)
    callbacks.call_pending()


# This one is registered early, because `atexit` ignores what its own functions register, and one of them may start a helper.
atexit.register(partial(_at_exit))


def _end_idle_helpers() -> None:
    idle = [helper for helper in list(_registered) if (run := helper.run()) is not None and not run.busy]
    wait_for_end([helper.end() for helper in idle], FORK_TIMEOUT)


def _restart_helpers() -> None:
    for helper in list(_registered):
        helper.restart()


def _after_fork_in_child() -> None:
    # Where C code has forked, the functions for "before" may not have been called.
    _forks.clear()
    callbacks.forget()
    for helper in list(_registered):
        helper.forget()
    timers.forget()
    if sys.implementation.name != "pypy":  # which crashes where a thread starts in here; the next use starts it there
        _restart_helpers()
    _exits.clear()  # `multiprocessing` clears the functions of `atexit` after this


if hasattr(os, "register_at_fork"):
    # A signal that comes during a fork is handled as the next Python function begins. If the handler raises, that function does
    # nothing. So functions in C count the forks, and the helpers are restarted twice.
    count, count_back = partial(_forks.append, None), partial(_forks.__delitem__, slice(1))
    os.register_at_fork(before=_end_idle_helpers, after_in_parent=count_back, after_in_child=_after_fork_in_child)
    os.register_at_fork(before=count, after_in_parent=_restart_helpers)  # this "before" is called before the other
    os.register_at_fork(after_in_parent=_restart_helpers)
