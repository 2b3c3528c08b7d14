"""Events over Redis or Valkey: set on one machine, seen on all. Needs redis-py: `pip install fastevent[redis]`.

The state of a name is a key, and the channel is named by the prefix of the keys.
"""

from __future__ import annotations

import copy
import itertools
import logging
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fastevent._bridge import Bridge
from fastevent._store import LONGEST_STATE, REPLY, Refused, Store

try:
    import redis
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("fastevent.redis needs redis-py: pip install 'fastevent[redis]'", name=_error.name) from _error
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, NoPermissionError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

__all__ = ["RedisEvents"]

Address = tuple[str, int]
Command = tuple[Any, ...]


class RedisEvents(Bridge):
    """Events that processes on several machines share by name, over a Redis or Valkey server.

    *client* is a `redis.Redis` or `redis.RedisCluster`. Two connections are made with its settings, but with timeouts and an
    encoding of our own. *prefix* begins each key and is the name of the channel; for a cluster it must contain a hash tag, as
    `"{fastevent}:"` does. A key expires after *expire* seconds.

    The server need not be reachable: the event `connected` is set while it is. A `with` block calls `close()` at its end.

    Raises `TypeError` or `ValueError` for a wrong argument, `RuntimeError` in a subinterpreter, and nothing for a server that
    is away.

    Thread safety: all methods are safe on shared objects.
    """

    def __init__(self, client: redis.Redis | redis.RedisCluster, *, prefix: str = "fastevent:", expire: int = 86_400) -> None:
        super().__init__(_Redis(client, prefix, expire))


class _Redis(Store):
    name = "Redis"

    def __init__(self, client: Any, prefix: str, expire: int) -> None:
        if not isinstance(client, (redis.Redis, redis.RedisCluster)):
            kind = f"{type(client).__module__}.{type(client).__qualname__}"
            hint = "; make one with the same settings for these events" if kind.startswith("redis.asyncio.") else ""
            raise TypeError(f"client must be a redis.Redis or redis.RedisCluster, not {kind}{hint}")
        self.check_expire(expire)
        self.check(prefix, "prefix")
        self.client: Any = client
        self.prefix = prefix
        self.expire = expire
        self.owner: Address | None = None  # the node of a cluster that has the keys
        self.turns: Iterator[Address] = iter(())
        self.without: dict[str, Any] = {}  # settings for which the user lacks the right
        if isinstance(client, redis.RedisCluster) and prefix.partition("{")[2].find("}") < 1:
            raise ValueError(f"the prefix for a cluster must contain a hash tag, as '{{fastevent}}:' does, not {prefix!r}")

    def connect(self) -> _Connection:
        if isinstance(self.client, redis.RedisCluster):
            return self.connect_to_owner()
        pool = self.client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            pool = _sentinel_pool(pool)
        return _Connection(self, pool, {})

    def connect_to_owner(self) -> _Connection:
        """Connect to the node of a cluster that has the keys.

        Nothing is asked of the client itself, which may take minutes. Each attempt asks another node, which says `MOVED`.
        """
        address = self.owner or next(self.turns, None)
        if address is None:
            nodes = [self.client.get_node_from_key(self.prefix), *self.client.get_nodes()]
            self.turns = itertools.cycle([(node.host, node.port) for node in nodes])
            address = next(self.turns)
        for _ in range(5):
            self.owner = None  # until this node has answered
            connection = self.connect_to(address)
            try:
                connection.read([""])
            except BaseException as error:
                connection.close()
                if not isinstance(error, MovedError):
                    raise
                address = self.owner or address
            else:
                self.owner = address
                return connection
        raise redis.ConnectionError("the nodes of the cluster do not agree on which has the keys")

    def connect_to(self, address: Address, asking: bool = False) -> _Connection:
        pool = self.client.get_redis_connection(self.client.get_default_node()).connection_pool
        host, port = address
        return _Connection(self, pool, {"host": host, "port": port}, asking)

    def do_without(self, error: str) -> bool:
        """Return whether connections can do without the right that is missing."""
        missing = {"client_name": None} if "'client" in error else {"db": 0} if "'select'" in error else {}
        is_new = missing.items() - self.without.items()
        self.without |= missing
        if is_new:
            place = "the keys are in database 0" if "db" in missing else "the connections have no name"
            logging.getLogger("fastevent").warning("%s, because Redis refuses more: %s", place, error)
        return bool(is_new)

    def remapped(self, error: AskError, connection: Any) -> Address:
        """Return the address that an answer of *connection* names, as it is seen from here."""
        remapped: Address = self.client.nodes_manager.remap_host_port(error.host or connection.host, error.port)
        return remapped


class _Connection:
    def __init__(self, store: _Redis, pool: Any, address: dict[str, Any], asking: bool = False) -> None:
        self.store = store
        self.asking = asking  # whether the keys are about to move to this node of a cluster
        self.others: dict[Address, _Connection] = {}  # to nodes to which keys are about to move
        self.heard: list[str] = []
        while True:
            self.connection = pool.connection_class(**_settings(pool) | address | store.without)
            try:
                self.connection.connect()
                break
            except NoPermissionError as error:
                if not store.do_without(str(error)):
                    raise

    def read(self, names: list[str]) -> list[str | bytes | None]:
        replies = self.ask([("GETRANGE", self.store.prefix + name, 0, LONGEST_STATE - 1) for name in names])
        elsewhere: dict[_Connection, list[int]] = {}
        for index, reply in enumerate(replies):
            if isinstance(reply, AskError):
                elsewhere.setdefault(self.other(reply), []).append(index)
            elif isinstance(reply, Exception):
                if not str(reply).startswith("WRONGTYPE"):
                    raise _refused(reply)
                replies[index] = str(reply)
        for other, indices in elsewhere.items():
            for index, state in zip(indices, other.read([names[index] for index in indices]), strict=True):
                replies[index] = state
        return [reply or None for reply in replies]

    def create(self, states: dict[str, str], replace: bool) -> list[str]:
        commands: list[Command] = [("MULTI",)]
        for name, state in states.items():
            commands.append(("SET", self.store.prefix + name, state, "EX", self.store.expire, *(() if replace else ("NX",))))
            commands.append(("PUBLISH", self.store.prefix, name))
        *queued, done = self.ask([*commands, ("EXEC",)])
        for reply in (*queued, *(done if isinstance(done, list) else [done])):
            if isinstance(reply, AskError):  # some keys have moved, others have not
                if len(states) > 1:
                    return [each for name in states for each in self.create({name: states[name]}, replace)]
                return self.other(reply).create(states, replace)
            if isinstance(reply, Exception):
                raise _refused(reply)
        return [name for name, reply in zip(states, done[::2], strict=True) if reply is None]

    def listen(self) -> None:
        self.connection.send_command("SUBSCRIBE", self.store.prefix)
        self.hear_until(b"subscribe")

    def next_names(self, seconds: float) -> list[str]:
        if not self.heard and self.connection.can_read(timeout=seconds):
            self.hear()
        names, self.heard = self.heard, []
        return names

    def ping(self) -> None:
        self.connection.send_command("PING")
        self.hear_until(b"pong")

    def hear_until(self, expected: bytes) -> None:
        while self.hear() != expected:
            pass

    def hear(self) -> bytes:
        reply = self.reply()
        if isinstance(reply, Exception):
            raise _refused(reply)
        kind, *_, data = reply if isinstance(reply, list) else [b"pong", reply]
        if kind == b"message":
            self.heard.append(data.decode(errors="replace"))
        return bytes(kind)

    def ask(self, commands: list[Command]) -> list[Any]:
        """Send *commands* and return the replies: an exception for one that is refused."""
        asking: list[Command] = [("ASKING",)] if self.asking else []
        if commands[0] == ("MULTI",):
            commands, step = asking + commands, 1  # it holds for the whole transaction
        else:
            commands, step = [each for command in commands for each in (*asking, command)], 1 + len(asking)
        self.connection.send_packed_command(self.connection.pack_commands(commands))
        return [self.reply() for _ in commands][len(asking) :: step]

    def reply(self) -> Any:
        try:
            return self.connection.read_response()
        except MovedError as error:
            self.store.owner = self.store.remapped(error, self.connection)
            raise
        except redis.ResponseError as error:
            return error

    def other(self, error: AskError) -> _Connection:
        """Return a connection to the node to which a key is about to move."""
        address = self.store.remapped(error, self.connection)
        if address not in self.others:
            self.others[address] = self.store.connect_to(address, asking=True)
        return self.others[address]

    def interrupt(self) -> None:
        for connection in (self, *list(self.others.values())):
            with suppress(AttributeError, OSError):  # it is not connected
                connection.connection._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for connection in (self, *self.others.values()):
            connection.connection.disconnect()  # in a forked child, redis-py closes the descriptor only


def _settings(pool: Any) -> dict[str, Any]:
    # Without what redis-py adds for maintenance notifications, which refers to that pool.
    settings = {key: value for key, value in pool.connection_kwargs.items() if not key.startswith(("maint", "orig", "oss"))}
    settings |= {"socket_timeout": REPLY, "socket_connect_timeout": REPLY, "health_check_interval": 0}
    settings |= {"retry": Retry(NoBackoff(), 0), "retry_on_error": [], "retry_on_timeout": False}
    return settings | {"encoding": "utf-8", "encoding_errors": "strict", "decode_responses": False, "protocol": 2}


def _sentinel_pool(pool: Any) -> Any:
    """Return a pool that asks the same Sentinels as *pool*, each for as long as any other server."""
    sentinels = copy.copy(pool.sentinel_manager)
    sentinels.sentinels = [
        redis.Redis(connection_pool=redis.ConnectionPool(connection_class=each.connection_class, **_settings(each)))
        for each in (sentinel.connection_pool for sentinel in sentinels.sentinels)
    ]
    settings = {"is_master": pool.is_master, "check_connection": pool.check_connection}
    settings |= {key: value for key, value in _settings(pool).items() if key != "connection_pool"}
    make_pool: Any = SentinelConnectionPool
    return make_pool(pool.service_name, sentinels, connection_class=pool.connection_class, **settings)


def _refused(error: Exception) -> Exception:
    return Refused(f"{type(error).__name__}: {error}") if isinstance(error, redis.ResponseError) else error
