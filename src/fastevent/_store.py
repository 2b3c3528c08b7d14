"""What a store is: a server that keeps a state for each name, and publishes names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

REPLY = 5.0  # how long a store may take to answer, in seconds
LONGEST_STATE = 65_536  # bytes that are read of a state; no reason is encoded as more

_log = logging.getLogger("fastevent")


class Refused(Exception):
    """The store answers, and does not do what it was asked to: it lacks room, the user lacks a right, or it is a replica."""


class Connection(Protocol):
    """A connection to a store. One thread uses it; any thread may call `interrupt()`.

    Every method but `interrupt()` may raise any exception. Then the connection is closed, except after `Refused` by `create()`.
    """

    def read(self, names: list[str]) -> list[str | bytes | None]:
        """Return the state of each name, of which the first `LONGEST_STATE` bytes suffice; None where there is none."""
        ...

    def create(self, states: dict[str, str], replace: bool) -> list[str]:
        """Store the states and publish their names. Return the names that have a state already, which stays.

        If *replace*, it does not stay. Raises `Refused` if the store refuses any of them.
        """
        ...

    def listen(self) -> None:
        """Subscribe to the names that are published. Return when that holds."""

    def next_names(self, seconds: float) -> Sequence[str | None]:
        """Return names that have been published; none if there were none for so long. None among them may be any name."""
        ...

    def ping(self) -> None:
        """Return if the store answers."""

    def interrupt(self) -> None:
        """End what another thread waits for in another method, without waiting."""

    def close(self) -> None:
        """Close the connection. In a forked child, do not disturb that of the parent."""


class Store:
    """How a store is reached."""

    name: str  # for people
    prefix: str  # of each name
    expire: int  # after so many seconds, a state is forgotten

    def check(self, text: object, what: str) -> None:
        """Raise `TypeError` or `ValueError` unless *text* can be stored."""
        if not isinstance(text, str):
            raise TypeError(f"{what} must be a text, not {text!r}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} must be a text that UTF-8 can encode, not {text!r}") from None

    def check_expire(self, expire: object) -> None:
        if isinstance(expire, bool) or not isinstance(expire, int):
            raise TypeError(f"expire must be a whole number of seconds, not {expire!r}")
        if not 0 < expire <= 10**9:
            raise ValueError(f"expire must be 1 to 1,000,000,000 seconds, not {expire!r}")

    def connect(self) -> Connection:
        raise NotImplementedError


class Trouble:
    """What is logged about a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._logged: set[str] = set()
        self._now: set[str] = set()  # the kinds of trouble since all went well

    def __bool__(self) -> bool:
        return bool(self._now)

    def warn(self, text: str, *arguments: object) -> None:
        with suppress(Exception):  # of a handler
            _log.warning(text, *arguments)

    def warn_once(self, text: str, *arguments: object) -> None:
        if text not in self._logged:
            self._logged.add(text)
            self.warn(text, *arguments)

    def begin(self, error: BaseException) -> None:
        """Log each kind of trouble once until `end()`."""
        # Not with the error itself: a handler that keeps the record would keep events alive.
        is_refusal = isinstance(error, Refused)
        kind = str(error) if is_refusal else type(error).__name__
        if kind not in self._now and len(self._now) < 10:
            self._now.add(kind)
            if is_refusal:
                self.warn("%s refuses what is asked of it, trying again: %.500s", self.store.name, error)
            else:
                text = " ".join(str(error).split())
                self.warn("no connection to %s, trying again: %s: %.500s", self.store.name, type(error).__name__, text)

    def end(self) -> None:
        if self._now:
            self._now.clear()
            self.warn("the connection to %s is back, and all that was set has been sent", self.store.name)
