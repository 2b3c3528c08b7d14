"""This process as a home: the events that it has made, and the processes that follow them."""

from __future__ import annotations

import errno
import logging
from collections import deque
from itertools import count

from fastevent._process import Call, log
from fastevent._reasons import encode
from fastevent._time import NEVER, SECOND, monotonic_ns
from fastevent.shared import _wire
from fastevent.shared._connection import Connection
from fastevent.shared._held import Held, Key
from fastevent.shared._loop import Loop
from fastevent.shared._place import HAS_NAMES, Home, Listener
from fastevent.shared._sockets import Socket
from fastevent.shared._wire import line, new_nonce, number_of, proof, set_line

MOST_LINES = 20_000  # in the outbox for a follower: one that has stopped reading connects again when it goes on
MOST_FOLLOWED = 262_144  # events that one process follows
MOST_CAUSES = 65_536  # of events that are set, remembered with their reasons
MOST_BYTES = 8 << 20  # of these
MOST_UNTRIMMED = 1_000  # and so many more until the thread looks
MOST_STRANGERS = 64  # connections that have shown nothing
STRANGER_TIMEOUT = 10 * SECOND  # how long a connection may take until it is proved
ACCEPTED_AT_ONCE = 16
ACCEPT_PAUSE = SECOND // 4  # when no descriptor is left
RENEWAL = 60 * SECOND if HAS_NAMES else SECOND  # how often to look whether the address is still there

NO_REASON = encode(None)


class Numbers:
    """A set of numbers that grows: a bit for each, in blocks; of a block in which all are, nothing but that."""

    BLOCK = 8_192
    MOST_BLOCKS = 16_384  # 16 MiB, for 134 million numbers: of more, the oldest are taken out

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._full: dict[int, None] = {}

    def add(self, number: int) -> None:
        """For one thread."""
        index, place = divmod(number, self.BLOCK)
        if index in self._full:
            return
        block = self._blocks.setdefault(index, bytearray(self.BLOCK // 8))
        block[place >> 3] |= 1 << (place & 7)
        if block[-1] and block.count(255) == len(block):
            self._full[index] = None  # first: another thread may be looking
            del self._blocks[index]
        elif len(self._blocks) > self.MOST_BLOCKS:
            del self._blocks[next(iter(self._blocks))]

    def __contains__(self, number: int) -> bool:
        index, place = divmod(number, self.BLOCK)
        block = self._blocks.get(index)
        return index in self._full or (block is not None and bool(block[place >> 3] & 1 << (place & 7)))


class Causes:
    """Which events of this home are set, and why."""

    def __init__(self) -> None:
        self._lines: dict[int, bytes] = {}
        self._recent: deque[int] = deque()  # in which order they were set; the thread has not seen these yet
        self._order: deque[int] = deque()
        self._bytes = 0
        self._forgotten = Numbers()  # set as well, for a reason that is no longer remembered

    def add(self, number: int, reason: str | bytes) -> bool:
        """Add the reason, unless there is one. Return whether `trim()` should be called."""
        line = set_line(number, reason)
        if self._lines.setdefault(number, line) is line:
            self._recent.append(number)
        return len(self._recent) > MOST_UNTRIMMED or len(line) > 4_096

    def __contains__(self, number: int) -> bool:
        return number in self._lines or number in self._forgotten

    def line(self, number: int) -> bytes | None:
        """Return the line which says that the event is set, or None if it is not."""
        line = self._lines.get(number)
        return set_line(number, NO_REASON) if line is None and number in self._forgotten else line

    def trim(self) -> None:
        """Forget the oldest reasons if there are too many. For one thread."""
        while self._recent:
            number = self._recent.popleft()
            self._order.append(number)
            self._bytes += len(self._lines[number])
        while len(self._order) > MOST_CAUSES or self._bytes > MOST_BYTES:
            oldest = self._order.popleft()
            self._forgotten.add(oldest)  # first: another thread may be looking
            self._bytes -= len(self._lines.pop(oldest))


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
        if self.causes.add(number, reason):
            self.loop.post(self.causes.trim)
        for follower in list(self.followers):
            if number in follower.follows:
                follower.outbox.append(number)
                follower.send()
                follower.follows.pop(number, None)
                if len(follower.outbox) > MOST_LINES:
                    follower.is_broken = True
                    self.loop.wake()

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
                    return set_line(number, encode(reason))
        return line

    # For the thread

    def listen(self) -> None:
        for address in self.listener.sockets:
            self.loop.watch(Acceptor(self, address))

    def accepted(self, sock: Socket) -> None:
        stranger = FromFollower(self, sock)
        self.strangers[stranger] = None
        if len(self.strangers) > MOST_STRANGERS:
            next(iter(self.strangers)).end()
        self.loop.watch(stranger)
        stranger.send()
        stranger.read()  # most have greeted already

    def was_set(self, number: int, reason: bytes) -> None:
        """Do what a follower says."""
        if self.has_made(number) and number not in self.causes:
            self.held.arrived((self.home, number), _wire.reason_of(reason))
            self.publish(number, reason)
            self.causes.trim()

    def make_room(self) -> None:
        """End a connection, as no descriptor is left for another: of a stranger, or one that follows nothing, or the oldest."""
        if not self._is_short:
            self._is_short = True
            logging.getLogger("fastevent").warning("no descriptor is left, so the processes that follow events here take turns")
        idle = [follower for follower in list(self.followers) if not follower.follows]
        for follower in [*idle, *self.strangers, *self.followers][: max(1, len(idle))]:
            follower.end()


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
                sock = self.own.listener.sockets[self.address].accept()
                self.own.accepted(sock)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self.own.make_room()
                self.pause(ACCEPT_PAUSE)

    def end(self) -> None:
        """Listen anew, because the program has closed the descriptor."""
        self.on_alarm()

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

    def pause(self, nanoseconds: int) -> None:
        self.pauses = True
        self.alarm_at = monotonic_ns() + nanoseconds


class FromFollower(Connection):
    """The connection to a process that follows events of this one, or to a stranger that has shown nothing yet."""

    def __init__(self, own: OwnHome, sock: Socket) -> None:
        super().__init__(own.loop, sock)
        self.own = own
        self.follows: dict[int, None] = {}  # numbers of events that are not set yet
        self.has_greeted = False  # with the key, but perhaps by what it has read elsewhere
        self.is_trusted = False  # it has proved that it knows the key
        self.alarm_at = monotonic_ns() + STRANGER_TIMEOUT
        self._nonce, self._their_nonce = new_nonce(), b""
        self.outbox.append(line(b"hello", self._nonce))

    def longest(self) -> int:
        return _wire.LONGEST_LINE if self.has_greeted else _wire.LONGEST_GREETING

    def line_of(self, number: int) -> bytes:
        return self.own.line(number) or b""

    def on_alarm(self) -> None:
        self.end()

    def end(self) -> None:
        me = Call()
        try:
            if not self.claim.take(me):  # another thread is sending
                return self.loop.post(self.end)
            self.own.followers.pop(self, None)
            self.own.strangers.pop(self, None)
            self.loop.watched.pop(self, None)
            self.close(me)
        finally:
            self.claim.give_back(me)

    def receive(self, words: list[bytes]) -> bool:
        try:
            return self._receive(words)
        except ValueError:  # the rest of a line that was cut off is no harm
            return self.is_trusted

    def _receive(self, words: list[bytes]) -> bool:
        key, address = self.own.home.key, self.own.home.address
        match words:
            case [b"follow", number] if self.is_trusted:
                self._follow(number_of(number))
            case [b"drop", number] if self.is_trusted:
                self.follows.pop(number_of(number), None)
            case [b"set", number, reason] if self.is_trusted:
                self._was_set(number, reason)
            case [b"sealed", text] if self.has_greeted:
                match _wire.opened(key, text):
                    case [b"set", number, reason]:
                        self._was_set(number, reason)
            case [b"greet", nonce, said] if not self.has_greeted and _wire.is_proof(said, key, "greeting", nonce, address):
                self.has_greeted, self._their_nonce = True, nonce
                self.own.strangers.pop(self, None)
                self.outbox.append(line(b"prove", proof(key, "home", nonce, self._nonce, address)))
                self.send()
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
            self.outbox.append(number)
            self.send()
            self.follows.pop(number, None)
        if len(self.follows) > MOST_FOLLOWED or len(self.outbox) > MOST_LINES:
            self.is_broken = True
