"""Blocks in which signals set an event, and events that are set as the program ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from _thread import allocate_lock, get_ident
from collections.abc import Sequence
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import ref

from fastevent._callbacks import in_helper
from fastevent._core import EventCore
from fastevent._notify import call_in_helper, call_now, set_and_notify
from fastevent._process import EVENTS, PACKAGES, Claim, Token, at_exit, at_fork, begin_rest, expect_exit, generation

if TYPE_CHECKING:
    from fastevent._registration import Registration

_E = TypeVar("_E", bound=EventCore)

#: What a process does on these signals by default does not end it.
_HARMLESS = {
    getattr(signal, name, None)
    for name in ("SIGCHLD", "SIGCLD", "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH", "SIGINFO")
}


def set_on_signals(event: _E, signals: Sequence[int | str]) -> Block[_E]:
    """What `Event.set_on_signals()` does."""
    if not isinstance(event, EventCore):
        raise TypeError(f"set_on_signals() is a method of fastevent.Event, not of {event!r}")
    numbers = [_signal(number) for number in signals] or [signal.SIGINT, signal.SIGTERM]
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(f"set_on_signals() works in the main thread only, not in {threading.current_thread().name!r}")
    for number in numbers:
        if number.name in {"SIGKILL", "SIGSTOP"}:
            raise ValueError(f"{number.name} cannot be handled")
        if signal.getsignal(number) is None:
            raise ValueError(f"the handler of {number.name} was not installed from Python and could not be restored")
    return Block(event, numbers)


def _signal(number: Any) -> signal.Signals:
    try:
        if isinstance(number, str):
            return signal.Signals[number]
        if number in signal.valid_signals():
            return signal.Signals(number)
    except (KeyError, TypeError, ValueError):
        pass
    hint = "; pass several signals one by one" if isinstance(number, (list, tuple, set)) else ""
    raise ValueError(f"a signal must be one of this system's signal.Signals, not {number!r}{hint}")


class Block(Generic[_E]):
    """A block in which the first of some signals sets an event. Blocks may be nested, and may overlap in tasks."""

    def __init__(self, event: _E, numbers: list[signal.Signals]) -> None:
        self._event = event
        self._numbers = numbers
        self._handlers: dict[signal.Signals, _Handler] = {}
        self._calls = _Calls()
        self._first = -1  # the event's count of sets after the first signal

    def __enter__(self) -> _E:
        try:
            for number in self._numbers:
                self._open(number)
        except BaseException:  # from a signal handler
            self._close()
            raise
        return self._event

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self._close()
        except BaseException:  # from a signal handler: no handler of a block stays that has ended
            self._close()
            raise
        self._calls.wait()  # a second Ctrl-C ends this, too

    def _open(self, number: signal.Signals) -> None:
        present: Any = signal.getsignal(number)
        if present == signal.SIG_IGN:
            return  # by `nohup`, or by a shell that has started the program in the background: it stays ignored
        is_ours = isinstance(present, _Handler) and present.blocks()
        handler = present if is_ours else _Handler(number, present)
        self._handlers[number] = handler  # first, so that what follows is undone if a signal handler raises in between
        handler.add(self)
        if handler is not present:
            _installed[number] = handler
            signal.signal(number, handler)

    def _close(self) -> None:
        for number, handler in list(self._handlers.items()):
            handler.remove(self)
            # One that the program has installed inside of the block stays.
            if not handler.blocks():
                handler.restore()
            self._handlers.pop(number, None)

    def take(self, name: str) -> bool:
        """Set the event if this is the first signal since the block began or the event was cleared. Return whether it is."""
        sets, is_set, _ = self._event._fe_read()
        if is_set and self._first == sets:  # no clear() has come since
            return False
        self._first = sets if is_set else sets + 1  # before the set(), whose notifying the second signal may interrupt
        set_and_notify(self._event, name, call=self._calls.call_in_helper)
        return True


class _Handler:
    """The handler of a signal, for all blocks that are open; the last one to end restores the handler *before*."""

    def __init__(self, number: signal.Signals, before: Any) -> None:
        self._number = number
        self._before = before
        # Weak references: if an exception comes as a block is about to leave, its handler stays, and does nothing of its own.
        self._blocks: dict[ref[Block[Any]], None] = {}
        self._came_in = -1  # the process in which the last signal came
        self._packages: set[str] = set()  # whose children call `act_in_child()`

    def blocks(self) -> list[Block[Any]]:
        """Return the blocks that are open."""
        return [block for reference in list(self._blocks) if (block := reference()) is not None]

    def add(self, block: Block[Any]) -> None:
        self._blocks[ref(block)] = None

    def remove(self, block: Block[Any]) -> None:
        self._blocks.pop(ref(block), None)

    def restore(self) -> None:
        """Restore the handler before, unless the program has installed one of its own in the block."""
        present: Any = signal.getsignal(self._number)
        if present is self:
            signal.signal(self._number, self._before)
        if _installed.get(self._number) is self:
            _installed.pop(self._number, None)

    def act_in_child(self) -> None:
        """Act as before the blocks in a child of `multiprocessing`, which `terminate()` must be able to end."""
        self._blocks.clear()
        self.restore()
        if self._came_in == os.getpid():  # before the package had begun with the child
            signal.raise_signal(self._number)

    def expect_children(self) -> None:
        """See to it that a child that is about to be forked calls `act_in_child()` if it is one of `multiprocessing`."""
        for package in PACKAGES:
            if f"{package}.process" in sys.modules and package not in self._packages:
                name = f"{package}.util"
                util: Any = sys.modules.get(name) or import_module(name)  # billiard imports it in the child alone
                if hasattr(util, "register_after_fork"):  # another thread may be importing it
                    util.register_after_fork(self, _Handler.act_in_child)
                    self._packages.add(package)

    def __call__(self, number: int, frame: Any) -> None:
        self._came_in = os.getpid()
        taken = [block.take(self._number.name) for block in self.blocks()]
        if not any(taken):
            self._act_as_before(number, frame)

    def _act_as_before(self, number: int, frame: Any) -> None:
        """Do what the signal did before the blocks."""
        if callable(self._before):
            self._before(number, frame)
        elif self._before == signal.SIG_DFL:
            present = signal.getsignal(number)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            if number not in _HARMLESS and sys.platform != "win32":
                os._exit(128 + number)  # process 1 of a container, for which the kernel discards default actions
            signal.signal(number, present)


_installed: dict[signal.Signals, _Handler] = {}
_masks: dict[int, Any] = {}  # by the thread that forks, which signals it had blocked before


def _before_fork() -> None:
    if _installed:
        for handler in list(_installed.values()):
            handler.expect_children()
        # Python forgets, in the child, signals that came before its own functions were called there.
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, list(_installed))


def _after_fork() -> None:
    mask = _masks.get(get_ident())
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _masks.pop(get_ident(), None)


at_fork(before=_before_fork, in_parent=_after_fork, in_child=_after_fork)


class _Calls:
    """Calls of callbacks in a helper, to be waited for."""

    def __init__(self) -> None:
        self._pending: dict[object, int] = {}  # each in its process: a child that is forked has no thread that makes it
        self._token = Token(allocate_lock)

    def call_in_helper(self, event: EventCore, key: object, function: Registration) -> None:
        call = Claim()
        try:
            self._pending[call] = generation()
            in_helper(self._call, call, event, key, function)
        except BaseException:  # from a signal handler: what is pending must come, and the first one to come is it
            in_helper(self._call, call, event, key, function)
            raise

    def _call(self, call: Claim, event: EventCore, key: object, function: Registration) -> None:
        if not call.take(object()):
            return
        try:
            call_now(event, key, function)
        finally:
            self._pending.pop(call, None)
            self._token.wake()

    def wait(self) -> None:
        while generation() in list(self._pending.values()):
            self._token.rest(begin_rest())


# The end of the program

_events: dict[int, ref[EventCore]] = {}  # by the id of the event: a dead one gives its place to another
_limit = [1000]  # above this size, the dead ones are dropped
_registered: list[None] = []  # not empty once threading calls `_set_events()`


def set_at_exit(event: EventCore) -> None:
    """What `Event.set_at_exit()` does."""
    if not isinstance(event, EventCore):
        raise TypeError(f"set_at_exit() is a method of fastevent.Event, not of {event!r}")
    _events[id(event)] = ref(event)
    if len(_events) > _limit[0]:
        for number, reference in list(_events.items()):
            if reference() is None:
                _events.pop(number, None)
        _limit[0] = 2 * len(_events) + 1000
    expect_exit()
    if not _registered:
        # The only moment between the end of the main thread and the joining of the others. `concurrent.futures` relies on it,
        # too. Where there is none, the event is set after the other threads have ended.
        register: Any = getattr(threading, "_register_atexit", None)
        try:
            if register is not None:
                register(_set_events)
                _set_events_first()
            _registered.append(None)
        except RuntimeError:  # that moment has passed
            _set_events()


def _set_events_first() -> None:
    """Have the events set before anything else is called at that moment.

    What was registered last is called first, so an executor that is imported later would wait for work that waits for an event.
    """
    shutdown: Any = threading._shutdown  # type: ignore[attr-defined]

    def set_events_and_shut_down() -> None:
        try:
            _set_events()
        finally:
            shutdown()

    threading._shutdown = set_events_and_shut_down  # type: ignore[attr-defined]


def _set_events() -> None:
    for reference in list(_events.values()):
        event = reference()
        if event is not None:
            set_and_notify(event, "the program ends", call=call_in_helper)


at_exit(EVENTS, _set_events)
