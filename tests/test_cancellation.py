"""Reasons, parents, callbacks, events that set themselves, and what is around them."""

import gc
import logging
import os
import pickle
import re
import signal
import sys
import threading
import time
import weakref
from decimal import Decimal
from math import inf
from textwrap import dedent

import pytest
from helpers import PATIENCE, Threads, python

from fastevent._subscribers import Callback, was_born_before


def child_of(*parents, **named):
    return type(parents[0])(parents=parents, **named)


def passed(event):
    """Wait until the timeout of *event* has passed, without looking at the event itself."""
    deadline = event._fe_period()[2]
    while time.monotonic_ns() < deadline:
        time.sleep(0.001)


def inside(Event, name):
    """Return what *name* is in the module of *Event*, of which there is one for each core."""
    return Event.status.__globals__[name]


# Reasons


def test_the_first_reason_stays_until_clear(Event):
    event = Event()
    assert event.reason is None
    event.set("first")
    event.set("second")
    assert event.reason == "first"
    event.clear()
    assert event.reason is None
    event.set(reason="third")
    assert event.reason == "third"
    event.clear()
    event.set()
    event.set("too late")
    assert event.reason is None


def test_the_reason_is_read_only(Event):
    with pytest.raises(AttributeError):
        Event().reason = "why"


@pytest.mark.parametrize("reason", [lambda event: event, lambda event: [event]])
def test_a_reason_that_refers_to_the_event_is_collected(Event, reason):
    class Local(Event):
        pass

    event = Local()
    event.set(reason(event))
    there = weakref.ref(event)
    del event
    gc.collect()
    gc.collect()
    assert there() is None
    # A weak reference dies before what it refers to, which may stay.
    assert not any(type(thing) is Local for thing in gc.get_objects())


def test_a_reason_is_dropped_when_the_event_is_cleared_made_anew_or_gone(Event):
    class Reason:
        pass

    def reason():
        reason = Reason()
        there.append(weakref.ref(reason))
        return reason

    there = []
    event = Event()
    event.set(reason())
    event.clear()
    event.set(reason())
    event.__init__()
    event.set(reason())
    del event
    gc.collect()
    assert [reference() for reference in there] == [None] * 3


def test_of_many_reasons_one_stays(Event, tiny_switch_interval):
    for _ in range(200):
        event, seen = Event(), []

        def sets(name, event=event, seen=seen):
            event.set(name)
            seen.append(event.reason)

        with Threads(*[lambda name=name: sets(name) for name in "abcd"]):
            pass
        assert len(set(seen)) == 1 and seen[0] in set("abcd")


def test_who_sees_the_flag_sees_the_reason(Event, tiny_switch_interval):
    event, wrong = Event(), []
    stop = threading.Event()

    def sets():
        for number in range(20_000):
            event.set(number)
            event.clear()
        stop.set()

    def looks():
        last = -1
        while not stop.is_set():
            reason = event.reason
            if reason is not None:
                if reason < last:
                    wrong.append((reason, last))
                last = reason

    with Threads(sets, looks):
        pass
    assert not wrong


# check()


def test_check(fastevent):
    event = fastevent.Event()
    assert event.check() is None
    event.set()
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled$") as caught:
        event.check()
    assert caught.value.reason is None and not isinstance(caught.value, TimeoutError)
    event.clear()
    event.set("disk full")
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled: disk full$"):
        event.check()
    event.clear()
    error = OSError(5, "gone")
    event.set(error)
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled: \[Errno 5\] gone$") as caught:
        event.check()
    assert caught.value.reason is error and caught.value.__cause__ is error


def test_check_of_a_timeout(fastevent):
    event = fastevent.Event(0)
    for _ in range(2):
        with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0 s$") as caught:
            event.check()
        assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, fastevent.EventCancelled)
    assert not event.is_set()
    event.set("by hand")
    with pytest.raises(fastevent.EventCancelled, match="by hand") as caught:
        event.check()
    assert not isinstance(caught.value, fastevent.EventTimeout)


def test_check_of_a_parent_that_timed_out(fastevent):
    parent = fastevent.Event(0, set_on_timeout=True)
    child = child_of(parent)
    with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0 s$") as caught:
        child.check()
    assert caught.value.reason is parent.reason is child.reason


def test_what_check_raises_can_be_pickled(fastevent):
    event = fastevent.Event()
    event.set(("why", 1))
    with pytest.raises(fastevent.EventCancelled) as caught:
        event.check()
    again = pickle.loads(pickle.dumps(caught.value)) if fastevent is sys.modules["fastevent"] else caught.value
    assert str(again) == "cancelled: ('why', 1)" and again.reason == ("why", 1)


def test_check_of_an_event_that_is_cleared_meanwhile(Event):
    class Cleared(Event):
        def _fe_is_set_by_now(self):
            self.clear()  # after the core has seen the flag
            return super()._fe_is_set_by_now()

    event = Cleared()
    event.set()
    assert event.check() is None


def test_a_late_timeout_is_not_why_an_event_was_set(fastevent):
    event = fastevent.Event(0.02)
    event.set("before")
    passed(event)
    assert event.check_timeout()
    with pytest.raises(fastevent.EventCancelled, match="before") as caught:
        event.check()
    assert not isinstance(caught.value, TimeoutError)


# elapsed() and remaining()


def test_elapsed_and_remaining(Event):
    event = Event(300)
    before, first, after = event.elapsed(), event.remaining(), event.elapsed()
    assert 0 <= before <= 300 - first <= after + 1e-6
    assert event.timeout == 300.0 and first <= 300
    event = Event(0.001)
    passed(event)
    assert event.remaining() == 0 and event.elapsed() >= 0.001
    assert Event(0).remaining() == 0


def test_elapsed_and_remaining_without_an_end(Event):
    event = Event()
    assert event.timeout is event.elapsed() is event.remaining() is None
    for never in (inf, 1e300):
        assert Event(never).remaining() == inf and Event(never).elapsed() >= 0


def test_remaining_is_never_above_the_timeout(Event):
    for timeout in (1e-9, 1 / 3, 0.1, 1e-7, 12345.678, 9e9):
        for _ in range(200):
            assert 0 <= Event(timeout).remaining() <= timeout


# Parents


def test_a_child_is_set_with_its_parent_and_not_the_other_way(Event):
    parent = Event()
    child, other = child_of(parent), child_of(parent)
    grandchild = child_of(child)
    child.set("own")
    assert grandchild.reason == "own" and not parent.is_set() and not other.is_set()
    parent.set("all")
    assert (child.reason, grandchild.reason, other.reason) == ("own", "own", "all")


def test_a_child_is_born_set(Event):
    parent = Event()
    parent.set("done")
    assert child_of(Event(), parent).reason == "done"


def test_any_parent_will_do(Event):
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


def test_counts_may_run_over():
    subscriber = Callback(print)
    for born, sets, before in [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 0),
        (2**32 - 1, 0, 1),
        (0, 2**32 - 1, 0),
        (-1, 0, 1),
        (7, 2**31, 1),
        (7, 2**31 + 7, 0),
    ]:
        subscriber.born = born
        assert was_born_before(subscriber, sets) is bool(before)


def test_waiters_of_a_child_are_woken(Event):
    parent = Event()
    child, answers = child_of(parent), []
    with Threads(*[lambda: answers.append(child.wait())] * 5):
        time.sleep(0.05)
        parent.set()
    assert answers == [True] * 5


def test_parents_that_are_none(fastevent):
    for wrong in (5, fastevent.Event()):
        with pytest.raises(TypeError, match=r"parents must be an iterable of fastevent\.Event objects, not"):
            fastevent.Event(parents=wrong)
    for wrong in (threading.Event(), "x", 1, None):
        with pytest.raises(TypeError, match=r"a parent must be a fastevent\.Event, not"):
            fastevent.Event(parents=[wrong])


def test_parents_may_come_from_an_iterator(Event):
    parent = Event()
    child = Event(parents=(event for event in [parent]))
    parent.set()
    assert child.is_set()


def test_a_parent_does_not_keep_a_child_and_a_child_keeps_its_parents(Event):
    root = Event()
    child = child_of(child_of(root))
    gc.collect()
    root.set("from above")
    assert child.reason == "from above"
    there = weakref.ref(child)
    del child
    gc.collect()
    assert there() is None


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


def test_a_dropped_parent_leaves_its_children_as_they_are(Event):
    parent = Event()
    child = child_of(parent)
    there = weakref.ref(parent)
    child.__init__()
    del parent
    gc.collect()
    assert there() is None and not child.is_set()


def test_an_event_that_is_made_anew_has_its_new_parents_only(Event):
    old, new = Event(), Event()
    child = child_of(old)
    child.__init__(parents=[new])
    old.set()
    assert not child.is_set() and old.status().children == 0
    new.set("new")
    assert child.reason == "new"


def test_an_event_that_is_made_anew_under_a_set_parent_tells_its_own(Event):
    parent, event, calls = Event(), Event(), []
    child = child_of(event)
    event.add_callback(calls.append)
    parent.set("before")
    event.__init__(parents=[parent])
    assert calls == [event] and child.reason == "before"


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


def lattice(Event, told, layers=12, width=2):
    """Make a graph with more ways than anybody can go; *told* counts how often an event hears of a set."""

    class Node(Event):
        def _fe_take_over(self, *cause):
            told.append(self)
            super()._fe_take_over(*cause)

    root = Event()
    layer = [root]
    for _ in range(layers):
        layer = [Node(parents=layer) for _ in range(width)]
    return root, layer


def test_many_ways_to_an_event_are_gone_once(Event):
    told = []
    root, last = lattice(Event, told)
    root.set("once")
    assert [event.reason for event in last] == ["once"] * 2
    assert len(told) == 2 + 11 * 4  # each of its parents tells it


def test_children_may_come_and_go_while_their_parent_tells_them(Event):
    class Restless(Event):
        def _fe_take_over(self, *cause):
            super()._fe_take_over(*cause)
            dropped.pop()
            born.extend([child_of(parent), child_of(parent)])

    parent, born = Event(), []
    children = [Restless(parents=[parent]) for _ in range(3)]
    dropped = [child_of(parent) for _ in range(3)]
    parent.set("now")
    assert {child.reason for child in children + born} == {"now"} and len(born) == 6


def test_a_child_may_live_longer_than_a_count_is_good_for(Event):
    parent = Event()
    child = child_of(parent)
    (reference,) = parent._fe_children
    reference.born -= 2**31 - 2  # so many sets ago
    for _ in range(2):
        parent.set()
        assert child.is_set()
        parent.clear()
        child.clear()


def test_events_that_are_equal_are_two_children(Event):
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


def test_a_child_sees_a_set_that_comes_while_it_is_born(Event, tiny_switch_interval):
    for _ in range(300):
        parent, children = Event(), []

        def bears(parent=parent, children=children):
            children.extend(child_of(parent) for _ in range(20))

        with Threads(bears, lambda parent=parent: parent.set("now")):
            pass
        assert [child.reason for child in children] == ["now"] * 20


def test_when_any_set_returns_the_children_are_set(Event, tiny_switch_interval):
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


# Callbacks


def test_callbacks_are_called_once_in_their_order(Event):
    event, calls = Event(), []
    for number in range(5):
        event.add_callback(lambda event, number=number: calls.append((number, event.reason)))
    assert event.status().callbacks == 5
    event.set("now")
    event.set("again")
    event.clear()
    event.set("later")
    assert calls == [(number, "now") for number in range(5)]
    assert event.status().callbacks == 0


def test_a_callback_of_a_set_event_is_called_at_once(Event):
    event, calls = Event(), []
    event.set()
    event.add_callback(calls.append)
    assert calls == [event]


def test_a_callback_comes_after_the_waiters_and_the_children(Event):
    event, seen = Event(), []
    child = child_of(event)
    event.add_callback(lambda event: seen.append((child.is_set(), event.is_set())))
    event.set()
    assert seen == [(True, True)]


def test_a_callback_runs_in_the_thread_that_sets(Event):
    event, threads = Event(), []
    event.add_callback(lambda event: threads.append(threading.get_ident()))
    with Threads(event.set) as running:
        pass
    assert threads == [running.threads[0].ident]


def test_a_callback_may_do_anything(Event):
    event, other, calls = Event(), Event(), []

    def callback(event):
        calls.append(event.wait(0))
        event.clear()
        event.add_callback(calls.append)
        event.remove_callback(calls.append)
        event.set("again")
        other.set()

    event.add_callback(callback)
    other.add_callback(lambda event: calls.append("other"))
    event.set()
    assert calls == [True, "other"] and event.reason == "again"


def test_an_error_in_a_callback_is_logged_and_stops_nothing(Event, caplog):
    event, child, calls = Event(), None, []

    def fails(event):
        raise ValueError("a bad callback")

    event.add_callback(fails)
    event.add_callback(calls.append)
    child = child_of(event)
    child.add_callback(fails)
    child.add_callback(calls.append)
    event.set()
    assert calls == [event, child]
    assert [(record.name, record.levelno) for record in caplog.records] == [("fastevent", logging.ERROR)] * 2
    assert "a bad callback" in caplog.text and "fails" in caplog.text


def test_sys_exit_in_a_callback_comes_after_the_others(Event):
    event, calls = Event(), []
    event.add_callback(lambda event: sys.exit("enough"))
    event.add_callback(calls.append)
    with pytest.raises(SystemExit, match="enough"):
        event.set()
    assert calls == [event] and event.is_set()


def test_of_two_that_exit_the_first_is_heard_and_neither_stops_others(Event):
    event, calls = Event(), []
    for reason in "first", "second":
        event.add_callback(lambda event, reason=reason: sys.exit(reason))
    event.add_callback(calls.append)
    with pytest.raises(SystemExit, match="first"):
        event.set()
    assert calls == [event]


def test_callbacks_may_come_while_others_are_removed(Event):
    class Busy:
        def __call__(self, event):
            raise AssertionError("it was removed")

        def __eq__(self, other):
            event.add_callback(calls.append)
            return self is other

    event, calls, busy = Event(), [], Busy()
    event.add_callback(busy)
    event.add_callback(busy)
    assert event.remove_callback(busy) == 2
    event.set()
    assert calls == [event] * 2


def test_a_callback_that_is_removed_is_not_called(Event):
    event, calls = Event(), []
    event.add_callback(calls.append)
    event.add_callback(print)
    event.add_callback(calls.append)
    assert event.remove_callback(calls.append) == 2
    assert event.remove_callback(calls.append) == 0
    event.remove_callback(print)
    event.set()
    assert calls == [] and event.remove_callback(print) == 0 and Event().remove_callback(print) == 0


def test_to_remove_a_callback_never_waits_for_it(Event):
    event, begun, go_on = Event(), threading.Event(), threading.Event()

    def callback(event):
        begun.set()
        assert go_on.wait(PATIENCE)

    event.add_callback(callback)
    with Threads(event.set):
        assert begun.wait(PATIENCE)
        assert event.remove_callback(callback) == 0
        go_on.set()


@pytest.mark.parametrize("wrong", [None, 5, "print", object()])
def test_what_is_not_callable_is_no_callback(Event, wrong):
    with pytest.raises(TypeError, match="a callback must be callable, not"):
        Event().add_callback(wrong)


def test_each_callback_is_called_once_whoever_sets(Event, tiny_switch_interval):
    for _ in range(100):
        event, calls = Event(), []

        def adds(event=event, calls=calls):
            for number in range(30):
                event.add_callback(lambda event, number=number: calls.append(number))

        with Threads(adds, event.set, event.set, adds):
            pass
        assert sorted(calls) == sorted(2 * list(range(30)))


def test_no_callback_hears_of_a_set_before_it(Event, tiny_switch_interval):
    """Added after a clear(), it must not be called by a set() before it that is still on its way."""
    for _ in range(300):
        event, wrong = Event(), []
        event.add_callback(lambda event: None)

        def adds(event=event, wrong=wrong):
            event.wait()
            event.clear()
            event.add_callback(wrong.append)

        with Threads(adds, event.set):
            pass
        assert not wrong


def test_a_dropped_event_drops_its_callbacks(Event):
    event = Event()
    event.add_callback(lambda _, event=event: None)
    there = weakref.ref(event)
    del event
    gc.collect()
    assert there() is None


# Events that set themselves


def test_an_event_sets_itself(fastevent):
    event = fastevent.Event(0.05, set_on_timeout=True)
    assert isinstance(event, fastevent.Event) and isinstance(event, threading.Event)
    while not event.check_timeout():
        if event.is_set() or event.flag:
            assert event.check_timeout()
            break
        time.sleep(0.001)
    assert event.is_set() and event.flag is True
    assert isinstance(event.reason, fastevent.EventTimeout) and str(event.reason) == "timed out after 0.05 s"
    assert event.wait() is True and event.check_timeout()
    with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0\.05 s$"):
        event.check()


def test_it_looks_like_any_other(Event):
    event, plain = Event(5, set_on_timeout=True), Event(5)
    assert (type(event).__name__, type(event).__qualname__, type(event).__module__) == ("Event", "Event", "fastevent")
    assert repr(event).replace(f"{id(event):#x}", "") == repr(plain).replace(f"{id(plain):#x}", "")
    assert type(Event(5, set_on_timeout=True)) is type(event)


def test_a_subclass_may_set_itself(Event):
    class Named(Event):
        def __init__(self, name, **named):
            self.name = name
            super().__init__(**named)

    event = Named("n", timeout=0, set_on_timeout=True)
    assert event.is_set() and event.name == "n" and isinstance(event, Named)
    assert type(Named("o", timeout=5, set_on_timeout=True)) is type(event)
    event.__init__("m", timeout=0)
    assert type(event) is Named and not event.is_set() and event.name == "m"


def test_what_a_subclass_overrides_comes_first(Event):
    class Counting(Event):
        looks = 0

        def is_set(self):
            self.looks += 1
            return super().is_set()

    event = Counting(0, set_on_timeout=True)
    assert event.is_set() and event.looks == 1 and event.reason is not None


def test_waiters_see_it_and_never_early(Event):
    for timeout in (0.001, 0.01, 0.03):
        event = Event(timeout, set_on_timeout=True)
        deadline, answers = event._fe_period()[2], []

        def waits(*arguments, event=event, answers=answers):
            answers.append((event.wait(*arguments), time.monotonic_ns()))

        with Threads(waits, lambda waits=waits: waits(PATIENCE), lambda waits=waits: waits(inf)):
            pass
        assert [answer for answer, _ in answers] == [True] * 3
        assert all(woken >= deadline for _, woken in answers)


def test_a_wait_after_the_timeout_is_true_at_once_whatever_the_argument(Event):
    assert all(Event(0, set_on_timeout=True).wait(argument) is True for argument in (None, 0, -1, "1", object(), 10**400))


def test_a_wait_looks_again_when_a_round_of_it_has_ended_and_rests_in_between(Event):
    class Slow(Event):
        looks = 0

        def _fe_is_set_by_now(self):
            self.looks += 1
            return self.looks > 2 and super()._fe_is_set_by_now()  # after the first round, as if clear() had put it off

    event = Slow(0.05, set_on_timeout=True)
    assert event.wait(PATIENCE) is True and event.looks == 3


def test_a_wait_that_ends_before_is_false(Event):
    event = Event(300, set_on_timeout=True)
    assert event.wait(0.01) is False and event.wait(0) is False and event.wait(-1) is False
    with pytest.raises(TypeError):
        event.wait("1")


def test_it_is_set_by_its_parent_before(Event):
    parent = Event()
    child = child_of(parent, timeout=300, set_on_timeout=True)
    parent.set("from above")
    assert child.reason == "from above"


def test_it_is_set_by_hand_before(Event):
    event = Event(300, set_on_timeout=True)
    answers = []
    with Threads(lambda: answers.append(event.wait())):
        time.sleep(0.02)
        event.set("by hand")
    assert answers == [True] and event.reason == "by hand"


def test_a_timeout_that_passed_is_the_first_cause(fastevent):
    event = fastevent.Event(0.01, set_on_timeout=True)
    passed(event)
    event.set("too late")
    assert isinstance(event.reason, fastevent.EventTimeout)
    parent = fastevent.Event()
    child = child_of(parent, timeout=0.01, set_on_timeout=True)
    passed(child)
    parent.set("too late")
    assert isinstance(child.reason, fastevent.EventTimeout)


def test_clear_arms_it_anew(fastevent):
    event = fastevent.Event(0.03, set_on_timeout=True)
    for _ in range(3):
        assert event.wait() and isinstance(event.reason, fastevent.EventTimeout)
        event.clear()
        assert event.reason is None
    event = fastevent.Event(0.5, set_on_timeout=True)
    passed(event)
    calls = []
    event.add_callback(calls.append)
    assert calls == [event]  # it had timed out
    event.clear()
    event.add_callback(calls.append)
    event.clear()
    deadline = event._fe_period()[2]
    while len(calls) < 2:
        time.sleep(0.001)
    assert time.monotonic_ns() >= deadline


def test_a_wait_is_ended_by_a_timeout_that_clear_follows(Event):
    """clear() looks first whether the timeout has passed: who waited for that is woken."""
    event, calls = Event(0.01, set_on_timeout=True), []
    event._fe_subscribe(inside(Event, "Waker")(calls.append))
    passed(event)
    event.clear()
    assert calls == [event]
    for _ in range(20):
        event, answers = Event(0.005, set_on_timeout=True), []
        with Threads(lambda event=event, answers=answers: answers.append(event.wait(PATIENCE))):
            passed(event)
            event.clear()
        assert answers == [True]


def test_callbacks_children_and_grandchildren_are_told(fastevent):
    event = fastevent.Event(0.05, set_on_timeout=True)
    child = child_of(event)
    grandchild, told = child_of(child), threading.Event()
    grandchild.add_callback(lambda event: told.set())
    seen = []
    event.add_callback(lambda event: seen.append(time.monotonic_ns()))
    assert told.wait(PATIENCE) and child.is_set() and isinstance(grandchild.reason, fastevent.EventTimeout)
    while not seen:
        time.sleep(0.001)
    assert seen[0] >= event._fe_period()[2]


def test_a_child_alone_is_told_of_every_timeout(Event):
    """Nobody looks at the parent: it is the thread of the timers that tells the child, and clear() sees to it."""
    parent = Event(0.05, set_on_timeout=True)
    child = child_of(parent)
    for _ in range(2):
        answers = []
        with Threads(lambda answers=answers: answers.append(child.wait())):
            pass
        assert answers == [True]
        child.clear()
        parent.clear()


def test_a_late_timer_does_not_reach_the_next_period(Event):
    for _ in range(30):
        event, calls = Event(0.004, set_on_timeout=True), []
        event.add_callback(lambda event: None)
        passed(event)
        event.clear()
        started = event._fe_period()[1]
        event.add_callback(lambda event, calls=calls: calls.append(time.monotonic_ns()))
        while not calls:
            time.sleep(0.0005)
        assert calls[0] >= started + 4_000_000


def test_set_on_timeout_needs_one(Event):
    with pytest.raises(ValueError, match="set_on_timeout=True needs a timeout"):
        Event(set_on_timeout=True)


def test_the_default_timeout_will_do(core):
    code = "import fastevent; event = fastevent.Event(set_on_timeout=True); event.wait(); print(event.reason)"
    assert python(code, core, WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT="0.01") == "timed out after 0.01 s\n"


def test_one_that_never_times_out(Event):
    event = Event(inf, set_on_timeout=True)
    event.add_callback(print)
    assert event.wait(0.01) is False
    assert "_fe_timer" not in vars(event)  # nobody waits for that


def test_an_event_has_one_timer_and_none_afterwards(core):
    code = """
    import gc, time
    from fastevent import Event, _timer
    event = Event(3600, set_on_timeout=True)
    for _ in range(3):
        event.add_callback(print)
    Event(parents=[event])
    assert len(_timer._armed) == 1, len(_timer._armed)
    event, calls = Event(0.01, set_on_timeout=True), []
    event.add_callback(calls.append)
    deadline = time.monotonic() + 60
    while not calls and time.monotonic() < deadline:
        time.sleep(0.001)
    gc.collect()  # the first one, where nobody counts references
    assert calls == [event] and len(_timer._armed) == 0, len(_timer._armed)
    """
    python(dedent(code), core)


TIMERS = """
import gc, random, sys, time, weakref
from fastevent import Event, _timer

def armed(seconds, function=print):
    event = Event(seconds, set_on_timeout=True)
    event.add_callback(function)
    return event

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)

def timers():
    for frame in sys._current_frames().values():
        while frame is not None and frame.f_code.co_name != "_ring":
            frame = frame.f_back
        if frame is not None:
            return frame.f_locals.get("timers", [])
    return []
"""


def test_the_thread_of_the_timers_keeps_no_event_alive(core):
    code = """
    event = armed(3600)
    there = weakref.ref(event)
    until(lambda: len(timers()) == 1)
    del event
    until(lambda: [gc.collect()] and there() is None)
    """
    python(TIMERS + dedent(code), core)


def test_a_timer_of_an_event_that_is_gone_does_nothing(core):
    code = """
    event = armed(0.5, id)
    until(lambda: len(timers()) == 1 or event.is_set())
    del event
    last, calls = Event(0.6, set_on_timeout=True), []
    last.add_callback(calls.append)
    until(lambda: calls == [last])
    assert not _timer._armed
    """
    python(TIMERS + dedent(code), core)


def test_timers_of_events_that_are_gone_are_dropped_and_the_others_stay_in_order(core):
    code = """
    numbers = random.Random(0)
    events = [armed(3600 + 100 * numbers.random()) for _ in range(1000)]
    until(lambda: len(timers()) == 1000)
    del events[:900]
    gc.collect()
    events.append(armed(3601))
    until(lambda: 0 < len(timers()) <= 2 * len(events) + 64)
    left = list(timers())
    assert [timer[2]() for timer in sorted(left)] == sorted(events, key=lambda event: event._fe_sets_itself_at())
    assert all(left[(i - 1) // 2] <= left[i] for i in range(1, len(left)))  # the order of a heap
    """
    python(TIMERS + dedent(code), core)


def test_the_thread_of_the_timers_looks_at_the_clock_when_it_must_and_rests_in_between(core):
    code = """
    clock, looks = _timer.monotonic_ns, []
    _timer.monotonic_ns = lambda: looks.append(clock()) or looks[-1]
    event = armed(3600)
    until(lambda: len(looks) >= 2)
    time.sleep(0.3)
    assert len(looks) < 10, len(looks)
    """
    python(TIMERS + dedent(code), core)


def test_a_timer_that_passes_between_two_looks_at_the_clock_is_not_missed(core):
    code = """
    clock, looks = _timer.monotonic_ns, []

    def jumps():
        looks.append(clock())
        return looks[-1] + (7200 * 10**9 if len(looks) % 2 and len(looks) < 100 else 0)

    _timer.monotonic_ns = jumps
    event, calls = armed(3600), []
    until(lambda: len(looks) >= 100)
    soon = armed(0.01, calls.append)
    until(lambda: calls == [soon])
    assert not event.is_set()
    """
    python(TIMERS + dedent(code), core)


def test_where_no_thread_starts_the_next_call_tries_again(core):
    code = """
    import time
    from fastevent import Event, _timer
    start, event, calls = _timer.start_new_thread, Event(3600, set_on_timeout=True), []

    def fails(*_):
        raise RuntimeError("can't start new thread")

    _timer.start_new_thread = fails
    for _ in range(2):
        try:
            event.add_callback(print)
        except RuntimeError as error:
            print(error, "_fe_timer" in vars(event))
    _timer.start_new_thread = start
    event.add_callback(print)
    soon = Event(0.01, set_on_timeout=True)
    soon.add_callback(calls.append)
    deadline = time.monotonic() + 60
    while not calls and time.monotonic() < deadline:
        time.sleep(0.001)
    print("_fe_timer" in vars(event), calls == [soon])
    """
    assert python(dedent(code), core) == "can't start new thread False\n" * 2 + "True True\n"


def test_the_thread_of_the_timers_ends_before_the_interpreter(core):
    code = """
    import _thread, atexit, itertools, time
    from fastevent import Event, _timer
    atexit.register(lambda: print(_thread._count(), next(clock) < 10**9))  # after the handler of the timers
    Event(3600, set_on_timeout=True).add_callback(print)
    while not _thread._count():
        time.sleep(0.001)
    clock = itertools.count(step=10**5)
    _timer.monotonic_ns = clock.__next__  # a second that lasts as long as a loaded machine may need
    """
    assert python(dedent(code), core) == "0 True\n"


def test_a_callback_that_does_not_return_delays_the_end_of_the_interpreter_by_a_second(core):
    code = """
    import atexit, threading, time
    from fastevent import Event, _timer
    begun = threading.Event()
    atexit.register(lambda: print(now[-1] >= now[0] + 10**9 > now[-2]))
    event = Event(3600, set_on_timeout=True)
    event.add_callback(lambda event: (begun.set(), time.sleep(1000)))
    event.__init__(0.01, set_on_timeout=True)  # now: the thread of the timers calls it, whatever the load
    begun.wait()
    now, clock = [], _timer.monotonic_ns
    start = clock()
    _timer.monotonic_ns = lambda: now.append(clock() - start) or now[-1]  # the thread reads none meanwhile
    """
    assert python(dedent(code), core) == "True\n"


def test_one_thread_for_all_and_none_without_need(core):
    code = """
    import threading, time, _thread
    from fastevent import Event, wait_any
    threads = _thread._count
    for _ in range(1000):
        event = Event(0.001, set_on_timeout=True)
    event.wait(); event.is_set(); event.clear(); wait_any([event]); Event().add_callback(print)
    assert threads() == 0, threads()
    events = [Event(3600 + i, set_on_timeout=True) for i in range(20_000)]
    soon, calls = [Event(0.5 + i / 1e6, set_on_timeout=True) for i in range(2_000)], []
    for event in events + soon:
        event.add_callback(calls.append)
    deadline = time.monotonic() + 60
    while (len(calls) < len(soon) or not threads()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(map(id, calls)) == sorted(map(id, soon)), len(calls)
    assert threads() == 1, threads()
    """
    python(dedent(code), core)


def test_timers_of_dropped_events_are_forgotten(core):
    code = """
    import gc, sys
    from fastevent import Event, _timer
    for _ in range(5000):
        Event(3600, set_on_timeout=True).add_callback(print)
    gc.collect()
    assert len(_timer._armed) == 0, len(_timer._armed)
    """
    python(dedent(code), core)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyPy crashes as a forked child ends with a thread in a queue")
def test_timers_go_on_after_a_fork(core):
    code = """
    import os, time, warnings
    warnings.simplefilter("ignore")
    from fastevent import Event
    calls = []
    event = Event(0.3, set_on_timeout=True)
    event.add_callback(calls.append)
    pid = os.fork()
    deadline = time.monotonic() + 60
    while not calls and time.monotonic() < deadline:
        time.sleep(0.005)
    again = Event(0.01, set_on_timeout=True)
    again.add_callback(calls.append)
    while len(calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    good = calls == [event, again]
    if pid == 0:
        os._exit(0 if good else 1)
    assert good and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    python(dedent(code), core)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts CPython's threads")
def test_a_child_without_timers_has_no_thread_and_ends_none(core):
    code = """
    import _thread, os, warnings
    warnings.simplefilter("ignore")
    from fastevent import Event, _timer
    Event(3600, set_on_timeout=True).add_callback(print)
    pid = os.fork()
    if pid == 0:
        _timer._stop()  # what it inherits for its exit
        os._exit(0 if not _timer._running and _thread._count() == 0 and _timer._inbox.empty() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    python(dedent(code), core)


def test_events_may_go_while_a_forked_child_takes_over_their_timers(core):
    code = """
    class Queue(_timer.SimpleQueue):
        def put(self, reference):
            del events[1:]
            gc.collect()
            super().put(reference)

    events = [armed(3600) for _ in range(5)]
    _timer.SimpleQueue = Queue
    _timer._after_fork_in_child()
    assert len(_timer._armed) == len(events) == 1
    """
    python(TIMERS + dedent(code), core)


INTERPRETERS = """
import _interpreters as interpreters
script = '''
import time
from fastevent import Event
calls, events = [], [Event(timeout, set_on_timeout=True) for timeout in (0.01, 0.01, 300)]
for event in events:
    event.add_callback(calls.append)
while len(calls) < 2:
    time.sleep(0.001)
'''
for kind in ["isolated", "legacy"] * 5:
    name = interpreters.create(kind)
    failure = interpreters.exec(name, script)
    assert failure is None, failure
    interpreters.destroy(name)
"""


@pytest.mark.skipif(sys.version_info < (3, 13), reason="no interpreters that may end with a thread of this kind")
def test_the_thread_of_the_timers_ends_with_its_interpreter(core):
    python(INTERPRETERS, core)


def test_a_callback_that_exits_does_not_end_the_thread_of_the_timers(Event, caplog):
    event, told = Event(0.01, set_on_timeout=True), threading.Event()
    event.add_callback(lambda event: sys.exit("no"))
    again = Event(0.05, set_on_timeout=True)
    again.add_callback(lambda event: told.set())
    assert told.wait(PATIENCE)
    assert "at the timeout of <fastevent.Event" in caplog.text and "SystemExit: no" in caplog.text


# with


def test_the_block_ends_what_was_started_inside(Event):
    answers = []
    with Event() as event, Threads(lambda: answers.append(event.wait())):
        event.set("early")
    assert answers == [True]
    with Event() as event:
        assert not event.is_set()
    assert event.is_set() and event.reason is None


def test_the_end_of_a_block_is_for_a_set_without_a_reason_too(Event):
    class Theirs(Event):
        def set(self):
            super().set()

    with Theirs() as event:
        pass
    assert event.is_set()


def test_the_block_says_what_ended_it(Event):
    event = Event()
    with pytest.raises(ValueError, match="oops"), event:
        raise ValueError("oops")
    assert event.reason == "ValueError: oops"


def test_a_signal_sets_the_event(Event):
    event = Event()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with event.set_on_signals() as same:
        assert same is event
        signal.raise_signal(signal.SIGTERM)
        assert event.is_set() and event.reason is signal.SIGTERM
        event.clear()
        signal.raise_signal(signal.SIGINT)
        assert event.reason is signal.SIGINT
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signals_may_be_nested(Event):
    outer, inner = Event(), Event()
    with outer.set_on_signals(signal.SIGTERM):
        with inner.set_on_signals(signal.SIGTERM):
            signal.raise_signal(signal.SIGTERM)
            assert inner.is_set() and not outer.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert outer.is_set()


def test_a_second_ctrl_c_interrupts(Event):
    """Else nothing but SIGKILL would end a shutdown that hangs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        event = Event()
        with event.set_on_signals(signal.SIGINT, signal.SIGINT), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            assert event.reason is signal.SIGINT
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_without_a_python_handler_changes_nothing(Event):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    event = Event()
    with event.set_on_signals(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert event.reason is signal.SIGTERM and repr(event).endswith("set: SIGTERM>")


def test_a_block_of_signals_leaves_the_event_as_it_is(Event):
    event = Event()
    with event.set_on_signals():
        pass
    assert not event.is_set()


def test_signals_are_for_the_main_thread(Event):
    errors = []

    def tries():
        with pytest.raises(ValueError, match="works in the main thread only, not in") as caught:
            Event().set_on_signals()
        errors.append(caught.value)

    with Threads(tries):
        pass
    assert len(errors) == 1


@pytest.mark.parametrize("wrong", [0, 12345, "SIGTERM"])
def test_what_is_not_a_signal_is_refused(Event, wrong):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match=str(wrong)):
        Event().set_on_signals(signal.SIGTERM, wrong)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="every signal can be handled here")
def test_a_signal_that_cannot_be_handled_leaves_the_others_as_they_were(Event):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match=r"^SIGKILL cannot be handled$"):
        Event().set_on_signals(signal.SIGTERM, signal.SIGKILL)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_could_not_be_restored_is_left_alone(Event, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", {signal.SIGINT: before}.get)
        with pytest.raises(ValueError, match="the handler of SIGTERM was not installed from Python and could not be restored"):
            Event().set_on_signals()
    assert signal.getsignal(signal.SIGTERM) is before


# ticks()


def test_ticks_until_set(Event):
    event, ticks = Event(), []
    for tick in event.ticks(0.001):
        ticks.append(tick)
        if tick == 4:
            event.set()
    assert ticks == [0, 1, 2, 3, 4]
    assert list(event.ticks()) == []


def test_ticks_until_the_timeout(Event):
    for kind in ({}, {"set_on_timeout": True}):
        event = Event(0.03, **kind)
        assert list(event.ticks(PATIENCE)) == [0]
        assert event.check_timeout()


@pytest.mark.parametrize("kind", [{}, {"set_on_timeout": True}])
def test_the_timeout_ends_the_pause(Event, kind):
    ticks = []
    with Threads(lambda: ticks.extend(Event(0.03, **kind).ticks(PATIENCE * 10))):
        pass
    assert ticks == [0]


def test_a_timeout_makes_no_pause_longer(Event):
    event, ticks = Event(PATIENCE * 10), []

    def counts():
        for tick in event.ticks(0.001):
            ticks.append(tick)
            if tick == 3:
                break

    with Threads(counts):
        pass
    assert ticks == [0, 1, 2, 3]


def test_a_set_ends_the_pause(Event):
    event, ticks = Event(), []
    with Threads(lambda: ticks.extend(event.ticks(PATIENCE * 10))):
        while not ticks and not event._fe_waiting():
            time.sleep(0.001)
        event.set()
    assert ticks == [0]


@pytest.mark.parametrize(
    "wrong, error", [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_bad_interval(Event, wrong, error):
    with pytest.raises(error, match=r"interval must be .* not"):
        Event().ticks(wrong)


# status(), repr(), logging


def test_status(fastevent):
    event = fastevent.Event()
    assert event.status() == (False, None, False, None, None, None, 0, 0, 0)
    event = fastevent.Event(300)
    child = child_of(event)
    assert child.status().children == 0
    event.add_callback(print)
    event.remove_callback(print)
    event.add_callback(child_of)
    with Threads(event.wait, event.wait):
        while event.status().waiters < 2:
            time.sleep(0.001)
        status = event.status()
        assert isinstance(status, fastevent.EventStatus)
        assert (status.is_set, status.reason, status.timed_out, status.timeout) == (False, None, False, 300.0)
        assert (status.waiters, status.callbacks, status.children) == (2, 1, 1)
        assert 0 <= status.elapsed <= 300 - status.remaining + 1 and status.remaining <= 300
        event.remove_callback(child_of)
        event.set("enough")
    assert event.status()[:3] == (True, "enough", False)
    assert "reason='enough'" in repr(event.status())


def test_repr_tells_the_reason(Event):
    event = Event()
    event.set("shutdown")
    assert repr(event) == f"<fastevent.Event at {id(event):#x}: set: shutdown>"
    event.clear()
    event.set(5)
    assert repr(event).endswith("set: 5>")
    event.clear()
    event.set([event])
    assert repr(event).endswith("set: [...]>")
    event.clear()
    event.set(Decimal(5))
    assert repr(event).endswith("set: Decimal('5')>")


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
def test_repr_rounds_what_is_left(Event, monkeypatch, timeout, left, text):
    event = Event(timeout)
    monkeypatch.setitem(Event.status.__globals__, "monotonic_ns", lambda: event._fe_period()[2] - left)
    assert repr(event).endswith(f": unset, {text}>")


def test_a_repr_changes_nothing(Event):
    event = Event(0, set_on_timeout=True)
    assert repr(event).endswith(": unset, timed out after 0 s>")
    assert event._fe_watch()[0] == 0


def test_a_logged_event(core, tmp_path):
    code = """
    import logging, sys, time
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    from fastevent import Event
    from fastevent.debug import LoggedEvent
    parent = Event()
    event = LoggedEvent(parents=[parent])
    event.set("by hand"); event.set(); event.clear(); event.clear()
    parent.set("by its parent")
    timed = LoggedEvent(0.01, set_on_timeout=True)
    timed.wait()
    time.sleep(0.1)
    """
    lines = python(dedent(code), core).splitlines()
    for line, text in zip(
        lines, ["set: by hand>", "unset>", "set: by its parent>", "set: timed out after 0.01 s>"], strict=True
    ):
        assert line.startswith("fastevent INFO <fastevent.debug.LoggedEvent at ") and text in line
        assert 0 <= float(re.search(r"in thread '[^']+', after (\d+\.\d{6}) s$", line)[1]) < PATIENCE


def test_a_line_logs_a_change_without_a_subclass(Event, caplog):
    caplog.set_level(logging.INFO)
    event = Event()
    event.add_callback(lambda event: logging.info("%r", event))
    event.set("why")
    assert "set: why" in caplog.text


# Many


def test_short_lived_children_leave_memory_flat(core):
    """Of three threads, under one parent that lives on; `make soak` bears a million and more."""
    code = """
    import gc, sys, threading
    sys.path[:0] = [sys.argv[2]]
    from faults import FLAT, resident
    from fastevent import Event
    parent, count = Event(), int(100_000 * float(sys.argv[1]))

    def bears(count):
        for _ in range(count):
            Event(parents=(parent,)).is_set()

    bears(10_000)
    before = resident()
    threads = [threading.Thread(target=bears, args=(count,)) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    gc.collect()
    assert parent.status().children == 0
    assert resident() - before < FLAT, resident() - before
    """
    scale = os.environ.get("FASTEVENT_TEST_SCALE", "1")
    folder = os.path.dirname(__file__)
    python(dedent(code), core, scale, folder, timeout=300 * max(1.0, float(scale)))


def test_a_set_reaches_100_000_children(Event):
    root = Event()
    children = [child_of(root) for _ in range(100_000)]
    root.set("all")
    assert all(child.is_set() for child in children) and children[-1].reason == "all"


# What comes in between


def test_a_set_and_clear_between_two_rounds_of_a_wait_counts(Event):
    class Pulsed(Event):
        looks = 0

        def _fe_is_set_by_now(self):
            self.looks += 1
            if self.looks == 2:  # the first round has ended, at the timeout of the event
                self.set("between")
                self.clear()
            return super()._fe_is_set_by_now()

    event = Pulsed(0.05, set_on_timeout=True)
    assert event.wait(0.08) is True


def test_a_waker_that_is_interrupted_is_called_again(Event):
    event, calls = Event(), []

    def wake(event):
        calls.append(event)
        if len(calls) == 1:
            raise KeyboardInterrupt

    event._fe_subscribe(inside(Event, "Waker")(wake))
    with pytest.raises(KeyboardInterrupt):
        event.set()
    assert calls == [event] * 2


def test_a_waker_that_is_interrupted_at_a_timeout_is_called_again(Event):
    event, calls = Event(0.01, set_on_timeout=True), []

    def wake(event):
        calls.append(event)
        if len(calls) == 1:
            raise KeyboardInterrupt

    event._fe_subscribe(inside(Event, "Waker")(wake))
    passed(event)
    with pytest.raises(KeyboardInterrupt):
        event.is_set()
    assert calls == [event] * 2


def test_wakers_come_before_callbacks_and_are_called_once(Event):
    event, calls = Event(), []
    event.add_callback(lambda event: calls.append("callback"))
    event._fe_subscribe(inside(Event, "Waker")(lambda event: calls.append("waker")))
    assert event.status()[-3:] == (1, 1, 0)
    event.set()
    assert calls == ["waker", "callback"] and event.status()[-3:] == (0, 0, 0)
    event.set()
    assert len(calls) == 2


def test_who_comes_after_a_clear_is_not_told_of_a_set_before_it(Event):
    """Of one that is still on its way to those who were there."""
    event, calls, told = Event(), [], []
    before = child_of(event)
    event.add_callback(calls.append)
    event._fe_put_up("old", told)
    event.clear()
    after = child_of(event)
    event.add_callback(after.set)
    inside(Event, "tell")(told)
    assert before.reason == "old" and calls == [event] and not after.is_set()
    event.set("new")
    assert after.reason == "new"


def test_a_callback_that_comes_with_a_set_is_called(Event):
    class Late(Event):
        def is_set(self):
            was_set = super().is_set()
            self.set()  # right after the look
            return was_set

    calls = []
    event = Late()
    event.add_callback(calls.append)
    assert calls == [event] and event.status().callbacks == 0


def test_a_set_sees_to_it_that_children_are_told_of_one_that_is_still_on_its_way(Event):
    event, calls, told = Event(), [], []
    child = child_of(event)
    event.add_callback(calls.append)
    event._fe_put_up("first", told)
    event.set("second")
    assert child.reason == "first" and calls == [event]
    inside(Event, "tell")(told)
    assert calls == [event]


def test_a_timeout_that_comes_too_late_tells_nobody(Event):
    event, told = Event(300, set_on_timeout=True), []
    child = child_of(event)
    event.set()
    event.clear()
    child.clear()
    event._fe_put_up("late", told, True)
    assert told == [] and not event.is_set() and not child.is_set()


def test_a_callback_may_be_removed_while_status_counts(Event):
    class Looked(inside(Event, "Callback")):
        __slots__ = ()

        @property
        def __class__(self):
            event._fe_callbacks.clear()
            return super().__class__

    event = Event()
    event._fe_subscribe(Looked(print))
    event.add_callback(print)
    event.status()  # whatever it counts
    assert event.status().callbacks == 0


def test_a_callback_may_be_removed_while_a_set_looks_for_those_that_are_due(Event):
    class Looked(inside(Event, "Callback")):
        __slots__ = ("since",)

        @property
        def born(self):
            event.remove_callback(print)
            return self.since

        @born.setter
        def born(self, since):
            self.since = since

    event, calls = Event(), []
    event._fe_subscribe(Looked(calls.append))
    event.add_callback(print)
    event.add_callback(calls.append)
    event.set()
    assert calls == [event] * 2


def test_a_shorter_timeout_is_waited_for(Event):
    event, told = Event(3600, set_on_timeout=True), threading.Event()
    event.add_callback(lambda event: told.set())
    inbox = inside(Event, "arm").__globals__["_inbox"]
    while not inbox.empty():
        time.sleep(0.001)
    time.sleep(0.05)  # the thread of the timers waits for the longer one
    event.__init__(0.02, set_on_timeout=True)
    assert told.wait(PATIENCE)


def test_check_gives_flag_and_reason_of_one_moment(Event, tiny_switch_interval):
    event, ended = Event(), Event()

    def pulses():
        for _ in range(20_000):
            event.set("why")
            event.clear()
        ended.set()

    with Threads(pulses):
        while not ended.is_set():
            try:
                event.check()
            except Exception as error:
                assert error.reason == "why"


def test_a_second_set_of_a_parent_sets_again_who_was_cleared(Event):
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


@pytest.mark.parametrize("wait", [lambda event: event.wait(), lambda event: event.wait(PATIENCE)])
def test_a_subclass_with_its_own_is_set_sets_itself_all_the_same(Event, wait):
    """`threading.Event.wait` never asks `is_set()`: what a subclass answers there must not make a wait spin."""

    class Never(Event):
        def is_set(self):
            return False

    event, told = Never(0.05, set_on_timeout=True), threading.Event()
    assert wait(event) is True
    event.clear()
    event.add_callback(lambda event: told.set())
    assert told.wait(PATIENCE)


def test_a_log_that_raises_stops_nobody(core):
    code = """
    import logging, threading
    from fastevent import Event

    def refuses(record):
        raise OSError

    log = logging.getLogger("fastevent")
    log.addFilter(refuses)
    event = Event()
    event.add_callback(lambda event: 1 / 0)
    event.set()
    first, second, told = Event(0.01, set_on_timeout=True), Event(0.02, set_on_timeout=True), threading.Event()
    first.add_callback(lambda event: exit())
    second.add_callback(lambda event: told.set())
    print(told.wait(60))
    """
    assert python(dedent(code), core) == "True\n"


def test_a_block_sets_its_event_whatever_the_text_of_the_error(Event):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    event = Event()
    with pytest.raises(Mute), event:
        raise Mute
    assert event.reason.startswith("Mute: <") and "Mute object at 0x" in event.reason
    event.clear()
    event.set(Mute())
    with pytest.raises(Exception, match=r"^cancelled: <.*Mute object at 0x"):
        event.check()
    assert "set: <" in repr(event)


def test_a_subclass_of_a_class_that_counts_its_subclasses_may_set_itself(Event):
    class Registered(Event):
        kinds = []  # noqa: RUF012

        def __init_subclass__(cls, *, kind):
            cls.kinds.append(kind)

    class Mine(Registered, kind="mine"):
        pass

    event = Mine(0, set_on_timeout=True)
    assert event.is_set() and isinstance(event, Mine) and Registered.kinds == ["mine"]


@pytest.mark.parametrize("call", ["set", "clear"])
def test_a_callback_may_make_an_event_plain_in_the_midst_of_a_call(Event, call):
    event = Event(0, set_on_timeout=True)
    event._fe_subscribe(Event.status.__globals__["Callback"](lambda event: event.__init__(300)))
    getattr(event, call)()
    assert event.timeout == 300 and type(event) is Event


def test_an_event_that_is_made_anew_leaves_one_timer(core):
    code = """
    import time
    from fastevent import Event, _timer
    event = Event(3600, set_on_timeout=True)
    event.add_callback(print)
    for _ in range(2_000):
        event.__init__(3600, set_on_timeout=True)
    print(len(_timer._armed))
    event.__init__(3600)
    print(len(_timer._armed))
    """
    assert python(dedent(code), core) == "1\n0\n"


@pytest.mark.parametrize("parents", [None, 0, 5])
def test_parents_that_are_none_are_refused(Event, parents):
    with pytest.raises(TypeError, match=rf"^parents must be an iterable of fastevent.Event objects, not {parents}$"):
        Event(parents=parents)


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


def test_a_set_and_clear_ends_ticks(Event):
    event, ticks = Event(), []
    for tick in event.ticks(PATIENCE):
        ticks.append(tick)
        threading.Timer(0.05, lambda: (event.set(), event.clear())).start()
    assert ticks == [0]


def test_a_logged_event_misses_no_set_that_comes_in_the_midst_of_clear(core):
    code = """
    import logging, sys
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    from fastevent.debug import LoggedEvent

    class Logged(LoggedEvent):
        then = None

        def is_set(self):
            answer, then, self.then = super().is_set(), self.then, None
            if then:
                then()
            return answer

    event = Logged()
    event.then = event.set
    event.clear()
    event.set("once more")
    """
    assert "set: once more" in python(dedent(code), core)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="calls no finalizers at exit")
@pytest.mark.parametrize("place", ["threading.main_thread().service", "logging.root.service", "threading.service"])
def test_a_set_in_the_last_finalizers_reaches_children(core, place):
    code = f"""
    import logging, os, threading
    from fastevent import Event

    class Service:
        def __init__(self):
            self.stop = Event()
            self.job = Event(parents=[self.stop])
            self.limit = Event(300, set_on_timeout=True)

        def __del__(self, write=os.write, str=str):
            for event in self.stop, self.limit:
                event.set()
            self.stop.clear()
            write(1, (str(self.job.is_set()) + str(self.limit.is_set())).encode())

    {place} = Service()
    """
    assert python(dedent(code), core) in {"TrueTrue", ""}  # nobody has to be finalized at exit
