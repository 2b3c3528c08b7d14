"""This process as a follower of another: it holds events that the other one, their home, has made.

When the home ends, its events are set here. What is set here is said until the home has confirmed it.
"""

from __future__ import annotations

from collections.abc import Callable

from fastevent._reasons import encode, encode_in_helper
from fastevent.shared import _wire
from fastevent.shared._connection import MOST_LINES, SEND_TIMEOUT
from fastevent.shared._held import Held
from fastevent.shared._loop import Loop
from fastevent.shared._place import Home
from fastevent.shared._reach import PROOF, Reaching, send_apart
from fastevent.shared._sets import Unconfirmed
from fastevent.shared._wire import line, number_of, sealed_set, set_line

MOST_SEALED = 256  # lines for a home that has not proved anything


class ToHome(Reaching):
    """The connection to the home of events that are held here."""

    def __init__(self, home: Home, loop: Loop, held: Held, remove: Callable[[ToHome], object]) -> None:
        super().__init__(home, loop)
        self.held = held
        self._remove = remove  # when the home is gone
        self.follows: dict[int, None] = {}  # numbers of events of which this process has neither received a set nor sent one
        self.unconfirmed = Unconfirmed()
        self._gone = f"{home}, which made it, is gone"
        self._sent_if_gone = encode(self._gone)  # but it is said to nobody: the home may live after all

    # For any thread and any signal handler

    def follow(self, number: int) -> None:
        self.follows[number] = None
        if self.is_trusted:  # otherwise, `introduce()` does it
            self.add(-number)
        self.reach()

    def drop(self, number: int) -> None:
        if number in self.follows:
            self.follows.pop(number, None)  # if it is still there: the thread may have received a set
            if self.is_trusted:
                self.add(-number)  # it goes with the next line

    def publish(self, number: int, reason: str) -> None:
        """Notify the home, unless it is the home that has notified this process."""
        if number not in self.follows or reason == self._sent_if_gone:
            return
        if self.unconfirmed.add(number, reason):
            self.loop.post(self.unconfirmed.trim)
        if self.is_trusted or len(self.outbox) < MOST_SEALED:  # the others follow the proof
            self.add(number)
        self.connect_if_needed()
        connected = self.socket
        self.send(SEND_TIMEOUT)
        is_said = connected is not None and connected is self.socket and not self.is_broken and not self.is_interrupted()
        if not is_said and not self.is_gone:
            send_apart(self.home.key, self._attempts.addresses(), number, reason, SEND_TIMEOUT)
        self.follows.pop(number, None)

    def needs_home(self) -> bool:
        return not self.is_gone and bool(self.follows or self.unconfirmed)

    def is_unsent(self) -> bool:
        follows_proof = not self.is_trusted and len(self.unconfirmed.reasons) >= MOST_SEALED
        is_to_be_said = self.socket is None or self.is_broken or follows_proof
        return super().is_unsent() or (is_to_be_said and not self.is_gone and bool(self.unconfirmed))

    def begin(self) -> None:
        self.outbox.extend(list(self.unconfirmed.reasons)[-MOST_SEALED:])  # the last, after which the process may exit at once

    def on_gone(self) -> None:
        self._remove(self)
        self.unconfirmed = Unconfirmed()
        for number, _ in self.held.of_home(self.home):
            self.follows.pop(number, None)
            self.held.arrived((self.home, number), self._gone)

    # For the call that sends

    def line_of(self, number: int) -> bytes:
        """Return a line about an event: for a number, that it is set; for a negative one, whether this process follows it.

        Only the call that sends the line knows whether the home has the proof by then, because a connection may end and begin
        at any time.
        """
        if number == PROOF:
            return super().line_of(number)
        if number < 0:
            word = b"follow" if -number in self.follows else b"drop"
            return line(word, b"%d" % -number) if self.proofs.are_given else b""
        reason = self.unconfirmed.reasons.get(number)
        if reason is None:
            return b""
        return set_line(number, reason) if self.proofs.are_given else sealed_set(self.home.key, number, reason)

    # For the thread

    def receive(self, words: list[bytes]) -> bool:
        match words:
            case [b"set", number, reason] if self.is_trusted:
                self._was_set(number_of(number), reason)
            case [b"got", *numbers] if self.is_trusted:
                for number in b" ".join(numbers).split():
                    self._was_confirmed(number_of(number))
            case _:
                return super().receive(words)
        return True

    def introduce(self) -> None:
        for number, event in self.held.of_home(self.home):
            _, is_set, reason = event._fe_read()
            if not is_set:
                self.follows[number] = None
                self.outbox.append(-number)
            elif number in self.follows and (text := encode_in_helper(reason)) != self._sent_if_gone:
                self.unconfirmed.add(number, text)
        self.outbox.extend(list(self.unconfirmed.reasons) or self.unconfirmed.recall())
        self.most_lines = len(self.outbox) + MOST_LINES

    def _was_set(self, number: int, reason: bytes) -> None:
        self.follows.pop(number, None)
        self._was_confirmed(number)
        self.held.arrived((self.home, number), _wire.reason_of(reason))

    def _was_confirmed(self, number: int) -> None:
        self.outbox.extend(self.unconfirmed.confirm(number))
