"""A plain `threading.Event` as a parent."""

import asyncio
import gc
import multiprocessing
import os
import sys
import threading
import weakref

import pytest
from helpers import TIMEOUT, Threads, python, until, until_waiting


def waiters(event):
    return list(event._cond._waiters)


def test_a_set_sets_the_child(Event):
    parent = threading.Event()
    child = Event(parents=[parent])
    assert not child.is_set() and child.remaining() is None
    parent.set()
    assert child.is_set() and child.reason is None


def test_a_set_parent_sets_it_from_the_start(Event):
    parent = threading.Event()
    parent.set()
    assert Event(parents=[Event(), parent]).is_set()


def test_it_wakes_who_waits(Event):
    parent, answers = threading.Event(), []
    child = Event(parents=[parent])
    with Threads(*[lambda: answers.append(child.wait(TIMEOUT))] * 3, lambda: answers.append(parent.wait(TIMEOUT))):
        until_waiting(child, 3)
        parent.set()
    assert answers == [True] * 4


def test_each_set_sets_it(Event):
    parent = threading.Event()
    child = Event(parents=[parent])
    for _ in range(5):
        parent.set()
        assert child.is_set()
        parent.clear()
        child.clear()
        assert not child.is_set()


def test_one_waiter_for_all_children(Event):
    parent = threading.Event()
    children = [Event(parents=[parent]) for _ in range(200)]
    assert len(waiters(parent)) == 1
    parent.set()
    assert all(child.is_set() for child in children) and len(waiters(parent)) == 1
    parent.clear()
    children.clear()
    gc.collect()
    for _ in range(10):
        for _ in range(100):
            Event(parents=[parent])
        gc.collect()  # for PyPy
    assert len(waiters(parent)) == 1 and len(waiters(parent)[0].children) < 300


def test_grandchildren_callbacks_and_tasks_follow(Event):
    parent, calls = threading.Event(), []
    child = Event(parents=[parent])
    grandchild = child.child()
    child.add_callback(lambda event: calls.append(threading.current_thread().name))
    grandchild.callback(calls.append, "grandchild")

    async def waits():
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, parent.set)
        return await child.wait_async(TIMEOUT)

    assert asyncio.run(waits()) is True
    until(lambda: len(calls) == 2)
    assert grandchild.is_set() and calls == ["fastevent callbacks", "grandchild"]


def test_a_child_that_fails_costs_no_waiter(Event):
    class Broken(Event):
        def _fe_try_set(self, *arguments):
            raise RuntimeError("as a condition understands it: try again")

    parent, answers = threading.Event(), []
    broken, child = Broken(parents=[parent]), Event(parents=[parent])
    with Threads(lambda: answers.append(parent.wait(TIMEOUT))):
        until(lambda: len(waiters(parent)) == 2)
        parent.set()
    assert answers == [True] and not broken.is_set()
    del child


def test_a_callback_may_take_the_parents_lock(Event):
    """It runs in a helper thread, after `set()` has given the lock back."""
    parent, calls = threading.Event(), []
    child = Event(parents=[parent])
    child.add_callback(lambda event: (parent.clear(), parent.set(), calls.append(parent.is_set())))
    parent.set()
    until(lambda: calls)
    assert calls == [True]


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="objects are freed by count in CPython alone")
def test_parent_and_child_are_freed_at_once(Event):
    gc.collect()
    gc.disable()
    try:
        parent = threading.Event()
        child = Event(parents=[parent])
        references = [weakref.ref(parent), weakref.ref(child), weakref.ref(waiters(parent)[0])]
        del child
        until(lambda: references[1]() is None)
        del parent
        until(lambda: not any(reference() for reference in references))
    finally:
        gc.enable()


def test_a_second_init_leaves_the_parent(Event):
    parent = threading.Event()
    child = Event(parents=[parent])
    child.__init__()
    parent.set()
    assert not child.is_set()


class Subclass(threading.Event):
    pass


def test_a_subclass_of_threading_event_will_do(Event):
    parent = Subclass()
    child = Event(parents=[parent])
    parent.set()
    assert child.is_set()


@pytest.mark.parametrize("wrong", [asyncio.Event, multiprocessing.Event, threading.Condition, object])
def test_what_has_no_such_condition_is_refused(Event, wrong):
    with pytest.raises(TypeError, match=r"^a parent must be a fastevent\.Event or a threading\.Event, not"):
        Event(parents=[wrong()])


def test_a_threading_event_without_its_condition_is_refused(Event):
    class Lazy(threading.Event):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match="a parent must be"):
        Event(parents=[Lazy()])


def test_sets_and_clears_of_many_threads_lose_nothing(Event, tiny_switch_interval):
    for _ in range(30):
        parent, answers = threading.Event(), []

        def waits(parent=parent, answers=answers):
            child = Event(parents=[parent])
            answers.append(child.wait(TIMEOUT))

        with Threads(*[waits] * 4, lambda parent=parent: parent.wait(TIMEOUT), parent.set, parent.set):
            pass
        assert answers == [True] * 4 and len(waiters(parent)) <= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_each_process_sets_its_own(core):
    def program():
        import os
        import threading

        from helpers import until

        from fastevent import Event

        parent, calls = threading.Event(), []
        child = Event(parents=[parent])
        child.callback(calls.append, 1)
        pid = os.fork()
        if pid == 0:
            parent.set()
            until(lambda: child.is_set() and calls)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and not child.is_set() and not calls
        parent.set()
        until(lambda: child.is_set() and calls)

    python(program, core)


def test_several_events_are_waited_for_by_a_child(fastevent):
    with pytest.raises(TypeError, match=r"make an Event\(parents=\[…\]\) of it"):
        fastevent.wait_any([fastevent.Event(), threading.Event()])


def test_a_set_at_exit_takes_no_lock_twice(core):
    """The helpers have ended, and a callback in the setting thread would run under the lock of the parent."""

    def program():
        import atexit
        import logging
        import threading

        logging.disable(logging.CRITICAL)
        parent = threading.Event()
        atexit.register(lambda: print(child.is_set(), grandchild.is_set()))
        atexit.register(parent.set)
        from fastevent import Event

        child = Event(parents=[parent])
        grandchild = child.child()
        child.add_callback(lambda event: parent.clear())

    assert python(program, core) == "True True\n"
