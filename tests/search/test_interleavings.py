"""The Python core through every schedule of a few threads, and through a signal at every place: see `explorer`.

Each scenario says how many schedules there are at least, so that the explorer cannot pass by exploring nothing.
"""

import sys

import pytest
from explorer import SECOND, Interrupted, explore, explore_interrupts, load
from explorer.run import Run
from explorer.signals import watch
from helpers import HAS_GIL, SCALE

pytestmark = pytest.mark.skipif(
    not HAS_GIL,
    reason="without the GIL, threads hang in CPython's events for every instruction",
)
soak = pytest.mark.skipif(SCALE <= 1, reason="takes minutes: make soak explores it")
tracing = pytest.mark.skipif(sys.implementation.name != "cpython", reason="needs CPython's events for every instruction")


@pytest.fixture(scope="module")
def explored():
    return load(watch=watch)


@pytest.fixture(scope="module")
def window_of_one():
    return load(window=1, watch=watch)


def waits(run):
    run.wait()


def waits_a_second(run):
    run.wait(1)


def waits_for_the_event(run):
    run.wait(until=SECOND)


def waits_for_any(run):
    run.wait_any()


def waits_for_any_a_second(run):
    run.wait_any(1)


def sets(run):
    run.set("a")


def sets_too(run):
    run.set("b")


def clears(run):
    run.clear()


def sets_and_clears(run):
    run.set("c")
    run.clear()


def restarts_sooner(run):
    run.restart(1)


def restarts_later(run):
    run.restart(9)


def expires(run):
    run.expire()


def reads(run):
    run.read()


def time_passes(run):
    run.tick()


def raises(run):
    raise Interrupted


def sets_and_raises(run):
    run.set("d")
    raise Interrupted


def adds_a_child(run):
    run.add_child()


def adds_a_callback(run):
    run.add_callback()


def adds_a_child_and_a_callback(run):
    run.add_child()
    run.add_callback()


def adds_and_removes_a_callback(run):
    run.remove(*run.add_callback())


@pytest.mark.parametrize(
    "least, threads",
    [
        (8, [waits, sets]),
        (100, [waits, sets, clears]),
        (100, [waits, sets, sets_too]),
        (20, [waits, sets_and_clears]),
        (100, [waits, sets_and_clears, clears]),
        pytest.param(100, [waits, waits, sets], marks=soak),
    ],
)
def test_set_wakes_all_waiters(explored, least, threads):
    assert explore(explored, *threads) >= least


@pytest.mark.parametrize("threads", [[waits, waits, sets], pytest.param([waits, waits_a_second, sets_and_clears], marks=soak)])
def test_a_window_of_one_wakes_all_waiters(window_of_one, threads):
    assert explore(window_of_one, *threads) >= 100


@pytest.mark.parametrize("threads", [[waits_a_second, sets], [waits_a_second, sets_and_clears]])
def test_a_timeout_takes_no_wakeup_back(explored, threads):
    assert explore(explored, *threads, time_passes) >= 60


def test_the_own_timeout_takes_no_wakeup_back(explored):
    assert explore(explored, waits_for_the_event, sets, time_passes, timeout=1) >= 30


def test_clear_extends_a_wait(explored):
    assert explore(explored, waits_for_the_event, clears, time_passes, timeout=1) >= 30


@pytest.mark.parametrize("threads", [[waits, sets], [sets, sets_too]])
def test_an_event_without_init(explored, threads):
    assert explore(explored, *threads, timeout="bare") >= 8


@pytest.mark.parametrize("threads", [[sets, sets_too], [sets, clears], [sets_and_clears, clears]])
def test_a_reason_belongs_to_its_state(explored, threads):
    assert explore(explored, *threads, reads) >= 100


@pytest.mark.parametrize("threads", [[clears], [sets], [sets_and_clears], [expires], [restarts_later]])
def test_an_old_timeout_reaches_no_new_period(explored, threads):
    assert explore(explored, expires, *threads, time_passes, reads, timeout=1) >= 20


# restart_timeout()


@pytest.mark.parametrize("threads", [[sets], [clears], [expires], [restarts_later]])
def test_restart_timeout_is_one_step(explored, threads):
    assert explore(explored, restarts_sooner, *threads, time_passes, timeout=1) >= 10


@pytest.mark.parametrize("wait", [Run.wait, Run.wait_any])
@pytest.mark.parametrize("restart", [restarts_sooner, restarts_later])
def test_restart_timeout_reaches_waiters(explored, wait, restart):
    def waits(run):
        wait(run, until=SECOND)

    assert explore(explored, waits, restart, time_passes, timeout=5) >= 10


def test_restart_timeout_takes_no_set(explored):
    assert explore(explored, waits_for_the_event, restarts_sooner, sets, timeout=5) >= 10


# Self-setting events


@pytest.mark.parametrize("threads", [[], [clears], [restarts_sooner], [restarts_later], [waits], [waits_for_any]])
def test_a_self_setting_event_is_set(explored, threads):
    options = {"timeout": 1, "set_on_timeout": True}
    assert explore(explored, Run.keep_deadlines, time_passes, *threads, **options) >= 1


# Subscribers


@pytest.mark.parametrize("threads", [[sets], [sets_and_clears]])
@pytest.mark.parametrize("subscribes", [adds_a_child, adds_a_callback, adds_and_removes_a_callback, waits_for_any])
def test_new_subscribers_are_notified(explored, subscribes, threads):
    assert explore(explored, subscribes, *threads) >= 5


@pytest.mark.parametrize("threads", [[sets, sets_too], [sets, clears]])
def test_subscribers_are_notified(explored, threads):
    assert explore(explored, *threads, first=adds_a_child_and_a_callback) >= 5


def test_a_timeout_takes_no_set_from_wait_any(explored):
    assert explore(explored, waits_for_any_a_second, sets_and_clears, time_passes) >= 60


def test_a_late_timeout_notifies_no_subscriber(explored):
    assert explore(explored, sets, clears, expires, timeout=1, first=adds_a_child) >= 100


# Signals


@tracing
@pytest.mark.parametrize(
    "handler, threads",
    [
        (sets, []),
        (sets_and_clears, []),
        (raises, []),
        (sets, [sets]),
        (raises, [sets]),
        pytest.param(sets_and_clears, [sets], marks=soak),
    ],
)
def test_a_signal_in_wait(explored, handler, threads):
    places, schedules = explore_interrupts(explored, waits, handler, *threads)
    assert places >= 10
    assert schedules >= (5 * places if threads else places)


@tracing
@pytest.mark.parametrize(
    "handler, threads",
    [
        (sets, []),
        (sets_and_clears, []),
        (raises, []),
        (raises, [sets]),
        pytest.param(sets_and_clears, [sets], marks=soak),
    ],
)
def test_a_signal_in_wait_any(explored, handler, threads):
    places, schedules = explore_interrupts(explored, waits_for_any, handler, *threads)
    assert places >= 10
    assert schedules >= (5 * places if threads else places)


@tracing
@pytest.mark.parametrize("handler, threads", [(sets_and_raises, [waits]), pytest.param(raises, [waits, sets], marks=soak)])
def test_a_waiter_that_raises_hands_its_place_on(window_of_one, handler, threads):
    places, schedules = explore_interrupts(window_of_one, waits, handler, *threads)
    assert places >= 10
    assert schedules >= 2 * places


@tracing
@pytest.mark.parametrize("threads", [[waits], pytest.param([waits, clears], marks=soak)])
def test_a_signal_that_raises_in_set(explored, threads):
    places, schedules = explore_interrupts(explored, sets, raises, *threads)
    assert places >= 5
    assert schedules >= 5 * places


@tracing
@pytest.mark.parametrize("threads", [[sets_too], pytest.param([waits, sets_too], marks=soak)])
def test_a_signal_raises_in_one_of_two_sets(explored, threads):
    places, schedules = explore_interrupts(explored, sets, raises, *threads)
    assert places >= 5
    assert schedules >= places


@tracing
@pytest.mark.parametrize("handler", [sets_too, raises])
def test_a_signal_in_clear(explored, handler):
    places, schedules = explore_interrupts(explored, clears, handler, sets, timeout=5)
    assert places >= 5
    assert schedules >= 2 * places
