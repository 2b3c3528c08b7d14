"""Threads that call the client of a store, which is the user's and may block for as long as it likes.

So each call has a limit, after which its connection is interrupted. If that does not end the call, its thread is left behind,
and another one begins.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakMethod

from fastevent._store import REPLY, Store
from fastevent._threads import Helper, Life
from fastevent._time import NEVER, SECOND, deadline_after, monotonic_ns
from fastevent._timers import timers

# In seconds:
LIMIT = REPLY + 1  # how long a call may take, beyond the time that it waits for messages
CONNECT = 15.0  # how long a connection may take to be made
LONGEST_PAUSE = SECOND // 2  # between two attempts to connect

MOST_LEFT_BEHIND = 3  # threads of one kind that are stuck


class Link(Protocol):
    """What a thread serves."""

    store: Store
    closed: bool

    def needed(self) -> bool: ...
    def failed(self, thread: ConnectedHelper, error: BaseException) -> None: ...
    def forget(self) -> None: ...


class Session:
    """A connection that one thread uses, and the time until which its present call may take."""

    def __init__(self, life: Life, watch: Callable[[int], object]) -> None:
        self.life = life
        self.watch = watch  # called with each limit
        self.limit = NEVER
        self.connection: Any = None

    def call(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        self.limit = deadline_after(monotonic_ns(), seconds)
        try:
            self.watch(self.limit)
            return function(*arguments)
        finally:
            self.limit = NEVER

    def connect(self, store: Store) -> None:
        self.connection = self.call(CONNECT, store.connect)

    def read(self, names: list[str]) -> list[str | bytes | None]:
        return self.call(LIMIT, self.connection.read, names) if names else []

    def create(self, states: dict[str, str], replace: bool = False) -> list[str]:
        return self.call(LIMIT, self.connection.create, states, replace) if states else []

    def is_late(self, nanoseconds: int = 0) -> bool:
        return self.limit + nanoseconds <= monotonic_ns()

    def interrupt(self) -> None:
        with suppress(Exception):  # there may be no connection
            self.connection.interrupt()

    def close(self) -> None:
        if self.connection is not None:
            with suppress(BaseException):
                self.call(LIMIT, self.connection.close)


class ConnectedHelper(Helper):
    """A helper thread with a connection. Whatever fails, it makes a new connection."""

    def __init__(self, name: str, link: Link, serve: Callable[[Session], object]) -> None:
        self.link = link
        self.serve = serve
        self.failures = 0  # without a success in between
        self.session: Session | None = None
        self.watched_at = NEVER  # when `watch()` comes
        self.left_behind: list[Life] = []
        self.reference = WeakMethod(self.watch)
        super().__init__(name, self.keep_connected, link.needed)

    def ask_to_end(self) -> Life | None:
        life, session = super().ask_to_end(), self.session
        if life is not None and session is not None:
            session.interrupt()
        return life

    def after_fork(self) -> None:
        super().after_fork()
        session, self.session = self.session, None
        if session is not None:
            with suppress(Exception):
                session.connection.close()
        self.watched_at = NEVER
        self.left_behind.clear()
        self.link.forget()

    def goes_on(self, life: Life) -> bool:
        return not (life.ending or self.link.closed)

    def keep_connected(self, life: Life) -> None:
        while self.goes_on(life):
            session = self.session = Session(life, self.watch_at)
            try:
                session.connect(self.link.store)
                if self.goes_on(life):
                    self.serve(session)
            except BaseException as error:  # of whatever kind, because it comes from a user's client
                if self.goes_on(life):
                    self.failures += 1
                    self.link.failed(self, error)
            finally:
                session.close()
            pause = min(SECOND // 100 << min(self.failures, 10), LONGEST_PAUSE)
            until = monotonic_ns() + int(pause * random.uniform(0.5, 1))
            while self.goes_on(life) and (left := until - monotonic_ns()) > 0:
                self.rest(left)  # which every set() ends

    def watch_at(self, time: int) -> None:
        """Have `watch()` called at that *time*, or before."""
        if time < self.watched_at:
            self.watched_at = time
            try:
                timers.real.add(time, _watch, self.reference)
            except RuntimeError:  # no thread can be started
                self.watched_at = NEVER

    def watch(self) -> None:
        """Interrupt a connection whose call takes too long. If that does not end the call, leave its thread behind."""
        self.watched_at = NEVER
        session, life = self.session, self.life
        if session is None or life is None or session.life is not life or session.limit == NEVER:
            return
        if not session.is_late():
            self.watch_at(session.limit)
            return
        session.interrupt()
        self.left_behind = [left for left in self.left_behind if not left.ended]
        if session.is_late(SECOND) and len(self.left_behind) < MOST_LEFT_BEHIND:
            self.left_behind.append(life)
            self.failures += 1
            self.link.failed(self, TimeoutError("a call of the client does not return"))
            self.leave_behind()
        else:
            self.watch_at(deadline_after(monotonic_ns(), 1.5))


def _watch(reference: Callable[[], Callable[[], object] | None]) -> None:
    watch = reference()
    if watch is not None:
        watch()
