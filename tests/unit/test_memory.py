"""The compiled core frees what it made, once, at any depth and where memory is short. The Python core does so as well."""

import sys
import threading

import pytest
from helpers import need_failing_allocations, python


@pytest.mark.parametrize("kind", ["core", "slots", "event", "mixed"])
def test_a_long_chain_of_reasons_is_dropped(core, modules, Event, kind):
    """It took one call of C for each, until the stack was full."""
    base = modules._core.EventCore
    slots = type("Slots", (base,), {"__slots__": ()})
    classes = {"core": [base], "slots": [slots], "event": [Event], "mixed": [base, Event, slots]}[kind]
    done = []

    def drop():
        last = None
        for number in range(100_000 if core == "c" else 30_000):
            event = classes[number % len(classes)]()
            event.set(last)
            last = event
        del event, last
        done.append(kind)

    # On 3.13, any class in Python needs more, this core or not.
    before = threading.stack_size(2**20 if core == "c" else 2**23)
    try:
        thread = threading.Thread(target=drop)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert done


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts on references")
def test_what_is_dropped_late_is_finalized_once(modules):
    """A chain is dropped whole before the call that drops it returns, also where finalizers drop further chains."""
    dropped = []

    class Noisy(modules._core.EventCore):
        def __del__(self):
            dropped.append(1)
            if len(dropped) == 500:
                make_and_drop()

    def make_and_drop():
        last = None
        for _ in range(1000):
            event = Noisy()
            event.set(last)
            last = event

    make_and_drop()
    assert len(dropped) == 2000


@pytest.mark.not_traced
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="allocations of CPython fail")
def test_no_public_call_without_memory_crashes(core):
    need_failing_allocations(core)

    def program():
        import _testcapi
        import logging
        import sys

        from fastevent import Event
        from fastevent._core import EventCore

        class Derived(Event):
            pass

        class DerivedFromCore(EventCore):
            pass

        sys.unraisablehook = lambda it: None
        logging.disable()  # it may be a helper thread that finds no memory
        parent = Event()
        kept = []

        def empty_free_lists(count):
            kept.append([tuple([number] * size) for size in range(1, 8) for number in range(count)])

        empty_free_lists(3000)
        options = {"parents": (parent,), "set_on_timeout": False, "name": "name"}
        calls = {
            **{cls: lambda cls=cls: cls(timeout=1.0, **options) for cls in (Event, Derived, DerivedFromCore)},
            "child": parent.child,
            "child(1)": lambda: parent.child(1, name="name"),
            "self-setting": lambda: Event(300, set_on_timeout=True),
            "callback": lambda: Event().callback(print, 1, file=None),
            "add_callback": lambda: Event().add_callback(str),
            "restart_timeout": lambda: Event(5).restart_timeout(7),
            "set": lambda: parent.set(ValueError("why")),
            "clear": parent.clear,
            "fileno": lambda: Event().fileno(),
            "wait": lambda: Event().wait(1e-9),
            "ticks": lambda: next(iter(Event().ticks(0.1))),
            "set with keyword": lambda: Event().set(reason=5),
            "wait with keyword": lambda: Event().wait(timeout=1e-9),
        }
        if hasattr(sys, "gettotalrefcount"):  # a debug build ends where os.fstat() finds no memory
            del calls["fileno"]
        short = set()
        for name, call in calls.items():
            call()
            for allocation in range(30):
                empty_free_lists(20)
                _testcapi.set_nomemory(allocation, allocation + 1)
                try:
                    call()
                except (MemoryError, RuntimeError, OSError):
                    short.add(name)
                finally:
                    _testcapi.remove_mem_hooks()
                list(range(1000, 2000))  # crashes if a number was freed twice
        print(len(short) > 10)

    assert python(program, core) == "True\n"
