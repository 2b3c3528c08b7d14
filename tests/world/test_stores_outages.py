"""RedisEvents and PostgresEvents while connections break, servers stall or come back without their data, and hold junk."""

# ruff: noqa: F401, F811  # fixtures are imported

import gc
import os
import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from helpers import TIMEOUT, python, until
from stores import Events, bridge, bridge_module, module, own_server, prefix, server, store, until_collected


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


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_connections_are_killed(bridge, server, kind):
    for moment in range(4):
        here, there = bridge(), bridge()
        cut = [lambda: None] * 4
        cut[moment] = lambda: server.break_connections(kind)
        cut[0]()
        event, name = there.event(f"run{moment}"), f"run{moment}"
        cut[1]()
        other = here.event(name)
        cut[2]()
        other.set("why")
        cut[3]()
        assert event.wait(TIMEOUT) and event.reason == "why"


def test_connections_break_after_any_byte(bridge, server):
    proxy = Proxy(server.port)
    try:
        for budget in range(1, 500, 23):
            proxy.budgets = iter([budget + more for more in (0, 5, 11, 17)])
            here, there = bridge(server.client(port=proxy.port)), bridge(server.client(port=proxy.port))
            event = there.event(f"run{budget}")
            here.event(f"run{budget}").set("why")
            assert event.wait(TIMEOUT) and event.reason == "why"
        assert proxy.cut > 20
    finally:
        proxy.end()


def test_connected_follows_the_server(bridge, own_server):
    server = own_server()
    events = bridge(server.client())
    assert events.connected.wait(TIMEOUT) and "connected" in repr(events)
    event = events.event("run")
    server.kill()
    until(lambda: not events.connected.is_set())
    assert "not connected" in repr(events) and not event.is_set()
    server.start()
    assert events.connected.wait(TIMEOUT)
    time.sleep(0.1)
    assert not event.is_set()  # an outage sets nothing


def test_a_server_that_comes_later(bridge, own_server):
    server = own_server()
    server.kill()
    events = bridge(server.client())
    start = time.monotonic()
    here = [events.event(f"run{number}") for number in range(20)]
    assert time.monotonic() - start < 4  # it does not wait for each
    assert not events.connected.is_set() and not here[0].is_set()
    server.start()
    bridge(server.client()).event("run0").set("why")
    assert here[0].wait(TIMEOUT) and here[0].reason == "why" and events.connected.wait(TIMEOUT)


@pytest.mark.parametrize("keep_data", [True, False])
def test_a_server_that_was_killed(bridge, own_server, store, keep_data):
    server = own_server(*store.Server.durable)
    here, there = bridge(server.client()), bridge(server.client())
    before, event = here.event("before"), there.event("meanwhile")
    before.set("before")
    other = here.event("meanwhile")
    assert there.event("before").wait(TIMEOUT)
    server.kill(keep_data)
    until(lambda: not here.connected.is_set())
    other.set("meanwhile")
    server.start()
    assert event.wait(TIMEOUT) and event.reason == "meanwhile"
    late = bridge(server.client()).event("before")  # which is put back if it was lost
    assert late.wait(TIMEOUT) and late.reason == "before"


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
    assert all(bridge(server.client()).event(f"run{number}").wait(TIMEOUT) for number in (0, 199))


def test_memory_is_bounded_while_it_is_away(fastevent, bridge, own_server, monkeypatch, caplog):
    monkeypatch.setattr(fastevent._states, "MOST_UNSENT", 100)
    server = own_server()
    events = bridge(server.client())
    server.kill()
    until(lambda: events.event("x") and events._link.away)
    for number in range(1000):
        events.event(f"dropped{number}").set()
    held = events.event("held")
    held.set("why")
    until_collected(lambda: len(events._link.pending) <= 100 and len(events._link.events) <= 101)
    assert len(events._link.unsent) == 100
    assert caplog.text.count("does not hold are lost") == 1
    until(lambda: re.search("no connection to .*, trying again: (Connection|Operational)Error", caplog.text))
    server.start()
    others = bridge(server.client())
    assert others.event("held").wait(TIMEOUT) and others.event("dropped99").wait(TIMEOUT)


def test_a_server_that_stalls(bridge_module, module, bridge, server, monkeypatch):
    monkeypatch.setattr(module, "REPLY", 0.4)
    monkeypatch.setattr(bridge_module, "SILENCE", 0.2)
    proxy = Proxy(server.port)
    try:
        events = bridge(server.client(port=proxy.port))
        event = events.event("run")
        assert events.connected.wait(TIMEOUT)
        proxy.stalled.set()
        until(lambda: not events.connected.is_set())
        start = time.monotonic()
        assert not events.event("other").is_set() and time.monotonic() - start < 10
        bridge().event("run").set("why")
        proxy.stalled.clear()
        assert event.wait(TIMEOUT) and event.reason == "why" and events.connected.wait(TIMEOUT)
    finally:
        proxy.end()


def test_a_lost_message_costs_a_while(bridge_module, bridge, server, prefix, monkeypatch):
    monkeypatch.setattr(bridge_module, "REREAD", 0.05)
    there = bridge().event("run")
    server.put(prefix, "run", '{"reason": "no message", "timed_out": false}')
    assert there.wait(TIMEOUT) and there.reason == "no message"


def test_keys_expire(bridge_module, bridge, server, prefix, monkeypatch):
    monkeypatch.setattr(bridge_module, "REREAD", 0.05)
    here = bridge(expire=1).event("run")
    here.set("why")
    until(lambda: server.seconds_left(prefix, "run") == 1)
    server.forget(prefix, "run")
    until(lambda: server.get(prefix, "run"))  # as long as the program holds the event
    del here
    until_collected(lambda: not server.get(prefix, "run"))
    assert not bridge().event("run").is_set()


def test_ten_thousand_names(bridge, server):
    before = server.count_connections()
    here, there = bridge(), bridge()
    with ThreadPoolExecutor(16) as pool:
        ours, theirs = (list(pool.map(events.event, map(str, range(10_000)))) for events in (here, there))
    assert server.count_connections() - before <= 5
    for event in ours:
        event.set(event.name)
    assert all(event.wait(TIMEOUT) and event.reason == event.name for event in theirs)
    del ours, theirs, event
    until_collected(lambda: not (here._link.unsent or here._link.events or there._link.events))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP")
def test_a_server_that_is_stopped(fastevent, bridge_module, module, bridge, own_server, monkeypatch):
    monkeypatch.setattr(module, "REPLY", 1.0)
    monkeypatch.setattr(bridge_module, "LIMIT", 1.0)
    monkeypatch.setattr(fastevent._session, "LIMIT", 1.0)
    monkeypatch.setattr(bridge_module, "SILENCE", 1.0)
    server = own_server()
    here, there = bridge(server.client()), bridge(server.client())
    event, seen = here.event("run"), there.event("run")
    assert here.connected.wait(TIMEOUT) and there.connected.wait(TIMEOUT)
    server.signal(signal.SIGSTOP)
    try:
        event.set("meanwhile")
        until(lambda: not (here.connected.is_set() or there.connected.is_set()))
    finally:
        server.signal(signal.SIGCONT)
    assert seen.wait(TIMEOUT) and seen.reason == "meanwhile"
    assert here.connected.wait(TIMEOUT) and there.connected.wait(TIMEOUT)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP")
def test_exit_with_a_server_that_is_stopped(core, own_server):
    def program(events):
        import logging
        import os
        import signal
        import sys
        import time

        logging.disable()
        event = events.event("run")
        assert events.connected.wait(60)
        os.kill(int(sys.argv[2]), signal.SIGUSR1)
        time.sleep(1)
        event.set("why")
        print(time.time())

    server = own_server()
    stopped = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: (server.signal(signal.SIGSTOP), stopped.set()))
    try:
        out = []
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(python, program, core, "test:", os.getpid(), before=server.program())
            until(lambda: stopped.is_set() or done.done())  # in this thread, which handles the signal
            out.append(done.result())
    finally:
        signal.signal(signal.SIGUSR1, before)
        server.signal(signal.SIGCONT)
    assert stopped.is_set() and time.time() - float(out[0]) < 12


def test_ten_thousand_set_while_it_is_away(bridge, own_server):
    server = own_server()
    here, there = bridge(server.client()), bridge(server.client())
    assert here.connected.wait(TIMEOUT)
    with ThreadPoolExecutor(16) as pool:
        ours, theirs = (list(pool.map(events.event, map(str, range(10_000)))) for events in (here, there))
    server.kill(keep_data=False)
    until(lambda: not here.connected.is_set())
    for event in ours[::2]:
        event.set(event.name)
    server.start()
    assert all(event.wait(TIMEOUT) and event.reason == event.name for event in theirs[::2])
    assert here.connected.wait(TIMEOUT) and not any(event.is_set() for event in (*ours[1::2], *theirs[1::2]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy crashes if a thread is started in a hook of fork()")
def test_sixty_four_processes(core, own_server):
    def program(events):
        import multiprocessing

        context = multiprocessing.get_context("fork")
        go = events.event("go")

        def work(number):
            go.wait(60)
            events.event(f"worker {number}").set(str(go.reason))

        workers = [context.Process(target=work, args=(number,)) for number in range(64)]
        for worker in workers:
            worker.start()
        answers = [events.event(f"worker {number}") for number in range(64)]
        go.set("now")
        assert all(answer.wait(60) and answer.reason == "now" for answer in answers)
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        print("done")

    assert python(program, core, "test:", before=own_server().program()) == "done\n"


@pytest.mark.parametrize("junk", ["set", "[" * 50_000, "[]", '{"timed_out": true}', '"reason"', "x" * 1_000_000], ids=len)
def test_junk_sets_nothing_and_swallows_nothing(bridge, server, prefix, junk, caplog):
    events, other = bridge(), bridge()
    assert events.connected.wait(TIMEOUT) and other.connected.wait(TIMEOUT)
    server.put(prefix, "junk", junk)
    event, there = events.event("junk"), other.event("junk")
    for name in "junk", "x" * 5_000, "":
        server.publish(prefix, name)
    other.event("another").set("why")
    assert events.event("another").wait(TIMEOUT) and not event.is_set() and events.connected.is_set()
    assert caplog.text.count("holds no reason") == 2  # once for each of the two
    there.set("why")
    assert event.wait(TIMEOUT) and event.reason == "why" and bridge().event("junk").reason == "why"
