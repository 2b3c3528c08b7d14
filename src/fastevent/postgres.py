"""Events over PostgreSQL: set on one machine, seen on all. Needs psycopg 3: `pip install fastevent[postgres]`.

The state of a name is a row of the table `fastevent_events`, and the channel is named by the prefix of the names.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import socket
from contextlib import suppress
from typing import Any

from fastevent._bridge import Bridge
from fastevent._store import LONGEST_STATE, REPLY, Refused, Store
from fastevent._time import NEVER, SECOND, monotonic_ns

try:
    import psycopg
except ImportError as _error:
    raise ModuleNotFoundError("fastevent.postgres needs psycopg: pip install 'fastevent[postgres]'", name="psycopg") from _error
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

__all__ = ["PostgresEvents"]

LONGEST_NAME = 2_000  # bytes of a name that stands in the table as it is: an index of PostgreSQL has room for some more
LOOK = 1.0  # how often all rows are read where a pooler may keep messages from arriving
CLEAN = 60 * SECOND  # how often a process that sets events deletes rows that have expired

#: Under a lock, because two that make the same table at once disturb each other.
TABLE = """
    SELECT pg_advisory_xact_lock(4723560281);
    CREATE TABLE IF NOT EXISTS fastevent_events (name text PRIMARY KEY, state text NOT NULL, expires timestamptz NOT NULL);
    CREATE INDEX IF NOT EXISTS fastevent_events_expires ON fastevent_events (expires)
"""
READ = "SELECT name, left(state, %s) FROM fastevent_events WHERE name = ANY(%s) AND expires > now()"
#: All processes insert in one order, so that none waits for another one in a circle.
CREATE = """
    WITH given AS (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) AS given (key, value, payload) ORDER BY key),
    created AS (
        INSERT INTO fastevent_events AS old (name, state, expires)
        SELECT key, value, now() + %s * interval '1 second' FROM given
        ON CONFLICT (name) DO UPDATE SET state = excluded.state, expires = excluded.expires WHERE %s OR old.expires <= now()
        RETURNING name
    ) SELECT name, pg_notify(%s, payload) FROM created JOIN given ON key = name
"""
#: Without the rows that another process deletes or renews at the moment, so that nothing waits.
DELETE = """
    DELETE FROM fastevent_events WHERE name IN (
        SELECT name FROM fastevent_events WHERE expires <= now() ORDER BY expires LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class PostgresEvents(Bridge):
    """Events that processes on several machines share by name, over a PostgreSQL server.

    *conninfo* is a connection string or URL, as psycopg takes it. Two connections are made with it. *prefix* begins each name
    in the table `fastevent_events`, which is made if there is none, and is the name of the channel. A row expires after
    *expire* seconds.

    The server need not be reachable: the event `connected` is set while it is. A `with` block calls `close()` at its end.

    Raises `TypeError` or `ValueError` for a wrong argument, `RuntimeError` in a subinterpreter, and nothing for a server that
    is away.

    Thread safety: all methods are safe on shared objects.
    """

    def __init__(self, conninfo: str, *, prefix: str = "fastevent:", expire: int = 86_400) -> None:
        super().__init__(_Postgres(conninfo, prefix, expire))


class _Postgres(Store):
    name = "PostgreSQL"

    def __init__(self, conninfo: str, prefix: str, expire: int) -> None:
        if not isinstance(conninfo, str):
            kind = f"{type(conninfo).__module__}.{type(conninfo).__qualname__}"
            raise TypeError(f"conninfo must be a text, as 'host=db dbname=app', not {kind}")
        try:
            conninfo_to_dict(conninfo)
        except psycopg.Error as error:
            raise ValueError(f"conninfo must be a connection string of PostgreSQL: {_first_line(error)}") from None
        self.check_expire(expire)
        self.check(prefix, "prefix")
        self.conninfo = conninfo
        self.prefix = prefix
        self.expire = expire
        self.channel = prefix if 0 < len(prefix.encode()) < 64 else f"fastevent {_digest(prefix)[:32]}"
        self.longest = len(prefix.encode()) + LONGEST_NAME
        self.clean_at = 0
        self.created = 0  # rows since the last cleaning
        self.has_warned = False

    def check(self, text: object, what: str) -> None:
        super().check(text, what)
        if "\0" in str(text):
            raise ValueError(f"{what} must be a text without NUL, which PostgreSQL cannot store, not {text!r}")

    def connect(self) -> _Connection:
        return _Connection(self)

    def key(self, name: str) -> str:
        """Return what stands in the table for *name*: of a long one, the beginning and a digest."""
        key = self.prefix + name
        encoded = key.encode()
        if len(encoded) <= self.longest:
            return key
        return encoded[: self.longest].decode(errors="ignore") + _digest(key)

    def payload(self, name: str) -> str:
        """Return what a message says of *name*: nothing of a long one, because messages are bounded."""
        return name if len(name.encode()) <= LONGEST_NAME else ""

    def warn_of_pooler(self) -> None:
        if not self.has_warned:
            self.has_warned = True
            text = "there is a pooler before PostgreSQL, so events are looked up once a second: connect directly"
            logging.getLogger("fastevent").warning(text)


class _Connection:
    def __init__(self, store: _Postgres) -> None:
        self.store = store
        self.process = os.getpid()
        self.heard: list[str | None] = []
        self.connection: Any = psycopg.connect(
            store.conninfo, autocommit=True, connect_timeout=3, client_encoding="utf8", prepare_threshold=None
        )
        self.socket = socket.fromfd(self.connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)  # a duplicate, to interrupt
        self.socket.setblocking(False)  # as libpq needs it: PyPy has just made both of them blocking
        self.connection.add_notify_handler(self.hear)
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        encoding = self.connection.info.parameter_status("server_encoding")
        if encoding not in {"UTF8", "SQL_ASCII"}:
            raise Refused(f"the encoding of the database must be UTF8, not {encoding}")
        pid, table = self.ask("SELECT pg_backend_pid(), to_regclass('fastevent_events')::text")[0]
        self.has_pooler = pid != self.connection.info.backend_pid
        if self.has_pooler:
            self.store.warn_of_pooler()
        else:  # a statement must not wait for a lock when nobody waits for it any more
            self.ask(f"SET statement_timeout = {int(REPLY * 1000)}")
        if table is None:
            self.ask(TABLE)

    def read(self, names: list[str]) -> list[str | bytes | None]:
        keys = [self.store.key(name) for name in names]
        states = dict(self.ask(READ, LONGEST_STATE, keys))
        return [states.get(key) for key in keys]

    def create(self, states: dict[str, str], replace: bool) -> list[str]:
        store = self.store
        keys = {store.key(name): name for name in states}
        given = list(keys), list(states.values()), [store.payload(name) for name in states]
        created = {key for key, _ in self.ask(CREATE, *given, store.expire, replace, store.channel)}
        store.created += len(created)
        if monotonic_ns() >= store.clean_at:
            self.clean()
        return [name for key, name in keys.items() if key not in created]

    def clean(self) -> None:
        """Delete rows that have expired: more than this process has made since it last did so."""
        limit, self.store.created, self.store.clean_at = 1000 + 2 * self.store.created, 0, monotonic_ns() + CLEAN
        try:
            self.ask(DELETE, limit)
        except Refused:  # without the right, another process does it
            self.store.clean_at = NEVER

    def listen(self) -> None:
        self.ask(SQL("LISTEN {}").format(Identifier(self.store.channel)))

    def next_names(self, seconds: float) -> list[str | None]:
        if not self.heard:
            readable, _, _ = _wait(self.connection.fileno(), min(seconds, LOOK) if self.has_pooler else seconds)
            if readable:
                self.connection.pgconn.consume_input()
            while notification := self.connection.pgconn.notifies():
                self.heard.append(notification.extra.decode() or None)
            if self.has_pooler:
                self.ping()
                self.heard.append(None)
        names, self.heard = self.heard, []
        return names

    def hear(self, notification: Any) -> None:
        self.heard.append(notification.payload or None)

    def ping(self) -> None:
        self.ask("SELECT 1")

    def ask(self, statement: Any, *arguments: Any) -> list[Any]:
        try:
            cursor = self.connection.execute(statement, arguments or None)
            rows: list[Any] = cursor.fetchall() if cursor.description else []
            return rows
        except psycopg.Error as error:
            if self.connection.closed:
                raise
            raise Refused(f"{type(error).__name__}: {_first_line(error)}") from None

    def interrupt(self) -> None:
        with suppress(OSError):  # it is closed
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if os.getpid() != self.process and not self.connection.closed:  # what is said in here must not reach the server
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, self.connection.fileno())
            os.close(nothing)
        self.socket.close()
        self.connection.close()


def _wait(descriptor: int, seconds: float) -> Any:
    if hasattr(select, "poll"):  # select() refuses a descriptor above 1,023
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return poll.poll(seconds * 1000), None, None
    return select.select([descriptor], [], [], seconds)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
