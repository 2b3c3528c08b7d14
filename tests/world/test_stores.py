"""The bridges to other machines, over real servers: what RedisEvents and PostgresEvents do."""

# ruff: noqa: F401, F811  # fixtures are imported

import gc
import json
import os
import signal
import sys
import threading
import time
import weakref
from itertools import count

import pytest
from helpers import TIMEOUT, SignalAt, Threads, python, until
from stores import Events, bridge, bridge_module, module, own_server, prefix, server, store, until_collected

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
    server.put(prefix, "run", '{"reason": "first", "timed_out": false}')  # without a message
    event.set("second")
    until(lambda: not events._link.unsent)
    assert event.reason == "second" and bridge().event("run").reason == "first"
    assert json.loads(server.get(prefix, "run")) == {"reason": "first", "timed_out": False}


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
        with pytest.raises(TypeError, match=r"event of (Redis|Postgres)Events"):
            refused()


# Its life


def helper_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("fastevent redis", "fastevent postgresql"))]


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


def test_a_dropped_one_ends_its_threads(Events, server, prefix):
    before = len(helper_threads())
    events = Events(server.client(), prefix=prefix)
    event = events.event("run")
    alive = weakref.ref(events)
    del events
    gc.collect()
    assert alive() is not None  # an event keeps it
    other = Events(server.client(), prefix=prefix)
    other.event("run").set("why")
    assert event.wait(TIMEOUT)
    del event, other
    until_collected(lambda: alive() is None and len(helper_threads()) <= before)


def test_set_and_drop_is_sent(bridge_module, Events, server, bridge, prefix):
    other = bridge()
    there = other.event("run")
    assert other.connected.wait(TIMEOUT)
    before, start = len(helper_threads()), time.monotonic()
    Events(server.client(), prefix=prefix).event("run").set("why")
    assert there.wait(TIMEOUT) and there.reason == "why"
    until_collected(lambda: len(helper_threads()) <= before)  # its own thread has dropped it
    assert time.monotonic() - start < bridge_module.REREAD / 2


@pytest.mark.parametrize("ending", ["the end", "sys.exit()", "late"])
def test_set_and_exit(core, server, bridge, prefix, ending):
    def program(events):
        import atexit
        import sys

        events.event("run").set("why")
        if sys.argv[2] == "late":
            atexit.register(events.event("late").set, "why")
        if sys.argv[2] == "sys.exit()":
            sys.exit()

    there = bridge()
    waiting = [there.event(name) for name in (["run", "late"] if ending == "late" else ["run"])]
    python(program, core, prefix, ending, before=server.program())
    assert all(event.wait(TIMEOUT) and event.reason == "why" for event in waiting)


def test_exit_with_the_server_away(core, own_server):
    def program(events):
        import logging

        from fastevent import _bridge

        _bridge.FLUSH = 0.5
        logging.disable()
        events.event("run").set("why")

    server = own_server()
    server.kill()
    start = time.monotonic()
    python(program, core, "test:", before=server.program())
    assert time.monotonic() - start < TIMEOUT / 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("package", ["multiprocessing", "billiard", "multiprocess"])
def test_children_send_before_they_end(core, server, bridge, prefix, package):
    def program(events):
        import importlib
        import sys

        context = importlib.import_module(sys.argv[2]).get_context("fork")
        for number in range(5):
            process = context.Process(target=lambda name: events.event(name).set("why"), args=(f"run{number}",))
            process.start()
            process.join(60)

    pytest.importorskip(package)
    there = bridge()
    held = [there.event(f"run{number}") for number in range(5)]
    python(program, core, prefix, package, before=server.program())
    assert all(event.wait(TIMEOUT) for event in held)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy crashes if a thread is started in a hook of fork()")
def test_forked_children_have_their_own(core, server, prefix):
    def program(events):
        import multiprocessing
        import os
        import sys

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
                event = events.event(f"child {number}")
                process = context.Process(target=lambda name, number: events.event(name).set(number), args=(event.name, number))
                process.start()
                process.join(60)
                assert process.exitcode == 0 and event.wait(60) and event.reason == number
        print("done")

    assert python(program, core, prefix, before=server.program()) == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy crashes if a thread is started in a hook of fork()")
def test_a_thread_that_outlives_the_main_one_sets(core, server, bridge, prefix):
    def program(events):
        import multiprocessing
        import threading

        def sets_at_last():
            event = events.event("run")
            threading.Thread(target=lambda: [threading.main_thread().join(), event.set("at last")]).start()

        process = multiprocessing.get_context("fork").Process(target=sets_at_last)
        process.start()
        process.join(60)
        assert process.exitcode == 0

    python(program, core, prefix, before=server.program())
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
    return until(lambda: server.get(prefix, name))


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
        assert server.get(prefix, event.name)
        if not interrupted.is_done:
            break
