"""RedisEvents over a real server: each test has names of its own, and a server of its own where it ends or stalls one."""

import gc
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import PATIENCE, Threads, python

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")
if os.environ.get("CI_REDIS") != "1":
    if BINARY is None:
        pytest.skip("no redis-server or valkey-server on the PATH", allow_module_level=True)
    pytest.importorskip("redis", reason="redis-py is not installed")
assert BINARY, "CI_REDIS=1, but there is no redis-server or valkey-server on the PATH"
redis = importlib.import_module("redis")


def free_port():
    while True:
        port = random.randrange(20_000, 30_000)  # below those of outgoing connections, which come and go
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A server on a free port of 127.0.0.1, with a directory of its own."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="redis-")
        self.options = [str(option).replace("FOLDER", self.folder) for option in options]
        self.port = free_port()
        self.start()

    def start(self):
        always = f"--bind 127.0.0.1 --port {self.port} --dir {self.folder} --save".split()
        self.process = subprocess.Popen([BINARY, *always, "", *self.options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.client(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)) as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the server does not start"
                time.sleep(0.01)

    def client(self, **options):
        return redis.Redis(host="127.0.0.1", **{"port": self.port, **options})

    def kill(self, keep_data=True):
        self.process.kill()
        self.process.wait(PATIENCE)
        if not keep_data:
            shutil.rmtree(self.folder)
            os.mkdir(self.folder)

    def end(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)


class Proxy:
    """Passes bytes on to a port, until it stalls, or until a connection has used up its budget of bytes."""

    def __init__(self, port):
        self.target, self.stalled, self.budgets = port, threading.Event(), iter(())
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.cut, self.sockets = 0, [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += client, server
                budget = [next(self.budgets, sys.maxsize)]
                for pair in (client, server), (server, client):
                    threading.Thread(target=self.pump, args=(*pair, budget), daemon=True).start()

    def pump(self, source, sink, budget):
        with suppress(OSError):
            while data := source.recv(65536):
                while self.stalled.is_set():
                    time.sleep(0.01)
                sink.sendall(data[: budget[0]])
                budget[0] -= len(data)
                if budget[0] <= 0:
                    self.cut += 1
                    break
        for end in source, sink:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def end(self):
        self.stalled.clear()
        for each in self.sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.end()


@pytest.fixture
def own_server():
    servers = []

    def make(*options):
        servers.append(Server(*options))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@pytest.fixture
def module(fastevent):
    """`fastevent.redis` of that core."""
    if "redis" not in vars(fastevent):
        before = {name: value for name, value in sys.modules.items() if name.partition(".")[0] == "fastevent"}
        for name in before:
            del sys.modules[name]
        parts = [value for value in vars(fastevent).values() if isinstance(value, types.ModuleType)]
        sys.modules.update({part.__name__: part for part in (fastevent, *parts) if part.__name__.startswith("fastevent")})
        try:
            importlib.import_module("fastevent.redis")
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] == "fastevent"]:
                del sys.modules[name]
            sys.modules.update(before)
    return fastevent.redis


numbers = itertools.count()


@pytest.fixture
def prefix():
    return f"test{next(numbers)}:"


@pytest.fixture
def bridge(module, server, prefix):
    """Make a RedisEvents; without arguments, all have the same server and prefix."""
    made = []

    def make(client=None, **options):
        made.append(module.RedisEvents(client or server.client(), **{"prefix": prefix, **options}))
        return made[-1]

    yield make
    for events in made:
        events._link.unsent.clear()  # the server may be gone
        events.close()


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.002)


# What it does


def test_a_set_is_seen_elsewhere(bridge):
    here, there = bridge().event("run/42"), bridge().event("run/42")
    assert not here.is_set() and not there.is_set()
    here.set("cancelled by Ann")
    assert there.wait(PATIENCE) and there.reason == "cancelled by Ann"


def test_a_late_comer_finds_it_set(bridge):
    bridge().event("run").set("why")
    time.sleep(0.1)
    event = bridge().event("run")
    assert event.is_set() and event.reason == "why"


def test_the_first_cause_wins(bridge, server, prefix):
    first, second = bridge(), bridge()
    first.event("run").set("first")
    until(lambda: server.client().exists(prefix + "run"))
    event = second.event("run")
    event.set("second")
    assert event.reason == "first" and bridge().event("run").reason == "first"
    assert json.loads(server.client().get(prefix + "run")) == {"reason": "first"}


def test_two_causes_at_once_make_one_key(bridge, prefix):
    events = [bridge().event("run") for _ in range(4)]
    with Threads(*[lambda event=event, number=number: event.set(number) for number, event in enumerate(events)]):
        pass
    assert [event.reason for event in events] == [0, 1, 2, 3] or len({event.reason for event in events}) < 4
    until(lambda: bridge().event("run").reason in range(4))


class Colour(str):
    pass


CIRCLE: list = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("reason", "arrives"),
    [
        (None, None),
        ("", ""),
        ("grün \udc80 \x00", "grün \udc80 \x00"),
        ({"by": ["Ann", 1, 2.5, None, True]}, {"by": ["Ann", 1, 2.5, None, True]}),
        (signal.SIGTERM, "SIGTERM"),
        (OSError("disk full"), "disk full"),
        (Colour("red"), "red"),
        (CIRCLE, "[[...]]"),
        ("💥" * 10_000, "💥" * 1_000),
    ],
    ids=["none", "empty", "text", "json", "enum", "error", "subclass", "circle", "long"],
)
def test_a_reason_travels(bridge, reason, arrives):
    there = bridge().event("run")
    bridge().event("run").set(reason)
    assert there.wait(PATIENCE) and there.reason == arrives and type(there.reason) is type(arrives)


def test_a_timeout_stays_a_timeout(bridge, fastevent):
    there = bridge().event("run")
    here = bridge().event("run", 0.05, set_on_timeout=True)
    assert there.wait(PATIENCE) and here.is_set()
    assert isinstance(there.reason, fastevent.EventTimeout) and str(there.reason) == "timed out after 0.05 s: run"
    with pytest.raises(fastevent.EventTimeout, match=r"timed out after 0\.05 s: run"):
        there.check()


def test_a_parent_sets_it_everywhere(bridge, Event):
    parent = Event()
    there, here = bridge().event("run"), bridge().event("run", parents=[parent])
    parent.set("the parent")
    assert here.is_set() and there.wait(PATIENCE) and there.reason == "the parent"
    bridge().event("other", parents=[parent])
    assert bridge().event("other").wait(PATIENCE)


def test_it_is_an_event_with_children(bridge, Event, fastevent):
    there, here = bridge().event("run"), bridge().event("run")
    child = Event(parents=[there])
    assert isinstance(there, Event) and there.name == "run"
    with here:
        pass
    assert child.wait(PATIENCE) and fastevent.wait_any([there], PATIENCE) == [there]


def test_callbacks_of_an_arrival_have_their_thread(bridge):
    names = []
    there = bridge().event("run")
    there.add_callback(lambda event: names.append(threading.current_thread().name))
    bridge().event("run").set()
    until(lambda: names)
    assert names == ["fastevent callbacks"]


def test_one_object_for_a_name(bridge, Event):
    events, parent = bridge(), Event()
    event = events.event("run", 5, parents=iter([parent]))
    assert events.event("run") is event and events.event("run", 5.0, parents=[parent]) is event
    for options in {"timeout": 6}, {"timeout": 5}, {"timeout": 5, "parents": [parent], "set_on_timeout": True}:
        with pytest.raises(ValueError, match="run"):
            events.event("run", **options)
    del event
    until(lambda: gc.collect() < 0 or not events._link.events)
    assert events.event("run", 6).timeout == 6


def test_threads_get_one_object(bridge):
    events, got = bridge(), []
    with Threads(*[lambda: got.append(events.event("run"))] * 8):
        pass
    assert len(got) == 8 and len({id(event) for event in got}) == 1


def test_clear_and_restart_are_refused(bridge):
    event = bridge().event("run", 5)
    for refused in event.clear, event.restart_timeout, lambda: event.restart_timeout(5):
        with pytest.raises(TypeError, match="event of RedisEvents"):
            refused()


def test_what_arrives_is_not_sent_again(bridge, server, prefix):
    there = [bridge().event("run") for _ in range(5)]
    before = server.client().info("commandstats")["cmdstat_publish"]["calls"] if server.client().info("commandstats") else 0
    bridge().event("run").set()
    assert all(event.wait(PATIENCE) for event in there)
    time.sleep(0.1)
    assert server.client().info("commandstats")["cmdstat_publish"]["calls"] == before + 1


def test_bad_input(module, server, bridge):
    for client in None, "redis://", redis.asyncio.Redis():
        with pytest.raises(TypeError, match=r"client must be a redis\.Redis"):
            module.RedisEvents(client)
    for options, error in [
        ({"prefix": b"x"}, TypeError),
        ({"prefix": "\ud800"}, ValueError),
        ({"expire": 1.5}, TypeError),
        ({"expire": True}, TypeError),
        ({"expire": 0}, ValueError),
        ({"expire": 10**10}, ValueError),
    ]:
        with pytest.raises(error, match=next(iter(options))):
            module.RedisEvents(server.client(), **options)
    events = bridge()
    for name, error in (None, TypeError), (b"run", TypeError), ("\ud800", ValueError):
        with pytest.raises(error, match="name must be a text"):
            events.event(name)
    with pytest.raises(ValueError, match="-1"):
        events.event("run", -1)
    with pytest.raises(TypeError, match="parent"):
        events.event("run", parents=[threading.Event()])
    assert not events.event("run").is_set()


def test_without_redis_py_it_says_so(core):
    code = """
import sys
sys.modules["redis"] = None
try:
    import fastevent.redis
except ModuleNotFoundError as error:
    print(error)
"""
    assert "pip install 'fastevent[redis]'" in python(code, core)


# Clients


@pytest.mark.parametrize(
    "options",
    [{}, {"decode_responses": True}, {"protocol": 3}, {"db": 3}, {"single_connection_client": True}, {"socket_timeout": 0.01}],
    ids=str,
)
def test_clients_of_all_kinds(bridge, server, options):
    here, there = bridge(server.client(**options)).event("run"), bridge(server.client(**options)).event("run")
    here.set("why")
    assert there.wait(PATIENCE) and there.reason == "why"


def test_a_password_and_few_rights(bridge, own_server):
    rights = "on >secret ~test* &test* +set +getrange +publish +subscribe +ping +multi +exec"
    server = own_server("--requirepass", "other", "--user", *f"ann {rights}".split())
    there = bridge(server.client(username="ann", password="secret")).event("run")
    bridge(redis.Redis.from_url(f"redis://:other@127.0.0.1:{server.port}")).event("run").set("why")
    assert there.wait(PATIENCE) and there.reason == "why"


def test_a_unix_socket(bridge, own_server):
    path = own_server("--unixsocket", "FOLDER/socket").folder + "/socket"
    there = bridge(redis.Redis(unix_socket_path=path)).event("run")
    bridge(redis.Redis.from_url(f"unix://{path}")).event("run").set("why")
    assert there.wait(PATIENCE) and there.reason == "why"


def test_tls(bridge, own_server, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    port = free_port()
    try:
        tls = ["--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"]
        server = own_server(*tls)
    except AssertionError:
        pytest.skip("the server has no TLS")
    there = bridge(server.client(port=port, ssl=True, ssl_ca_certs=str(certificate))).event("run")
    here = bridge(server.client(port=port, ssl=True, ssl_ca_certs=str(certificate)))
    here.event("run").set("why")
    assert there.wait(PATIENCE) and there.reason == "why"
    start = time.monotonic()
    here.close()
    assert time.monotonic() - start < 5


def test_a_cluster(module, bridge, own_server):
    server = own_server("--cluster-enabled", "yes", "--cluster-port", free_port())
    server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until(lambda: "ok" in str(server.client().execute_command("CLUSTER INFO")).partition("cluster_state")[2][:9])
    with pytest.raises(ValueError, match="hash tag"):
        module.RedisEvents(redis.RedisCluster(host="127.0.0.1", port=server.port))
    here, there = (bridge(redis.RedisCluster(host="127.0.0.1", port=server.port), prefix="{test}:") for _ in "ab")
    event = there.event("run")
    here.event("run").set("why")
    assert event.wait(PATIENCE) and event.reason == "why"


# Connections that break


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_connections_are_killed(bridge, server, kind):
    for moment in range(4):
        here, there = bridge(), bridge()
        cut = [lambda: None] * 4
        cut[moment] = lambda: server.client().client_kill_filter(_type=kind)
        cut[0]()
        event, name = there.event(f"run{moment}"), f"run{moment}"
        cut[1]()
        other = here.event(name)
        cut[2]()
        other.set("why")
        cut[3]()
        assert event.wait(PATIENCE) and event.reason == "why"


def test_connections_break_after_any_byte(bridge, server):
    proxy = Proxy(server.port)
    try:
        for budget in range(1, 500, 23):
            proxy.budgets = iter([budget + more for more in (0, 5, 11, 17)])
            here, there = bridge(server.client(port=proxy.port)), bridge(server.client(port=proxy.port))
            event = there.event(f"run{budget}")
            here.event(f"run{budget}").set("why")
            assert event.wait(PATIENCE) and event.reason == "why"
        assert proxy.cut > 20
    finally:
        proxy.end()


def test_connected_follows_the_server(bridge, own_server):
    server = own_server()
    events = bridge(server.client())
    assert events.connected.wait(PATIENCE) and "connected" in repr(events)
    event = events.event("run")
    server.kill()
    until(lambda: not events.connected.is_set())
    assert "not connected" in repr(events) and not event.is_set()
    server.start()
    assert events.connected.wait(PATIENCE)
    time.sleep(0.1)
    assert not event.is_set()  # an outage sets nothing


def test_a_server_that_comes_later(bridge, own_server):
    server = own_server()
    server.kill()
    events = bridge(server.client())
    start = time.monotonic()
    here = [events.event(f"run{number}") for number in range(20)]
    assert time.monotonic() - start < 10  # it does not wait a second for each
    assert not events.connected.is_set() and not here[0].is_set()
    server.start()
    bridge(server.client()).event("run0").set("why")
    assert here[0].wait(PATIENCE) and here[0].reason == "why" and events.connected.wait(PATIENCE)


@pytest.mark.parametrize("keep_data", [True, False])
def test_a_server_that_was_killed(bridge, own_server, keep_data):
    server = own_server("--appendonly", "yes")
    here, there = bridge(server.client()), bridge(server.client())
    before, event = here.event("before"), there.event("meanwhile")
    before.set("before")
    other = here.event("meanwhile")
    assert there.event("before").wait(PATIENCE)
    server.kill(keep_data)
    until(lambda: not here.connected.is_set())
    other.set("meanwhile")
    server.start()
    assert event.wait(PATIENCE) and event.reason == "meanwhile"
    late = bridge(server.client()).event("before")  # which is put back if it was lost
    assert late.wait(PATIENCE) and late.reason == "before"


def test_set_never_waits_for_the_server(bridge, own_server):
    server = own_server()
    events = bridge(server.client())
    held = [events.event(f"run{number}") for number in range(200)]
    server.kill()
    took = []
    for event in held:
        start = time.perf_counter()
        event.set("why")
        took.append(time.perf_counter() - start)
    assert sorted(took)[100] < 0.001 and all(event.is_set() for event in held)
    server.start()
    assert all(bridge(server.client()).event(f"run{number}").wait(PATIENCE) for number in (0, 199))


def test_memory_is_bounded_while_it_is_away(module, bridge, own_server, monkeypatch, caplog):
    monkeypatch.setattr(module, "MOST_UNSENT", 100)
    server = own_server()
    events = bridge(server.client())
    server.kill()
    until(lambda: events._link.away or events.event("x") is None)
    for number in range(1000):
        events.event(f"dropped{number}").set()
    gc.collect()
    held = events.event("held")
    held.set("why")
    until(lambda: len(events._link.pending) <= 100)
    assert len(events._link.unsent) == 100 and len(events._link.events) <= 101
    assert caplog.text.count("those that nobody holds are lost") == 1
    server.start()
    others = bridge(server.client())
    assert others.event("held").wait(PATIENCE) and others.event("dropped99").wait(PATIENCE)


def test_a_server_that_stalls(module, bridge, server, monkeypatch):
    monkeypatch.setattr(module, "REPLY", 0.4)
    monkeypatch.setattr(module, "SILENCE", 0.2)
    proxy = Proxy(server.port)
    try:
        events = bridge(server.client(port=proxy.port))
        event = events.event("run")
        assert events.connected.wait(PATIENCE)
        proxy.stalled.set()
        until(lambda: not events.connected.is_set())
        start = time.monotonic()
        assert not events.event("other").is_set() and time.monotonic() - start < 10
        bridge().event("run").set("why")
        proxy.stalled.clear()
        assert event.wait(PATIENCE) and event.reason == "why" and events.connected.wait(PATIENCE)
    finally:
        proxy.end()


def test_a_lost_message_costs_a_while(module, bridge, server, prefix, monkeypatch):
    monkeypatch.setattr(module, "REREAD", 0.05)
    there = bridge().event("run")
    server.client().set(prefix + "run", '{"reason": "no message"}')
    assert there.wait(PATIENCE) and there.reason == "no message"


def test_keys_expire(module, bridge, server, prefix, monkeypatch):
    monkeypatch.setattr(module, "REREAD", 0.05)
    here = bridge(expire=1).event("run")
    here.set("why")
    until(lambda: server.client().ttl(prefix + "run") == 1)
    server.client().delete(prefix + "run")
    until(lambda: server.client().exists(prefix + "run"))  # as long as somebody holds it
    del here
    gc.collect()
    until(lambda: not server.client().exists(prefix + "run"))
    assert not bridge().event("run").is_set()


def test_ten_thousand_names(bridge, server):
    before = server.client().info("clients")["connected_clients"]
    here, there = bridge(), bridge()
    with ThreadPoolExecutor(16) as pool:
        ours, theirs = (list(pool.map(events.event, map(str, range(10_000)))) for events in (here, there))
    assert server.client().info("clients")["connected_clients"] - before <= 5
    for event in ours:
        event.set(event.name)
    assert all(event.wait(PATIENCE) and event.reason == event.name for event in theirs)
    del ours, theirs, event
    until(lambda: gc.collect() < 0 or not (here._link.unsent or here._link.events or there._link.events))


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\xff\xfe",
        b"set",
        b"[" * 50_000,
        b'{"reason": ' * 3_000,
        b"7" * 10_000,
        b"[]",
        b'{"timeout": true}',
        b'"reason"',
        b'{"reason": "' + b"x" * 5_000_000 + b'"}',
    ],
    ids=lambda junk: f"{junk[:12]}x{len(junk)}",
)
@pytest.mark.parametrize("decode_responses", [True, False])
def test_junk_sets_nothing(bridge, server, prefix, junk, decode_responses, caplog):
    server.client().set(prefix + "junk", junk)
    there = bridge(server.client(decode_responses=decode_responses))
    event, other = there.event("junk"), there.event("other")
    for channel_junk in junk, "junk":
        server.client().publish(prefix, channel_junk)
        server.client().publish(prefix + "x", channel_junk)
    bridge().event("other").set("why")
    assert other.wait(PATIENCE) and not event.is_set() and there.connected.wait(PATIENCE)
    assert caplog.text.count("holds no reason") == (junk != b"")
    event.set("still works here")


def test_keys_of_other_types_set_nothing(bridge, server, prefix, caplog):
    server.client().rpush(prefix + "list", 1)
    server.client().hset(prefix + "hash", "a", 1)
    events = bridge()
    assert not events.event("list").is_set() and not events.event("hash").is_set() and events.connected.wait(PATIENCE)
    events.event("list").set()
    until(lambda: not events._link.unsent)
    assert caplog.text.count("holds no reason") == 1


# Its life


def helper_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastevent redis")]


def test_two_threads_at_most(bridge):
    before = len(helper_threads())
    events = bridge()
    held = [events.event(str(number)) for number in range(100)]
    assert len(helper_threads()) == before + 2 and held
    events.close()
    assert len(helper_threads()) == before


def test_close_sends_and_ends(bridge):
    with bridge() as events:
        event = events.event("run")
        event.set("why")
    assert bridge().event("run").is_set()
    assert not events.connected.is_set() and "closed" in repr(events)
    events.close()
    with pytest.raises(ValueError, match="closed"):
        events.event("other")


def test_a_dropped_one_ends_its_threads(module, server, prefix):
    before = len(helper_threads())
    events = module.RedisEvents(server.client(), prefix=prefix)
    event = events.event("run")
    alive = weakref.ref(events)
    del events
    gc.collect()
    assert alive() is not None  # an event keeps it
    other = module.RedisEvents(server.client(), prefix=prefix)
    other.event("run").set("why")
    assert event.wait(PATIENCE)
    del event, other
    gc.collect()
    until(lambda: len(helper_threads()) <= before)
    assert alive() is None


def test_set_and_drop_is_sent(module, server, bridge, prefix):
    there = bridge().event("run")
    module.RedisEvents(server.client(), prefix=prefix).event("run").set("why")
    assert there.wait(PATIENCE) and there.reason == "why"


SETS = """
import os, sys
import redis
from fastevent.redis import RedisEvents

port, prefix = int(sys.argv[1]), sys.argv[2]
events = RedisEvents(redis.Redis(port=port), prefix=prefix)
"""


@pytest.mark.parametrize("ending", ["", "sys.exit()", "import atexit; atexit.register(events.event('late').set, 'why')"])
def test_set_and_exit(core, server, bridge, prefix, ending):
    there = bridge()
    names = ["run", "late"] if "late" in ending else ["run"]
    waiting = [there.event(name) for name in names]
    python(f"{SETS}\nevents.event('run').set('why')\n{ending}", core, str(server.port), prefix)
    assert all(event.wait(PATIENCE) and event.reason == "why" for event in waiting)


def test_exit_with_the_server_away(core, own_server):
    server = own_server()
    server.kill()
    start = time.monotonic()
    away = "sys.modules['fastevent.redis'].EXIT = 0.5\nimport logging\nlogging.disable()\nevents.event('run').set('why')"
    python(SETS + away, core, str(server.port), "test:")
    assert time.monotonic() - start < PATIENCE / 2


FORKS = """
import gc, multiprocessing, time
with events:
    before = events.event("before")
    assert events.connected.wait(60)
    pid = os.fork()
    if pid == 0:
        assert before.wait(60) and before.reason == "parent", before
        assert events.connected.wait(60)
        events.event("after").set("child")
        sys.exit(0)
    assert events.connected.is_set()
    after = events.event("after")
    before.set("parent")
    assert after.wait(60) and after.reason == "child"
    assert os.waitpid(pid, 0)[1] == 0
    context = multiprocessing.get_context("fork")
    for number in range(5):
        process = context.Process(target=lambda: events.event(f"child {number}").set(number))
        event = events.event(f"child {number}")
        process.start()
        process.join(60)
        assert process.exitcode == 0 and event.wait(60) and event.reason == number
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_children_have_their_own(core, server, prefix):
    assert python(SETS + FORKS, core, str(server.port), prefix) == "done\n"


def test_a_handler_may_set(bridge):
    event, there = bridge().event("run"), bridge().event("run")
    before = signal.signal(signal.SIGALRM, lambda *_: event.set("the signal"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert there.wait(PATIENCE) and there.reason == "the signal"
    finally:
        signal.signal(signal.SIGALRM, before)


# The page and the example


PAGE = Path(__file__).parent.parent / "docs" / "machines.md"
EXAMPLE = Path(__file__).parent.parent / "examples" / "machines.py"
