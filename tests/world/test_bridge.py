"""The bridge over a store in memory: one bad thing stops one thing, and a client that is stuck holds up nothing."""

import threading
import time

import pytest
from helpers import TIMEOUT, import_over, until
from memory_store import Server, make, stuck


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def bridge(fastevent, server):
    made = []

    def make_another(**options):
        made.append(make(fastevent, server, **options))
        return made[-1]

    yield make_another
    server.connecting = server.reading = server.creating = lambda *_: None
    for events in made:
        events._link.unsent.clear()
        events.close()


@pytest.fixture
def released():
    released = threading.Event()
    yield released
    released.set()


def left(events):
    return events._link.states.all_unsent()


def test_a_set_is_seen_elsewhere(bridge):
    here, there = bridge().event("run"), bridge().event("run")
    here.set("why")
    assert there.wait(TIMEOUT) and there.reason == "why"


# Refusals


def refusing(fastevent, *names):
    def create(connection, states):
        refused = [name for name in states if name in names or not names]
        if refused:
            raise fastevent._store.Refused(f"no room for {refused[0]}")

    return create


def test_a_refused_name_stops_no_other(fastevent, bridge, server):
    events = bridge()
    server.creating = refusing(fastevent, "1", "3", "5")
    held = [events.event(str(number)) for number in range(700)]
    for event in held:
        event.set()
    until(lambda: left(events).keys() == {"1", "3", "5"})
    server.creating = lambda *_: None
    until(lambda: not left(events))


def test_refused_writes_do_not_stop_reading(fastevent, bridge, server, caplog):
    events, other = bridge(), bridge()
    held = [events.event(str(number)) for number in range(600)]
    held += [events.event("here")]
    assert events.connected.wait(TIMEOUT)
    server.creating = refusing(fastevent, "here")
    held[-1].set()
    until(lambda: "Memory refuses what is asked of it, trying again: no room for here" in caplog.text)
    for name in "1", "599":
        other.event(name).set()
    assert held[1].wait(TIMEOUT) and held[599].wait(TIMEOUT) and events.connected.is_set()
    server.creating = lambda *_: None
    until(lambda: "the connection to Memory is back" in caplog.text)
    assert not left(events) and caplog.text.count("refuses") == 1


def test_the_log_says_what_begins_and_ends(bridge, server, caplog):
    def away():
        raise OSError("nobody is there")

    server.connecting = away
    events = bridge()
    until(lambda: "no connection to Memory, trying again: OSError: nobody is there" in caplog.text)
    server.connecting = lambda: None
    assert events.connected.wait(TIMEOUT)
    until(lambda: "the connection to Memory is back" in caplog.text)
    assert caplog.text.count("no connection") == 1


def test_a_slow_network_gets_fewer_at_once(bridge, server):
    def too_much(connection, names):
        if len(names) > 100:
            raise TimeoutError("too much for this network")

    events = bridge()
    server.reading = server.creating = too_much
    for event in [events.event(str(number)) for number in range(300)]:
        event.set()
    until(lambda: not left(events))


# What is stored


@pytest.mark.parametrize(
    "junk", ["cancelled by hand", "", "[" * 50_000, b"\xff", "{}", "null"], ids=lambda junk: f"{junk[:10]!r}"
)
def test_junk_does_not_swallow_a_set(bridge, server, junk, caplog):
    server.states["run"] = junk
    here, there = bridge().event("run"), bridge().event("run")
    assert not here.is_set()
    here.set("why")
    assert there.wait(TIMEOUT) and there.reason == "why"
    assert bridge().event("run").reason == "why"
    assert "'test:run' in Memory holds no reason" in caplog.text


def test_a_cause_that_was_first_is_kept(bridge, server):
    events = bridge()
    event = events.event("run")
    server.states["run"] = '{"reason": "first", "timed_out": false}'
    event.set("second")
    until(lambda: not left(events))
    assert bridge().event("run").reason == "first"


def test_what_is_held_stays_set_beyond_its_expiry(fastevent, bridge, server):
    events = bridge(expire=1)
    event = events.event("run")
    event.set("why")
    until(lambda: not left(events))
    renewed = []
    server.creating = lambda connection, states: renewed.append(time.monotonic())
    start = time.monotonic()
    until(lambda: len(renewed) >= 3)
    assert time.monotonic() - start >= 0.9  # each after half the time
    del server.states["run"]  # the server was restarted without its data
    until(lambda: "run" in server.states)


# Clients that are stuck


def test_close_ends_though_the_client_is_stuck(fastevent, bridge, server, released, monkeypatch, caplog):
    monkeypatch.setattr(fastevent._bridge, "FLUSH", 0.3)
    server.connecting = stuck(released)
    events = bridge()
    events.event("run").set("why")
    start = time.monotonic()
    events.close()
    assert time.monotonic() - start < 5
    assert "1 events that were set have not been sent to Memory" in caplog.text


def test_many_bridges_close_at_once(fastevent, bridge, server, released, monkeypatch):
    monkeypatch.setattr(fastevent._bridge, "FLUSH", 0.3)
    monkeypatch.setattr(fastevent._bridge, "FIRST_LOOK", 0.01)
    server.connecting = stuck(released)
    for number in range(20):
        bridge().event(str(number)).set("why")
    start = time.monotonic()
    fastevent._bridge.close_all()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("call", ["connecting", "reading"])
def test_a_stuck_call_is_left_behind(fastevent, bridge, server, released, monkeypatch, call):
    monkeypatch.setattr(fastevent._session, "CONNECT", 0.2)
    monkeypatch.setattr(fastevent._session, "LIMIT", 0.2)
    wait, calls = stuck(released), []

    def once(*_):
        calls.append(call)
        if len(calls) <= 2:
            wait()

    setattr(server, call, once)
    events = bridge()
    event = events.event("run")
    assert events.connected.wait(TIMEOUT)
    bridge().event("run").set("why")
    assert event.wait(TIMEOUT) and event.reason == "why"
    released.set()
    until(lambda: sum(thread.name.startswith("fastevent memory") for thread in threading.enumerate()) <= 4)
    assert events.connected.is_set()


def test_only_so_many_are_left_behind(fastevent, bridge, server, released, monkeypatch):
    monkeypatch.setattr(fastevent._session, "CONNECT", 0.01)
    server.connecting = stuck(released)
    events = bridge()
    keeper = events._link.keeper
    until(lambda: len(keeper.left_behind) == fastevent._session.MOST_LEFT_BEHIND)
    time.sleep(3)
    assert len(keeper.left_behind) == fastevent._session.MOST_LEFT_BEHIND
    released.set()
    assert events.connected.wait(TIMEOUT)


def test_event_waits_once_for_a_stuck_client(bridge, server, released):
    server.connecting = stuck(released)
    events = bridge()
    start = time.monotonic()
    for number in range(50):
        assert not events.event(str(number)).is_set()
    assert time.monotonic() - start < 10


def test_it_goes_on_while_the_clock_is_frozen(fastevent, bridge, server, released, monkeypatch):
    monkeypatch.setattr(fastevent._session, "CONNECT", 0.2)
    testing = import_over(fastevent, "fastevent.testing")
    with testing.frozen_clock() as clock:
        here, there = bridge().event("run"), bridge().event("run")
        here.set("why")
        until(there.is_set)
        server.connecting = stuck(released)
        start = time.monotonic()
        events = bridge()
        assert not events.event("other").is_set() and time.monotonic() - start < TIMEOUT / 2
        clock.advance(86_400)
        until(lambda: events._link.keeper.left_behind)
        released.set()
        assert events.event("other") is events.event("other")


def test_an_exception_of_any_kind_ends_nothing(bridge, server):
    kinds = iter([SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError])

    def fails():
        for kind in kinds:
            raise kind

    server.connecting = fails
    assert bridge().connected.wait(TIMEOUT)


def test_close_sends_what_only_the_program_keeps(fastevent, bridge, server, monkeypatch):
    monkeypatch.setattr(fastevent._states, "MOST_UNSENT", 100)

    def away():
        raise OSError("nobody is there")

    events = bridge()
    held = [events.event(str(number)) for number in range(2_000)]
    server.connecting = server.reading = server.creating = lambda *_: away()
    for event in held:
        event.set()
    time.sleep(0.1)
    server.reading = server.creating = lambda *_: None
    threading.Timer(0.5, lambda: setattr(server, "connecting", lambda: None)).start()
    events.close()
    assert len(server.states) == 2_000


def test_close_goes_on_while_it_gets_on(fastevent, bridge, server, monkeypatch):
    monkeypatch.setattr(fastevent._bridge, "FLUSH", 2.0)
    events = bridge()
    held = [events.event(str(number)) for number in range(3_000)]
    assert events.connected.wait(TIMEOUT)
    server.creating = lambda *_: time.sleep(0.5)
    for event in held:
        event.set()
    events.close()
    assert len(server.states) == 3_000
