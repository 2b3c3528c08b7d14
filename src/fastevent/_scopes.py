"""Blocks of code that an event begins or ends with: signals, callbacks, tasks and threads of tasks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

from fastevent._errors import describe
from fastevent._helpers import call_later
from fastevent._notify import call_now, set_and_notify
from fastevent._time import longest_wait

_E = TypeVar("_E")


def leave(event: Any, error: BaseException | None) -> None:
    """Set the *event* at the end of its block, for the reason that the *error* gives."""
    if error is None:
        event.set()  # without an argument, as a subclass may have it
    else:  # the text alone: the exception itself would keep the frames alive that it went through, and all that they hold
        name = type(error).__name__
        text = describe(name, error)
        event.set(name if text == f"{name}: {name}" else text)


# Signals


def set_on_signals(event: _E, signals: Sequence[int]) -> AbstractContextManager[_E]:
    """What `Event.set_on_signals()` does."""
    numbers = [_signal(number) for number in signals] or [signal.SIGINT, signal.SIGTERM]
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(f"set_on_signals() works in the main thread only, not in {threading.current_thread().name!r}")
    for number in numbers:
        if number.name in {"SIGKILL", "SIGSTOP"}:
            raise ValueError(f"{number.name} cannot be handled")
        if signal.getsignal(number) is None:
            raise ValueError(f"the handler of {number.name} was not installed from Python and could not be restored")
    return _handling_signals(event, numbers)


def _signal(number: Any) -> signal.Signals:
    try:
        if number in signal.valid_signals():
            return signal.Signals(number)
    except (TypeError, ValueError):
        pass
    hint = "; pass several signals one by one" if isinstance(number, (list, tuple, set)) else ""
    raise ValueError(f"a signal must be one of this system's signal.Signals, not {number!r}{hint}")


@contextmanager
def _handling_signals(event: Any, numbers: list[signal.Signals]) -> Iterator[Any]:
    before: dict[int, Any] = {}
    calls = _Calls()
    first: list[int] = []  # the event's count of sets after the first signal

    def handler(number: int, frame: Any) -> None:
        sets, is_set, _ = event._fe_read()
        if is_set and first == [sets]:  # no clear() has come since
            _act(number, frame)
        else:
            set_and_notify(event, signal.Signals(number), call=calls.call_later)
            first[:] = [event._fe_read().sets]

    def _act(number: int, frame: Any) -> None:
        """Do what the signal did before the block."""
        action = before[number]
        if callable(action):
            action(number, frame)
        elif action == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, handler)

    try:
        with ExitStack() as restored:
            for number in numbers:
                before.setdefault(number, signal.getsignal(number))
                restored.callback(signal.signal, number, before[number])
                signal.signal(number, handler)
            yield event
    finally:
        calls.wait()  # a second Ctrl-C ends this, too


class _Calls:
    """Calls of callbacks in a helper, to be waited for."""

    def __init__(self) -> None:
        self._pending: dict[object, None] = {}
        self._token = threading.Lock()
        self._token.acquire()

    def call_later(self, event: Any, key: object, function: Callable[[Any], object]) -> None:
        call = object()
        self._pending[call] = None
        call_later(self._call, call, event, key, function)

    def _call(self, call: object, event: Any, key: object, function: Callable[[Any], object]) -> None:
        try:
            call_now(event, key, function)
        finally:
            self._pending.pop(call, None)
            try:
                self._token.release()
            except RuntimeError:  # it is unlocked already
                pass

    def wait(self) -> None:
        while self._pending:
            self._token.acquire(True, longest_wait() / 1e9)


def callback(event, function, args, kwargs):
    raise NotImplementedError


def to_thread(event, function, args, kwargs):
    raise NotImplementedError


async def enter_async(event):
    raise NotImplementedError


async def leave_async(event, error):
    raise NotImplementedError
