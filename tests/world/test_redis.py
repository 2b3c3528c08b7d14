"""RedisEvents, over a real server: its clients, and the programs of the page."""

# ruff: noqa: F401, F811  # fixtures are imported

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import redis_server
from helpers import CORE_SWITCH, ROOT, TIMEOUT, child_environment, command, python, until
from redis_server import free_port, redis
from stores import Events, bridge, module, own_server, prefix, server


@pytest.fixture(scope="module")
def store():
    return redis_server


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


def test_what_arrives_is_not_sent_again(bridge, server, prefix):
    def count():
        return server.admin.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"]

    there = [bridge().event("run") for _ in range(5)]
    before = count()
    bridge().event("run").set()
    assert all(event.wait(TIMEOUT) for event in there)
    time.sleep(0.1)
    assert count() == before + 1


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


# What keys hold


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
        b'{"timed_out": true}',
        b'"reason"',
        b'{"reason": "' + b"x" * 5_000_000 + b'", "timed_out": false}',
    ],
    ids=lambda junk: f"{junk[:12]}x{len(junk)}",
)
@pytest.mark.parametrize("decode_responses", [True, False])
def test_junk_sets_nothing(bridge, server, prefix, junk, decode_responses, caplog):
    server.admin.set(prefix + "junk", junk)
    there = bridge(server.client(decode_responses=decode_responses))
    event, other = there.event("junk"), there.event("other")
    for channel_junk in junk, "junk":
        server.admin.publish(prefix, channel_junk)
        server.admin.publish(prefix + "x", channel_junk)
    bridge().event("other").set("why")
    assert other.wait(TIMEOUT) and not event.is_set() and there.connected.wait(TIMEOUT)
    assert caplog.text.count("holds no reason") == (junk != b"")
    event.set("still works here")


def test_keys_of_other_types_set_nothing(bridge, server, prefix, caplog):
    server.admin.rpush(prefix + "list", 1)
    server.admin.hset(prefix + "hash", "a", 1)
    events = bridge()
    assert not events.event("list").is_set() and not events.event("hash").is_set() and events.connected.wait(TIMEOUT)
    events.event("list").set()
    until(lambda: not events._link.unsent)
    assert caplog.text.count("holds no reason") == 1


# The exit


def test_exit_with_a_client_that_is_stuck(core):
    def program():
        import logging
        import time

        import redis

        from fastevent.redis import RedisEvents

        logging.disable()

        class Stuck(redis.Connection):
            def connect(self):
                time.sleep(1000)

        events = RedisEvents(redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Stuck)))
        events.event("run").set("why")

    start = time.monotonic()
    python(program, core)
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


PIPELINE = """
nightly:
  type: Workflow
  jobs:
    load:
      stages:
        - name: batches
          foreach: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
          stages:
            - {name: batch, run: "import time; time.sleep(0.5)"}
"""


def test_a_run_of_the_engine_is_cancelled(core, own_server, bridge, tmp_path):
    def program():
        import sys
        from pathlib import Path

        import redis

        from ddeutil.workflow import Workflow
        from fastevent.redis import RedisEvents

        with RedisEvents(redis.Redis(port=int(sys.argv[1]))) as events:
            cancel = events.event("run/42")
            workflow = Workflow.from_conf("nightly", extras={"conf_path": Path(sys.argv[2])})
            print("running", flush=True)
            print(workflow.execute(params={}, event=cancel).status.name, cancel.reason)

    pytest.importorskip("ddeutil.workflow.workflow", reason="the engine is not installed")
    (tmp_path / "pipeline.yml").write_text(PIPELINE)
    server = own_server()
    work = start(core, server, *command(program), str(server.port), str(tmp_path))
    assert work.stdout.readline() == "running\n"
    time.sleep(0.5)
    bridge(server.client(), prefix="fastevent:").event("run/42").set("the data is wrong")
    out, error = work.communicate(timeout=TIMEOUT)
    assert out == "CANCEL the data is wrong\n", (out, error)
