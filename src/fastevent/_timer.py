"""The thread that sets events at their timeouts where a callback or a child must be told: one for all, started on first need.

It looks at an event when its timeout should have passed. If `clear()` has put that off meanwhile, it looks again then. The
event alone decides whether its time has come: no timer of the past can reach a later period.
"""

from __future__ import annotations

import atexit
import heapq
import os
from _thread import _count as count_threads
from _thread import start_new_thread
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic_ns, sleep
from typing import Any

from fastevent._subscribers import Reference
from fastevent._timeouts import LONGEST_WAIT, NEVER


class _Armed(Reference):
    """An event whose timeout is waited for."""

    __slots__ = ()


_armed: dict[_Armed, None] = {}  # each stands once in the inbox or among the thread's own
# None ends the thread. put() may be called anywhere: it takes no lock that it could meet held.
_inbox: SimpleQueue[_Armed | None] = SimpleQueue()
_running: dict[str, object] = {}  # "thread" while there is one
_last_count = 0  # of all threads, when that one came to its end


def arm(event: Any) -> None:
    """Have *event* set at its timeout.

    Raises `RuntimeError` where no thread can be started any more, as at the exit of the interpreter.
    """
    if event._fe_sets_itself_at() == NEVER:
        return
    reference = _Armed(event, _forget)
    _armed[reference] = None  # before the mark: a child that is forked off in between must find it
    try:
        if vars(event).setdefault("_fe_timer", reference) is reference:
            _inbox.put(reference)
        else:
            _forget(reference)
        _run()
    except BaseException:  # a signal handler's: do not leave a mark without a timer
        vars(event).pop("_fe_timer", None)
        raise


def _forget(reference: _Armed, armed: dict[_Armed, None] = _armed) -> None:
    armed.pop(reference, None)  # an argument: at the exit of the interpreter, globals are gone before events are


def _run() -> None:
    me = object()
    if _running.setdefault("thread", me) is me:
        try:
            atexit.register(_stop)
            start_new_thread(_ring, (_inbox,))  # not a Thread: its locks would make arm() unsafe in a signal handler
        except BaseException:
            _running.clear()
            raise


def _stop() -> None:
    """End the thread with the interpreter: one of several in a process must not leave any behind. A callback may delay it."""
    atexit.unregister(_stop)
    if _running:  # not in a child that was forked off
        _inbox.put(None)
        deadline = monotonic_ns() + 10**9
        while count_threads() >= _last_count and monotonic_ns() < deadline:
            sleep(0.0005)


def _ring(inbox: SimpleQueue[_Armed | None]) -> None:
    global _last_count
    order = count()  # two events at the same time must not be compared
    timers: list[tuple[int, int, _Armed]] = []
    while True:
        try:
            left = timers[0][0] - monotonic_ns() if timers else LONGEST_WAIT
            reference = inbox.get(timeout=min(max(left, 0), LONGEST_WAIT) / 1e9)
        except Empty:
            pass
        else:
            if reference is None:
                _last_count = count_threads()
                return
            event = reference()
            if event is not None:
                heapq.heappush(timers, (event._fe_sets_itself_at(), next(order), reference))
                del event
            if len(timers) > 2 * len(_armed) + 64:  # most of them are of events that are gone
                timers = [timer for timer in timers if timer[2]() is not None]
                heapq.heapify(timers)
        while timers and timers[0][0] <= monotonic_ns():
            _look_at(heapq.heappop(timers)[2])


def _look_at(reference: _Armed) -> None:
    event = reference()
    if event is None:
        return
    vars(event).pop("_fe_timer", None)  # before the look: a clear() from here on arms the event itself
    _forget(reference)
    try:
        if not event.is_set():
            event._fe_arm()
    except BaseException:  # sys.exit() in a callback: the thread is not its own
        import logging

        logging.getLogger("fastevent").exception("at the timeout of %r", event)


def _after_fork_in_child() -> None:
    global _inbox
    _inbox = SimpleQueue()  # the thread of the parent may have held the lock of the other
    _running.clear()
    for reference in list(_armed):
        _inbox.put(reference)
    if _armed:
        _run()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
