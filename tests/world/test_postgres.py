"""PostgresEvents, over a real server: rows, rights, names, poolers, and what only PostgreSQL does."""

# ruff: noqa: F401, F811  # fixtures are imported

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import postgres_server
import pytest
from helpers import ROOT, TIMEOUT, need, python, until
from postgres_server import free_port, psycopg
from stores import Events, bridge, module, own_server, prefix, server


@pytest.fixture(scope="module")
def store():
    return postgres_server


def test_bad_input(Events, server, bridge):
    for conninfo in None, 5, object():
        with pytest.raises(TypeError, match=r"conninfo must be a text, as 'host=db dbname=app', not builtins\."):
            Events(conninfo)
    with pytest.raises(ValueError, match="conninfo must be a connection string of PostgreSQL"):
        Events("no connection string")
    for options, error in [
        ({"prefix": b"x"}, TypeError),
        ({"prefix": "\ud800"}, ValueError),
        ({"prefix": "\0"}, ValueError),
        ({"expire": 1.5}, TypeError),
        ({"expire": 0}, ValueError),
    ]:
        with pytest.raises(error, match=next(iter(options))):
            Events(server.client(), **options)
    for name, error in (None, TypeError), ("\ud800", ValueError), ("a\0b", ValueError):
        with pytest.raises(error, match="name must be a text"):
            bridge().event(name)


def test_without_psycopg_it_says_so(core):
    def program():
        import sys

        sys.modules["psycopg"] = None
        try:
            import fastevent.postgres
        except ModuleNotFoundError as error:
            print(error)

    assert "pip install 'fastevent[postgres]'" in python(program, core)


# Names


@pytest.mark.parametrize(
    "name", ["", "für Ann → ✓", "a" * 2_000, "b" * 2_001, "✓" * 1_000, "c" * 1_000_000, "%s", "'; --"], ids=len
)
def test_names_of_all_kinds(bridge, name):
    here, there = bridge(), bridge()
    event, same_beginning = there.event(name), there.event(name + "x")
    here.event(name).set("why")
    assert event.wait(TIMEOUT) and event.reason == "why"
    assert bridge().event(name).is_set() and not same_beginning.is_set()


@pytest.mark.parametrize("own_prefix", ["", "p" * 63, "p" * 64, "ä" * 5_000, '"; DROP TABLE x; --'], ids=len)
def test_prefixes_of_all_kinds(bridge, own_prefix, prefix):
    here, there = bridge(prefix=own_prefix), bridge(prefix=own_prefix)
    event, other = there.event(prefix), bridge(prefix=own_prefix + "x").event(prefix)
    assert there.connected.wait(TIMEOUT)
    here.event(prefix).set("why")
    assert event.wait(TIMEOUT) and event.reason == "why" and not other.is_set()


# Rows


def rows(server, prefix, condition="true"):
    count = f"SELECT count(*) FROM fastevent_events WHERE name LIKE %s AND {condition}"
    return server.ask(count, f"{prefix}%")[0][0]


def test_a_row_that_has_expired_counts_as_none(bridge, server, prefix):
    events = bridge()
    assert events.connected.wait(TIMEOUT)
    server.put(prefix, "run", '{"reason": "yesterday", "timed_out": false}')
    server.ask("UPDATE fastevent_events SET expires = now() - interval '1 day' WHERE name = %s", prefix + "run")
    event = events.event("run")
    assert not event.is_set()
    event.set("today")
    event = bridge().event("run")
    assert event.wait(TIMEOUT) and event.reason == "today"
    assert rows(server, prefix, "expires > now()") == 1


def test_rows_that_have_expired_are_deleted(bridge, server, prefix):
    events = bridge()
    assert events.connected.wait(TIMEOUT)
    old = "INSERT INTO fastevent_events SELECT %s || n, '', now() - interval '1 day' FROM generate_series(1, 1500) AS n"
    server.ask(old, f"{prefix}old/")
    with psycopg.connect(server.client()) as other:  # in a transaction that does not end
        other.execute("SELECT * FROM fastevent_events WHERE name = %s FOR UPDATE", (f"{prefix}old/1",))
        events.event("run").set()
        until(lambda: rows(server, prefix + "old/") <= 500)
        assert rows(server, prefix + "old/") >= 1
    events._link.store.clean_at = 0
    events.event("another").set()
    until(lambda: rows(server, prefix + "old/") == 0)
    assert rows(server, prefix) == 2


def test_a_million_rows(bridge, own_server):
    server = own_server()
    events = bridge(server.client())
    assert events.connected.wait(TIMEOUT)
    server.ask(
        "INSERT INTO fastevent_events SELECT 'x' || n, '', now() + interval '1 day' FROM generate_series(1, 1000000) AS n"
    )
    server.ask("ANALYZE fastevent_events")
    there = bridge(server.client())
    held = [there.event(str(number)) for number in range(100)]
    took = []
    for event in held:
        start = time.perf_counter()
        events.event(event.name).set()
        assert event.wait(TIMEOUT)
        took.append(time.perf_counter() - start)
    assert sorted(took)[50] < 0.1


def test_a_table_that_is_locked(fastevent, bridge, own_server, caplog):
    """Others wait, no longer than a statement may; their connections do not pile up."""
    server = own_server()
    events = bridge(server.client())
    event = events.event("run")
    assert events.connected.wait(TIMEOUT)
    with psycopg.connect(server.client()) as other:
        other.execute("LOCK TABLE fastevent_events")
        event.set("why")
        until(lambda: "PostgreSQL refuses" in caplog.text or "no connection" in caplog.text)
        assert server.count_connections() <= 6
    assert bridge(server.client()).event("run").wait(TIMEOUT)


# Rights


def test_a_table_of_another_user(bridge, own_server, caplog):
    server = own_server()
    page = (ROOT / "docs" / "borders.md").read_text(encoding="utf-8")
    statements = re.search(r"```sql\n(CREATE TABLE.*?)```", page, re.S).group(1)
    for statement in ["CREATE ROLE app LOGIN", "CREATE ROLE reader LOGIN", "REVOKE CREATE ON SCHEMA public FROM public"]:
        server.ask(statement)
    early = bridge(server.client(user="app"))
    until(lambda: "permission denied for schema public" in caplog.text)
    for statement in statements.split(";")[:-1]:
        server.ask(statement)
    server.ask("GRANT SELECT ON fastevent_events TO reader")
    assert early.connected.wait(TIMEOUT)
    reader = bridge(server.client(user="reader"))
    event, refused = reader.event("run"), reader.event("refused")
    refused.set()
    early.event("run").set("why")
    assert event.wait(TIMEOUT) and event.reason == "why" and reader.connected.wait(TIMEOUT)
    until(
        lambda: "refuses what is asked of it, trying again: InsufficientPrivilege: permission denied for table" in caplog.text
    )
    server.ask("GRANT ALL ON fastevent_events TO reader")
    assert bridge(server.client(user="app")).event("refused").wait(TIMEOUT)


def test_a_schema_of_ones_own(bridge, own_server):
    server = own_server()
    server.ask("CREATE SCHEMA ours")
    here, there = (bridge(server.client(options="-csearch_path=ours")) for _ in "ab")
    event = there.event("run")
    here.event("run").set()
    assert event.wait(TIMEOUT) and server.ask("SELECT count(*) FROM ours.fastevent_events")[0][0] == 1


def test_a_read_only_server(bridge, own_server, caplog):
    server = own_server()
    here, there = bridge(server.client()), bridge(server.client())
    held = here.event("run"), there.event("run")
    assert here.connected.wait(TIMEOUT)
    server.ask("ALTER SYSTEM SET default_transaction_read_only = on")
    server.ask("SELECT pg_reload_conf()")
    until(lambda: server.ask("SHOW default_transaction_read_only")[0][0] == "on")
    held[0].set("why")
    until(lambda: "ReadOnlySqlTransaction" in caplog.text)
    with psycopg.connect(server.client(), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = off")
        connection.execute("SELECT pg_reload_conf()")
    assert held[1].wait(TIMEOUT) and held[1].reason == "why"


def test_a_database_of_another_encoding(bridge, own_server, caplog):
    server = own_server()
    server.ask("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    server.ask("CREATE DATABASE plain ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    here, there = (bridge(server.client(dbname="plain")) for _ in "ab")
    event = there.event("für Ann → ✓")
    here.event(event.name).set("wäy ✓")
    assert event.wait(TIMEOUT) and event.reason == "wäy ✓"
    bridge(server.client(dbname="latin"))
    until(lambda: "the encoding of the database must be UTF8, not LATIN1" in caplog.text)


def test_many_make_the_table_at_once(bridge, own_server):
    server = own_server()
    events = [bridge(server.client()) for _ in range(20)]
    assert all(each.connected.wait(TIMEOUT) for each in events)
    assert "ERROR" not in Path(f"{server.folder}.log").read_text()


# Failover and poolers


def test_a_failover_to_another_address(bridge, own_server):
    """The second server begins without the data of the first."""
    first, second = own_server(), own_server()
    conninfo = first.client(host="127.0.0.1,127.0.0.1", port=f"{first.port},{second.port}")
    here, there = bridge(conninfo), bridge(conninfo)
    before, during, seen = here.event("before"), here.event("during"), there.event("during")
    before.set("before")
    until(lambda: not here._link.unsent)
    first.kill()
    during.set("during")
    assert seen.wait(TIMEOUT) and seen.reason == "during"
    assert bridge(second.client()).event("before").wait(TIMEOUT)


@pytest.fixture
def pooler(own_server, tmp_path):
    program = need("pgbouncer")
    server, port = own_server(), free_port()
    folder = postgres_server.tempfile.mkdtemp(prefix="pgbouncer-")
    settings = f"""
        [databases]
        postgres = host=127.0.0.1 port={server.port} user=test
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        default_pool_size = 2
    """
    with open(f"{folder}/pgbouncer.ini", "w") as file:
        file.write("\n".join(line.strip() for line in settings.splitlines()))
    postgres_server.give(folder)
    process = subprocess.Popen([program, f"{folder}/pgbouncer.ini"], stderr=subprocess.DEVNULL, cwd="/", **postgres_server.USER)
    conninfo = server.client(port=port)

    def answers():
        try:
            psycopg.connect(conninfo).close()
        except psycopg.OperationalError:
            return False
        return True

    until(answers)
    yield server, conninfo
    process.kill()
    process.wait()
    shutil.rmtree(folder)


def test_behind_a_pooler_it_looks(bridge, pooler, caplog):
    server, conninfo = pooler
    here, there, direct = bridge(conninfo), bridge(conninfo), bridge(server.client())
    held = [each.event("run") for each in (there, direct)]
    here.event("run").set("why")
    assert all(event.wait(TIMEOUT) and event.reason == "why" for event in held)
    back = here.event("back")
    direct.event("back").set()
    assert back.wait(TIMEOUT) and here.connected.wait(TIMEOUT)
    assert "there is a pooler before PostgreSQL" in caplog.text
    time.sleep(2.5)
    assert there.connected.is_set() and server.ask("SHOW statement_timeout")[0][0] == "0"
    with psycopg.connect(conninfo, autocommit=True) as connection:  # nothing was left in the connections of others
        assert connection.execute("SHOW statement_timeout").fetchone()[0] == "0"


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_leaves_its_parents_connections_open(core, server, prefix):
    def program(events):
        import gc
        import os
        import sys
        import time
        import warnings

        from fastevent import _session

        def backends():
            threads = events._link.listener, events._link.keeper
            return [thread.session.connection.connection.info.backend_pid for thread in threads]

        held = [events.event(str(number)) for number in range(3)]
        assert events.connected.wait(60)
        stays = _session.ConnectedHelper.ask_to_end
        _session.ConnectedHelper.ask_to_end = lambda self: None  # as if the threads could not be ended before the fork
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.15, that such a process forks
        before = backends()
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                gc.collect()
                held[0].set("child")
                assert events.connected.wait(60)
                del held, events
                gc.collect()
                sys.exit()
            assert os.waitpid(pid, 0)[1] == 0
        assert held[0].wait(60) and events.connected.wait(60)
        time.sleep(0.5)
        after = backends()
        assert before == after, (before, after)
        _session.ConnectedHelper.ask_to_end = stays
        print("done")

    assert python(program, core, prefix, before=server.program()) == "done\n"
