"""The documented Event, one behaviour per test."""

import abc
import copy
import gc
import inspect
import math
import pickle
import sys
import threading
import time
import warnings
import weakref
from decimal import Decimal
from fractions import Fraction
from unittest import mock

import pytest
from helpers import python

try:
    import numpy
except ModuleNotFoundError:
    numpy = None

SECOND = 10**9


# The flag


def test_a_new_event_is_unset(Event):
    assert Event().is_set() is False


def test_set_sets(Event):
    event = Event()
    assert event.set() is None
    assert event.is_set() is True


def test_set_twice_is_set_once(Event):
    event = Event()
    event.set()
    event.set()
    event.clear()
    assert not event.is_set()


def test_clear_unsets(Event):
    event = Event()
    event.set()
    assert event.clear() is None
    assert event.is_set() is False


def test_flag_follows_is_set(Event):
    event = Event()
    assert event.flag is False
    event.set()
    assert event.flag is True
    event.clear()
    assert event.flag is False


@pytest.mark.parametrize("attempt", [lambda e: setattr(e, "flag", True), lambda e: delattr(e, "flag")])
def test_flag_cannot_be_assigned(Event, attempt):
    with pytest.raises(AttributeError, match=r"^readonly attribute$"):
        attempt(Event())


def test_events_are_truthy_always(Event):
    event = Event(timeout=0)
    assert event
    event.set()
    assert event
    assert not hasattr(Event, "__bool__") and not hasattr(Event, "__len__")


# The timeout


def test_without_a_timeout_an_event_never_times_out(Event):
    event = Event()
    assert event.check_timeout() is False
    assert (event._timeout, event._start_time) == (None, None)


def test_zero_times_out_at_once(Event):
    assert Event(0).check_timeout() is True
    assert Event(timeout=-0.0).check_timeout() is True


def test_check_timeout_is_never_true_early_and_stays_true(Event):
    for milliseconds in range(1, 40):
        event = Event(timeout=milliseconds / 1000)
        start = time.monotonic_ns()
        while not event.check_timeout():
            pass
        # The period began before the constructor returned, so count from there.
        assert time.monotonic_ns() - event._fe_period()[1] >= milliseconds * 1_000_000
        assert time.monotonic_ns() - start < 30 * SECOND
        assert event.check_timeout()


def test_check_timeout_says_true_at_the_deadline(Event):
    event = Event(timeout=0.05)
    deadline = event._fe_period()[2]
    while time.monotonic_ns() < deadline:
        pass
    assert event.check_timeout()


def test_check_timeout_is_exact_near_the_deadline(Event):
    """Whoever reads a coarse clock there says False up to some milliseconds after the deadline."""
    for microseconds in range(0, 20_000, 617):
        event = Event(timeout=microseconds / 1e6)
        deadline = event._fe_period()[2]
        while time.monotonic_ns() < deadline:
            pass
        assert event.check_timeout()


def test_check_timeout_has_no_side_effect(Event):
    event = Event(timeout=0)
    assert event.check_timeout()
    assert not event.is_set()


def test_check_timeout_does_not_care_for_the_flag(Event):
    event = Event(timeout=0)
    event.set()
    assert event.check_timeout()
    late = Event(timeout=300)
    late.set()
    assert not late.check_timeout()


def test_clear_starts_the_timeout_anew(Event):
    event = Event(timeout=0.03)
    first = event._start_time
    while not event.check_timeout():
        time.sleep(0.001)
    event.clear()
    assert event._start_time > first
    start = event._fe_period()[1]
    while not event.check_timeout():
        pass
    assert time.monotonic_ns() - start >= 0.03 * SECOND


@pytest.mark.parametrize("timeout", [5, 5.0, 0, 0.0, 1e-9, 300, 1e300, math.inf, 10**400, Decimal("5"), Fraction(5, 2)])
def test_numbers_are_timeouts(Event, timeout):
    event = Event(timeout=timeout)
    assert type(event._timeout) is float
    assert event._timeout == (math.inf if timeout == 10**400 else float(timeout))


def test_what_is_a_number_by_its_index_alone_is_a_timeout(Event):
    class Seven:
        def __index__(self):
            return 7

    assert Event(Seven())._timeout == 7.0


@pytest.mark.skipif(numpy is None, reason="needs numpy")
@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "uint8"])
def test_numpy_numbers_are_timeouts(Event, kind):
    timeout = getattr(numpy, kind)(7)
    event = Event(timeout)
    assert event._timeout == 7.0
    event.set()
    assert event.wait(timeout)


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 10**400, threading.TIMEOUT_MAX * 2, 9.3e9, 2**63 / 1e9])
def test_huge_timeouts_never_time_out(Event, timeout):
    assert not Event(timeout=timeout).check_timeout()


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf, -(10**400), Decimal(-1)])
def test_timeouts_below_zero_are_refused(Event, timeout):
    with pytest.raises(ValueError) as caught:
        Event(timeout=timeout)
    assert str(caught.value) == f"timeout must be zero or more seconds, not {timeout!r}"


@pytest.mark.parametrize("timeout", ["5", b"5", True, False, object(), [5], 1j, int])
def test_what_is_no_number_is_refused(Event, timeout):
    with pytest.raises(TypeError) as caught:
        Event(timeout=timeout)
    assert str(caught.value) == f"timeout must be a number of seconds or None, not {timeout!r}"


def test_a_refused_second_init_leaves_the_event_usable(Event):
    event = Event(timeout=300)
    with pytest.raises(ValueError):
        event.__init__(timeout=-1)
    event.set()
    assert event.is_set() and not event.check_timeout()
    assert event._timeout == 300.0


def test_attributes_of_the_reference(Event):
    before = time.monotonic()
    event = Event(timeout=5)
    after = time.monotonic()
    assert event._timeout == 5.0
    assert before <= event._start_time <= after
    assert event._event is event and isinstance(event._event, threading.Event)


@pytest.mark.parametrize("name", ["_event", "_timeout", "_start_time", "name", "timeout", "reason"])
def test_attributes_give_way_to_an_instances_own(Event, name):
    event = Event()
    before = getattr(event, name)
    setattr(event, name, 1)
    assert getattr(event, name) == 1 and event.wait(0) is False and event.status().timeout is None
    delattr(event, name)
    assert getattr(event, name) is before


# wait()


def test_wait_on_a_set_event_is_true_at_once_whatever_the_argument(Event):
    event = Event()
    event.set()
    assert all(event.wait(argument) is True for argument in (None, 0, -1, math.nan, math.inf, "1", object(), 10**400))


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -math.inf, False, -(10**400)])
def test_wait_for_no_time_is_false_at_once(Event, timeout):
    assert Event().wait(timeout) is False


@pytest.mark.parametrize("timeout", [1e-9, 1e-6, 0.001, 0.02, Fraction(1, 50) if sys.version_info >= (3, 15) else 0.03])
def test_wait_never_ends_early(Event, timeout):
    event = Event()
    for _ in range(20):
        start = time.monotonic_ns()
        assert event.wait(timeout) is False
        assert time.monotonic_ns() - start >= timeout * SECOND


def test_wait_without_a_number_ends_at_the_own_timeout(Event):
    event = Event(timeout=0.05)
    assert event.wait() is False
    assert event.check_timeout() and not event.is_set()
    assert event.wait() is False  # and again at once
    assert event.wait(None) is False
    assert event.wait(timeout=None) is False


def test_wait_with_a_number_is_paced_by_it_alone_also_after_the_own_timeout(Event):
    event = Event(timeout=0)
    start = time.monotonic_ns()
    assert event.wait(0.03) is False
    assert time.monotonic_ns() - start >= 0.03 * SECOND


OUTCOMES = [
    *(0, 1, -1, True, False, 10**400, -(10**400), threading.TIMEOUT_MAX, threading.TIMEOUT_MAX + 1),
    *(1e-3, 1e-300, 1e300, math.nan, math.inf, -math.inf),
    *(Decimal("0.001"), Decimal(-1), Decimal("nan"), Fraction(1, 1000), Fraction(-1, 1000), 1j),
    *("1", "", b"1", b"", [], [1], {}, (), range(3), object(), int, len, ..., NotImplemented),
]


def outcome(event, argument):
    """What `event.wait(argument)` does: an answer, an error, or that it waits."""
    result = []

    def waits():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                result.append(event.wait(argument))
        except Exception as error:
            result.append((type(error), str(error)))

    thread = threading.Thread(target=waits, daemon=True)
    thread.start()
    thread.join(0.25)
    if result:
        thread.join()
        return result[0]
    event.set()
    thread.join()
    return "waits"


@pytest.mark.parametrize("argument", OUTCOMES, ids=lambda argument: repr(argument)[:30])
def test_wait_does_what_threading_event_does_but_that_it_waits_where_that_overflows(Event, argument):
    theirs = outcome(threading.Event(), argument)
    ours = outcome(Event(), argument)
    if isinstance(theirs, tuple) and theirs[0] is OverflowError:
        theirs = "waits"
    if isinstance(theirs, tuple) and theirs[0] is TypeError:
        assert ours == (TypeError, f"timeout must be a number of seconds or None, not {argument!r}")
    elif isinstance(argument, float) and math.isnan(argument):  # which newer releases refuse
        assert ours is False
    else:
        assert ours == theirs


# What a Python object can do


def test_it_is_a_threading_event(Event):
    assert issubclass(Event, threading.Event)
    assert isinstance(Event(), threading.Event)


def test_it_takes_attributes_and_weak_references(Event):
    event = Event()
    event.owner = "me"
    assert event.owner == "me"
    gone = []
    reference = weakref.ref(event, gone.append)
    assert reference() is event
    del event
    gc.collect()
    assert gone == [reference]


def test_cycles_are_collected(Event):
    event = Event()
    event.me = event
    reference = weakref.ref(event)
    del event
    gc.collect()
    assert reference() is None


def test_a_subclass_may_take_other_arguments(Event):
    class Named(Event):
        def __init__(self, name, *, timeout=None):
            super().__init__(timeout)
            self.name = name

    event = Named("a", timeout=0)
    assert event.name == "a" and event.check_timeout()


def test_a_subclass_may_forget_super_init(Event):
    class Forgetful(Event):
        def __init__(self, *args, **kwargs):
            pass

    event = Forgetful(1, 2, x=3)
    assert not event.is_set() and not event.check_timeout() and not event.wait(0)
    assert event._timeout is None
    event.set()
    assert event.wait()
    event.clear()
    assert not event.flag


def test_new_without_init_works(Event):
    event = Event.__new__(Event)
    event.set()
    assert event.is_set()


@pytest.mark.parametrize("order", ["mixin first", "event first"])
def test_mixins(Event, order):
    class Mixin:
        def hello(self):
            return "hello"

    class Mixed(*((Mixin, Event) if order == "mixin first" else (Event, Mixin))):
        pass

    event = Mixed(timeout=0)
    assert event.hello() == "hello" and event.check_timeout()


def test_an_abstract_mixin(Event):
    class Interface(abc.ABC):
        @abc.abstractmethod
        def go(self): ...

    class Abstract(Event, Interface):
        pass

    class Concrete(Abstract):
        def go(self):
            return self.wait(0)

    assert Concrete().go() is False
    with pytest.raises(TypeError):
        Abstract()


def test_overridden_methods_are_called(Event):
    class Loud(Event):
        def is_set(self):
            return "overridden"

        def set(self):
            self.seen = True
            super().set()

    event = Loud()
    assert event.is_set() == "overridden"
    event.set()
    assert event.seen and event.flag and super(Loud, event).is_set() is True


def test_a_second_init_makes_it_new(Event):
    event = Event(timeout=0)
    event.set()
    event.__init__()
    assert not event.is_set() and not event.check_timeout() and event._timeout is None
    event.__init__(timeout=0)
    assert event.check_timeout()


def test_slots_and_class_attributes(Event):
    class Slotted(Event):
        __slots__ = ("extra",)
        kind = "slotted"

    event = Slotted()
    event.extra = 1
    assert event.extra == 1 and event.kind == "slotted"


@pytest.mark.parametrize(
    "refused", [copy.copy, copy.deepcopy, pickle.dumps, lambda e: pickle.dumps(e, 0), lambda e: [e.__reduce_ex__(2)]]
)
def test_an_instance_refuses_copy_and_pickle(Event, refused):
    event = Event()
    with pytest.raises(TypeError) as caught:
        refused(event)
    assert str(caught.value) == (
        f"cannot pickle or copy {event!r}: threads of this process wait for this very object; "
        "a fastevent.SharedEvent can be sent to other processes"
    )


def test_the_class_is_found_where_it_says(Event):
    assert (Event.__module__, Event.__qualname__) == ("fastevent._event", "Event")
    assert inspect.getsource(Event).startswith("class Event(")


def test_the_class_pickles_by_name():
    import fastevent

    assert pickle.loads(pickle.dumps(fastevent.Event)) is fastevent.Event
    assert copy.deepcopy(fastevent.Event) is fastevent.Event


def test_isset_warns_at_the_callers_line(Event):
    event = Event()
    with pytest.warns(DeprecationWarning, match="is_set") as caught:
        assert event.isSet() is False
    assert caught[0].filename == __file__


def test_signatures(Event):
    assert str(inspect.signature(Event).replace(return_annotation=inspect.Signature.empty)) in {
        "(timeout=None, *, parents=(), set_on_timeout=False, name=None)",
        "(timeout: 'float | None' = None, *, parents: 'Iterable[EventCore]' = (), set_on_timeout: 'bool' = False,"
        " name: 'str | None' = None)",
    }
    for name, parameters in {
        "set": ["reason"],
        "check": [],
        "clear": [],
        "is_set": [],
        "check_timeout": [],
        "wait": ["timeout"],
    }.items():
        assert list(inspect.signature(getattr(Event(), name)).parameters) == parameters


def test_a_subclass_shows_its_own_signature(Event):
    class Named(Event):
        def __init__(self, name):
            super().__init__()

    assert str(inspect.signature(Named)) == "(name)"


def test_autospec(Event):
    double = mock.create_autospec(Event, instance=True)
    double.wait.return_value = True
    assert double.wait(timeout=1) is True
    double.wait.assert_called_once_with(timeout=1)
    with pytest.raises(AttributeError):
        double.cancel()
    assert isinstance(double, Event) and isinstance(double, threading.Event)


@pytest.mark.parametrize("name", ["set", "is_set", "clear", "check_timeout", "wait"])
def test_methods_can_be_patched_on_the_class(Event, name):
    event = Event()
    with mock.patch.object(Event, name, lambda self: "patched"):
        assert getattr(event, name)() == "patched"
    assert getattr(event, name) is not None and event.is_set() in (True, False)


def test_init_and_new_can_be_replaced_on_the_class(core):
    code = """if True:  # in a process of its own: a class does not forget that it had a __new__
        from unittest import mock
        from fastevent import Event
        seen, new = [], Event.__new__
        with mock.patch.object(Event, "__init__", lambda self, *arguments: seen.append(arguments)):
            Event(), Event(5)
        Event(6)
        Event.__new__ = lambda cls, *arguments: seen.append("new") or new(cls)
        print(Event(7).is_set(), seen)
    """
    assert python(code, core) == "False [(), (5,), 'new']\n"


def test_repr_without_a_timeout_is_that_of_threading(Event):
    event = Event()
    assert repr(event) == f"<fastevent.Event at {id(event):#x}: unset>"
    event.set()
    assert repr(event) == f"<fastevent.Event at {id(event):#x}: set>"


@pytest.mark.parametrize(
    ("timeout", "ends"),
    [(5, "unset, 5 s of 5 s left>"), (0, "unset, timed out after 0 s>"), (math.inf, "unset, inf s of inf s left>"),
     (0.75, "s of 0.75 s left>"), (1e300, "unset, 1e+300 s of 1e+300 s left>")],
)  # fmt: skip
def test_repr_with_a_timeout_says_what_is_left(Event, timeout, ends):
    assert repr(Event(timeout)).endswith(ends)


def test_repr_names_the_subclass(Event):
    class Sub(Event):
        pass

    assert repr(Sub()).startswith(f"<{__name__}.test_repr_names_the_subclass.<locals>.Sub at 0x")


def test_the_lookup_of_threading_event_is_done_at_import(Event):
    with mock.patch.object(threading, "Event", Event):
        event = threading.Event()
        event.set()
        assert repr(event).endswith("set>") and isinstance(event, threading.Event)
        thread = threading.Thread(target=event.wait)
        thread.start()
        thread.join()


def test_a_thread_lives_on_our_events(Event):
    """`threading` makes an event for every thread, sets it, waits for it, and reinitialises it after a fork."""
    with mock.patch.object(threading, "Event", Event):
        threads = [threading.Thread(target=lambda: None) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(type(thread._started) is Event for thread in threads)


def test_memory_of_an_event(core, Event):
    if core == "c":
        assert sys.getsizeof(Event()) <= 128 and not getattr(Event, "__static_attributes__", ())


# Classes that people have derived from threading.Event: what they call their own things


@pytest.mark.parametrize("name", ["timeout", "reason", "_timeout", "_start_time", "_event"])
def test_a_subclass_may_have_an_attribute_of_its_own_by_that_name(Event, name):
    class Theirs(Event):
        def __init__(self, value):
            setattr(self, name, value)
            super().__init__(0.25)

    event = Theirs("mine")
    assert getattr(event, name) == "mine"
    event.set("why")
    status = event.status()
    assert (status.reason, status.timeout) == ("why", 0.25)
    assert "set: why" in repr(event) and "0.25 s" in repr(event)
    with pytest.raises(Exception, match=r"^cancelled: why$"):
        event.check()
    delattr(event, name)
    assert getattr(event, name) == getattr(super(Theirs, event), name) != "mine"
    with pytest.raises(AttributeError):
        delattr(event, name)


def test_a_subclass_may_call_its_own_things_what_it_likes(Event):
    """Its attributes never meet those by which an event works."""
    ours = {name for cls in Event.__mro__ for name in vars(cls) if not name.startswith("__")}
    of_threading = {name for name in dir(threading.Event) if not name.startswith("__")}
    documented = {"_event", "_timeout", "_start_time"}
    assert {name for name in ours - of_threading - documented if name.startswith("_") and not name.startswith("_fe_")} == set()

    class Theirs(Event):
        def __init__(self):
            self._callbacks, self._children, self._parents, self._state, self._timer = [print], 1, 2, 3, 4
            self.status, self.elapsed, self.remaining, self.ticks, self.check = "idle", 5, 6, 7, 8
            super().__init__(300, set_on_timeout=True)

    parent, called = Theirs(), []
    child = Event(parents=[parent])
    parent.add_callback(called.append)
    parent.set()
    assert called == [parent] and child.is_set() and parent.wait() and repr(parent)
    assert (parent._callbacks, parent.status) == ([print], "idle")
