"""The documented Event, one behaviour per test."""

import gc
import itertools
import math
import sys
import threading
import time
import warnings
from decimal import Decimal
from fractions import Fraction

import pytest
from helpers import deadline, python

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


def test_check_timeout_is_never_early_and_stays_true(Event):
    for milliseconds in 1, 2, 3, 5, 8, 13, 21, 34:
        event = Event(timeout=milliseconds / 1000)
        start = time.monotonic_ns()
        while not event.check_timeout():
            pass
        # The period began before the constructor returned, so count from there.
        assert time.monotonic_ns() - event._fe_period().start >= milliseconds * 1_000_000
        assert time.monotonic_ns() - start < 30 * SECOND
        assert event.check_timeout()


def test_check_timeout_is_true_at_the_deadline(Event):
    event = Event(timeout=0.05)
    while time.monotonic_ns() < deadline(event):
        pass
    assert event.check_timeout()


def test_check_timeout_is_exact_near_the_deadline(Event):
    """A coarse clock would say False up to some milliseconds after the deadline."""
    for microseconds in range(0, 20_000, 617):
        event = Event(timeout=microseconds / 1e6)
        while time.monotonic_ns() < deadline(event):
            pass
        assert event.check_timeout()


def test_check_timeout_has_no_side_effect(Event):
    event = Event(timeout=0)
    assert event.check_timeout()
    assert not event.is_set()


def test_check_timeout_ignores_the_flag(Event):
    event = Event(timeout=0)
    event.set()
    assert event.check_timeout()
    late = Event(timeout=300)
    late.set()
    assert not late.check_timeout()


def test_clear_restarts_the_timeout(Event):
    event = Event(timeout=0.03)
    first = event._start_time
    while not event.check_timeout():
        time.sleep(0.001)
    event.clear()
    assert event._start_time > first
    start = event._fe_period().start
    while not event.check_timeout():
        pass
    assert time.monotonic_ns() - start >= 0.03 * SECOND


@pytest.mark.parametrize("timeout", [5, 5.0, 0, 0.0, 1e-9, 300, 1e300, math.inf, 10**400, Decimal("5"), Fraction(5, 2)])
def test_numbers_are_timeouts(Event, timeout):
    event = Event(timeout=timeout)
    assert type(event._timeout) is float
    assert event._timeout == (math.inf if timeout == 10**400 else float(timeout))


def test_an_object_with_an_index_is_a_timeout(Event):
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
def test_other_timeouts_are_refused(Event, timeout):
    with pytest.raises(TypeError) as caught:
        Event(timeout=timeout)
    assert str(caught.value) == f"timeout must be a number of seconds or None, not {timeout!r}"


def test_keywords_come_in_any_order(Event):
    parent = Event()
    options = {"timeout": 300, "parents": [parent], "set_on_timeout": True, "name": "job"}
    for names in itertools.permutations(options):
        event = Event(**{name: options[name] for name in names})
        assert (event.timeout, event.name, event._fe_self_setting) == (300, "job", True)
        assert parent.status().children == 1
        del event
        gc.collect()


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


def test_start_time_is_exact(Event):
    event = Event.__new__(Event)
    event._fe_start_at(5.0, 10**15)
    assert event._start_time == 1e6


@pytest.mark.parametrize("name", ["_event", "_timeout", "_start_time", "name", "reason"])
def test_attributes_give_way_to_an_instances_own(Event, name):
    event = Event()
    before = getattr(event, name)
    setattr(event, name, 1)
    assert getattr(event, name) == 1 and event.wait(0) is False and event.status().timeout is None
    delattr(event, name)
    assert getattr(event, name) is before


# wait()


def test_wait_on_a_set_event_takes_any_argument(Event):
    event = Event()
    event.set()
    assert all(event.wait(argument) is True for argument in (None, 0, -1, math.nan, math.inf, "1", object(), 10**400))


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -math.inf, False, -(10**400)])
def test_wait_for_no_time_is_false_at_once(Event, timeout):
    assert Event().wait(timeout) is False


@pytest.mark.parametrize("timeout", [1e-9, 1e-6, 0.001, 0.02, Fraction(1, 50) if sys.version_info >= (3, 15) else 0.03])
def test_wait_never_ends_early(Event, timeout):
    event = Event()
    for _ in range(8):
        start = time.monotonic_ns()
        assert event.wait(timeout) is False
        assert time.monotonic_ns() - start >= timeout * SECOND


def test_wait_without_a_number_ends_at_the_deadline(Event):
    event = Event(timeout=0.05)
    assert event.wait() is False
    assert event.check_timeout() and not event.is_set()
    assert event.wait() is False  # and again at once
    assert event.wait(None) is False
    assert event.wait(timeout=None) is False


def test_a_number_alone_decides_how_long_wait_lasts(Event):
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
    thread.join(0.1)
    if result:
        thread.join()
        return result[0]
    event.set()
    thread.join()
    return "waits" if result[0] is True else result[0]  # on a loaded machine, it may just have come late


@pytest.mark.parametrize("argument", OUTCOMES, ids=lambda argument: repr(argument)[:30])
def test_wait_does_what_threading_event_does(Event, argument):
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


# The timeout cannot be assigned


def test_assigning_the_timeout_says_what_to_write(Event):
    event = Event(5)
    with pytest.raises(AttributeError, match=r"cannot be set to 7: call restart_timeout\(7\), or make an Event\(7\)$"):
        event.timeout = 7
    with pytest.raises(AttributeError, match="restart_timeout"):
        del event.timeout
    assert event.timeout == 5 and "timeout" not in vars(event)


def test_a_subclass_may_assign_it(Event):
    class Task(Event):
        pass

    task = Task(5)
    assert task.timeout == 5.0
    task.timeout = "mine"
    assert task.timeout == "mine" and task.status().timeout == 5.0
    del task.timeout
    assert task.timeout == 5.0


def test_under_the_patch_it_may_be_assigned(core):
    def program():
        import threading

        from fastevent import patch_threading

        patch_threading()
        event = threading.Event()
        event.timeout = 5
        assert event.timeout == 5 and threading.Event().timeout is None

    python(program, core)
