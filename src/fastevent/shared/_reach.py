"""How the home of shared events is reached, again and again, until it is gone.

A connection that has merely ended is made again, so either side may end one at any time. Certain signs of an end are: the home
says so; its process no longer lives; or it lives and nobody listens any more, as after an `exec()`. A missing file is none,
because programs clean directories. A silence is none, because a process may be stopped.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import Any

from fastevent._process import Call, sleep
from fastevent._time import NEVER, SECOND, monotonic_ns
from fastevent.shared import _wire
from fastevent.shared._connection import Connection
from fastevent.shared._loop import AFTER_CLOSING, Loop
from fastevent.shared._place import NOBODY_LISTENS, REFUSAL_IS_CERTAIN, Home, connect
from fastevent.shared._wire import line, new_nonce, proof, sealed_set

SHORTEST_PAUSE, LONGEST_PAUSE = AFTER_CLOSING, SECOND  # from one attempt to the next
PROOF_TIMEOUT, LONGEST_PROOF_TIMEOUT = 3 * SECOND, 60 * SECOND  # for the proof of a home, until it is tried again
LOOK = 10 * SECOND  # how often to look whether a home lives: a child that it has forked in C may keep its connections open
PROOF = 0  # in an outbox: no event has this number
REFUSAL = 2 * SECOND if REFUSAL_IS_CERTAIN else 10 * SECOND  # for how long nobody listens, until the home is gone


class Attempts:
    """The attempts to reach a home: when the next one is, what is logged, and when the home is gone."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._has_logged = False
        self._strangers = 0  # how many connections have come to nothing
        self.succeeded()

    def succeeded(self) -> None:
        self._proof_timeout = PROOF_TIMEOUT
        self.begin_again()

    def begin_again(self) -> None:
        self._pause = SHORTEST_PAUSE
        self._refused_since = NEVER

    def addresses(self) -> list[Any]:
        """Return where to look for the home, beginning with another address than the one at which nothing was proved."""
        addresses = self.home.addresses()
        first = self._strangers % len(addresses)
        return addresses[first:] + addresses[:first]

    def met_a_stranger(self) -> None:
        self._strangers += 1
        self._refused_since = NEVER  # it listened

    def next(self) -> int:
        """Return when to try again."""
        at = monotonic_ns() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return at

    def are_frequent(self) -> bool:
        return self._pause < LONGEST_PAUSE

    def proof_deadline(self) -> int:
        return monotonic_ns() + self._proof_timeout

    def said_nothing(self) -> None:
        self._proof_timeout = min(2 * self._proof_timeout, LONGEST_PROOF_TIMEOUT)
        self._log_once("it says nothing")

    def show_end(self, codes: list[int]) -> bool:
        """Return whether the home is gone, by the errors that its addresses gave, in their order."""
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


class Proofs:
    """What a follower and its home prove to each other over one connection, as the follower knows it."""

    def __init__(self, key: bytes, address: object, nonce: bytes) -> None:
        self.key = key
        self.address = address  # at which the home was reached
        self.nonce = nonce
        self.their_nonce = b""
        self.are_given = False  # that of the follower, too: what is sent from now on comes behind it

    def greeting(self) -> bytes:
        return line(b"greet", self.nonce, proof(self.key, "greeting", self.nonce, self.address))

    def is_of_home(self, said: bytes) -> bool:
        return _wire.is_proof(said, self.key, "home", self.nonce, self.their_nonce, self.address)

    def give(self) -> bytes:
        """Return the line that proves it to the home. For the call that sends it."""
        self.are_given = True
        return line(b"prove", proof(self.key, "follower", self.nonce, self.their_nonce, self.address))


class Connecting(Connection):
    """A connection to a home, which is made as soon as it is needed: what any thread and any signal handler does."""

    def __init__(self, home: Home, loop: Loop) -> None:
        super().__init__(loop)
        self.home = home
        self.is_gone = False
        self._attempts = Attempts(home)
        self._try_at = NEVER  # while there is no socket
        self._prove_by = NEVER  # of the present connection; set by the call that holds the claim
        self._look_at = NEVER  # once it is proved
        self.proofs = Proofs(home.key, home.address, b"")  # of the present connection; set by the call that holds the claim

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
        """Return the proof."""
        return self.proofs.give()

    # When it is made

    @property
    def alarm_at(self) -> int:
        # Of three times. Another thread may connect while this one has found no connection, and neither takes the other's away.
        if self.socket is None:
            return self._try_at
        return self._look_at if self.is_trusted else self._prove_by

    def on_alarm(self) -> None:
        raise NotImplementedError

    # How it is made

    def reach(self) -> None:
        self.connect_if_needed()
        self.send()

    def send_last(self) -> None:
        if self.is_broken:
            self.on_broken()
        self.connect_if_needed()
        super().send_last()
        if not self.is_trusted:
            self.read()  # the proof of the home, before which it is not told all

    def connect_if_needed(self) -> None:
        """Connect to the home, unless there is a connection. If the home is gone, set its events."""
        if self.socket is None and not self.is_gone:
            self._connect()

    def _connect(self) -> None:
        me, codes = Call(), dict[Any, int]()
        try:
            if not self.claim.take(me):
                return  # another call is at it
            self._try_at = monotonic_ns() + LONGEST_PAUSE  # if what follows raises
            for address in self._attempts.addresses() if self.socket is None else ():
                try:
                    # First, because for random numbers PyPy needs a descriptor, too.
                    proofs = Proofs(self.home.key, address, new_nonce())
                    sock = connect(address)
                except OSError as error:
                    codes[address] = error.errno or errno.EIO
                else:
                    self._greet(proofs)
                    self._prove_by = self._attempts.proof_deadline()
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
            self._was_not_reached([codes[address] for address in self.home.addresses() if address in codes])

    def _was_not_reached(self, codes: list[int]) -> None:
        if self._attempts.show_end(codes):
            self.give_up()
        else:
            self._try_later()

    def _greet(self, proofs: Proofs) -> None:
        self.is_trusted, self.proofs = False, proofs
        self.outbox.clear()
        self.begin()
        self.outbox.appendleft(self.proofs.greeting())  # in front of what others add meanwhile

    def _try_later(self) -> None:
        self._try_at = self._attempts.next()
        self.loop.wake()

    def give_up(self) -> None:
        self.is_gone = True
        self._try_at = NEVER
        self.loop.post(self.end)
        self.on_gone()


class Reaching(Connecting):
    """The same, made again when it has ended: what the thread does."""

    def on_alarm(self) -> None:
        if self.socket is None:
            self._try_again()
        elif self.is_trusted:
            self._look_at = monotonic_ns() + LOOK
            if not self.home.lives():
                self.on_broken()  # one that lives nevertheless proves itself again
        elif self._prove_by <= monotonic_ns():
            if self.home.lives():
                self._attempts.said_nothing()
            self.end()

    def _try_again(self) -> None:
        self._try_at = monotonic_ns() + LONGEST_PAUSE  # if what follows raises
        if self.needs_home():
            self.reach()
        elif not self.home.lives():
            self.give_up()
        elif self._attempts.are_frequent():  # it may be ending
            self._try_later()
        else:
            self._try_at = NEVER
            if self.needs_home():  # another thread has just tried, in vain
                self._try_later()

    def end(self) -> None:
        me, was_trusted = Call(), self.is_trusted
        try:
            if not self.claim.take(me):
                return self.end_later()
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
            self._attempts.met_a_stranger()
            self._try_later()

    def longest(self) -> int:
        return _wire.LONGEST_LINE if self.is_trusted else _wire.LONGEST_GREETING

    def receive(self, words: list[bytes]) -> bool:
        match words:
            case [b"bye"] if self.is_trusted:
                self.give_up()
            case [b"hello", nonce] if self.proofs.their_nonce in (b"", nonce):
                self.proofs.their_nonce = nonce
            case [b"prove", said] if self.proofs.their_nonce and not self.is_trusted:
                if not self.proofs.is_of_home(said):
                    return False
                self.outbox.append(PROOF)
                self._look_at = monotonic_ns() + LOOK
                self.is_trusted = True
                self._attempts.succeeded()
                self.introduce()
                self.send()
            case _:
                return self.is_trusted
        return True


def send_apart(key: bytes, addresses: list[Any], number: int, reason: str, timeout: int) -> None:
    """Send a set over a connection of its own: the process may exit before the thread has replaced one that is broken.

    Where nobody listens, or too many have connected, try again for *timeout* nanoseconds: the home may just have closed its
    descriptors, or be about to accept.
    """
    deadline = monotonic_ns() + timeout
    while True:
        codes = []
        for address in addresses:
            try:
                said = Proofs(key, address, new_nonce()).greeting() + sealed_set(key, number, reason)
                sock = connect(address)
                try:
                    sock.send_all(said, deadline)
                    return
                finally:
                    sock.close()
            except OSError as error:
                codes.append(error.errno)
        if {*NOBODY_LISTENS, errno.EAGAIN}.isdisjoint(codes) or monotonic_ns() >= deadline:
            return
        sleep(0.005)
