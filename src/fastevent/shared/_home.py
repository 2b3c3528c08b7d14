"""This process as a home: the events that it has made, and the processes that follow them."""

from __future__ import annotations

import errno
import logging
from itertools import count

from fastevent._process import Call, log
from fastevent._reasons import encode_in_helper
from fastevent._time import NEVER, SECOND, monotonic_ns
from fastevent.shared import _wire
from fastevent.shared._connection import SEND_TIMEOUT, Connection
from fastevent.shared._held import Held, Key
from fastevent.shared._loop import AFTER_CLOSING, Loop
from fastevent.shared._place import HAS_NAMES, Home, Listener
from fastevent.shared._sets import NO_REASON, Causes
from fastevent.shared._sockets import Socket
from fastevent.shared._wire import line, new_nonce, number_of, proof, set_line

MOST_FOLLOWED = 262_144  # events that one process follows
MOST_STRANGERS = 64  # connections that have shown nothing
STRANGER_TIMEOUT = 10 * SECOND  # how long a connection may take until it is proved
ACCEPTED_AT_ONCE = 16
ACCEPT_PAUSE = SECOND // 4  # when no descriptor is left
CONFIRMATION_PAUSE = SECOND // 20  # until what was received is confirmed: one line for many costs less
MOST_UNCONFIRMED = 1_000  # until it is confirmed at once
RENEWAL = 60 * SECOND if HAS_NAMES else SECOND  # how often to look whether the address is still there


class OwnHome:
    """What other processes have to do with the events that this process has made."""

    def __init__(self, loop: Loop, held: Held) -> None:
        self.loop = loop
        self.held = held
        self.listener = Listener()
        self.home: Home = self.listener.home
        self.causes = Causes()
        self.followers: dict[FromFollower, None] = {}
        self.strangers: dict[FromFollower, None] = {}  # that have shown nothing
        self._numbers = count(1)
        self._made: dict[int, None] = {}  # which numbers there are, in thousands
        self._is_short = False  # of descriptors

    # For any thread and any signal handler

    def new_key(self) -> Key:
        number = next(self._numbers)
        self._made[number >> 10] = None
        return self.home, number

    def has_made(self, number: int) -> bool:
        return number >> 10 in self._made

    def publish(self, number: int, reason: str | bytes) -> None:
        """Record that the event is set, and then notify its followers: one that comes in between finds it set."""
        self._record(number, reason)
        self._notify_followers(number)

    def is_published(self, number: int) -> bool:
        """Return whether the set is recorded; then, all that follow the event are notified."""
        if number not in self.causes:
            return False
        self._notify_followers(number)
        return True

    def _record(self, number: int, reason: str | bytes) -> None:
        if self.causes.add(number, reason):
            self.loop.post(self.causes.trim)

    def _notify_followers(self, number: int) -> None:
        deadline = monotonic_ns() + SEND_TIMEOUT  # for all together
        for follower in list(self.followers):
            if number in follower.follows:
                follower.add(number)
                follower.send(deadline - monotonic_ns())
                follower.follows.pop(number, None)

    def reason_of(self, number: int) -> bytes | None:
        """Return the reason as JSON, or None if the event is not set."""
        line = self.line(number)
        return None if line is None else _wire.words_of(line.strip())[2]

    def line(self, number: int) -> bytes | None:
        line = self.causes.line(number)
        if line is not None and NO_REASON.encode() in line:
            for event in self.held.of((self.home, number)):  # which may remember more
                _, is_set, reason = event._fe_read()
                if is_set and reason is not None:
                    return set_line(number, encode_in_helper(reason))
        return line

    # For the thread

    def listen(self) -> None:
        for address in self.listener.sockets:
            self.loop.watch(Acceptor(self, address))

    def accepted(self, sock: Socket, address: object, nonce: bytes) -> None:
        stranger = FromFollower(self, sock, address, nonce)
        self.strangers[stranger] = None
        if len(self.strangers) > MOST_STRANGERS:
            oldest = next(iter(self.strangers))
            oldest.read()  # it may just have greeted
            if oldest in self.strangers:
                oldest.on_broken()
        self.loop.watch(stranger)
        stranger.send()
        stranger.read()  # most have greeted already

    def was_set(self, number: int, reason: bytes) -> None:
        """Do what a follower says."""
        if self.has_made(number) and number not in self.causes:
            self._record(number, reason)
            self.held.arrived((self.home, number), _wire.reason_of(reason))
            self._notify_followers(number)

    def make_room(self) -> None:
        """End a connection, as no descriptor is left for another: of a stranger, or one that follows nothing, or the oldest."""
        if not self._is_short:
            self._is_short = True
            logging.getLogger("fastevent").warning("no descriptor is left, so the processes that follow events here take turns")
        idle = [follower for follower in list(self.followers) if not follower.follows]
        for follower in [*idle, *self.strangers, *self.followers][: max(1, len(idle))]:
            follower.on_broken()


class Acceptor:
    """A socket that listens."""

    is_full = False
    is_broken = False

    def __init__(self, own: OwnHome, address: object) -> None:
        self.own = own
        self.address = address
        self.alarm_at = monotonic_ns() + RENEWAL
        self.failures = 0
        self.pauses = False

    @property
    def socket(self) -> Socket | None:
        return None if self.pauses else self.own.listener.sockets[self.address]

    def on_ready(self, can_write: bool) -> None:
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                nonce = new_nonce()  # first, because for random numbers PyPy needs a descriptor, too, and one may be left
                sock = self.own.listener.sockets[self.address].accept()
                try:
                    self.own.accepted(sock, self.address, nonce)
                except BaseException:
                    sock.close()
                    raise
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self.own.make_room()
                self.pause(ACCEPT_PAUSE)
            elif self.own.listener.sockets[self.address].fileno() == -1:
                self.end()

    def end(self) -> None:
        """Listen anew, because the program has closed the descriptor."""
        self.pause(AFTER_CLOSING)

    def on_broken(self) -> None:
        self.on_alarm()

    def on_alarm(self) -> None:
        self.pauses = False
        self.alarm_at = monotonic_ns() + RENEWAL
        try:
            self.own.listener.renew(self.address)
            self.failures = 0
        except OSError:
            if not self.failures:
                log("%s cannot listen for other processes, and tries again", self.own.home)
            self.failures += 1
            self.pause(min(SECOND // 10 << self.failures, 10 * SECOND))
            self.pauses = self.own.listener.sockets[self.address].fileno() == -1  # what has come to an old one is let in

    def pause(self, nanoseconds: int) -> None:
        self.pauses = True
        self.alarm_at = monotonic_ns() + nanoseconds


class FromFollower(Connection):
    """The connection to a process that follows events of this one, or to a stranger that has shown nothing yet."""

    def __init__(self, own: OwnHome, sock: Socket, address: object, nonce: bytes) -> None:
        super().__init__(own.loop, sock)
        self.own = own
        self.address = address  # at which it has come
        self.follows: dict[int, None] = {}  # numbers of events that are not set yet
        self.has_greeted = False  # with the key, but perhaps by what it has read elsewhere
        self.alarm_at = monotonic_ns() + STRANGER_TIMEOUT
        self._received: list[bytes] = []  # numbers of events, not confirmed yet
        self._nonce, self._their_nonce = nonce, b""
        self.outbox.append(line(b"hello", self._nonce))

    def longest(self) -> int:
        return _wire.LONGEST_LINE if self.has_greeted else _wire.LONGEST_GREETING

    def line_of(self, number: int) -> bytes:
        return self.own.line(number) or b""

    def on_alarm(self) -> None:
        if self.is_trusted:
            self._confirm()
        else:
            self.end()

    def _confirm(self) -> None:
        self.alarm_at = NEVER
        for first in range(0, len(self._received), 100):
            self.add(line(b"got", *self._received[first : first + 100]))
        self._received.clear()
        self.send()

    def end(self) -> None:
        me = Call()
        try:
            if not self.claim.take(me):
                return self.end_later()
            self.own.followers.pop(self, None)
            self.own.strangers.pop(self, None)
            self.loop.watched.pop(self, None)
            self.close()
        finally:
            self.claim.give_back(me)

    def receive(self, words: list[bytes]) -> bool:
        key, address = self.own.home.key, self.address
        match words:
            case [b"follow", number] if self.is_trusted:
                self._follow(number_of(number))
            case [b"drop", number] if self.is_trusted:
                self.follows.pop(number_of(number), None)
            case [b"set", number, reason] if self.is_trusted:
                self._was_set(number, reason)
                self._received.append(number)
                self.alarm_at = min(self.alarm_at, monotonic_ns() + CONFIRMATION_PAUSE)
                if len(self._received) > MOST_UNCONFIRMED:
                    self._confirm()
            case [b"sealed", text] if self.has_greeted:
                match _wire.opened(key, text):
                    case [b"set", number, reason]:
                        self._was_set(number, reason)
            case [b"greet", nonce, said] if not self.has_greeted and _wire.is_proof(said, key, "greeting", nonce, address):
                self.has_greeted, self._their_nonce = True, nonce
                self.own.strangers.pop(self, None)
                self.outbox.append(line(b"prove", proof(key, "home", nonce, self._nonce, address)))
                self.send()
            case [b"greet", nonce, _] if self.has_greeted and nonce == self._their_nonce:
                pass  # an exception has repeated it
            case [b"prove", said] if self.has_greeted and not self.is_trusted:
                self.is_trusted = _wire.is_proof(said, key, "follower", self._their_nonce, self._nonce, address)
                if self.is_trusted:
                    self.alarm_at = NEVER
                    self.own.followers[self] = None
                return self.is_trusted
            case _:
                return self.is_trusted
        return True

    def _was_set(self, number: bytes, reason: bytes) -> None:
        self.follows.pop(number_of(number), None)  # it knows
        self.own.was_set(number_of(number), reason)

    def _follow(self, number: int) -> None:
        """Register, and then look: a set in between is missed by neither."""
        if not self.own.has_made(number):
            return
        self.follows[number] = None
        if number in self.own.causes:
            self.add(number)
            self.follows.pop(number, None)
        if len(self.follows) > MOST_FOLLOWED:
            self.is_broken = True
