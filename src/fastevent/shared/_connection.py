"""One end of the connection between two processes: what is to be sent, and what has been read of a line."""

from __future__ import annotations

import errno
from collections import deque

from fastevent._process import Call, Claim, native, sleep
from fastevent._time import SECOND, monotonic_ns
from fastevent.shared import _wire
from fastevent.shared._loop import Loop
from fastevent.shared._sockets import Socket

SEND_TIMEOUT = SECOND // 10  # how long a set() waits for another thread that is sending
MOST_READS = 64  # of a connection that is broken
MOST_LINES = 20_000  # in an outbox: what the other side missed because it has stopped reading, it gets over the next connection


class Sending:
    """The half that sends: any thread and any signal handler does.

    Only the call that holds the claim may write to the socket, close or replace it.
    """

    def __init__(self, loop: Loop, sock: Socket | None = None) -> None:
        self.loop = loop
        self.socket = sock
        self.outbox: deque[bytes | int] = deque()  # lines, and numbers, whose lines are made as they are sent
        self.most_lines = MOST_LINES
        self.claim = Claim()
        self.is_full = False  # the thread sends as soon as the socket takes something
        self.is_broken = False  # the thread has to end it
        self.is_trusted = False  # the other side has proved that it knows the key
        self._rest = b""  # of the line that is being sent

    def line_of(self, number: int) -> bytes:
        """Return the line which says that an event is set, or b"" if it need not be sent any more.

        It is called by the call that holds the claim, which sends the line.
        """
        raise NotImplementedError

    def add(self, item: bytes | int) -> None:
        """Put into the outbox what the next call sends. End the connection if the other side has stopped reading."""
        self.outbox.append(item)
        if len(self.outbox) > self.most_lines and self.is_trusted:
            self.is_broken = True
            self.loop.wake()

    def send(self, timeout: int = 0) -> None:
        """Send what the socket takes, and have the thread send the rest.

        If another call is sending, leave it to that one, which looks at the outbox once more when it has finished. If that is a
        call of another thread, wait for it, but not longer than *timeout* nanoseconds, because an `os._exit()` may follow.
        """
        done = False
        try:
            done = self._send(timeout)
        finally:
            if not done:  # or a signal handler has raised, and others have left their lines to this call
                self.is_full = True  # also if it is not: the thread sends once the socket takes something
                self.loop.wake()

    def _send(self, timeout: int) -> bool:
        me, deadline = Call(), monotonic_ns() + timeout
        while self.outbox or self._rest:  # in this order, because a line goes from the outbox to the rest
            try:
                if not self.claim.take(me):
                    holder = self.claim.holder
                    if holder is None:
                        continue
                    if holder.thread == me.thread or monotonic_ns() >= deadline:
                        return True
                    sleep(0.0001)
                    continue
                self._write()
                if self.outbox or self._rest:
                    return False
            finally:
                try:
                    self.claim.give_back(me)
                except BaseException:  # from a signal handler: nobody could send any more
                    self.claim.give_back(me)
                    raise
        return True

    def _write(self) -> None:
        """Send for the call that holds the claim. What is removed was sent before: an interruption repeats a line at worst."""
        try:
            while self.socket is not None and not self.is_broken and (self._rest or self.outbox):
                if not self._rest:
                    item = self.outbox[0]
                    self._rest = self.line_of(item) if isinstance(item, int) else item
                while self._rest:
                    self._rest = self._rest[self.socket.send(self._rest) :]
                if self.outbox:
                    self.outbox.popleft()
        except BlockingIOError:
            self.is_full = True
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # it is under way
                self.is_full = True
            else:
                self.is_broken = True

    def is_interrupted(self) -> bool:
        """Return whether this is a signal handler which has interrupted a call that holds the claim, and may never go on."""
        holder = self.claim.holder
        return holder is not None and holder.thread == native.get_ident()

    def send_last(self) -> None:
        """Send what is left, as the process exits: its thread has ended."""
        self.is_full = False
        self.send()

    def is_unsent(self) -> bool:
        """Return whether it is worth waiting, as the process exits, until the socket takes more."""
        return self.socket is not None and not self.is_broken and bool(self.outbox or self._rest)


class Connection(Sending):
    """What both kinds of connections have in common. The half that reads is for the thread."""

    def __init__(self, loop: Loop, sock: Socket | None = None) -> None:
        super().__init__(loop, sock)
        self._inbox = _wire.Inbox()

    def receive(self, words: list[bytes]) -> bool:
        """Do what a line says. Return False if the connection must end.

        Raises `ValueError` for a line that says nothing: the rest of one that was cut off, for instance.
        """
        raise NotImplementedError

    def longest(self) -> int:
        """Return how many bytes a line may have at present."""
        raise NotImplementedError

    def end(self) -> None:
        """Give the connection up."""
        raise NotImplementedError

    def end_later(self) -> None:
        """Have `end()` called again, because the call of another thread holds the claim, which may be interrupted for long."""
        sleep(0.001)
        self.loop.post(self.end)

    def close(self) -> None:
        """Close the socket, for the call that holds the claim, and forget what is under way."""
        sock = self.socket
        self.socket = None
        if sock is not None:
            sock.close()
        self._rest, self._inbox = b"", _wire.Inbox()
        self.is_full = self.is_broken = self.is_trusted = False

    def on_ready(self, can_write: bool) -> None:
        if can_write:
            self.is_full = False
            self.send()
        self.read()

    def on_broken(self) -> None:
        """Read what the other side has sent, and then end."""
        if self.socket is not None:
            self.socket.stop_receiving()  # otherwise, something could come between the last look and the end
        for _ in range(MOST_READS):
            if self.socket is None or not self.read():
                break
        if self.socket is not None:
            self.end()

    def read(self) -> bool:
        """Read once, and return whether there may be more. End the connection if the other side has, or must not go on."""
        if self.socket is None:
            return False
        try:
            data = self.socket.receive(_wire.LONGEST_LINE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not self._take_lines(data) or not data:
            self.end()
            return False
        if self.outbox:
            self.send()
        return True

    def _take_lines(self, data: bytes) -> bool:
        inbox = self._inbox
        inbox.add(data)
        while inbox is self._inbox:  # another, once the connection has ended
            line = inbox.next_line(self.longest())
            if line is None:
                return inbox.length <= self.longest()
            try:
                if line and not self.receive(_wire.words_of(line)):
                    return False
            except ValueError:
                if not self.is_trusted:
                    return False
        return True
