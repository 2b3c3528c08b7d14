"""A file descriptor that is readable while an event is set."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

from fastevent._core import EventCore
from fastevent._notify import Waker, subscribe
from fastevent._process import Claim, generation


def fileno(event: Any) -> int:
    """What `Event.fileno()` does."""
    own = vars(event)
    descriptor: Descriptor = own.get("_fe_descriptor") or own.setdefault("_fe_descriptor", Descriptor(event))
    if descriptor not in event._fe_wakers:
        event._fe_clear_wakes = True
        subscribe(event, descriptor)
    descriptor.wake()
    return descriptor.number


class Descriptor(Waker):
    """A file descriptor that is readable while its event is set.

    Each thread that changes the flag corrects the descriptor afterwards, until it agrees with the flag as it then is. So the
    thread that comes last leaves it right, and no lock is needed that a signal handler could meet.
    """

    __slots__ = ("_event", "_file", "_generation", "_reopening", "_sockets", "number")

    def __init__(self, event: Any) -> None:
        self.number = -1
        self.waiter = self.thread = None
        self._event = weakref.ref(event)
        self._reopening = Claim()  # held by the call that opens it again after a fork
        self._sockets: tuple[Any, ...] = ()
        self._generation = generation()
        self.number = self._open()
        self._file = _file(self.number)

    def _open(self) -> int:
        if hasattr(os, "eventfd"):
            return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._sockets = _socket_pair()
        number: int = self._sockets[0].fileno()
        return number

    def wake(self) -> None:
        event, here = self._event(), generation()
        if event is None:
            return
        if self._generation != here:
            # In a forked child: what it does must not reach the parent. One thread does this, and then corrects.
            me = object()
            try:
                if not self._reopening.take(me):
                    return
                if self._generation != here:
                    self._reopen()
                    self._generation = here
            finally:  # if it has failed, the next use tries again
                self._reopening.give_back(me)
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
