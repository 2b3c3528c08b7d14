"""The threads "fastevent callbacks", which call functions of users."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from fastevent._process import CALLBACKS, THREADS, Claim, at_exit, at_fork, generation, log, native, sleep
from fastevent._threads import Helper, Life, helpers_ended, start_helpers
from fastevent._time import LONGEST_WAIT, SECOND, before_wait, monotonic_ns
from fastevent._timers import Timers, timers

CALLBACKS_TIMEOUT = 10 * SECOND  # how long the interpreter waits for callbacks as it exits
STUCK = SECOND // 10  # a callback that takes longer no longer delays the next one


class Callbacks:
    """One thread that makes calls, and another whenever a call is stuck and more are pending."""

    def __init__(self, timers: Timers) -> None:
        self.helpers = [Helper("fastevent callbacks", self._work, lambda: self._pending)]
        self._timers = timers
        self._pending: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._begun_at = 0  # when the last call began
        self._in_progress: dict[object, Any] = {}  # for each call, what shows it
        self._watching = Claim()  # held while `_grow()` is scheduled
        self._reference = lambda: self

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have *function* called with these *arguments* in a helper; call it here if the interpreter has ended the helpers."""
        generation()
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
        life = first.life
        if len(self._pending) > 1 or (life is not None and life.busy):
            self._watch()

    def busy(self) -> bool:
        """Return whether a call is pending or in progress in another thread."""
        lives = [helper.life for helper in self.helpers]
        return bool(self._pending) or any(life is not None and life.busy and life.ident != native.get_ident() for life in lives)

    def in_progress(self) -> list[Any]:
        """Return what is being called, for a message."""
        return list(self._in_progress.values())

    def finish(self) -> None:
        """Wait for all calls that are pending or in progress, as the interpreter exits."""
        deadline = monotonic_ns() + CALLBACKS_TIMEOUT
        while (self.busy() or self._timers.events.firing) and monotonic_ns() < deadline:
            self.helpers[0].start_if_needed()
            if self.helpers[0].life is None:
                self.make_pending_calls()
            sleep(0.0005)

    def make_pending_calls(self) -> None:
        """Make the calls that are pending in this thread."""
        while self._pending:
            self._call_next()

    def after_fork(self) -> None:
        """Forget, in a forked child, the calls of the parent and the threads beyond the first one."""
        self._pending.clear()
        self._in_progress.clear()
        self._watching.clear()
        for helper in self.helpers[1:]:
            helper.after_fork()
            helper.unregister()
        del self.helpers[1:]

    def _work(self, life: Life) -> None:
        first = self.helpers[0]
        while not life.ending:
            life.busy = True  # before it takes a call, so that `call()` sees the call as pending or this thread as busy
            called = self._call_next()
            life.busy = False
            if not called:
                if first.life is not life:
                    return  # only the first thread waits for work
                first.rest(LONGEST_WAIT)

    def _call_next(self) -> bool:
        try:
            function, arguments = self._pending.popleft()
        except IndexError:
            return False
        self._begun_at = monotonic_ns()
        if self._pending:
            self._watch()
        call = object()
        try:
            self._in_progress[call] = arguments[-1] if arguments else function  # a registration comes last
            function(*arguments)
        except BaseException:  # even SystemExit, because the thread serves other events, too
            log("%r raised", function)
        finally:
            self._in_progress.pop(call, None)
        return True

    def _watch(self) -> None:
        """Schedule `_grow()`, unless it is scheduled already."""
        me = object()
        if self._watching.take(me):
            try:
                self._timers.real.add(monotonic_ns() + STUCK, Callbacks._grow, self._reference)
            except RuntimeError:
                self._watching.clear()

    @staticmethod
    def _grow(reference: Callable[[], Callbacks]) -> None:
        """Start another thread if calls are pending and none has begun for a while."""
        self = reference()
        self._watching.clear()
        if not self._pending:
            return
        if monotonic_ns() - self._begun_at >= STUCK:
            for helper in self.helpers:
                if helper.life is None:
                    break
            else:
                helper = Helper("fastevent callbacks", self._work, lambda: False)
                self.helpers.append(helper)
            try:
                helper.start()
            except RuntimeError:  # the next `_grow()` tries again
                pass
        self._watch()


_missing: list[None] = []  # an item while the helpers of a forked child are still to be started


def _start_helpers_later() -> None:
    _missing.append(None)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(callbacks, lambda _: _start_missing_helpers())


def _start_missing_helpers() -> None:
    if _missing:
        start_helpers()
        _missing.clear()  # afterwards: what a signal handler interrupts, the next call does


callbacks = Callbacks(timers)
in_helper = callbacks.call

at_fork(in_child=callbacks.after_fork)
if sys.implementation.name != "pypy":
    at_fork(in_child=start_helpers)
else:  # it crashes where a thread starts in here: `multiprocessing` starts it a little later, or else the next use or wait
    at_fork(in_child=_start_helpers_later)
    before_wait.append(_start_missing_helpers)
at_exit(CALLBACKS, callbacks.finish)
at_exit(THREADS, callbacks.make_pending_calls)  # that came as the threads ended
