"""What connects the shared events of this process with those of others: as a home, as a follower, and in the thread."""

from __future__ import annotations

import sys
from typing import Any

from fastevent._process import SHARED, Claim, at_exit, at_fork, expect_exit, generation, sleep
from fastevent._set_once import publish_if_set
from fastevent._threads import EXIT_TIMEOUT, Helper, wait_for_end
from fastevent._time import monotonic_ns
from fastevent.shared import _wire
from fastevent.shared._connection import Connection
from fastevent.shared._follower import ToHome
from fastevent.shared._held import Held, Key, Reference
from fastevent.shared._home import OwnHome
from fastevent.shared._loop import Loop, Thread
from fastevent.shared._place import SENT_IS_KEPT, Home
from fastevent.shared._sockets import wait_until_read


class Hub:
    """All that this process has to do with others. A forked child has another one."""

    def __init__(self) -> None:
        self.generation = generation()
        self.loop = Loop(lambda: thread.start_if_needed(), lambda: thread.leave_behind())
        self.held = Held()
        self.homes: dict[Home, ToHome] = {}  # of others
        self._own = Claim()  # held by the `OwnHome`, from the first event made here

    def own(self) -> OwnHome:
        """Return this process as a home. Raises `OSError` where no socket can be made."""
        if self._made is None:
            own = OwnHome(self.loop, self.held)
            self.loop.post(self._listen, own)  # first, since a signal handler may raise in between
            self._own.take(own)
        made: OwnHome = self._own.holder
        return made

    @property
    def _made(self) -> OwnHome | None:
        own: OwnHome | None = self._own.holder
        return own

    def _listen(self, own: OwnHome) -> None:
        if self._own.take(own):
            own.listen()
        else:
            own.listener.remove()

    def own_of(self, home: Home) -> OwnHome | None:
        own = self._made
        return own if own is not None and own.home == home else None

    def hold(self, reference: Reference) -> None:
        """Have the event set here if it is set elsewhere, now or later."""
        home, number = key = reference.key
        own = self.own_of(home)
        was_unset = _is_unset(reference)
        if own is None and was_unset:
            self.to_home(home).follows[number] = None  # before another thread finds the event, and sets it
        self.held.add(reference)  # before a set that comes
        if not was_unset:
            return
        if own is None:  # also if it is set meanwhile, as another thread may have released the event in between
            self.to_home(home).follow(number)
            return
        reason = own.reason_of(number)
        if reason is not None:
            self.held.arrived(key, _wire.reason_of(reason))

    def to_home(self, home: Home) -> ToHome:
        connection = self.homes.get(home)
        if connection is None or connection.is_gone:
            if connection is not None:
                self._remove(connection)
            connection = self.homes.setdefault(home, ToHome(home, self.loop, self.held, self._remove))
        return connection

    def _remove(self, connection: ToHome) -> None:
        """Keep nothing of a home that is gone."""
        if self.homes.get(connection.home) is connection:
            self.homes.pop(connection.home, None)

    def release(self, reference: Reference) -> None:
        home, number = key = reference.key
        removed = self.held.remove(reference)
        if removed is None:
            return
        connection = self.homes.get(home)
        if connection is not None:
            connection.drop(number)
        # Last, look whether the event has arrived again meanwhile: then it is followed again, and it may have been set since.
        for other in [*removed, *self.held.references_to(key)]:
            event = other()  # kept, because one that is gone has been released, or will be
            if event is not None:
                self.hold(other)
                if self.own_of(home) is None:
                    self.to_home(home).follow(number)
                notify(other)

    def should_publish(self, key: Key) -> bool:
        """Return False for an event that is set because another process has said so."""
        home, number = key
        own = self.own_of(home)
        if own is not None:
            return not own.is_published(number)
        connection = self.homes.get(home)
        return connection is not None and number in connection.follows

    def publish(self, key: Key, reason: str) -> None:
        """Notify other processes that the event is set."""
        home, number = key
        own, connection = self.own_of(home), self.homes.get(home)
        if own is not None:
            own.publish(number, reason)
        elif connection is not None:
            connection.publish(number, reason)

    def connections(self) -> list[Connection]:
        own = self._made
        return [*list(self.homes.values()), *(list(own.followers) if own is not None else [])]

    def finish(self) -> None:
        """As the process exits, send what is left, and leave. That waits no longer than a moment if others are slow."""
        self.loop.is_over = True
        wait_for_end([thread.ask_to_end()], EXIT_TIMEOUT)
        self.loop.do_posts()
        own = self._made
        for follower in list(own.followers) if own is not None else []:
            follower.outbox.append(_wire.line(b"bye"))
        deadline = monotonic_ns() + EXIT_TIMEOUT
        while (left := [each for each in self.connections() if each.is_unsent()]) and monotonic_ns() < deadline:
            for connection in left:
                self.loop.safely(connection.send_last)
            if any(each.is_unsent() for each in left):
                sleep(0.001)
        if not SENT_IS_KEPT:
            wait_until_read([each.socket for each in self.connections() if each.socket is not None], deadline)
        if own is not None:
            own.listener.remove()
        self.close()

    def close(self) -> None:
        """Close all descriptors. The directory of a listener stays: in a forked child, it is the parent's."""
        self.loop.close()
        for connection in self.connections():
            if connection.socket is not None:
                connection.socket.close()
        if (own := self._made) is not None:
            own.listener.close()


def _is_unset(reference: Reference) -> bool:
    event = reference()
    return event is not None and not event._fe_read().is_set


def hub() -> Hub:
    """Return the hub of this process, which may be the child of a fork that nobody has announced."""
    generation()
    return _current


def publish(event: Any, reason: str) -> None:
    hub().publish(event._fe_key, reason)


def notify(reference: Reference) -> None:
    """Notify other processes if the event is set, and they do not know it."""
    event = reference()
    if event is not None and event._fe_read().is_set and hub().should_publish(reference.key):
        publish_if_set(reference, publish)


def forget(reference: Reference) -> None:
    """Release an event that no longer exists."""
    if hub is not None and _current is not None and not _current.loop.is_over:  # at the end, globals are gone before events
        hub().release(reference)


def finish() -> None:
    if not _current.loop.is_over:
        _current.finish()


def _after_fork_in_child() -> None:
    """Follow the events of the parent over connections of this process. It may be called again."""
    global _current
    if _current.generation != generation():
        child = Hub()
        child.held.references.update(_current.held.references)
        _behind.append(_current)
        _current = child
    while _behind:
        _behind[0].close()
        _behind.pop(0)
    child = _current
    util = sys.modules.get("multiprocessing.util")
    if sys.implementation.name == "pypy":  # where no thread can start in here: the next use or wait starts it
        child.loop.can_start = False
        if util is not None:
            util.register_after_fork(thread, Helper.start_if_needed)
    try:
        for home in child.held.homes():
            connection = child.to_home(home)
            for number, event in child.held.of_home(home):
                if not event._fe_read().is_set:
                    connection.follows[number] = None
            if connection.follows:
                connection.reach()
    finally:
        child.loop.can_start = True
    if child.held.references:
        expect_exit()


_behind: list[Hub] = []  # of the parent, and not closed yet
thread = Thread(lambda: _current.loop)
_current: Hub = Hub()
at_fork(in_child=_after_fork_in_child)
at_exit(SHARED, finish)
