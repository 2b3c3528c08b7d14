"""No call leaves a block of memory or a reference behind, also where it is refused."""

import gc
import sys
import time
from itertools import islice

import pytest
from conftest import CORES
from helpers import SCALE, python, until

CALLS = {
    "is_set": lambda e: e.is_set(),
    "flag": lambda e: e.flag,
    "check_timeout": lambda e: e.check_timeout(),
    "set and clear": lambda e: (e.set(), e.clear()),
    "wait on a set event": lambda e: (e.set(), e.wait(), e.wait(timeout=5), e.clear()),
    "wait for no time": lambda e: (e.wait(0), e.wait(-1.0), e.wait(timeout=0)),
    "wait that times out": lambda e: e.wait(1e-9),
    "create": lambda e: (type(e)(), type(e)(5), type(e)(timeout=5.0)),
    "create without init": lambda e: type(e).__new__(type(e), 1, x=2),
    "init again": lambda e: (e.__init__(), e.__init__(7), e.__init__(timeout=1e300)),
    "repr": lambda e: (repr(e), e._timeout, e._start_time, e._event, e._fe_period()),
    "attributes": lambda e: (setattr(e, "label", []), delattr(e, "label")),
    "reason": lambda e: (e.set(["why"]), e.reason, e.clear(), e.set(reason=e), e.clear()),
    "check": lambda e: (e.check(), e.set("why"), raised(e.check), e.clear()),
    "callbacks": lambda e: (e.add_callback(len).remove(), e.add_callback(repr), e.set(), e.clear()),
    "children": lambda e: (type(e)(parents=[e]), e.set(), e.clear(), e.status()),
    "restart_timeout": lambda e: (e.__init__(9), e.restart_timeout(), e.restart_timeout(300), e.__init__()),
    "self-setting, expired": lambda e: type(e)(0, set_on_timeout=True).is_set(),
    "ticks": lambda e: list(islice(e.ticks(1e-6), 3)),
    "child": lambda e: (e.child(name="a name"), e.child(0), e.set(), e.clear()),
    "after a fork": lambda e: e._at_fork_reinit(),
    "refused timeout": lambda e: [refused(type(e), timeout) for timeout in ("5", -1, float("nan"), True, object())],
    "refused wait": lambda e: [refused(e.wait, timeout) for timeout in ("5", object(), [])],
    "refused arguments": lambda e: (refused(type(e), 1, 2), refused(e.wait, 1, 2), refused(e.set, 1, 2), refused(type(e), x=1)),
}


def raised(function):
    try:
        function()
    except Exception:
        return
    raise AssertionError("nothing was raised")


def refused(function, *arguments, **named):
    with pytest.raises((TypeError, ValueError)):
        function(*arguments, **named)


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks") or not sys.getallocatedblocks(), reason="nothing counts the blocks")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_nothing_behind(core, name):
    event, call, timers = CORES[core].Event(), CALLS[name], CORES[core]._timers.timers
    constants = (None, True, False, 5, 7, ())

    def counts():
        gc.collect()
        gc.collect()  # without the GIL, the first one leaves a block of each error that refers to its own frame
        return sys.getallocatedblocks(), *map(sys.getrefcount, constants)

    def grown(times):
        before = counts()
        for _ in range(times):
            call(event)
        now = time.monotonic_ns()
        until(lambda: all(deadline > now for deadline, *_ in [*timers.events.unread, *timers.events.heap]))
        return [after - early for after, early in zip(counts(), before, strict=True)]

    grown(50)  # caches fill
    # What leaks does so every time; others (a table that grows, a free list that fills) only now and then.
    assert min(max(grown(500)) for _ in range(3)) < 250


@pytest.mark.parametrize("look", ["is_set", "check_timeout"])
@pytest.mark.core("py")  # the compiled one has no states
def test_a_slow_look_sets_no_state_back(Event, look):
    """All states since then would be kept, and be gone through again by every other call."""

    class Hooked(dict):
        then = None

        def __getitem__(self, key):
            then, self.then = self.then, None
            if then:
                then()
            return super().__getitem__(key)

    def others_change_it():
        for change in (event.set, event.clear, event.set, event.is_set):
            change()
        newest = event._fe_state
        second.next.then = lambda: answers.append(event._fe_state is newest)

    event, answers = Event(), []
    first = event._fe_newest()
    first.next = Hooked()
    event.set()
    second = first.next["next"]
    second.next = Hooked()
    event.clear()
    event._fe_state, first.next.then = first, others_change_it
    getattr(event, look)()
    assert answers == [True]


# Memory of the process; `make soak` makes ten times as many events


@pytest.mark.not_sanitized
@pytest.mark.not_traced
def test_dropped_events_leave_memory_flat(core):
    """With a timeout that never comes, and with one that soon comes."""

    def program():
        import gc
        import sys

        from faults import FLAT, resident
        from helpers import HAS_GIL

        from fastevent import Event

        def makes(count, timeout):
            for _ in range(count):
                Event(timeout, set_on_timeout=True)

        for timeout in 3600, 0.001:
            sizes = []
            for _ in range(6):
                makes(int(float(sys.argv[1]) * 40_000), timeout)
                gc.collect()
                sizes.append(resident())
            # Without the GIL, memory is freed late, and goes up and down.
            assert min(sizes[3:]) - sizes[0] < (FLAT if HAS_GIL else 3 * FLAT), (timeout, sizes)

    python(program, core, SCALE, timeout=300 * max(1.0, SCALE))


@pytest.mark.not_sanitized
@pytest.mark.not_traced
def test_short_lived_children_leave_memory_flat(core):
    """Of three threads, under one parent that lives on."""

    def program():
        import gc
        import sys

        from faults import FLAT, resident
        from helpers import HAS_GIL, Threads

        from fastevent import Event

        parent, count, sizes = Event(), int(50_000 * float(sys.argv[1])), []

        def makes(count=count):
            for _ in range(count):
                Event(parents=(parent,)).is_set()

        makes(10_000)
        for _ in range(4):
            with Threads(makes, makes, makes):
                pass
            gc.collect()
            assert parent.status().children == 0
            sizes.append(resident())
        # Without the GIL, memory is freed late, and goes up and down.
        assert min(sizes[2:]) - sizes[0] < (FLAT if HAS_GIL else 3 * FLAT), sizes

    python(program, core, SCALE, timeout=300 * max(1.0, SCALE))
