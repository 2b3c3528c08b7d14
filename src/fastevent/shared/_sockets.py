"""Sockets of this package's own.

The modules that gevent and eventlet replace are not used. A program may close descriptors that it does not know, as daemons do,
and open others that get the same numbers. So a socket looks whether its descriptor is still its own before each use. It has a
high number, because what others open gets the lowest one that is free: nothing takes its place while it looks.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from fastevent._process import sleep
from fastevent._time import NEVER, deadline_after, monotonic_ns, private_copy

native_select: Any = private_copy("select")

CONNECT_TIMEOUT = 0.05  # seconds: it is the kernel that answers
MOST_SELECTED = 500  # sockets for which `select.select()` waits at once; on Windows, 512
_HIGH = 500  # the lowest number of a descriptor, if the limit allows as many

_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK}
# A program may have given SIGPIPE its default action.
_NO_SIGNAL = getattr(_socket, "MSG_NOSIGNAL", 0)
_SO_NOSIGPIPE = 0x1022  # the same on macOS


class Socket:
    """A socket that blocks nobody. Raises `OSError` if the program has closed its descriptor."""

    __slots__ = ("_identity", "_raw")

    def __init__(self, raw: Any) -> None:
        self._raw = raw = _moved_up(raw)
        self._identity = _identity(raw.fileno())  # at once: another thread of the program may be closing descriptors
        raw.setblocking(False)
        with suppress(OSError):
            if sys.platform == "darwin":
                raw.setsockopt(_socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
            if raw.family == _socket.AF_INET:
                raw.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    @property
    def number(self) -> int:
        """The descriptor, which may not be this socket's any more; or -1."""
        descriptor: int = self._raw.fileno()
        return descriptor

    def fileno(self) -> int:
        """Return the descriptor, or -1 if it is not this socket's any more."""
        descriptor = self.number
        return descriptor if descriptor != -1 and _identity(descriptor) == self._identity else -1

    def connect(self, address: Any) -> int:
        """Return the number of an error, or 0. On Windows it takes two seconds until a refusal comes: see `error()`."""
        self._check()
        code: int = self._raw.connect_ex(address)
        if code in _UNDER_WAY and self._raw.family == _socket.AF_INET:
            readable_and_writable({self.fileno(): True}, CONNECT_TIMEOUT)
            code = self.error()
        return code

    def error(self) -> int:
        """Return the number of what has gone wrong meanwhile, or 0."""
        if self.fileno() == -1:
            return errno.EBADF
        code: int = self._raw.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        return code

    def listen(self, address: Any, backlog: int) -> None:
        self._check()
        if self._raw.family == _socket.AF_INET:
            if sys.platform == "win32":  # where SO_REUSEADDR lets any process listen at the same port
                option = _socket.SO_EXCLUSIVEADDRUSE
            else:
                option = _socket.SO_REUSEADDR
            self._raw.setsockopt(_socket.SOL_SOCKET, option, 1)
        self._raw.bind(address)
        self._raw.listen(backlog)

    def send(self, data: bytes) -> int:
        self._check()
        sent: int = self._raw.send(data, _NO_SIGNAL)
        return sent

    def send_all(self, data: bytes, deadline: int) -> None:
        """Send *data*. Raises `BlockingIOError` if the other side has not taken it by the *deadline*."""
        while data:
            try:
                data = data[self.send(data) :]
            except BlockingIOError:
                seconds = (deadline - monotonic_ns()) / 1e9
                if seconds <= 0:
                    raise
                readable_and_writable({self.number: True}, seconds)  # even if the program has just closed it

    def receive(self, size: int) -> bytes:
        self._check()
        data: bytes = self._raw.recv(size)
        return data

    def is_at_end(self) -> bool:
        """Skip what can be read, and return whether no more will come."""
        try:
            return not self.receive(65_536)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def stop_receiving(self) -> None:
        """Have the other side send no more. What it has sent can still be received. On other systems than Linux, do nothing."""
        if sys.platform == "linux" and self.fileno() != -1:
            with suppress(OSError):
                self._raw.shutdown(_socket.SHUT_RD)

    def accept(self) -> Socket:
        self._check()
        descriptor, _ = self._raw._accept()
        return Socket(_socket.socket(self._raw.family, self._raw.type, self._raw.proto, fileno=descriptor))

    def end_sending(self) -> None:
        self._check()
        self._raw.shutdown(_socket.SHUT_WR)

    def address(self) -> Any:
        return self._raw.getsockname()

    def close(self) -> None:
        if self.fileno() == -1:
            self._raw.detach()  # without closing what has got the number
        else:
            with suppress(OSError):
                self._raw.close()

    def _check(self) -> None:
        if self.fileno() == -1:
            raise OSError(errno.EBADF, "the descriptor of this socket has been closed by the program")


if sys.platform == "win32":
    import socket  # which makes a pair from a listener there

    def _identity(descriptor: int) -> object:
        return descriptor

    def _moved_up(raw: Any) -> Any:
        return raw

else:
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    def _identity(descriptor: int) -> object:
        try:
            status = os.fstat(descriptor)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _moved_up(raw: Any) -> Any:
        """Return the socket with a high number, or as it is where none is left."""
        limit = os.sysconf("SC_OPEN_MAX")
        try:
            descriptor = fcntl(raw.fileno(), F_DUPFD_CLOEXEC, min(limit // 2, _HIGH) if limit > 0 else _HIGH)
        except OSError:
            return raw
        moved = _socket.socket(raw.family, raw.type, raw.proto, fileno=descriptor)
        if _identity(raw.fileno()) == _identity(descriptor):
            raw.close()
        else:  # the program has just closed it, and opened another
            raw.detach()
        return moved


def for_address(address: Any) -> Socket:
    return Socket(_socket.socket(_socket.AF_UNIX if isinstance(address, str) else _socket.AF_INET))


def pair() -> tuple[Socket, Socket]:
    """Return two sockets that are connected."""
    if sys.platform == "win32":
        here, there = socket.socketpair()
    else:
        here, there = _socket.socketpair()
    return Socket(here), Socket(there)


def wait_until_read(sockets: Iterable[Socket], deadline: int) -> None:
    """End the connections, and wait until the other ends have closed them, which they do when they have read all."""
    left = list(sockets)
    for sock in left:
        with suppress(OSError):
            sock.end_sending()
    while (left := [sock for sock in left if not sock.is_at_end()]) and monotonic_ns() < deadline:
        sleep(0.001)


def readable_and_writable(wanted: Mapping[int, bool], seconds: float | None) -> dict[int, bool]:
    """Wait until one of these descriptors can be read, or written where that is wanted. Return which can be: to write or not.

    This takes no descriptor of its own, so nothing is left to a program that closes all.
    """
    if hasattr(native_select, "poll"):
        poller = native_select.poll()
        for descriptor, to_write in wanted.items():
            poller.register(descriptor, native_select.POLLIN | (native_select.POLLOUT if to_write else 0))
        try:
            ready = poller.poll(None if seconds is None else seconds * 1_000)
            return {descriptor: bool(events & native_select.POLLOUT) for descriptor, events in ready}
        except OSError as error:
            if error.errno != errno.EINVAL:  # it waits for no more descriptors than a process may open from now on
                raise
    if not wanted:  # which Windows refuses
        raise OSError(errno.EINVAL, "no socket to wait for")
    descriptors = list(wanted)
    parts = [descriptors[first : first + MOST_SELECTED] for first in range(0, len(descriptors), MOST_SELECTED)]
    if len(parts) == 1:
        return _selected(wanted, parts[0], seconds)
    found: dict[int, bool] = {}
    deadline = NEVER if seconds is None else deadline_after(monotonic_ns(), seconds)
    while True:
        for part in parts:
            found.update(_selected(wanted, part, 0))
        if found or monotonic_ns() >= deadline:
            return found
        sleep(0.01)


def _selected(wanted: Mapping[int, bool], part: list[int], seconds: float | None) -> dict[int, bool]:
    full = [descriptor for descriptor in part if wanted[descriptor]]
    readable, writable, failed = native_select.select(part, full, part, seconds)
    return {descriptor: descriptor in writable for descriptor in [*readable, *writable, *failed]}
