"""How the home of shared events is reached, again and again, until it is gone.

A connection that has merely ended is made again, so either side may end one at any time. Certain signs of an end are: the home
says so; its process no longer lives; or it lives and nobody listens any more, as after an `exec()`. A missing file is none,
because programs clean directories. A silence is none, because a process may be stopped.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress

from fastevent._process import Call
from fastevent._time import NEVER, SECOND, monotonic_ns
from fastevent.shared import _wire
from fastevent.shared._connection import Connection
from fastevent.shared._loop import AFTER_CLOSING, Loop
from fastevent.shared._place import NOBODY_LISTENS, REFUSAL_IS_CERTAIN, Home, connect
from fastevent.shared._wire import greeting, line, new_nonce, proof, sealed_set

SHORTEST_PAUSE, LONGEST_PAUSE = AFTER_CLOSING, SECOND  # from one attempt to the next
PROOF_TIMEOUT, LONGEST_PROOF_TIMEOUT = 3 * SECOND, 60 * SECOND  # for the proof of a home, until it is tried again
PROOF = 0  # in an outbox: no event has this number
REFUSAL = 2 * SECOND if REFUSAL_IS_CERTAIN else 10 * SECOND  # for how long nobody listens, until the home is gone


class Attempts:
    """The attempts to reach a home: when the next one is, what is logged, and when the home is gone."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._has_logged = False
        self.succeeded()

    def succeeded(self) -> None:
        self._refused_since = NEVER
        self._proof_timeout = PROOF_TIMEOUT
        self.begin_again()

    def begin_again(self) -> None:
        self._pause = SHORTEST_PAUSE

    def next(self) -> int:
        """Return when to try again."""
        at = monotonic_ns() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return at

    def proof_deadline(self) -> int:
        return monotonic_ns() + self._proof_timeout

    def said_nothing(self) -> None:
        self._proof_timeout = min(2 * self._proof_timeout, LONGEST_PROOF_TIMEOUT)
        self._log_once("it says nothing")

    def show_end(self, codes: list[int]) -> bool:
        """Return whether the home is gone, by the errors that its addresses gave."""
        now = monotonic_ns()
        if codes[-1] not in NOBODY_LISTENS:
            self._refused_since = NEVER
        elif self._refused_since == NEVER:
            self._refused_since = now
        if not self.home.lives() or now - self._refused_since >= REFUSAL:
            return True
        if codes[-1] not in NOBODY_LISTENS and errno.EAGAIN not in codes:
            self._log_once("; ".join(dict.fromkeys(map(os.strerror, codes))))
        return False

    def _log_once(self, why: str) -> None:
        if not self._has_logged:
            self._has_logged = True
            text = "%s, which has made shared events that are held here, lives, but cannot be reached; trying on: %s"
            logging.getLogger("fastevent").warning(text, self.home, why)


class Reaching(Connection):
    """A connection to a home, which is made as soon as it is needed, and again when it has ended."""

    def __init__(self, home: Home, loop: Loop) -> None:
        super().__init__(loop)
        self.home = home
        self.is_gone = False
        self._attempts = Attempts(home)
        self.has_proved = False  # and so this process to the home; for the call that holds the claim
        self._nonce, self._their_nonce = b"", b""

    # What is said

    def needs_home(self) -> bool:
        """Return whether there is something that the home says, or should know."""
        raise NotImplementedError

    def begin(self) -> None:
        """Fill the outbox with what may be said to a stranger, behind the greeting."""
        raise NotImplementedError

    def introduce(self) -> None:
        """Say all that the home may have missed. It is trusted now."""
        raise NotImplementedError

    def on_gone(self) -> None:
        """Do what is to be done when the home is gone."""
        raise NotImplementedError

    def line_of(self, number: int) -> bytes:
        """Return the proof. What is said after it, the home believes."""
        key, address = self.home.key, self.home.address
        self.has_proved = True
        return line(b"prove", proof(key, "follower", self._nonce, self._their_nonce, address))

    # For any thread and any signal handler

    def reach(self) -> None:
        self.connect_if_needed()
        self.send()

    def connect_if_needed(self) -> None:
        """Connect to the home, unless there is a connection. If the home is gone, set its events."""
        if self.socket is None and not self.is_gone:
            self._connect()

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
                    self.alarm_at = self._attempts.proof_deadline()
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

    def _was_not_reached(self, codes: list[int]) -> None:
        if self._attempts.show_end(codes):
            self.give_up()
        else:
            self._try_later()

    def _greet(self) -> None:
        self.is_trusted, self.has_proved, self._their_nonce, self._nonce = False, False, b"", new_nonce()
        self.outbox.clear()
        self.begin()
        self.outbox.appendleft(greeting(self.home.key, self._nonce, self.home.address))  # in front of what others add meanwhile

    def _try_later(self) -> None:
        self.alarm_at = self._attempts.next()
        self.loop.wake()

    def give_up(self) -> None:
        self.is_gone = True
        self.alarm_at = NEVER
        self.loop.post(self.end)
        self.on_gone()

    # For the thread

    def on_alarm(self) -> None:
        self.alarm_at = NEVER
        if self.socket is not None and not self.is_trusted:
            if self.home.lives():
                self._attempts.said_nothing()
            self.end()
        elif self.needs_home():
            self.reach()

    def end(self) -> None:
        me, was_trusted = Call(), self.is_trusted
        try:
            if not self.claim.take(me):
                return self.loop.post(self.end)
            was_refused = self.socket is not None and self.socket.error() in NOBODY_LISTENS
            self.close()
        finally:
            self.claim.give_back(me)
        if self.is_gone:
            self.loop.watched.pop(self, None)
        elif was_trusted:
            self._attempts.begin_again()
            self._try_later()
        elif not self.home.lives():
            self.give_up()
        elif was_refused:  # late, as on Windows
            self._was_not_reached([errno.ECONNREFUSED])
        else:
            self._try_later()

    def longest(self) -> int:
        return _wire.LONGEST_LINE if self.is_trusted else _wire.LONGEST_GREETING

    def receive(self, words: list[bytes]) -> bool:
        key, address = self.home.key, self.home.address
        match words:
            case [b"bye"] if self.is_trusted:
                self.give_up()
            case [b"hello", nonce] if not self._their_nonce:
                self._their_nonce = nonce
            case [b"prove", said] if self._their_nonce and not self.is_trusted:
                if not _wire.is_proof(said, key, "home", self._nonce, self._their_nonce, address):
                    return False
                self.outbox.append(PROOF)
                self.is_trusted = True
                self.alarm_at = NEVER
                self._attempts.succeeded()
                self.introduce()
                self.send()
            case _:
                return self.is_trusted
        return True


def send_apart(home: Home, number: int, reason: str) -> None:
    """Send a set over a connection of its own: the process may exit before the thread has replaced one that is broken."""
    for address in home.addresses():
        with suppress(OSError):
            sock = connect(address)
            try:
                sock.send(greeting(home.key, new_nonce(), home.address) + sealed_set(home.key, number, reason))
                return
            finally:
                sock.close()
