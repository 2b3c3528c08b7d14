"""The helper threads of this package: how they start, rest and end.

A helper starts at the first need. It ends before a fork, since a process with several threads is not safe to fork, and starts
again afterwards if it is still needed, in both processes. It ends with its interpreter, since a subinterpreter must not leave a
thread behind. A signal handler may need a helper at any point, so nothing here takes a lock that it could meet.

Threads are raw ones of the interpreter: starting a `threading.Thread` waits for a lock, and gevent or eventlet may have
replaced it. `current_thread()` and debuggers still show their names.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from fastevent._process import THREADS, Claim, Token, at_exit, at_fork, expect_exit, generation, is_forking, log, native, sleep
from fastevent._time import SECOND, monotonic_ns

FORK_TIMEOUT = SECOND // 10  # how long a fork waits for helpers to end
EXIT_TIMEOUT = SECOND  # how long the interpreter waits for them as it exits
_LONGEST_PAUSE = SECOND  # after work that has failed
_STABLE = 10 * SECOND  # after work of that length, a failure is the first one again

_registered: list[Helper] = []  # that end before a fork, start after it, and end with the interpreter
helpers_ended: list[None] = []  # not empty once the interpreter has ended the helpers


class Life:
    """The life of a helper, from one start to its end."""

    __slots__ = ("busy", "count", "ended", "ending", "ident", "native")

    def __init__(self) -> None:
        self.ident = 0
        self.native = 0
        self.busy = False  # it calls a function of a user, for which a fork does not wait
        self.ending = False
        self.ended = False
        self.count = 0  # how many threads there were as this one ended


class Helper:
    """A thread that runs `work(life)` as long as `needed()` is true, under a *name* that debuggers show.

    *work* returns soon after `life.ending` becomes true. It rests by `rest()`, which `wake()` ends.
    """

    def __init__(self, name: str, work: Callable[[Life], object], needed: Callable[[], object]) -> None:
        self.name = name
        self._work = work
        self._needed = needed
        self._claim = Claim()  # held by the life of the thread, while there is one
        self._token = Token()
        _registered.append(self)

    @property
    def life(self) -> Life | None:
        """The present life of the thread, or None."""
        life: Life | None = self._claim.holder
        return life

    def start(self) -> None:
        """Start the thread unless it runs. During a fork, leave that to the end of the fork.

        Raises `RuntimeError` where no thread can be started.
        """
        generation()
        if self.life is not None or is_forking():
            return
        if helpers_ended:
            raise RuntimeError("no thread can be started while the interpreter exits")
        life = Life()
        try:
            if self._claim.take(life):
                expect_exit()
                native.start_new_thread(self._main, (life,))
        except BaseException:  # from a signal handler, perhaps: before the start or after it
            self._claim.give_back(life)
            life.ending = True
            raise

    def start_if_needed(self) -> None:
        """Start the thread if it is needed. Where that fails, the next use tries again."""
        if self._needed():
            with suppress(RuntimeError):
                self.start()

    def wake(self) -> None:
        """End the present `rest()`, or the next one."""
        self._token.wake()

    def rest(self, nanoseconds: int) -> None:
        """Wait until `wake()`, or for that time."""
        self._token.rest(nanoseconds)

    def ask_to_end(self) -> Life | None:
        """Ask the thread to end, and return its life. Return None if there is no thread, or if it is the calling one."""
        life = self.life
        if life is None or life.ident == native.get_ident():
            return None
        life.ending = True
        self.wake()
        return life

    def after_fork(self) -> None:
        """Forget, in a forked child, the thread of the parent."""
        life = self.life
        self._claim.clear()
        if life is not None:
            life.ending = True  # because the thread itself may have forked, in a callback: it ends after that
        self._token = Token()

    def leave_behind(self) -> None:
        """Have another thread begin in place of one that is stuck, which ends once it gets on."""
        life = self.life
        if life is not None:
            life.ending = True
            self._claim.give_back(life)
            self.start_if_needed()

    def unregister(self) -> None:
        """Take no part in forks and in the end of the interpreter any more. A second call does nothing."""
        with suppress(ValueError):
            _registered.remove(self)

    def _main(self, life: Life) -> None:
        life.native = native.get_native_id()
        life.ident = native.get_ident()
        _show(life, self.name)
        try:
            self._keep_working(life)
        finally:
            _note_ending(life)
            self._claim.give_back(life)
            if not helpers_ended:
                self.start_if_needed()  # because more work may have come since it last looked; during a fork, this does nothing
            getattr(threading, "_active", {}).pop(life.ident, None)
            life.count = native._count()
            life.ended = True

    def _keep_working(self, life: Life) -> None:
        """Work. Where that fails again and again, pause longer each time, and log only the first failure."""
        failures = 0
        while not life.ending:
            began = monotonic_ns()
            try:
                self._work(life)
                return
            except BaseException:
                if monotonic_ns() - began > _STABLE:
                    failures = 0
                if failures == 0:
                    log("the work of the thread %r failed, and begins again", self.name)
            failures += 1
            until = monotonic_ns() + min(10**6 << min(failures, 20), _LONGEST_PAUSE)
            while not life.ending and (left := until - monotonic_ns()) > 0:
                self.rest(left)  # which each new task ends


def _show(life: Life, name: str) -> None:
    """Have `threading` know the calling thread by this name."""
    try:
        thread = threading.current_thread()
        thread.name = name
        # From Python 3.13 on, it takes the thread out of its table when this object is dropped, under a lock. A forked child
        # drops it before it has made the lock anew, which another thread may have held. So the helper does it at its end.
        del threading._thread_local_info._track_dummy_thread_ref  # type: ignore[attr-defined]
        threading._active[life.ident] = thread  # type: ignore[attr-defined]
    except Exception:  # where `threading` is patched, it may not know this thread
        pass


def wait_for_end(lives: list[Life | None], nanoseconds: int) -> None:
    """Wait until all these lives have ended, or for that time."""
    deadline = monotonic_ns() + nanoseconds
    for life in lives:
        while life is not None and not _is_gone(life) and monotonic_ns() < deadline:
            sleep(0.0002)


def _is_gone(life: Life) -> bool:
    if not life.ended:
        return False
    if sys.platform == "linux":  # where the kernel counts a thread for a moment longer than the interpreter does
        return not os.path.exists(f"/proc/self/task/{life.native}")
    return bool(native._count() < life.count)


#: Threads that no helper holds any more, but that may still run. A fork waits for them, too, because a fork in a signal handler
#: may interrupt another that has asked them to end.
_ending: list[Life] = []


def _note_ending(life: Life) -> None:
    _ending.append(life)
    for other in list(_ending):
        if _is_gone(other):
            with suppress(ValueError):  # another thread was faster
                _ending.remove(other)


def _end_idle_helpers() -> None:
    idle = [helper for helper in list(_registered) if (life := helper.life) is not None and not life.busy]
    wait_for_end([*[helper.ask_to_end() for helper in idle], *_ending], FORK_TIMEOUT)


def _end_helpers() -> None:
    helpers_ended.append(None)
    wait_for_end([helper.ask_to_end() for helper in list(_registered)], EXIT_TIMEOUT)


def start_helpers() -> None:
    for helper in list(_registered):
        helper.start_if_needed()


def _forget_helpers() -> None:
    _ending.clear()
    for helper in list(_registered):
        helper.after_fork()


at_fork(before=_end_idle_helpers, in_parent=start_helpers, in_child=_forget_helpers)
at_exit(THREADS, _end_helpers)
