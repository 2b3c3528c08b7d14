"""This process as a follower of another: it holds events that the other one, their home, has made.

When the home ends, its events are set here. A connection that has merely ended is made again, so either side may end one at any
time. Certain signs of an end are: the home says so; its process no longer lives; or it lives and nobody listens any more, as
after an `exec()`. A missing file is none, because programs clean directories. A silence is none, because a process may be
stopped.
"""

from __future__ import annotations

import errno
import logging
import os

from fastevent._process import Call
from fastevent._reasons import decode, encode
from fastevent._time import NEVER, SECOND, monotonic_ns
from fastevent.shared import _wire
from fastevent.shared._connection import Connection
from fastevent.shared._held import Held
from fastevent.shared._loop import Loop
from fastevent.shared._place import NOBODY_LISTENS, REFUSAL_IS_CERTAIN, Home, connect
from fastevent.shared._wire import line, new_nonce, proof, set_line

SEND_TIMEOUT = SECOND // 10  # how long a set() waits for another thread that is sending
SHORTEST_PAUSE, LONGEST_PAUSE = SECOND * 3 // 100, SECOND  # from one attempt to the next
PROOF_TIMEOUT, LONGEST_PROOF_TIMEOUT = 3 * SECOND, 60 * SECOND  # for the proof of a home, until it is tried again
REFUSAL = 2 * SECOND if REFUSAL_IS_CERTAIN else 10 * SECOND  # for how long nobody listens, until the home is gone
MOST_SEALED = 256  # lines for a home that has not proved anything
MOST_LONG = 256  # reasons that wait to be sent; of more, the beginning is sent


class ToHome(Connection):
    """The connection to the home of events that are held here."""

    def __init__(self, home: Home, loop: Loop, held: Held) -> None:
        super().__init__(loop)
        self.home = home
        self.held = held
        self.follows: dict[int, None] = {}  # numbers of events of which this process has neither received a set nor sent one
        self.unsent: dict[int, str] = {}  # reasons of events that were set here: a home that is trusted has not got them yet
        self.is_trusted = False  # the home has proved that it knows the key
        self.is_gone = False
        self._nonce, self._their_nonce = b"", b""
        self._pause, self._proof_timeout = SHORTEST_PAUSE, PROOF_TIMEOUT
        self._refused_since = NEVER
        self._has_logged = False

    # For any thread and any signal handler

    def follow(self, number: int) -> None:
        self.follows[number] = None
        if self.is_trusted:  # otherwise, `_introduce()` does it
            self.outbox.append(_follow_line(number))
        self.reach()

    def drop(self, number: int) -> None:
        if number in self.follows:
            del self.follows[number]
            if self.is_trusted:
                self.outbox.append(line(b"drop", b"%d" % number))  # it goes with the next line

    def publish(self, number: int, reason: str) -> None:
        """Notify the home, unless it is the home that has notified this process."""
        if number not in self.follows:
            return
        self._say_set(number, reason)
        self.reach(SEND_TIMEOUT)
        self.follows.pop(number, None)

    def _say_set(self, number: int, reason: str) -> None:
        if len(self.unsent) > MOST_LONG and len(reason) > 200:
            reason = encode(f"{decode(reason)!s:.100}…")
        self.unsent[number] = reason
        if self.is_trusted:
            self.outbox.append(number)
        elif len(self.outbox) < MOST_SEALED:  # the others follow the proof
            self.outbox.append(_wire.sealed(self.home.key, set_line(number, reason)))

    def reach(self, timeout: int = 0) -> None:
        """Connect to the home, unless there is a connection, and send. If the home is gone, set its events."""
        if self.socket is None and not self.is_gone:
            self._connect()
        self.send(timeout)

    def needs_home(self) -> bool:
        return not self.is_gone and bool(self.follows or self.unsent)

    # Making a connection

    def _connect(self) -> None:
        me, codes = Call(), []
        try:
            if not self.claim.take(me):
                return  # another call is at it
            for address in self.home.addresses() if self.socket is None else ():
                try:
                    sock = connect(address)
                except OSError as error:
                    codes.append(error.errno or errno.EIO)
                else:
                    self._greet()
                    self.alarm_at = monotonic_ns() + self._proof_timeout
                    self.socket = sock
                    codes.clear()
                    break
        finally:
            try:
                self.claim.give_back(me)
                self.loop.watch(self)
            except BaseException:  # from a signal handler: nobody could send any more
                self.claim.give_back(me)
                self.loop.watch(self)
                raise
        if codes:
            self._was_not_reached(codes)

    def _greet(self) -> None:
        """Begin with what may be said to a stranger: a proof, and what was set, so that only the home can read it."""
        key, address = self.home.key, self.home.address
        self.is_trusted, self._their_nonce, self._nonce = False, b"", new_nonce()
        self.outbox.clear()
        for number, reason in list(self.unsent.items())[:MOST_SEALED]:
            self.outbox.append(_wire.sealed(key, set_line(number, reason)))
        self.outbox.appendleft(line(b"greet", self._nonce, proof(key, "greeting", self._nonce, address)))

    def _introduce(self) -> None:
        """Say all that the home may have missed."""
        key, address = self.home.key, self.home.address
        self.outbox.append(line(b"prove", proof(key, "follower", self._nonce, self._their_nonce, address)))
        self.is_trusted = True  # what other threads say from now on comes behind the proof
        for number, event in self.held.of_home(self.home):
            _, is_set, reason = event._fe_read()
            self.follows[number] = None
            if is_set:
                self.unsent.setdefault(number, encode(reason))
            else:
                self.outbox.append(_follow_line(number))
        self.outbox.extend(list(self.unsent))
        self.send()

    def _was_not_reached(self, codes: list[int]) -> None:
        now = monotonic_ns()
        if codes[-1] not in NOBODY_LISTENS:
            self._refused_since = NEVER
        elif self._refused_since == NEVER:
            self._refused_since = now
        if not self.home.lives() or now - self._refused_since >= REFUSAL:
            return self.set_as_gone()
        if codes[-1] not in NOBODY_LISTENS and errno.EAGAIN not in codes:
            self._log_once("; ".join(dict.fromkeys(map(os.strerror, codes))))
        self._try_later()

    def _try_later(self) -> None:
        self.alarm_at = monotonic_ns() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.loop.wake()

    def _log_once(self, why: str) -> None:
        if not self._has_logged:
            self._has_logged = True
            text = "%s, which has made shared events that are held here, lives, but cannot be reached; trying on: %s"
            logging.getLogger("fastevent").warning(text, self.home, why)

    def set_as_gone(self) -> None:
        self.is_gone = True
        self.alarm_at = NEVER
        self.loop.post(self.end)
        self.unsent.clear()
        for number, _ in self.held.of_home(self.home):
            self.follows.pop(number, None)
            self.held.arrived((self.home, number), f"{self.home}, which made it, is gone")

    # For the thread

    def on_alarm(self) -> None:
        self.alarm_at = NEVER
        if self.socket is not None and not self.is_trusted:
            self._log_once("it says nothing")
            self._proof_timeout = min(2 * self._proof_timeout, LONGEST_PROOF_TIMEOUT)
            self.end()
        elif self.needs_home():
            self.reach()

    def end(self) -> None:
        me, was_trusted = Call(), self.is_trusted
        try:
            if not self.claim.take(me):
                return self.loop.post(self.end)
            was_refused = self.socket is not None and self.socket.error() in NOBODY_LISTENS
            self.close(me)
            self.is_trusted = False
        finally:
            self.claim.give_back(me)
        if self.is_gone:
            self.loop.watched.pop(self, None)
        elif not was_trusted and not self.home.lives():
            self.set_as_gone()
        elif was_trusted:
            self._pause = SHORTEST_PAUSE
            self.alarm_at = monotonic_ns()
        elif was_refused:  # late, as on Windows
            self._was_not_reached([errno.ECONNREFUSED])
        else:
            self._try_later()

    def longest(self) -> int:
        return _wire.LONGEST_LINE if self.is_trusted else _wire.LONGEST_GREETING

    def line_of(self, number: int) -> bytes:
        reason = self.unsent.get(number)
        return b"" if reason is None else set_line(number, reason)

    def was_sent(self, number: int) -> None:
        self.unsent.pop(number, None)

    def receive(self, words: list[bytes]) -> bool:
        key, address = self.home.key, self.home.address
        match words:
            case [b"set", number, reason] if self.is_trusted:
                try:
                    self._was_set(_wire.number_of(number), reason)
                except ValueError:  # the rest of a line that was cut off is no harm
                    pass
            case [b"bye"] if self.is_trusted:
                self.set_as_gone()
            case [b"hello", nonce] if not self._their_nonce:
                self._their_nonce = nonce
            case [b"prove", said] if self._their_nonce and not self.is_trusted:
                if not _wire.is_proof(said, key, "home", self._nonce, self._their_nonce, address):
                    return False
                self.alarm_at, self._refused_since = NEVER, NEVER
                self._pause, self._proof_timeout = SHORTEST_PAUSE, PROOF_TIMEOUT
                self._introduce()
            case _:
                return self.is_trusted
        return True

    def _was_set(self, number: int, reason: bytes) -> None:
        self.follows.pop(number, None)
        self.held.arrived((self.home, number), _wire.reason_of(reason))


def _follow_line(number: int) -> bytes:
    return line(b"follow", b"%d" % number)
