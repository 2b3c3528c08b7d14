"""What an event says about itself: its times, status(), repr() and its name; and that this runs no code of others."""

import _thread
import re
import threading
from decimal import Decimal
from math import inf

import pytest
from helpers import TIMEOUT, Threads, deadline, self_setting, until, until_deadline, until_waiting

# remaining()


def test_elapsed_and_remaining_agree(Event):
    event = Event(300)
    before, first, after = event.status().elapsed, event.remaining(), event.status().elapsed
    assert 0 <= before <= 300 - first <= after + 1e-6
    assert event.timeout == 300.0 and first <= 300
    event = Event(0.001)
    until_deadline(event)
    assert event.remaining() == 0 and event.status().elapsed >= 0.001
    assert Event(0).remaining() == 0


def test_without_a_timeout_nothing_is_measured(Event):
    event = Event()
    assert event.timeout is event.status().elapsed is event.remaining() is None
    for never in (inf, 1e300):
        assert Event(never).remaining() == inf and Event(never).status().elapsed >= 0


def test_remaining_is_never_above_the_timeout(Event):
    for timeout in (1e-9, 1 / 3, 0.1, 1e-7, 12345.678, 9e9):
        for _ in range(200):
            assert 0 <= Event(timeout).remaining() <= timeout


def test_remaining_counts_self_setting_ancestors(Event):
    root = Event(50, set_on_timeout=True)
    middle = root.child()
    leaf = Event(100, parents=[middle, Event(10)])  # an event that is not self-setting ends no other one
    assert 40 < middle.remaining() <= 50 and 40 < leaf.remaining() <= 50 and 40 < leaf.status().remaining <= 50
    assert 10 < leaf.child(20).remaining() <= 20
    assert leaf.timeout == 100 and middle.timeout is None


def test_remaining_ignores_ancestors_that_are_set(Event):
    root = Event(50, set_on_timeout=True)
    child = root.child()
    root.set()
    child.clear()
    assert child.remaining() is None
    root.clear()
    assert 40 < child.remaining() <= 50


def test_remaining_takes_each_ancestor_once(Event):
    """There are 2**40 ways to the root."""
    layer = [Event(50, set_on_timeout=True)]
    for _ in range(40):
        layer = [Event(parents=layer) for _ in range(2)]
    assert 40 < layer[0].remaining() <= 50


# status()


def test_status_of_an_event(fastevent):
    event = fastevent.Event()
    assert event.status() == (None, False, None, False, None, None, None, 0, 0, 0, ())
    event = fastevent.Event(300, name="crawl")
    child = event.child()
    assert child.status().children == 0
    event.add_callback(print).remove()
    registration = event.add_callback(repr)
    with Threads(event.wait, event.wait):
        until_waiting(event, 2)
        status = event.status()
        assert isinstance(status, fastevent.EventStatus)
        assert status[:5] == ("crawl", False, None, False, 300.0)
        assert (status.waiters, status.callbacks, status.children) == (2, 1, 1)
        assert 0 <= status.elapsed <= 300 - status.remaining + 1 and status.remaining <= 300
        registration.remove()
        event.set("enough")
    assert event.status()[1:4] == (True, "enough", False)
    assert "reason='enough'" in repr(event.status())


def test_status_takes_no_lock_of_threads(Event):
    """An exception from a signal handler would leave it locked. Then no thread could start or end."""
    event, statuses = Event(), []
    with Threads(event.wait):
        until_waiting(event)
        with threading._active_limbo_lock:
            _thread.start_new_thread(lambda: statuses.append(event.status()), ())
            until(lambda: statuses)
        event.set()
    assert len(statuses[0].waiting) == 1


def test_status_names_the_waiting_threads(Event):
    event = Event()
    threads = [threading.Thread(target=event.wait, name=name, daemon=True) for name in ("loader", "writer")]
    for thread in threads:
        thread.start()
    until_waiting(event, 2)
    assert sorted(event.status().waiting) == ["loader", "writer"]
    event.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert event.status().waiting == () and event.status().waiters == 0


def test_status_counts_waits_for_several(fastevent):
    events = [fastevent.Event() for _ in range(2)]
    with Threads(lambda: fastevent.wait_any(events)):
        for event in events:
            until_waiting(event)
            assert len(event.status().waiting) == 1
        events[0].set()
    assert events[1].status().waiters == 0


def test_status_and_repr_set_nothing(Event, no_timers):
    calls = []
    event = self_setting(Event, 0, calls.append)
    assert repr(event).endswith(": unset, timed out after 0 s>")
    assert event.status()[1:4] == (False, None, True) and event.remaining() == 0
    assert calls == [] and not event.is_set()


# repr()


@pytest.mark.parametrize("reason, text", [("shutdown", "shutdown"), (5, "5"), (Decimal(5), "Decimal('5')"), (None, None)])
def test_repr_gives_the_reason(Event, reason, text):
    event = Event()
    event.set(reason)
    assert repr(event) == f"<fastevent.Event at {id(event):#x}: set{f': {text}' if text else ''}>"


def test_repr_of_a_reason_with_the_event(Event):
    event = Event()
    event.set([event])
    assert repr(event).endswith("set: [...]>")


def test_repr_is_one_short_line(Event):
    event = Event(name="n" * 1000)
    event.set("line\n" * 1000)
    assert "\n" not in repr(event) and len(repr(event)) < 500


@pytest.mark.parametrize(
    "timeout, left, text",
    [
        (5, 1_234_567_890, "1.2 s of 5 s left"),
        (1, 123_456_789, "0.1 s of 1 s left"),
        (0.75, 123_456_789, "0.123 s of 0.75 s left"),
        (5, 0, "timed out after 5 s"),
        (5, -1, "timed out after 5 s"),
    ],
)
def test_repr_rounds_what_is_left(Event, modules, monkeypatch, timeout, left, text):
    event = Event(timeout)
    monkeypatch.setattr(modules._event.clock, "now", lambda: deadline(event) - left)
    assert repr(event).endswith(f": unset, {text}>")


# The name


def test_a_name_appears_everywhere(fastevent):
    event = fastevent.Event(name="shutdown")
    assert event.name == "shutdown" == event.status().name
    assert repr(event) == f"<fastevent.Event 'shutdown' at {id(event):#x}: unset>"
    assert fastevent.Event().name is None and "_fe_name" not in vars(fastevent.Event())


@pytest.mark.parametrize("wrong", [5, b"name", object()])
def test_a_name_must_be_a_str(Event, wrong):
    with pytest.raises(TypeError, match=r"^name must be a str, not "):
        Event(name=wrong)


def test_a_subclass_has_attributes_of_its_own(fastevent):
    class Task(fastevent.Event):
        def __init__(self, name, timeout, reason):
            super().__init__(50)
            self.name, self.timeout, self.reason = name, timeout, reason

        remaining = elapsed = None

    task = Task(["mine"], "soon", {"why": 1})
    assert (task.name, task.timeout, task.reason) == (["mine"], "soon", {"why": 1})
    assert re.search(r"Task at 0x\w+: unset, (50|49\.\d) s of 50 s left>$", repr(task))
    task.set("over")
    status = task.status()
    assert (status.name, status.timeout, status.reason) == (None, 50.0, "over") and 40 < status.remaining <= 50
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled: over$"):
        task.check()
    del task.name, task.timeout, task.reason
    assert (task.name, task.timeout, task.reason) == (None, 50.0, "over")


# Reads run nobody's code


READS = {
    "is_set": lambda event, core: core.is_set(event),
    "flag": lambda event, core: event.flag,
    "check_timeout": lambda event, core: core.check_timeout(event),
    "remaining": lambda event, core: event.original("remaining")(event),
    "status": lambda event, core: event.original("status")(event),
    "repr": lambda event, core: repr(event),
    "name": lambda event, core: event._fe_name,
    "timeout": lambda event, core: event._timeout,
    "reason": lambda event, core: event.original("reason").__get__(event),
    "_start_time": lambda event, core: event._start_time,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("is_set", [False, True])
def test_a_read_calls_nothing_that_a_subclass_overrides(modules, Event, read, is_set):
    def forbidden(self, *arguments, **keywords):
        raise AssertionError("a read has called it")

    public = {name: forbidden for name in dir(Event) if not name.startswith("_") and name != "flag"}
    Strict = type("Strict", (Event,), {**public, "original": staticmethod(lambda name: vars(Event)[name])})
    parent = Event(50, set_on_timeout=True)
    event = Strict(300, parents=[parent], name="strict", set_on_timeout=True)
    if is_set:
        parent.set("why")
    READS[read](event, modules._core.EventCore)
