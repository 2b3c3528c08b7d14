"""`frozen_clock()`: in a test, time passes when the test says so."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from fastevent._callbacks import callbacks
from fastevent._core import EventCore, freeze, in_callback, unfreeze
from fastevent._errors import timeout_error
from fastevent._notify import call_in_helper, set_and_notify
from fastevent._process import Claim, at_fork, generation, sleep
from fastevent._time import NEVER, SECOND, clock, deadline_after, event_seconds, monotonic_ns
from fastevent._timers import timers

__all__ = ["FrozenClock", "frozen_clock"]

PATIENCE = 10 * SECOND  # how long `advance()` waits for callbacks, by the real clock

_ALREADY_FROZEN = "the clock is frozen already: only one block of frozen_clock() can be open in a process"

_claim = Claim()  # held by the clock whose block is open


class FrozenClock:
    """What `frozen_clock()` returns: a clock that stands still until `advance()` moves it."""

    def __init__(self) -> None:
        self._moving = Claim()  # held by a call of advance(), and from the end of the block on

    def advance(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline. Return when all events whose deadlines have passed are set.

        By then their children are set, their callbacks have run, and tasks and threads that wait for them have been woken. A
        thread or task in a wait that has only timed out is not waited for: it sees the new time within some milliseconds.

        Raises `TypeError` or `ValueError` for what is not a finite number of seconds from zero on; `RuntimeError` after the
        block, in a callback, and while another thread advances the clock; `TimeoutError` if callbacks do not end within ten
        real seconds, with the time at the deadline that they belong to.

        Thread safety: safe on shared objects.
        """
        generation()
        step = event_seconds(seconds, "seconds")
        end = deadline_after(clock.now(), step)
        if end == NEVER:
            raise ValueError(f"seconds must be a finite number, not {seconds!r}")
        if _claim.holder is not self:
            raise RuntimeError("the clock is not frozen: advance() is for the block of frozen_clock()")
        if in_callback():
            raise RuntimeError("a callback cannot advance the clock, because advance() waits for callbacks")
        me = object()
        try:
            if not self._moving.take(me):
                raise RuntimeError("the clock is being advanced already, by another thread or by what this call interrupted")
            # The loop is a call, because 3.12 and 3.13 may leave a `try` at the end of a loop without its `finally`.
            _move_on(end)
        finally:
            try:
                self._moving.give_back(me)
            except BaseException:  # from a signal handler: the end of the block would wait for ever
                self._moving.give_back(me)
                raise

    def __enter__(self) -> FrozenClock:
        if self._moving.holder is self:
            raise RuntimeError("the block of this clock is over: call frozen_clock() once more")
        generation()
        if _claim.holder is not None:
            raise RuntimeError(_ALREADY_FROZEN)
        try:
            if not _claim.take(self):
                raise RuntimeError(_ALREADY_FROZEN)
            freeze(monotonic_ns())
        except BaseException:  # from a signal handler
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            generation()
            self._stop_moving()
            self._end()
        except BaseException:  # from a signal handler
            self._end()
            raise

    def _stop_moving(self) -> None:
        """Wait for the end of an `advance()` of another thread; refuse the next one."""
        while _claim.holder is self and not self._moving.take(self):  # in a forked child, another one or none is the holder
            sleep(0.0002)

    def _end(self) -> None:
        if _claim.holder is self:
            _run()
            _claim.give_back(self)


def frozen_clock() -> FrozenClock:
    """Freeze the clock of all events of this process for a block. `advance(seconds)` moves it.

    ```python
    with frozen_clock() as clock:
        event = Event(3600, set_on_timeout=True)
        clock.advance(3600)
        assert event.is_set()
    ```

    Deadlines, waits with a number of seconds, `ticks()`, `restart_timeout()`, `remaining()` and all else that events measure go
    by it, in threads, in `asyncio` and in `trio`. It begins at the time of the real clock, which counts again after the block,
    also if an exception leaves the block. If a signal handler raises at the very moment when the block begins to end, the clock
    stays frozen, as with any block whose class is written in Python: `clock.__exit__(None, None, None)` ends it. A wait that
    began before the block looks at the clock only when its own time is over by the real one. A process that is forked in the
    block has the real clock, and so have other processes that hold a `SharedEvent`. `time.sleep()` and `time.monotonic()` stay
    as they are.

    The block raises `RuntimeError` if the clock is frozen already.

    Thread safety: for one block at a time. It is not for programs that use several interpreters.
    """
    return FrozenClock()


def _move_on(end: int) -> None:
    _settle()
    while entries := timers.events.entries_until(end):
        _move(max(entries[0][0], clock.now()))
    _move(end)


def _move(time: int) -> None:
    """Freeze the clock at *time*, set the events whose deadlines that reaches, and wait for what this causes."""
    entries = timers.events.entries_until(time)
    unset = [event for _, _, reference in entries if (event := reference()) is not None and _can_expire(event)]
    freeze(time)
    for event in unset:
        # A thread in wait() may be setting it at this moment: this completes what that thread has begun.
        set_and_notify(event, timeout_error(event), True, call_in_helper)
    del unset
    if entries:
        timers.look()
    _settle()


def _can_expire(event: Any) -> bool:
    return isinstance(event, EventCore) and event._fe_self_setting and not event._fe_read().is_set


def _settle() -> None:
    """Wait until the helpers have nothing to do."""
    latest = monotonic_ns() + PATIENCE
    while not (_is_quiet() and _is_quiet()):  # twice: what a callback has caused may come after the first look
        if monotonic_ns() >= latest:
            calls = ", ".join(map(repr, callbacks.in_progress())) or "a helper thread"
            raise TimeoutError(f"not over after {PATIENCE / SECOND:g} real seconds: {calls}; does it wait for time to pass?")
        sleep(0.0002)


def _is_quiet() -> bool:
    return not (timers.events.entries_until(clock.now()) or timers.events.firing or callbacks.busy())


def _run() -> None:
    unfreeze()
    if timers.helper.life is not None:
        timers.helper.wake()  # it rests until times by the frozen clock


def _after_fork_in_child() -> None:
    if _claim.holder is not None:
        unfreeze()
        _claim.clear()


at_fork(in_child=_after_fork_in_child)
