"""The hub of this process: what connects its shared events with those of other processes.

The process that makes an event is its home. Each process that holds the event follows it over its one connection to the home.
A process that sets the event notifies the home, and the home notifies the followers. A forked child holds the events of its
parent, and follows them as any other process does.

Messages are JSON objects, one a line. Nothing is unpickled from a socket.

    {"nonce": "…", "proof": "…"}                     a follower begins: it knows the key; its messages may come right behind
    {"proof": "…"}                                   the home answers: it knows the key, too
    {"follow": 7}                                    a follower wants to know when event 7 is set
    {"drop": 7}                                      a follower holds event 7 no longer
    {"set": 7, "reason": "…", "timed_out": false}    in both directions: event 7 is set

1. A shared event is only ever set. So a message may come late, twice or in another order, and needs no answer.
2. The home registers a follower, and then looks whether the event is set. It records that an event is set, and then looks for
   followers. So no set falls in between. In the same way, a follower first holds an event, and then says that it follows.
3. The thread "fastevent shared" selects and reads. Any thread and any signal handler sends: a message stands in an outbox until
   a call moves it to the socket. Only the call that holds the connection's `right` may write to the socket, close or replace
   it. A set() waits a moment for such a call of another thread, because an os._exit() may follow. Nothing else waits for it.
4. What is to be sent is removed after it was sent, so an exception from a signal handler repeats a message at worst. A line
   begins with a newline, too: where an exception left part of a line, the next line is still read.
5. A home is gone when its address is refused or missing. A connection that has merely ended is made again. So either side
   may end one at any time, and a new one begins with all that the home may have missed.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import selectors
import socket
import sys
import weakref
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from fastevent._connection import NO_SIGNAL, Connection, Home, Listener, prepare
from fastevent._notify import call_in_helper, set_and_notify
from fastevent._process import SHARED, at_exit, at_fork, expect_exit, log, sleep
from fastevent._reasons import decode, encode
from fastevent._threads import EXIT_TIMEOUT, Helper, Life, helpers_ended, wait_for_end
from fastevent._time import monotonic_ns

_LONGEST_LINE = 65_536  # bytes: more than any message of ours
_LONGEST_GREETING = 1_024  # bytes, from a process that has proved nothing
_MOST_LINES = 20_000  # in the outbox for a follower: one that has stopped reading connects again when it goes on
_MOST_CAUSES = 65_536  # of events that are set, remembered for processes that ask later
_MOST_STRANGERS = 64  # connections that have proved nothing
_STRANGER_TIMEOUT = 10**10  # how long these may take, in nanoseconds
_AT_ONCE = 16  # followers that a set() notifies by itself: those it wakes compete with it for the processors
_PAUSE = 5 * 10**7  # nanoseconds from one attempt to the next
_SEND_TIMEOUT = 10**8  # nanoseconds that a set() waits for another thread that is sending

_ENOUGH_DOUBTS = 100  # that a home is there: with so many, it is gone
_REFUSAL = _ENOUGH_DOUBTS if sys.platform == "linux" else 5  # elsewhere, a full backlog is refused, too
_NO_PROOF = 2  # the connection ended before the home had proved anything

_REFUSED = {errno.ECONNREFUSED, errno.ENOENT, errno.ENOTDIR, errno.ENOTSOCK}


#: What identifies an event in all processes: its home, and its number there.
Key = tuple[Home, int]


class Reference(weakref.ref[Any]):
    """A weak reference to a shared event, equal to itself alone."""

    __slots__ = ("key",)
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    key: Key


class Hub:
    """All that this process has to do with others. A forked child begins with a new one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.events: dict[Key, dict[Reference, None]] = {}  # those that are held here; of each mostly one object
        self.connections: dict[Home, Connection] = {}  # to the homes of others
        self.listeners: dict[str, Listener] = {}  # "own", from the first event made here
        self.followers: dict[Connection, None] = {}
        self.strangers: dict[Connection, int] = {}  # that have proved nothing, and when they came
        self.causes: dict[int, bytes] = {}  # of the events made here that are set: the message
        self.order: deque[int] = deque()  # in which they were set
        self.forgotten = 0  # the highest number of an event whose cause is no longer remembered
        self.retries: dict[Connection, int] = {}  # when to call `reach()` again for a connection
        self.posts: deque[Callable[[], object]] = deque()  # for the thread to call
        self.selector = selectors.DefaultSelector()
        self.waking = socket.socketpair()
        for waking in self.waking:
            waking.setblocking(False)
        self.selector.register(self.waking[0], selectors.EVENT_READ, lambda mask: self.waking[0].recv(4_096))
        self.can_start = True  # the thread; not in a fork handler of PyPy
        self.is_over = False  # the process exits

    # The events that are held here

    def held(self, key: Key) -> list[Any]:
        return [event for reference in list(self.events.get(key, ())) if (event := reference()) is not None]

    def hold(self, reference: Reference) -> None:
        """Have the event set here if it is set elsewhere, now or later."""
        home, number = key = reference.key
        is_home = self.is_home(home)
        line = self.cause(number) if is_home else None
        while True:
            references = self.events.setdefault(key, {})
            references[reference] = None
            if self.events.get(key) is references:  # if not, release() has just taken it out
                break
        event = reference()
        if event is None or event._fe_read().is_set:
            return
        if is_home:
            line = line or self.causes.get(number)
            if line is not None:
                self.set(key, decode(json.loads(line)))
        else:
            connection = self.connections.setdefault(home, Connection(home))
            connection.follows[number] = None
            connection.outbox.append(_line(f'{{"follow": {number}}}'))
            self.reach(connection)

    def release(self, reference: Reference) -> None:
        home, number = key = reference.key
        references = self.events.get(key, {})
        references.pop(reference, None)
        if references:
            return
        others = list(self.events.pop(key, ()))
        connection = self.connections.get(home)
        if connection is not None and connection.follows.pop(number, home) is None:
            connection.outbox.append(_line(f'{{"drop": {number}}}'))  # it goes with the next message
        for other in others or list(self.events.get(key, ())):  # the event has just arrived again
            self.hold(other)

    def set(self, key: Key, reason: object) -> None:
        for event in self.held(key):
            set_and_notify(event, reason, call=call_in_helper)

    # For any thread and any signal handler

    def home(self) -> Home:
        """Return this process as a home."""
        if "own" not in self.listeners:
            listener = Listener()
            self.at_exit()
            self.post(self.listen, listener)  # first, since a signal handler may raise in between
            self.listeners.setdefault("own", listener)
        return self.listeners["own"].home

    def is_home(self, home: Home) -> bool:
        return "own" in self.listeners and self.listeners["own"].home == home

    def publish(self, key: Key, reason: object) -> None:
        """Notify other processes that the event is set."""
        home, number = key
        if self.is_home(home):
            line = _set_line(number, reason)
            if self.causes.setdefault(number, line) is line:
                self.order.append(number)
                if len(self.order) > _MOST_CAUSES:
                    oldest = self.order.popleft()
                    self.forgotten = max(self.forgotten, oldest)
                    self.causes.pop(oldest, None)
            self.notify_followers(number)
        else:
            connection = self.connections.get(home)
            if connection is not None and number in connection.follows:
                connection.outbox.append(_set_line(number, reason))
                self.send(connection, _SEND_TIMEOUT)
                connection.follows.pop(number, None)

    def cause(self, number: int) -> bytes | None:
        """Return the message that an event made here is set, or None if it is not."""
        line = self.causes.get(number)
        if line is None and number <= self.forgotten:
            for event in self.held((self.home(), number)):
                _, is_set, reason = event._fe_read()
                return _set_line(number, reason) if is_set else None
            if not any(number in follower.follows for follower in list(self.followers)):
                return _set_line(number, None)
        return line

    def notify_followers(self, number: int) -> None:
        line = self.cause(number)
        if line is None:
            return
        followers = (follower for follower in list(self.followers) if number in follower.follows)
        for rank, follower in enumerate(followers):
            follower.outbox.append(line)
            if rank < _AT_ONCE:
                self.send(follower)
            else:
                self.post(self.send, follower)
            follower.follows.pop(number, None)

    def send(self, connection: Connection, timeout: int = 0) -> None:
        done = False
        try:
            done = connection.send(timeout)
        finally:
            if not done:  # or a signal handler has raised, and others have left their messages to this call
                self.at_exit()
                self.post(self.watch, connection)

    def reach(self, connection: Connection) -> None:
        """Connect to the home, unless there is a connection, and send. If the home is gone, set its events."""
        if (connection.socket is None or connection.has_ended) and not self.connect(connection):
            self.retries[connection] = monotonic_ns() + _PAUSE
            helper.wake()
        self.send(connection)
        if connection.home is not None and connection.doubts >= _ENOUGH_DOUBTS:
            self.connections.pop(connection.home, None)
            for key in list(self.events):
                if key[0] == connection.home:
                    self.set(key, f"process {connection.home.pid}, which made it, is gone")

    def connect(self, connection: Connection) -> bool:
        """Make a connection, in place of one that has ended. Return False if that must be tried again."""
        home, me = connection.home, (get_ident(),)
        try:
            if connection.right.setdefault("holder", me) is not me:
                return False
            if connection.socket is not None:
                if not connection.has_ended:  # another thread was quicker
                    return True
                connection.socket.close()
                connection.socket = None
            if home is not None and connection.doubts < _ENOUGH_DOUBTS:
                try:
                    sock = home.connect()
                    self.introduce(connection, home)
                    connection.has_ended = False
                    connection.socket = sock
                except OSError as error:
                    connection.doubts += _REFUSAL * (error.errno in _REFUSED)
                    if connection.doubts < _ENOUGH_DOUBTS:
                        return False
        finally:
            try:
                self.leave(connection, me)
            except BaseException:  # from a signal handler: the connection is watched, and its right is given back
                self.leave(connection, me)
                raise
        return True

    def leave(self, connection: Connection, me: tuple[int]) -> None:
        if connection.right.get("holder") is me:
            self.post(self.watch, connection)
            connection.give_back(me)

    def introduce(self, connection: Connection, home: Home) -> None:
        """Begin a new connection with the proof, and with all that the home may have missed."""
        connection.nonce, connection.trusted, connection.inbox = os.urandom(16).hex(), False, bytearray()
        greeting = {"nonce": connection.nonce, "proof": home.proof("follower", connection.nonce)}
        lines = [_line(json.dumps(greeting))]
        for key in list(self.events):
            for event in self.held(key) if key[0] == home else ():
                connection.follows[key[1]] = None
                _, is_set, reason = event._fe_read()
                if is_set:
                    lines.append(_set_line(key[1], reason))
                else:
                    lines.append(_line(f'{{"follow": {key[1]}}}'))
        connection.rest = b"".join(lines)

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the thread call *function*. Where the thread cannot start, the next call tries again."""
        self.posts.append(partial(function, *arguments))
        helper.start_if_needed()
        helper.wake()

    def at_exit(self) -> None:
        """Have `finish()` called as the process exits, after `multiprocessing` has waited for its children."""
        expect_exit()

    def close(self) -> None:
        """Close all sockets. The directory of a listener stays: in a forked child, it is the parent's."""
        connections = [*self.connections.values(), *self.followers, *self.strangers, *self.retries]
        sockets = [*(listener.socket for listener in self.listeners.values()), *(each.socket for each in connections)]
        for closeable in (self.selector, *self.waking, *sockets):
            if closeable is not None:
                closeable.close()

    # For the thread

    def is_needed(self) -> bool:
        if self.pid != os.getpid() or self.is_over or not self.can_start:
            return False
        return bool(self.posts or self.listeners or self.connections)

    def work(self, life: Life) -> None:
        while not life.ending:
            pause = 0 if self.posts else _PAUSE / 1e9 if self.retries else 1 if self.strangers else None
            for key, mask in self.selector.select(pause):
                self.safely(partial(key.data, mask))
            while self.posts:
                self.safely(self.posts.popleft())
            for connection in list(self.retries):  # not of items(), whose making may call a finalizer, which adds one
                if self.retries[connection] <= monotonic_ns():
                    self.retries.pop(connection, None)
                    self.safely(partial(self.reach, connection))
            for stranger, came in list(self.strangers.items()):
                if came + _STRANGER_TIMEOUT <= monotonic_ns():
                    self.end(stranger)

    def safely(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException:  # of a finalizer, for instance: the thread is for all events
            log("in the thread of shared events")

    def listen(self, listener: Listener) -> None:
        if self.listeners.setdefault("own", listener) is listener:
            self.selector.register(listener.socket, selectors.EVENT_READ, partial(self.accept, listener))
        else:
            listener.close()

    def accept(self, listener: Listener, mask: int) -> None:
        try:
            sock, _ = listener.socket.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor is left
            if self.strangers:
                self.end(next(iter(self.strangers)))
            sleep(_PAUSE / 1e9)
            return
        prepare(sock)
        stranger = Connection(None, sock)
        self.strangers[stranger] = monotonic_ns()
        if len(self.strangers) > _MOST_STRANGERS:
            self.end(next(iter(self.strangers)))
        self.watch(stranger)

    def watch(self, connection: Connection, mask: int = 0) -> None:
        """Send and read what is possible according to *mask*, and have the selector look for more."""
        if mask & selectors.EVENT_READ and connection.socket is not None and not connection.has_ended:
            self.read(connection)
        if connection.socket is None or connection.has_ended:
            return
        wanted = selectors.EVENT_READ | (0 if connection.send() else selectors.EVENT_WRITE)
        if len(connection.outbox) > _MOST_LINES and connection.home is None:
            return self.end(connection)
        try:
            self.selector.modify(connection.socket, wanted, partial(self.watch, connection))
        except KeyError:
            self.selector.register(connection.socket, wanted, partial(self.watch, connection))

    def end(self, connection: Connection) -> None:
        """Have the connection closed, and a new one made if it leads to a home."""
        with suppress(KeyError, ValueError):
            self.selector.unregister(connection.socket)
        self.strangers.pop(connection, None)
        self.followers.pop(connection, None)
        is_unproved = connection.home is not None and not connection.trusted
        connection.doubts += _NO_PROOF * is_unproved
        connection.has_ended = True
        self.retries[connection] = monotonic_ns() + _PAUSE * is_unproved

    def read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(_LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, connection.inbox = (connection.inbox + data).split(b"\n")
        valid = all(self.receive(connection, line) for line in lines if line)
        longest = _LONGEST_LINE if connection.trusted else _LONGEST_GREETING
        if not data or not valid or len(connection.inbox) > longest:
            self.end(connection)

    def receive(self, connection: Connection, line: bytearray) -> bool:
        """Do what a message says. Return False if the connection must end."""
        try:
            message = json.loads(line)
            if not connection.trusted:
                return self.greet(connection, message)
            kind = next(kind for kind in ("set", "follow", "drop") if kind in message)
            number = int(message[kind])
            reason = decode(message) if kind == "set" else None
        except (KeyError, OverflowError, RecursionError, StopIteration, TypeError, ValueError):
            return connection.trusted  # the rest of a line that was cut off is no harm
        home = connection.home or self.home()
        connection.follows.pop(number, None)
        if kind == "set":
            self.set((home, number), reason)
            if connection.home is None and number not in self.causes:  # it is not held here
                self.publish((home, number), reason)
        elif kind == "follow" and connection.home is None:
            answer = self.cause(number)
            if answer is None:
                connection.follows[number] = None
                answer = self.causes.get(number)
            if answer is not None:
                connection.outbox.append(answer)
                self.send(connection)
                connection.follows.pop(number, None)
        return True

    def greet(self, connection: Connection, message: Any) -> bool:
        """Return whether the other side has proved that it knows the key."""
        home = connection.home or self.home()
        role, nonce = ("home", connection.nonce) if connection.home else ("follower", message["nonce"])
        connection.trusted = hmac.compare_digest(home.proof(role, nonce), message["proof"])
        if connection.trusted:
            connection.doubts = 0
            if connection.home is None:
                self.strangers.pop(connection, None)
                self.followers[connection] = None
                connection.outbox.append(_line(json.dumps({"proof": home.proof("home", nonce)})))
                self.send(connection)
        return connection.trusted


class _SharedThread(Helper):
    """The thread "fastevent shared". It rests in the selector, and outlives the other helpers as the process exits."""

    def wake(self) -> None:
        with suppress(OSError):  # it has been woken often enough, or it is over
            hub.waking[1].send(b"!", NO_SIGNAL)

    def ask_to_end(self) -> Life | None:
        return None if helpers_ended and not hub.is_over else super().ask_to_end()


def _line(message: str) -> bytes:
    return f"\n{message}\n".encode()


def _set_line(number: int, reason: object) -> bytes:
    return _line(f'{{"set": {number}, {encode(reason)[1:]}')


def notify(reference: Reference) -> None:
    """Notify other processes if the event is set."""
    event = reference()
    if event is not None:
        _, is_set, reason = event._fe_read()
        if is_set:
            hub.publish(reference.key, reason)


def forget(reference: Reference) -> None:
    """Release an event that no longer exists."""
    if hub is not None and not hub.is_over:  # at the end of the interpreter, globals are gone before events are
        hub.release(reference)


def finish() -> None:
    """As the process exits, send what is left, and leave. That waits no longer than a moment if other processes are slow."""
    if hub.is_over:
        return
    hub.is_over = True
    wait_for_end([helper.ask_to_end()], EXIT_TIMEOUT)
    while hub.posts:
        hub.safely(hub.posts.popleft())
    deadline = monotonic_ns() + EXIT_TIMEOUT
    for connection in list(hub.connections.values()):
        while not connection.send() and monotonic_ns() < deadline:
            sleep(0.001)
    for listener in hub.listeners.values():
        listener.close()
    hub.close()


def _after_fork_in_child() -> None:
    """Follow the events of the parent over connections of this process."""
    global hub
    parent = hub
    parent.close()
    hub = Hub()
    hub.events.update(parent.events)
    util = sys.modules.get("multiprocessing.util")
    if sys.implementation.name == "pypy":  # where no thread can start in here: the next use or `multiprocessing` starts it
        hub.can_start = False
        if util is not None:
            util.register_after_fork(helper, Helper.start_if_needed)
    for home in {home for home, _ in parent.events}:
        hub.reach(hub.connections.setdefault(home, Connection(home)))
    if hub.events:
        hub.at_exit()
    hub.can_start = True


hub = Hub()
helper = _SharedThread("fastevent shared", lambda life: hub.work(life), lambda: hub.is_needed())
at_fork(in_child=_after_fork_in_child)
at_exit(SHARED, finish)
