"""Waiting for an event other than by `wait()`: for several at once, in a task, by a descriptor, in a loop with pauses."""

from __future__ import annotations

import os
import threading
import weakref
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

from fastevent._core import EventCore
from fastevent._notify import Waker, expire, subscribe, unsubscribe
from fastevent._time import LONGEST_WAIT, NEVER, deadline_after, longest_wait, monotonic_ns, wait_seconds

_E = TypeVar("_E", bound=EventCore)


# Several events


def wait_any(events: Iterable[_E], timeout: float | None = None) -> list[_E]:
    """Wait until one of the *events* is set. Return those that are, in the order given; an empty list if time ran out first.

    *timeout* is in seconds. With None, the call ends when the events' own timeouts have all passed, as `Event.wait()` does for
    one. An event that was set and cleared meanwhile counts as set. Raises `TypeError` for what is not a `fastevent.Event`,
    `ValueError` if there is no event.

    Thread safety: safe on shared objects. It waits as `Event.wait()` does, without another thread and without polling.
    """
    events = _listed(events)
    if not events:
        raise ValueError("wait_any() needs at least one event, not an empty list: it would wait for ever")
    return _wait_for(events, 1, timeout, max)


def wait_all(events: Iterable[EventCore], timeout: float | None = None) -> bool:
    """Wait until each of the *events* is set or has been set since the call. Return True then, False if time ran out first.

    *timeout* is in seconds. With None, the call ends when the own timeout of an event that is not set has passed, as
    `Event.wait()` does for one. Without any events it returns True at once. Raises `TypeError` for what is not a
    `fastevent.Event`.

    Thread safety: safe on shared objects. It waits as `Event.wait()` does, without another thread and without polling.
    """
    events = _listed(events)
    return len(_wait_for(events, len({id(event) for event in events}), timeout, min)) == len(events)


def _listed(events: Iterable[_E]) -> list[_E]:
    if not isinstance(events, Iterable):
        raise TypeError(f"events must be an iterable of fastevent.Event objects, not {events!r}")
    events = list(events)
    for event in events:
        if not isinstance(event, EventCore):
            raise TypeError(f"only a fastevent.Event can be waited for together with others, not {event!r}")
    return events


def _wait_for(events: list[_E], enough: int, timeout: float | None, choose: Any) -> list[_E]:
    """Wait until *enough* of the *events* were set, and return those that were.

    With None for a *timeout*, the own deadline that *choose* takes ends the wait: `min` the first, `max` the last of them.
    """
    different = {id(event): event for event in events}
    before = {key: event._fe_read() for key, event in different.items()}
    unset = {key: event for key, event in different.items() if not before[key].is_set}
    missing = enough - (len(different) - len(unset))
    seconds = None if timeout is None or missing <= 0 else wait_seconds(timeout)
    if missing > 0 and seconds != 0:
        deadline = None if seconds is None else deadline_after(monotonic_ns(), seconds)

        def end(unset: Iterable[EventCore]) -> int:
            if deadline is not None:
                return deadline
            # A self-setting event ends the wait by being set.
            own = (NEVER if event._fe_self_setting else event._fe_deadline() for event in unset)
            own_deadline: int = choose(own, default=NEVER)
            return own_deadline

        _wait_while_unset(unset, {key: before[key].sets for key in unset}, missing, end)
    return [event for event in events if id(event) not in unset]


def _wait_while_unset(unset: dict[int, Any], sets: dict[int, int], enough: int, end: Callable[[Iterable[Any]], int]) -> None:
    """Wait until *enough* of the *unset* events were set, or until the *end* of the others. Take out those that were set.

    *sets* has the events' counts of sets from the start.
    """
    token = allocate_lock()  # free when there is something to look at
    token.acquire()
    waker = Waker(lambda: _release(token), get_ident())
    watched = list(unset.items())

    def look() -> None:
        for key, event in watched:
            if key in unset and event._fe_set_since(sets[key]):
                del unset[key]

    def wait() -> None:
        for _, event in watched:
            subscribe(event, waker)
        while True:
            now = monotonic_ns()
            for event in list(unset.values()):
                if event._fe_self_setting and now >= event._fe_deadline():
                    expire(event)
            look()
            until = end(unset.values())
            if len(watched) - len(unset) >= enough or now >= until:
                return
            until = min(until, *(event._fe_deadline() for event in unset.values() if event._fe_self_setting), NEVER)
            longest = longest_wait()
            left = longest if until == NEVER else max(0, min(until - now, longest))
            token.acquire(True, -1 if until == NEVER and left == LONGEST_WAIT else left / 1e9)

    def leave() -> None:
        for _, event in watched:
            unsubscribe(event, waker)
        _tokens.__dict__.pop(token, None)

    try:
        _tokens.__dict__[token] = None
        wait()  # a call, because 3.12 and 3.13 may leave a `try` at the end of a loop without its `finally`
    finally:
        try:
            leave()
        except BaseException:  # from a signal handler: no waker is left behind
            leave()
            raise


_tokens: Any = threading.local()  # its `__dict__` has those of the waits of this thread


def _release(token: Any) -> None:
    try:
        token.release()
    except RuntimeError:  # it is unlocked already
        pass


def _after_fork_in_child() -> None:
    # A signal handler may have forked during a wait. The thread that was to wake it is gone, so it has to look by itself.
    for token in list(_tokens.__dict__):
        _release(token)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def waiting(event: Any) -> tuple[str, ...]:
    """Return the names of the threads and tasks that wait for the *event*."""
    wakers = [waker.waiter for waker in list(event._fe_wakers) if waker.waiter is not None and waker.is_here()]
    waiters = [*event._fe_waiters(), *wakers]
    if not waiters:
        return ()
    # Not threading.enumerate(): an exception from a signal handler may leave its lock locked, and no thread could start or end.
    threads: dict[int, threading.Thread] = getattr(threading, "_active", {})
    return tuple(
        waiter if isinstance(waiter, str) else getattr(threads.get(waiter), "name", f"thread {waiter}") for waiter in waiters
    )


# A loop with pauses


def ticks(event: Any, interval: float) -> Iterator[int]:
    """What `Event.ticks()` does."""
    step = deadline_after(0, interval)
    tick, next_tick = 0, monotonic_ns()

    def end(unset: Iterable[Any]) -> int:
        deadline: int = event._fe_deadline()
        return min(next_tick, deadline)

    while not (event.is_set() or event.check_timeout()):
        yield tick
        tick += 1
        next_tick += step * max(1, -((next_tick - monotonic_ns()) // step))
        unset = {0: event}
        _wait_while_unset(unset, {0: event._fe_read().sets}, 1, end)
        if not unset:  # it was set, even if a clear() has followed
            return


# A descriptor


def fileno(event: Any) -> int:
    """What `Event.fileno()` does."""
    own = vars(event)
    descriptor: Descriptor = own.get("_fe_descriptor") or own.setdefault("_fe_descriptor", Descriptor(event))
    if descriptor not in event._fe_wakers:
        event._fe_has_descriptor = True
        subscribe(event, descriptor)
    descriptor.wake()
    return descriptor.number


class Descriptor(Waker):
    """A file descriptor that is readable while its event is set.

    Each thread that changes the flag corrects the descriptor afterwards, until it agrees with the flag as it then is. So the
    thread that comes last leaves it right, and no lock is needed that a signal handler could meet.
    """

    __slots__ = ("_event", "_file", "_process", "_reopened", "_sockets", "number")

    def __init__(self, event: Any) -> None:
        self.number = -1
        self.waiter = self.thread = None
        self._event = weakref.ref(event)
        self._reopened: dict[int, object] = {}  # in which processes, and by which call
        self._sockets: tuple[Any, ...] = ()
        self._process = os.getpid()
        self.number = self._open()
        self._file = _file(self.number)

    def _open(self) -> int:
        if hasattr(os, "eventfd"):
            return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._sockets = _socket_pair()
        number: int = self._sockets[0].fileno()
        return number

    def wake(self) -> None:
        event, process = self._event(), os.getpid()
        if event is None:
            return
        if self._process != process:
            # In a forked child: what it does must not reach the parent. One thread does this, and then corrects.
            me = object()
            if self._reopened.setdefault(process, me) is not me:
                return
            try:
                self._reopen()
            except BaseException:  # the next use tries again
                del self._reopened[process]
                raise
            self._process = process
        while True:
            is_set = EventCore.is_set(event)
            try:
                self._fill() if is_set else self._drain()
            except BlockingIOError:  # it is full, or empty
                pass
            if EventCore.is_set(event) == is_set:
                return

    def _reopen(self) -> None:
        before = self._sockets
        if _file(self.number) != self._file:  # a process that becomes a daemon has closed it; the number may be another file's
            for end in before:
                end.detach()
            self.number = self._open()
        else:
            number = self._open()
            os.dup2(number, self.number, inheritable=False)
            if before:
                self._sockets[0].close()
                before[1].close()
                self._sockets = before[0], self._sockets[1]
            else:
                os.close(number)
        self._file = _file(self.number)

    def _fill(self) -> None:
        if self._sockets:
            self._sockets[1].send(b"\0")
        else:
            os.eventfd_write(self.number, 1)

    def _drain(self) -> None:
        if self._sockets:
            while self._sockets[0].recv(4096):
                pass
        else:
            os.eventfd_read(self.number)

    def __del__(self, close: Callable[[int], object] = os.close) -> None:
        if self.number >= 0 and not self._sockets:  # sockets close themselves
            close(self.number)


def _file(number: int) -> tuple[int, int] | None:
    """Return what identifies the file of the descriptor *number*, or None where `os.fstat()` cannot say."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@cache
def _socket_class() -> type[Any]:
    import socket

    class Socket(socket.socket):
        """A socket that is closed when it is dropped, without a warning."""

        def __del__(self) -> None:
            self.close()

    return Socket


def _socket_pair() -> tuple[Any, Any]:
    import socket

    first, second = (_socket_class()(end.family, end.type, end.proto, end.detach()) for end in socket.socketpair())
    first.setblocking(False)
    second.setblocking(False)
    return first, second
