"""Events over Redis or Valkey: set on one machine, seen on all. Needs redis-py: `pip install fastevent[redis]`.

A key says that an event is set, and why. It is the truth; a message is only a hint that the key of a name is worth reading. So
a lost message loses nothing: all keys are read after each subscription, and once a minute. A key is written only if it does not
exist, so the first cause wins. It is written again where the server has lost it.

Two threads serve a `RedisEvents`, each over a connection of its own: one waits for messages, the other reads and writes keys.
A thread closes its connection as it ends, and any failure ends a connection. So there is one way to begin, whether at first,
after a failure, after a fork or in a forked child: with new connections, after which all keys are read.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import KeyedRef, WeakValueDictionary, finalize, ref

from fastevent._core import attach_polls
from fastevent._event import Event
from fastevent._notify import Waker, call_in_helper, set_and_notify, subscribe
from fastevent._process import BRIDGES, at_exit, expect_exit, sleep
from fastevent._reasons import decode, encode
from fastevent._threads import EXIT_TIMEOUT, Helper, Life, wait_for_end
from fastevent._time import deadline_after, monotonic_ns

try:
    import redis
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("fastevent.redis needs redis-py: pip install 'fastevent[redis]'", name=_error.name) from _error
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RedisEvents"]

# In seconds:
FIRST_LOOK = 1.0  # how long event() waits for the key of a new event
REPLY = 5.0  # how long the server may take to answer
SILENCE = 10.0  # without a message for so long, the server must answer a PING
REREAD = 60.0  # how often all keys are read though nothing has happened
LONGEST_PAUSE = 0.5  # between two attempts to connect
EXIT = 5.0  # how long close(), or the exit of the interpreter, tries to send what has been set

BATCH = 500  # keys in one round trip
MOST_UNSENT = 32_768  # set events that are kept for the server; those that the program holds are kept anyway
LONGEST_VALUE = 65_536  # bytes that are read of a key; no reason is encoded as more

_log = logging.getLogger("fastevent")
_links: dict[_Link, None] = {}  # not closed yet


class _RedisEvent(Event):
    # What RedisEvents.event() returns. It has no docstring of its own, so that help() shows that of Event.

    _fe_options: tuple[Any, ...]  # as passed to event()
    _fe_waker: Waker  # has it sent
    _fe_looked_up: Event  # set after the first look at the key
    _fe_value: str | None = None  # for the key, once the event has been set here
    _fe_stored = False  # whether the key existed when it was last read or written

    def clear(self) -> NoReturn:
        raise TypeError("an event of RedisEvents stays set on all machines: use another name for the next attempt")

    def restart_timeout(self, timeout: object = None) -> NoReturn:
        raise TypeError("the timeout of an event of RedisEvents cannot restart: use an Event with this one for a parent")


attach_polls(_RedisEvent)


class _Events(WeakValueDictionary[str, _RedisEvent]):
    """The events of a RedisEvents that the program holds, by name."""

    def add(self, name: str, event: _RedisEvent) -> _RedisEvent:
        """Add *event* unless there is one of that *name*. Return the one that there is.

        That is one step, which no thread, signal handler or finalizer comes into; `setdefault()` is several.
        """
        data, remove = vars(self)["data"], vars(self)["_remove"]
        reference = KeyedRef(event, remove, name)
        while (found := data.setdefault(name, reference)()) is None:
            remove(reference)  # takes out an event that no longer exists
        first: _RedisEvent = found
        return first


class RedisEvents:
    """Events that processes on several machines share by name, over a Redis or Valkey server.

    *client* is a `redis.Redis` or `redis.RedisCluster`. Two connections are made with its settings, but with timeouts of our
    own. *prefix* begins each key and is the name of the channel; for a cluster it must contain a hash tag, as
    `"{fastevent}:"` does. A key expires after *expire* seconds.

    The server need not be reachable: the event `connected` is set while it is. A `with` block calls `close()` at its end.

    Raises `TypeError` or `ValueError` for a wrong argument, and nothing for a server that is away.

    Thread safety: all methods are safe on shared objects.
    """

    def __init__(self, client: redis.Redis | redis.RedisCluster, *, prefix: str = "fastevent:", expire: int = 86_400) -> None:
        if not isinstance(client, (redis.Redis, redis.RedisCluster)):
            raise TypeError(f"client must be a redis.Redis or redis.RedisCluster, not {client!r}")
        if isinstance(expire, bool) or not isinstance(expire, int):
            raise TypeError(f"expire must be a whole number of seconds, not {expire!r}")
        if not 0 < expire <= 10**9:
            raise ValueError(f"expire must be 1 to 1,000,000,000 seconds, not {expire!r}")
        _check_text(prefix, "prefix")
        if isinstance(client, redis.RedisCluster) and prefix.partition("{")[2].find("}") < 1:
            raise ValueError(f"the prefix for a cluster must contain a hash tag, as '{{fastevent}}:' does, not {prefix!r}")
        self._link = _Link(client, prefix, expire)
        self.connected: Event = self._link.connected
        finalize(self, self._link.retire).atexit = False
        self._link.start()

    def event(
        self, name: str, timeout: float | None = None, *, parents: Iterable[Event] = (), set_on_timeout: bool = False
    ) -> Event:
        """Return the event of that *name*: the same object as long as this process holds it.

        The other arguments are those of `Event`. Without them, an event that exists is returned as it is. The call waits up to
        a second for the server to say whether a new event is set already, but not while the server is away.

        Raises `ValueError` if the event exists and was made with other arguments, and after `close()`.
        """
        _check_text(name, "name")
        link, options = self._link, (timeout, tuple(parents), set_on_timeout)
        if link.closed:
            raise ValueError(f"event({name!r}) of a RedisEvents that is closed")
        event: _RedisEvent | None = link.events.get(name)
        if event is None:
            event = _RedisEvent(timeout, parents=options[1], set_on_timeout=set_on_timeout, name=name)
            # The waker keeps this object, and so the connections, as long as the event lives.
            event._fe_waker = Waker(partial(self._send_if_set, name, ref(event)))
            event._fe_options, event._fe_looked_up = options, Event(inf)
            event = link.events.add(name, event)
        if options not in ((None, (), False), event._fe_options):
            raise ValueError(f"{event!r} was made with timeout, parents, set_on_timeout={event._fe_options}, not {options}")
        if not event._fe_looked_up.is_set():  # also where a signal handler has interrupted the call that made it
            subscribe(event, event._fe_waker)
            event._fe_waker.wake()  # a parent or the timeout may have set it already
            link.request(name)
            if not link.away:
                event._fe_looked_up.wait(FIRST_LOOK)
        return event

    def _send_if_set(self, name: str, reference: ref[_RedisEvent]) -> None:
        event = reference()
        if event is not None and not event._fe_stored:
            _, is_set, reason = event._fe_read()
            if is_set:
                # Here, in the thread that sets it, because it may call code of the user's.
                event._fe_value = event._fe_value or encode(reason)
                self._link.send(name, event)

    def close(self) -> None:
        """Send what has been set here, and close the connections. No attempt to send begins after five seconds.

        The events go on in this process alone. Called again, it does nothing.
        """
        self._link.close(deadline_after(monotonic_ns(), EXIT))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._link.closed else "connected" if self.connected.is_set() else "not connected"
        return f"<fastevent.redis.RedisEvents {self._link.prefix!r} at {id(self):#x}: {state}, {len(self._link.events)} events>"


class _ConnectedHelper(Helper):
    """A helper thread with a connection. Whatever fails, it makes a new connection."""

    def __init__(self, name: str, link: _Link, serve: Callable[[Life, Any], object]) -> None:
        self.link = link
        self.serve = serve
        self.failures = 0  # without a success in between
        self.connection: Any = None
        super().__init__(name, self.keep_connected, link.needed)

    def ask_to_end(self) -> Life | None:
        life = super().ask_to_end()
        if life is not None:
            with suppress(AttributeError, OSError):  # there is no connection
                self.connection._sock.shutdown(socket.SHUT_RDWR)  # at which the thread may wait
        return life

    def after_fork(self) -> None:
        super().after_fork()
        self.disconnect()  # in a child, redis-py closes the descriptor only
        self.link.forget()

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.disconnect()

    def keep_connected(self, life: Life) -> None:
        while not (life.ending or self.link.closed):
            try:
                self.connection = self.link.new_connection()
                self.connection.connect()
                self.serve(life, self.connection)
            except Exception as error:
                if not life.ending:
                    self.failures += 1
                    self.link.failed(self, error)
            finally:
                self.disconnect()
            pause = min(0.01 * 2 ** min(self.failures, 10), LONGEST_PAUSE) * random.uniform(0.5, 1)
            until = deadline_after(monotonic_ns(), pause)
            while not (life.ending or self.link.closed) and (left := until - monotonic_ns()) > 0:
                self.rest(left)  # which every set() ends


class _Link:
    """The threads of a RedisEvents, and what they share. It keeps events alive that have not been sent, but no RedisEvents."""

    def __init__(self, client: Any, prefix: str, expire: int) -> None:
        self.client = client
        self.prefix = prefix
        self.expire = expire
        self.connected = Event(inf, name=f"{prefix} connected")
        self.events = _Events()
        self.pending: dict[str, None] = {}  # the names whose keys are to be read or written
        self.unsent: dict[str, _RedisEvent] = {}  # set here and not written yet
        self.subscribed = False
        self.stale = False  # whether keys may have changed without a message
        self.away = False  # whether two attempts in a row have failed
        self.closed = False
        self.logged: set[str] = set()
        self.pid = os.getpid()
        self.listener = _ConnectedHelper("fastevent redis messages", self, self.serve_messages)
        self.keeper = _ConnectedHelper("fastevent redis keys", self, self.serve_keys)
        _links[self] = None

    # For any thread. What set() calls takes no lock, since a signal handler may call it.

    def needed(self) -> bool:
        # A forked child makes no connection before it has an event.
        return not self.closed and (self.pid == os.getpid() or bool(self.events))

    def start(self) -> None:
        expect_exit()
        self.listener.start_if_needed()
        self.keeper.start_if_needed()

    def send(self, name: str, event: _RedisEvent) -> None:
        """Have the key of *event* written."""
        if self.closed:
            return
        if len(self.unsent) < MOST_UNSENT:
            self.unsent[name] = event
        elif name not in self.unsent:
            self.warn_once("%d set events wait for Redis; of more, those that the program does not hold are lost", MOST_UNSENT)
        self.request(name)

    def request(self, name: str) -> None:
        """Have the key of the event of that *name* read, or written if it is set here."""
        if not self.closed:
            self.pending[name] = None
            self.start()
            self.keeper.wake()

    def retire(self) -> list[Life | None]:
        """End the threads, and return without waiting."""
        self.closed = True
        if not self.unsent:
            _links.pop(self, None)
        for thread in (self.listener, self.keeper):
            thread.unregister()
        self.keeper.wake()  # which may be the calling thread, with the last reference to an event that it has sent
        return [self.listener.ask_to_end(), self.keeper.ask_to_end()]

    def close(self, deadline: int) -> None:
        wait_for_end(self.retire(), EXIT_TIMEOUT)
        while self.unsent and monotonic_ns() < deadline:
            connection = None
            try:
                connection = self.new_connection()
                connection.connect()
                self.pending.update(dict.fromkeys(self.unsent))
                self.exchange(connection)
            except Exception:
                sleep(0.02)
            finally:
                if connection is not None:
                    connection.disconnect()
        self.connected.clear()
        _links.pop(self, None)  # only now: if a signal handler interrupts this, the exit of the interpreter does it again

    def forget(self) -> None:
        """Start again in a forked child. The parent sends what is unsent."""
        self.unsent.clear()
        self.subscribed = False
        self.connected.clear()

    def warn_once(self, text: str, *arguments: object) -> None:
        if text not in self.logged:
            self.logged.add(text)
            _log.warning(text, *arguments)

    # For the two threads.

    def new_connection(self) -> Any:
        client: Any = self.client
        if isinstance(self.client, redis.RedisCluster):
            client.nodes_manager.initialize()  # the keys may have moved
            client = client.get_redis_connection(client.get_node_from_key(self.prefix))
        pool = client.connection_pool
        # Without what redis-py adds for maintenance notifications, which refers to that pool.
        settings = {key: value for key, value in pool.connection_kwargs.items() if not key.startswith(("maint", "orig", "oss"))}
        settings |= {"socket_timeout": REPLY, "socket_connect_timeout": REPLY, "health_check_interval": 0}
        settings |= {"retry": Retry(NoBackoff(), 0), "retry_on_error": [], "decode_responses": False, "protocol": 2}
        return pool.connection_class(**settings)

    def failed(self, thread: _ConnectedHelper, error: Exception) -> None:
        if thread is self.listener:
            self.subscribed = False
        else:
            self.pending.clear()  # it must not grow while the server is away; afterwards all keys are read
            if thread.failures > 1:
                self.away = True
                for reference in self.events.valuerefs():
                    if (event := reference()) is not None:
                        event._fe_looked_up.set()
        self.connected.clear()
        if thread.failures == 2:
            # Not with the error itself: a handler that keeps the record would keep events alive.
            _log.warning("no connection to Redis, trying again: %s: %s", type(error).__name__, str(error))

    def serve_messages(self, life: Life, connection: Any) -> None:
        self.subscribed = False
        connection.send_command("SUBSCRIBE", self.prefix)
        asked = True
        while not (life.ending or self.closed):
            if connection.can_read(timeout=REPLY if asked else SILENCE):
                kind, *_, data = connection.read_response()
                asked = False
                if kind == b"subscribe":
                    self.listener.failures = 0
                    self.stale = True
                    self.subscribed = True  # after `stale`, for the other thread
                    self.keeper.wake()
                elif kind == b"message":
                    self.receive(data.decode(errors="replace"))
            elif asked:
                raise redis.TimeoutError("the server does not answer")
            else:
                connection.send_command("PING")
                asked = True

    def receive(self, name: str) -> None:
        event = self.events.get(name)
        if event is not None and not event._fe_stored:
            self.request(name)

    def serve_keys(self, life: Life, connection: Any) -> None:
        self.stale = True
        reread = 0
        while not (life.ending or self.closed):
            if self.stale or monotonic_ns() >= reread:
                self.stale = False
                reread = deadline_after(monotonic_ns(), REREAD)
                # Not by the names: that iteration fails if another thread adds one.
                self.pending.update((reference.key, None) for reference in self.events.valuerefs())
            subscribed = self.subscribed
            self.exchange(connection)
            self.keeper.failures = 0
            self.away = False
            if subscribed and not self.stale and not self.connected.is_set():
                set_and_notify(self.connected, call=call_in_helper)
                if not self.subscribed:  # the other thread may have cleared it in between
                    self.connected.clear()
            self.keeper.rest(reread - monotonic_ns())

    def exchange(self, connection: Any) -> None:
        """Read the keys of the pending names, and write those of events that have been set here."""
        names = list(self.pending)
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            for name in batch:
                self.pending.pop(name, None)  # before the look: a message that comes later asks for another
            events = [(name, event) for name in batch if (event := self.events.get(name)) is not None]
            self.read(connection, [item for item in events if item[1]._fe_value is None or item[1]._fe_stored])
            self.write(connection, [item for item in events if item[1].is_set() and not item[1]._fe_stored])
            for name, event in events:
                event._fe_looked_up.set()
                if event._fe_stored:
                    self.unsent.pop(name, None)

    def read(self, connection: Any, events: list[tuple[str, _RedisEvent]]) -> None:
        values = _ask(connection, [("GETRANGE", self.prefix + name, 0, LONGEST_VALUE - 1) for name, _ in events])
        for (name, event), value in zip(events, values, strict=True):
            event._fe_stored = value != b""
            if event._fe_stored and not event.is_set():
                try:
                    reason = decode(json.loads(value))
                except Exception:  # of any kind, because any program may have written the key
                    event._fe_stored = False
                    self.warn_once("the key %r holds no reason: %.100r", self.prefix + name, value)
                else:
                    set_and_notify(event, reason, call=call_in_helper)

    def write(self, connection: Any, events: list[tuple[str, _RedisEvent]]) -> None:
        commands: list[tuple[Any, ...]] = []
        for name, event in events:
            value = event._fe_value or encode(event._fe_read().reason)
            commands += [("SET", self.prefix + name, value, "EX", self.expire, "NX"), ("PUBLISH", self.prefix, name)]
        if commands:
            for reply in _ask(connection, [("MULTI",), *commands, ("EXEC",)])[-1]:
                if isinstance(reply, Exception):
                    raise reply
        for _, event in events:
            event._fe_stored = True


def _ask(connection: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Send *commands* and return the replies: an exception for a key that is of another type."""
    replies: list[Any] = []
    if commands:
        connection.send_packed_command(connection.pack_commands(commands))
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            replies.append(error)
    return replies


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a text, not {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be a text that UTF-8 can encode, not {text!r}") from None


def _close_all() -> None:
    deadline = deadline_after(monotonic_ns(), EXIT)
    for link in list(_links):
        link.close(deadline)


at_exit(BRIDGES, _close_all)
