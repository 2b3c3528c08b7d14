"""What is remembered of events that were set. All of it is bounded in bytes: what is forgotten is why, not that."""

from __future__ import annotations

from collections import deque

from fastevent._reasons import decode, encode
from fastevent.shared._wire import set_line

MOST_CAUSES = 65_536  # of events that are set, remembered with their reasons
MOST_BYTES = 8 << 20  # of these
MOST_UNTRIMMED = 1_000  # and so many more until the thread looks
MOST_REASONS = 4_096  # of events that a home has not confirmed, and as many more until the thread looks
MOST_LONG = 128  # of these: of the others that are long, the beginning is remembered

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

    def take(self) -> list[int]:
        """Take one block out, and return its numbers; none if there is no number. For the same thread."""
        for index in list(self._full):
            del self._full[index]
            return list(range(index * self.BLOCK, (index + 1) * self.BLOCK))
        for index in list(self._blocks):
            block = self._blocks.pop(index)
            return [index * self.BLOCK + place for place in range(self.BLOCK) if block[place >> 3] & 1 << (place & 7)]
        return []

    def __bool__(self) -> bool:
        return bool(self._full or self._blocks)

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


class Unconfirmed:
    """Which events were set here as long as their home has not confirmed it, and why."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}  # by number
        self._others = Numbers()  # set as well, for a reason that is no longer remembered

    def __bool__(self) -> bool:
        return bool(self.reasons or self._others)

    def add(self, number: int, reason: str) -> bool:
        """Return whether `trim()` should be called."""
        if len(self.reasons) > MOST_LONG and len(reason) > 200:
            reason = encode(f"{decode(reason)!s:.100}…")
        self.reasons[number] = reason
        return len(self.reasons) > 2 * MOST_REASONS

    def trim(self) -> None:
        """Forget the oldest reasons if there are too many. For one thread."""
        for number in list(self.reasons)[:-MOST_REASONS]:
            self._others.add(number)
            self.reasons.pop(number, None)

    def confirm(self, number: int) -> list[int]:
        """Remove what the home has confirmed. Return the numbers that should be said next. For the same thread."""
        self.reasons.pop(number, None)
        return [] if self.reasons else self.recall()

    def recall(self) -> list[int]:
        """Return numbers of events whose reasons were forgotten, which now count as those of which nothing is known but that.

        For the same thread."""
        numbers = self._others.take()
        self.reasons.update(dict.fromkeys(numbers, NO_REASON))
        return numbers
