"""RedisEvents, over a real server."""

# ruff: noqa: F401, F811  # fixtures are imported

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from itertools import count

import pytest
from helpers import CORE_SWITCH, ROOT, TIMEOUT, SignalAt, Threads, child_environment, command, python, until
from redis_server import bridge, bridge_module, free_port, module, own_server, prefix, redis, server, until_collected

# What it does


def test_a_set_is_seen_elsewhere(bridge):
    one, other = bridge(), bridge()
    here, there = one.event("run/42"), other.event("run/42")
    assert one.connected.wait(TIMEOUT) and other.connected.wait(TIMEOUT)
    assert not here.is_set() and not there.is_set()
    here.set("cancelled by Ann")
    assert there.wait(TIMEOUT) and there.reason == "cancelled by Ann"


def test_a_late_comer_finds_it_set(bridge):
    bridge().event("run").set("why")
    time.sleep(0.1)
    event = bridge().event("run")
    assert event.is_set() and event.reason == "why"


def test_the_first_cause_wins(bridge, server, prefix):
    events = bridge()
    event = events.event("run")
    assert events.connected.wait(TIMEOUT)
    server.admin.set(prefix + "run", '{"reason": "first", "timed_out": false}')  # without a message
    event.set("second")
    until(lambda: not events._link.unsent)
    assert event.reason == "second" and bridge().event("run").reason == "first"
    assert json.loads(server.admin.get(prefix + "run")) == {"reason": "first", "timed_out": False}


def test_two_causes_at_once_make_one_key(bridge, prefix):
    events = [bridge().event("run") for _ in range(4)]
    with Threads(*[lambda event=event, number=number: event.set(number) for number, event in enumerate(events)]):
        pass
    assert all(event.reason in range(4) for event in events)  # its own, or another one's that came first
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
        ("💥" * 10_000, "💥" * 4_000 + "…"),
    ],
    ids=["none", "empty", "text", "json", "enum", "error", "subclass", "circle", "long"],
)
def test_a_reason_travels(bridge, reason, arrives):
    there = bridge().event("run")
    bridge().event("run").set(reason)
    assert there.wait(TIMEOUT) and there.reason == arrives and type(there.reason) is type(arrives)


def test_a_timeout_stays_a_timeout(bridge, fastevent):
    there = bridge().event("run")
    here = bridge().event("run", 0.05, set_on_timeout=True)
    assert there.wait(TIMEOUT) and here.is_set()
    assert isinstance(there.reason, fastevent.EventTimeout) and str(there.reason) == "timed out after 0.05 s: run"
    with pytest.raises(fastevent.EventTimeout, match=r"timed out after 0\.05 s: run"):
        there.check()


def test_a_parent_sets_it_everywhere(bridge, Event):
    parent = Event()
    there, here = bridge().event("run"), bridge().event("run", parents=[parent])
    parent.set("the parent")
    assert here.is_set() and there.wait(TIMEOUT) and there.reason == "the parent"
    bridge().event("other", parents=[parent])
    assert bridge().event("other").wait(TIMEOUT)


def test_it_is_an_event_with_children(bridge, Event, fastevent):
    there, here = bridge().event("run"), bridge().event("run")
    child = Event(parents=[there])
    assert isinstance(there, Event) and there.name == "run"
    with here:
        pass
    assert child.wait(TIMEOUT) and fastevent.wait_any([there], TIMEOUT) == [there]


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
    until_collected(lambda: not events._link.events)
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
    before = server.admin.info("commandstats")["cmdstat_publish"]["calls"] if server.admin.info("commandstats") else 0
    bridge().event("run").set()
    assert all(event.wait(TIMEOUT) for event in there)
    time.sleep(0.1)
    assert server.admin.info("commandstats")["cmdstat_publish"]["calls"] == before + 1


def test_bad_input(module, server, bridge):
    for client in None, "redis://", redis.asyncio.Redis():
        with pytest.raises(TypeError, match=r"client must be a redis\.Redis") as refusal:
            module.RedisEvents(client)
        assert len(str(refusal.value)) < 200
    assert str(refusal.value).endswith("not redis.asyncio.client.Redis; make one with the same settings for these events")
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
        events.event("run", parents=["run"])
    assert not events.event("run").is_set()


def test_without_redis_py_it_says_so(core):
    def program():
        import sys

        sys.modules["redis"] = None
        try:
            import fastevent.redis
        except ModuleNotFoundError as error:
            print(error)

    assert "pip install 'fastevent[redis]'" in python(program, core)


# Clients


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decode_responses": True},
        {"protocol": 3},
        {"db": 3},
        {"single_connection_client": True},
        {"socket_timeout": 0.01},
        {"encoding": "latin-1", "decode_responses": True},
        {"encoding": "utf-16"},
        {"client_name": "me"},
    ],
    ids=str,
)
def test_clients_of_all_kinds(bridge, server, options):
    """An ordinary one and one of each kind agree on a name that is not ASCII."""
    here, there = bridge(server.client(**options)), bridge(server.client(db=options.get("db", 0)))
    for one, other in (here, there), (there, here):
        event = other.event(f"für Ann → {one is here}")
        one.event(event.name).set("wäy ✓")
        assert event.wait(TIMEOUT) and event.reason == "wäy ✓"


def test_a_password_and_few_rights(bridge, own_server):
    rights = "on >secret ~test* &test* +set +getrange +publish +subscribe +ping +multi +exec"
    server = own_server("--requirepass", "other", "--user", *f"ann {rights}".split())
    there = bridge(server.client(username="ann", password="secret")).event("run")
    bridge(redis.Redis.from_url(f"redis://:other@127.0.0.1:{server.port}")).event("run").set("why")
    assert there.wait(TIMEOUT) and there.reason == "why"


def test_a_right_that_is_missing(bridge, own_server, caplog):
    """Connections do without a name and a database. Without another right, the log says which."""
    rights = "on >x ~test* &test* +getrange +publish +subscribe +ping +multi +exec"
    server = own_server("--user", *f"least {rights} +set".split(), "--user", *f"reader {rights}".split())
    there = bridge(server.client(username="least", password="x", client_name="me", db=5)).event("run")
    reader = bridge(server.client(username="reader", password="x"))
    seen, refused = reader.event("run"), reader.event("refused")
    refused.set()
    bridge(server.client()).event("run").set("why")
    assert there.wait(TIMEOUT) and there.reason == "why" and seen.wait(TIMEOUT) and reader.connected.wait(TIMEOUT)
    for right in "'client|setname'", "'select'", "'set'":
        until(lambda right=right: right in caplog.text)
    server.admin.execute_command("ACL", "SETUSER", "reader", "+set")
    until(lambda: "the connection to Redis is back" in caplog.text)
    assert bridge(server.client()).event("refused").wait(TIMEOUT)


def test_a_full_server(bridge, own_server, caplog):
    server = own_server()
    here, there = bridge(server.client()), bridge(server.client())
    event, other = here.event("run"), there.event("run")
    assert here.connected.wait(TIMEOUT)
    server.admin.config_set("maxmemory", 1)
    event.set("why")
    until(lambda: "Redis refuses what is asked of it, trying again: OutOfMemoryError" in caplog.text)
    assert not other.is_set() and "no connection" not in caplog.text
    server.admin.config_set("maxmemory", 0)
    assert other.wait(TIMEOUT) and other.reason == "why"


def test_a_unix_socket(bridge, own_server):
    path = own_server("--unixsocket", "FOLDER/socket").folder + "/socket"
    there = bridge(redis.Redis(unix_socket_path=path)).event("run")
    bridge(redis.Redis.from_url(f"unix://{path}")).event("run").set("why")
    assert there.wait(TIMEOUT) and there.reason == "why"


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
    assert there.wait(TIMEOUT) and there.reason == "why"
    start = time.monotonic()
    here.close()
    assert time.monotonic() - start < 5


def test_a_cluster(module, bridge, own_server):
    server = own_server("--cluster-enabled", "yes", "--cluster-port", free_port())
    server.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until(lambda: "ok" in str(server.admin.execute_command("CLUSTER INFO")).partition("cluster_state")[2][:9])
    with pytest.raises(ValueError, match="hash tag"):
        module.RedisEvents(redis.RedisCluster(host="127.0.0.1", port=server.port))
    here, there = (bridge(redis.RedisCluster(host="127.0.0.1", port=server.port), prefix="{test}:") for _ in "ab")
    event = there.event("run")
    here.event("run").set("why")
    assert event.wait(TIMEOUT) and event.reason == "why"


def test_a_cluster_while_keys_move(bridge, own_server):
    servers = [own_server("--cluster-enabled", "yes", "--cluster-port", free_port()) for _ in "ab"]
    source, target = (server.admin for server in servers)
    source.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    bus = int(servers[1].options[servers[1].options.index("--cluster-port") + 1])
    source.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[1].port, bus)
    for state in "cluster_known_nodes:2", "cluster_state:ok":
        for each in source, target:
            until(lambda each=each, state=state: state in str(each.execute_command("CLUSTER", "INFO")))
    here, there = (bridge(redis.RedisCluster(host="127.0.0.1", port=servers[0].port), prefix="{test}:") for _ in "ab")
    slot = source.execute_command("CLUSTER", "KEYSLOT", "{test}:")
    ids = [each.execute_command("CLUSTER", "MYID").decode() for each in (source, target)]
    held = {name: there.event(name) for name in ("before", "meanwhile", "also", "afterwards")}
    here.event("before").set("why")
    assert held["before"].wait(TIMEOUT)
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    for name in "meanwhile", "also":
        here.event(name).set("why")
        assert held[name].wait(TIMEOUT) and held[name].reason == "why"
    assert here.connected.is_set() and there.connected.is_set()
    source.execute_command("MIGRATE", "127.0.0.1", servers[1].port, "{test}:before", 0, 5000)
    for each in target, source:
        each.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    here.event("afterwards").set("why")
    assert held["afterwards"].wait(TIMEOUT)
    late = bridge(redis.RedisCluster(host="127.0.0.1", port=servers[0].port), prefix="{test}:")
    assert all(late.event(name).wait(TIMEOUT) for name in held)


# Its life


def helper_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastevent redis")]


def test_two_threads_at_most(bridge):
    before = len(helper_threads())
    events = bridge()
    held = [events.event(str(number)) for number in range(100)]
    assert events.connected.wait(TIMEOUT)
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
    assert event.wait(TIMEOUT)
    del event, other
    until_collected(lambda: alive() is None and len(helper_threads()) <= before)


def test_set_and_drop_is_sent(bridge_module, module, server, bridge, prefix):
    other = bridge()
    there = other.event("run")
    assert other.connected.wait(TIMEOUT)
    before, start = len(helper_threads()), time.monotonic()
    module.RedisEvents(server.client(), prefix=prefix).event("run").set("why")
    assert there.wait(TIMEOUT) and there.reason == "why"
    until_collected(lambda: len(helper_threads()) <= before)  # its own thread has dropped it
    assert time.monotonic() - start < bridge_module.REREAD / 2


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
    assert all(event.wait(TIMEOUT) and event.reason == "why" for event in waiting)


def test_exit_with_the_server_away(core, own_server):
    server = own_server()
    server.kill()
    start = time.monotonic()
    away = "sys.modules['fastevent._bridge'].EXIT = 0.5\nimport logging\nlogging.disable()\nevents.event('run').set('why')"
    python(SETS + away, core, str(server.port), "test:")
    assert time.monotonic() - start < TIMEOUT / 2


STUCK = """
import time

class Stuck(redis.Connection):
    def connect(self):
        time.sleep(1000)

events = RedisEvents(redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Stuck)))
events.event("run").set("why")
"""


def test_exit_with_a_client_that_is_stuck(core):
    start = time.monotonic()
    python("import logging\nlogging.disable()\n" + SETS + STUCK, core, "0", "test:")
    assert time.monotonic() - start < 15


def test_exit_with_a_sentinel_that_is_stopped(core, own_server, tmp_path):
    def program():
        import logging
        import sys

        from redis.sentinel import Sentinel

        from fastevent.redis import RedisEvents

        logging.disable()
        events = RedisEvents(Sentinel([("127.0.0.1", int(sys.argv[1]))]).master_for("master"))
        event = events.event("run")
        print(events.connected.wait(60), flush=True)
        input()
        event.set("why")

    master = own_server()
    settings = tmp_path / "sentinel.conf"
    settings.write_text(f"sentinel monitor master 127.0.0.1 {master.port} 1\n")
    sentinel = own_server("--sentinel", settings=settings)
    process = subprocess.Popen(
        [sys.executable, *command(program), str(sentinel.port)],
        env=child_environment(core),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "True\n"
    for stopped in master, sentinel:
        stopped.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    process.communicate("\n", timeout=TIMEOUT)
    assert process.returncode == 0 and time.monotonic() - start < 15


@pytest.mark.parametrize("package", ["multiprocessing", "billiard", "multiprocess"])
def test_children_send_before_they_end(core, server, bridge, prefix, package):
    pytest.importorskip(package)

    def program():
        import importlib
        import sys

        import redis

        from fastevent.redis import RedisEvents

        events = RedisEvents(redis.Redis(port=int(sys.argv[1])), prefix=sys.argv[2])
        context = importlib.import_module(sys.argv[3]).get_context("fork")
        for number in range(5):
            process = context.Process(target=lambda name: events.event(name).set("why"), args=(f"run{number}",))
            process.start()
            process.join(60)

    there = bridge()
    held = [there.event(f"run{number}") for number in range(5)]
    python(program, core, server.port, prefix, package)
    assert all(event.wait(TIMEOUT) for event in held)


FORKS = """
import gc, multiprocessing, time
with events:
    assert events.connected.wait(60)
    pid = os.fork()
    if pid == 0:
        os._exit(events.connected.is_set())  # without an event it does not connect
    assert os.waitpid(pid, 0)[1] == 0
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
@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy crashes if a thread is started in a hook of fork()")
def test_forked_children_have_their_own(core, server, prefix):
    assert python(SETS + FORKS, core, str(server.port), prefix) == "done\n"


LAST = """
import multiprocessing, threading

def sets_at_last():
    event = events.event("run")
    threading.Thread(target=lambda: [threading.main_thread().join(), event.set("at last")]).start()

process = multiprocessing.get_context("fork").Process(target=sets_at_last)
process.start()
process.join(60)
assert process.exitcode == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy crashes if a thread is started in a hook of fork()")
def test_a_thread_that_outlives_the_main_one_sets(core, server, bridge, prefix):
    python(SETS + LAST, core, str(server.port), prefix)
    assert bridge().event("run").reason == "at last"


def test_a_handler_may_set(bridge):
    event, there = bridge().event("run"), bridge().event("run")
    before = signal.signal(signal.SIGALRM, lambda *_: event.set("the signal"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert there.wait(TIMEOUT) and there.reason == "the signal"
    finally:
        signal.signal(signal.SIGALRM, before)


# Signal handlers at every place


@pytest.fixture
def of_the_bridge(module, fastevent):
    """The files in which signals come."""
    parts = module, fastevent._bridge, fastevent._states, fastevent._session, fastevent._store
    return [part.__file__ for part in parts]


def keys(server, prefix, name):
    return until(lambda: server.admin.get(prefix + name))


def test_a_handler_gets_the_same_event(of_the_bridge, bridge, server, prefix):
    """It interrupts the call that makes the event."""
    events, files, held = bridge(), [*of_the_bridge, weakref.__file__], []
    for place in count():
        name = f"run{place}"
        with SignalAt(place, files, lambda name=name: held.append(events.event(name))) as interrupted:
            held.append(events.event(name))
        event = events.event(name)
        assert {held[-1], held[-1 - interrupted.is_done]} == {event}
        event.set(place)
        assert keys(server, prefix, name)
        if not interrupted.is_done:
            break


def test_an_interrupted_set_is_sent(of_the_bridge, bridge_module, bridge, server, prefix, monkeypatch):
    monkeypatch.setattr(bridge_module, "REREAD", 10**6)
    events = bridge()
    for place in count():
        event = events.event(f"run{place}")
        with SignalAt(place, of_the_bridge) as interrupted:
            event.set()
        assert event.is_set() and keys(server, prefix, event.name)
        if not interrupted.is_done:
            break


def test_the_exit_sends_what_an_interrupted_close_left(of_the_bridge, bridge_module, bridge, server, prefix):
    for place in count():
        events = bridge()
        event, keeper = events.event(f"run{place}"), events._link.keeper
        keeper._needed = lambda: False  # so that close() has something to send
        bridge_module.wait_for_end([keeper.ask_to_end()], 10**10)
        event.set()
        with SignalAt(place, of_the_bridge) as interrupted:
            events.close()
        bridge_module.close_all()
        assert server.admin.get(prefix + event.name)
        if not interrupted.is_done:
            break


# The page and the example

PAGE = ROOT / "docs" / "borders.md"
EXAMPLES = ROOT / "examples"


def start(core, server, *arguments):
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **CORE_SWITCH[core], "REDIS_URL": f"redis://127.0.0.1:{server.port}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    out, error = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, error) == (0, ""), (process.returncode, out, error)
    return out


def test_the_programs_of_the_page(core, own_server):
    server = own_server()
    machines = PAGE.read_text(encoding="utf-8").partition("\n## Machines\n")[2]
    programs = re.findall(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", machines, re.M | re.S)
    assert len(programs) == 4
    running = [start(core, server, "-c", code.replace('"localhost"', f"port={server.port}")) for code, _ in programs]
    assert [end(process) for process in running] == [output for _, output in programs]


def test_the_example_reaches_a_pool(core, own_server):
    server = own_server()
    work = start(core, server, EXAMPLES / "machines.py", "run", "42")
    assert work.stdout.readline() == "running\n"
    time.sleep(0.5)
    assert end(start(core, server, EXAMPLES / "machines.py", "cancel", "42", "the data is wrong")) == ""
    assert end(work) == "".join(f"stage {number} cancelled: the data is wrong\n" for number in range(3))


ENGINE = """
import sys, tempfile, threading
from pathlib import Path
import redis
from ddeutil.workflow import Workflow
from fastevent.redis import RedisEvents

PIPELINE = '''
nightly:
  type: Workflow
  jobs:
    load:
      stages:
        - name: batches
          foreach: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
          stages:
            - {name: batch, run: "import time; time.sleep(0.5)"}
'''

with tempfile.TemporaryDirectory() as folder, RedisEvents(redis.Redis(port=int(sys.argv[1]))) as events:
    Path(folder, "pipeline.yml").write_text(PIPELINE)
    cancel = events.event("run/42")
    workflow = Workflow.from_conf("nightly", extras={"conf_path": Path(folder)})
    print("running", flush=True)
    print(workflow.execute(params={}, event=cancel).status.name, cancel.reason)
"""


def test_a_run_of_the_engine_is_cancelled(core, own_server, bridge):
    pytest.importorskip("ddeutil.workflow.workflow", reason="the engine is not installed")
    server = own_server()
    work = start(core, server, "-c", ENGINE, str(server.port))
    assert work.stdout.readline() == "running\n"
    time.sleep(0.5)
    bridge(server.client(), prefix="fastevent:").event("run/42").set("the data is wrong")
    out, error = work.communicate(timeout=TIMEOUT)
    assert out == "CANCEL the data is wrong\n", (out, error)
