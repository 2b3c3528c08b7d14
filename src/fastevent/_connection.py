"""The connections between processes that share events: sockets that only processes of one machine and user reach.

The process that makes an event is its home, and listens. Each process that holds the event connects to the home. What they say
is in `_hub.py`, with the invariants.
"""

from __future__ import annotations

import errno
import hmac
import os
import socket
from _thread import get_ident
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from fastevent._process import sleep
from fastevent._time import monotonic_ns

BACKLOG = 1_024
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # a program may have given SIGPIPE its default action
_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK}


class Home(NamedTuple):
    """A process that makes shared events."""

    pid: int
    address: Any  # the path of a Unix socket, or a host and a port
    key: bytes

    def proof(self, role: str, nonce: str) -> str:
        """Return what only a process that knows the key can send, in this *role* and on this connection."""
        return hmac.new(self.key, ascii((role, nonce, self.address)).encode(), "sha256").hexdigest()

    def connect(self) -> socket.socket:
        is_path = isinstance(self.address, str)
        sock = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
        try:
            prepare(sock)
            code = sock.connect_ex(self.address)
            if not is_path and code in _UNDER_WAY:  # on the loopback interface, a refusal has come by then
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        except BaseException:
            sock.close()
            raise
        return sock


class Listener:
    """Where other processes reach this one."""

    def __init__(self) -> None:
        self.directory = ""
        try:
            self.socket = socket.socket(socket.AF_UNIX)
            address: Any = self._bind()
        except (AttributeError, OSError):  # no such sockets, no directory that can be written, or a path that is too long
            self.close()
            self.socket = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
            address = self.socket.getsockname()
        self.socket.setblocking(False)
        self.home = Home(os.getpid(), address, os.urandom(16))

    def _bind(self) -> str:
        from tempfile import mkdtemp  # here, because most processes only follow

        self.directory = mkdtemp(prefix="fastevent-")  # for this user alone
        path = os.path.join(self.directory, "socket")
        self.socket.bind(path)
        self.socket.listen(BACKLOG)
        return path

    def close(self) -> None:
        with suppress(AttributeError):
            self.socket.close()
        if self.directory:
            for remove, path in ((os.unlink, os.path.join(self.directory, "socket")), (os.rmdir, self.directory)):
                with suppress(OSError):
                    remove(path)


class Connection:
    """The connection to another process, and what is to be sent over it."""

    def __init__(self, home: Home | None, sock: socket.socket | None = None) -> None:
        self.home = home  # whose events are followed here; None if the other process follows events of this one
        self.socket: Any = sock
        self.nonce = ""
        self.trusted = False  # the other side has proved that it knows the key
        self.has_ended = False  # the socket has to be closed, and a new one made if it leads to a home
        self.doubts = 0  # that the home is there, since it was trusted: see `_hub.py`
        self.follows: dict[int, None] = {}  # numbers of the events that are followed over it and not set yet
        self.outbox: deque[bytes] = deque()
        self.rest = b""  # of the line that is being sent
        self.inbox = bytearray()
        self.right: dict[str, tuple[int]] = {}  # "holder": a call, as a tuple of its thread: invariant 3 of `_hub.py`

    def send(self, timeout: int = 0) -> bool:
        """Send what the socket takes. Return False if it may take more later.

        If another call is sending, leave it to that one, which looks at the outbox once more when it has finished. If that is a
        call of another thread, wait for it, but not longer than *timeout* nanoseconds.
        """
        me = (get_ident(),)
        deadline = monotonic_ns() + timeout
        while self.outbox or self.rest:  # in this order, because a line goes from the outbox to the rest
            try:
                holder = self.right.setdefault("holder", me)
                if holder is not me:
                    if holder == me or monotonic_ns() >= deadline:
                        return True
                    sleep(0.0001)
                    continue
                while self.rest or self.outbox:
                    if not self.rest:
                        self.rest = self.outbox[0]
                        self.outbox.popleft()
                    if self.socket is None:
                        return False
                    self.rest = self.rest[self.socket.send(self.rest, NO_SIGNAL) :]
            except BlockingIOError:
                return False
            except OSError as error:  # the connection has ended, as the thread will see, or is under way
                return error.errno != errno.ENOTCONN
            finally:
                try:
                    self.give_back(me)
                except BaseException:  # from a signal handler: nobody could send any more
                    self.give_back(me)
                    raise
        return True

    def give_back(self, me: tuple[int]) -> None:
        """Give the right back, unless another call holds it."""
        if self.right.get("holder") is me:
            del self.right["holder"]


def prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
