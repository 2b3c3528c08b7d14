"""Parents and children: what a set() of a parent sets, and which child outlives what."""

import asyncio
import gc
import threading
import weakref
from math import inf

import pytest
from helpers import Threads, python, until_waiting


def child_of(*parents, **options):
    return type(parents[0])(parents=parents, **options)


def test_a_parent_sets_its_children_not_its_parents(Event):
    parent = Event()
    child, other = child_of(parent), child_of(parent)
    grandchild = child_of(child)
    child.set("own")
    assert grandchild.reason == "own" and not parent.is_set() and not other.is_set()
    parent.set("all")
    assert (child.reason, grandchild.reason, other.reason) == ("own", "own", "all")


def test_a_child_of_a_set_parent_is_set(Event):
    parent = Event()
    parent.set("done")
    assert child_of(Event(), parent).reason == "done"


def test_any_of_several_parents_sets(Event):
    parents = [Event() for _ in range(5)]
    child = child_of(*parents)
    parents[3].set(3)
    assert child.reason == 3


def test_a_child_is_set_each_time(Event):
    parent = Event()
    child = child_of(parent)
    for number in range(5):
        parent.set(number)
        assert child.reason == number
        parent.clear()
        assert child.is_set()  # clear() is for one event
        child.clear()
    child = child_of(parent)
    assert not child.is_set()
    parent.set("again")
    assert child.reason == "again"


def test_a_second_set_sets_cleared_children_again(Event):
    parent = Event()
    child = Event(parents=[parent])
    grandchild = Event(parents=[child])
    parent.set()
    child.clear()
    grandchild.clear()
    parent.set()
    assert child.is_set() and grandchild.is_set()
    late = Event(parents=[parent])
    late.clear()
    parent.set()
    assert late.is_set()


def test_waiters_of_a_child_are_woken(Event):
    parent = Event()
    child, answers = child_of(parent), []
    with Threads(*[lambda: answers.append(child.wait())] * 5):
        until_waiting(child, 5)
        parent.set()
    assert answers == [True] * 5


@pytest.mark.parametrize("parents", [None, 0, 5])
def test_what_is_not_iterable_is_refused(Event, parents):
    with pytest.raises(TypeError, match=rf"^parents must be an iterable of events, not {parents}$"):
        Event(parents=parents)


def test_an_event_in_place_of_parents_is_refused(Event):
    with pytest.raises(TypeError, match=r"^parents must be an iterable of events, not <fastevent\.Event at"):
        Event(parents=Event())


@pytest.mark.parametrize("wrong", [threading.Lock(), asyncio.Event(), "x", 1, None])
def test_a_parent_of_another_class_is_refused(Event, wrong):
    other = Event()
    with pytest.raises(TypeError, match=r"^a parent must be a fastevent\.Event or a threading\.Event, not"):
        Event(parents=[other, wrong])
    assert other.status().children == 0


def test_parents_may_be_any_iterable(Event):
    class Falsy:
        def __len__(self):
            return 0

        def __iter__(self):
            return iter([parent])

    parent = Event()
    children = [Event(parents=Falsy()), Event(parents={parent}), Event(parents=(one for one in [parent]))]
    parent.set()
    assert all(child.is_set() for child in children)
    assert not Event(parents=[]).is_set()


def test_a_child_keeps_its_parents_alive(Event):
    root = Event()
    child = child_of(child_of(root))
    gc.collect()
    root.set("from above")
    assert child.reason == "from above"
    reference = weakref.ref(child)
    del child
    gc.collect()
    assert reference() is None  # and a parent keeps no child


def test_dropped_children_leave_no_trace(Event):
    parent = Event()
    kept = [child_of(parent) for _ in range(10)]
    for _ in range(1000):
        child_of(parent)
    gc.collect()
    assert parent.status().children == 10
    del kept
    gc.collect()
    assert parent.status().children == 0


def test_a_second_init_forgets_the_parent(Event):
    parent = Event()
    child = child_of(parent)
    reference = weakref.ref(parent)
    child.__init__()
    assert parent.status().children == 0
    del parent
    gc.collect()
    assert reference() is None and not child.is_set()


def test_a_second_init_follows_one_that_failed(Event):
    class Full(Event):
        def _fe_add_child(self, child):
            raise MemoryError

    event, parent = Event(), Event()
    with pytest.raises(MemoryError):
        event.__init__(parents=[Full()])
    event.__init__(parents=[parent])
    parent.set("why")
    assert event.reason == "why"


def test_a_second_init_names_new_parents(Event):
    old, new = Event(), Event()
    child = child_of(old)
    child.__init__(parents=[new])
    old.set()
    assert not child.is_set() and old.status().children == 0
    new.set("new")
    assert child.reason == "new"


def test_a_second_init_under_a_set_parent_notifies(Event):
    parent, event, calls = Event(), Event(), []
    child = child_of(event)
    event.add_callback(calls.append)
    parent.set("before")
    event.__init__(parents=[parent])
    assert calls == [event] and child.reason == "before"


# child()


def test_child_is_a_plain_event(Event):
    class Mine(Event):
        pass

    parent = Mine()
    child = parent.child(name="part")
    assert type(child) is Event and child.name == "part" and child.timeout is None
    parent.set("why")
    assert child.reason == "why"
    assert parent.child().reason == "why" and parent.child().name is None


def test_a_child_with_a_timeout_is_self_setting(fastevent):
    parent = fastevent.Event()
    child = parent.child(0.02)
    assert child.timeout == 0.02 and child.wait() and isinstance(child.reason, fastevent.EventTimeout)
    assert parent.child(0).is_set() and not parent.is_set()
    assert parent.child(inf).wait(0.01) is False


def test_the_default_timeout_spares_child(core):
    code = "import fastevent; event = fastevent.Event(); print(event.timeout, event.child().timeout)"
    assert python(code, core, WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT="7") == "7.0 None\n"


@pytest.mark.parametrize("timeout, error", [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)])
def test_child_refuses_a_bad_timeout(Event, timeout, error):
    parent = Event()
    with pytest.raises(error, match=r"^timeout must be .* not"):
        parent.child(timeout)
    with pytest.raises(TypeError, match=r"^name must be a str, not 5$"):
        parent.child(name=5)
    assert parent.status().children == 0


# Trees


def test_a_deep_tree_is_set_and_dropped(Event):
    root = event = Event()
    for _ in range(10_000):
        event = child_of(event)
    root.set("deep")
    assert event.reason == "deep"
    del event
    gc.collect()


def test_a_broad_tree_is_set(Event):
    root = Event()
    children = [child_of(root) for _ in range(300)]
    leaves = [child_of(child, children[0]) for child in children for _ in range(10)]
    root.set("broad")
    assert {leaf.reason for leaf in leaves} == {"broad"}


def test_a_set_reaches_10_000_children(Event):
    root = Event()
    children = [child_of(root) for _ in range(10_000)]
    root.set("all")
    assert all(child.is_set() for child in children) and children[-1].reason == "all"


def test_each_way_through_a_graph_counts_once(Event):
    """There are 2**12 ways from the root to the last layer."""
    attempts = []

    class Node(Event):
        def _fe_try_set(self, *arguments):
            attempts.append(self)
            super()._fe_try_set(*arguments)

    root = Event()
    layer = [root]
    for _ in range(12):
        layer = [Node(parents=layer) for _ in range(2)]
    root.set("once")
    assert [event.reason for event in layer] == ["once"] * 2
    assert len(attempts) == 2 + 11 * 4  # by each of its parents


def test_equal_events_are_two_children(Event):
    class Equal(Event):
        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

    parent = Equal()
    children = [Equal(parents=[parent]) for _ in range(3)]
    assert parent.status().children == 3
    del children[0]
    gc.collect()
    parent.set()
    assert [child.is_set() for child in children] == [True] * 2


# Several threads


def test_children_come_and_go_during_a_set(Event):
    class Restless(Event):
        def _fe_try_set(self, *arguments):
            super()._fe_try_set(*arguments)
            dropped.pop()
            made.extend([child_of(parent), child_of(parent)])

    parent, made = Event(), []
    children = [Restless(parents=[parent]) for _ in range(3)]
    dropped = [child_of(parent) for _ in range(3)]
    parent.set("now")
    assert {child.reason for child in children + made} == {"now"} and len(made) == 6


def test_a_new_child_sees_a_set_meanwhile(Event, tiny_switch_interval):
    for _ in range(300):
        parent, children = Event(), []

        def makes(parent=parent, children=children):
            children.extend(child_of(parent) for _ in range(20))

        with Threads(makes, lambda parent=parent: parent.set("now")):
            pass
        assert [child.reason for child in children] == ["now"] * 20


def test_when_any_set_returns_children_are_set(Event, tiny_switch_interval):
    """Also when another thread's set() came first and is still on its way to them."""
    for _ in range(100):
        parent = Event()
        middle = [child_of(parent) for _ in range(10)]
        leaves = [child_of(event) for event in middle for _ in range(3)]
        wrong = []

        def sets(parent=parent, leaves=leaves, wrong=wrong):
            parent.set()
            wrong.extend(leaf for leaf in leaves if not leaf.is_set())

        with Threads(sets, sets, sets):
            pass
        assert not wrong


# Memory


def test_a_second_init_forgets_parent_and_name(Event):
    parent = Event()
    child = parent.child(name="first")
    child.__init__()
    parent.set()
    assert not child.is_set() and child.name is None
