"""The Python core through every schedule of a few threads, and through a signal at every place: see `explorer`.

Each scenario says how many schedules there are at least, so that the explorer cannot pass by exploring nothing.
"""

import sys

import pytest
from explorer import SECOND, Flaw, Interrupted, explore, explore_interrupts, load

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL, threads hang in CPython's events for every instruction",
)
tracing = pytest.mark.skipif(sys.implementation.name != "cpython", reason="needs CPython's events for every instruction")


@pytest.fixture(scope="module")
def explored():
    return load()


def waits(run):
    run.wait()


def waits_a_second(run):
    run.wait(1)


def waits_for_the_event(run):
    run.wait(until=SECOND)


def sets(run):
    run.event.set()


def clears(run):
    run.event.clear()


def sets_and_clears(run):
    run.event.set()
    run.event.clear()


def time_passes(run):
    run.tick()


def raises(run):
    raise Interrupted


@pytest.mark.parametrize(
    "least, threads",
    [
        (8, [waits, sets]),
        (100, [waits, waits, sets]),
        (50, [waits, sets, clears]),
        (20, [waits, sets_and_clears]),
        (1000, [waits, waits, sets_and_clears]),
        (1000, [waits, sets, sets, clears]),
    ],
)
def test_who_waits_is_woken(explored, least, threads):
    assert explore(explored, *threads) >= least


@pytest.mark.parametrize("threads", [[waits_a_second, sets], [waits_a_second, sets, clears]])
def test_a_timeout_takes_nothing_back(explored, threads):
    assert explore(explored, *threads, time_passes) >= 60


def test_the_timeout_of_the_event_takes_nothing_back(explored):
    assert explore(explored, waits_for_the_event, sets, time_passes, timeout=1) >= 40


@tracing
@pytest.mark.parametrize("handler", [sets, sets_and_clears, raises])
@pytest.mark.parametrize("threads", [[], [sets]])
def test_a_signal_in_wait(explored, handler, threads):
    places, schedules = explore_interrupts(explored, waits, handler, *threads)
    assert places >= 10
    assert schedules >= (5 * places if threads else places)


@tracing
@pytest.mark.parametrize("threads", [[waits], [waits, clears]])
def test_a_signal_that_raises_in_set(explored, threads):
    places, schedules = explore_interrupts(explored, sets, raises, *threads)
    assert places >= 5
    assert schedules >= 5 * places


@tracing
def test_a_signal_that_raises_in_set_while_another_sets_and_clears(explored):
    places, schedules = explore_interrupts(explored, sets, raises, waits, sets_and_clears)
    assert places >= 5
    assert schedules >= 5 * places


# Planted bugs: the explorer finds each

TAKES = """            ended.extend(map(self._state.pop, (_CROWD,), ({},)))
"""
WAKES = """            _wake(ended[0])
"""
RESCUES = """            if ended:  # who waits is woken all the same
                _wake(ended[0])
"""
LEAVES = """        finally:
            crowd.pop(waiter, None)
"""


@pytest.mark.parametrize(
    "old, new, threads",
    [
        ("while self._state.get(_CROWD) is crowd:", "while True:", [waits, sets]),
        (TAKES + WAKES, "            _wake(self._state.get(_CROWD, {}))\n" + TAKES, [waits, sets]),
        (TAKES + WAKES, TAKES, [waits, sets]),
        ("self._state.setdefault(_CROWD, {})", "self._state[_CROWD] = {}", [waits, clears]),
        (LEAVES, LEAVES.replace("crowd.pop(waiter, None)", "pass"), [waits, sets]),
        (
            "            return self._state.get(_CROWD) is not crowd",
            "            return not self._state",
            [waits, sets_and_clears],
        ),
        ("if left <= 0 or", f"if left <= {SECOND} or", [waits_a_second, time_passes]),
        (
            "            return self._state.get(_CROWD) is not crowd",
            "            return left > 0",
            [waits_a_second, sets, time_passes],
        ),
    ],
    ids=[
        "does not look again",
        "wakes before it takes the crowd away",
        "does not wake",
        "clear() overwrites the crowd",
        "leaves the waiter in the crowd",
        "clear() takes a wake-up back",
        "times out early",
        "does not look again when the time is up",
    ],
)
def test_a_planted_bug_is_found(old, new, threads):
    with pytest.raises(Flaw):
        explore(load((old, new)), *threads)


@tracing
@pytest.mark.parametrize(
    "old, new",
    [(RESCUES, ""), (TAKES, "            ended.append(self._state.pop(_CROWD, {}))\n")],
    ids=["does not wake when it is interrupted", "takes the crowd and remembers it in two steps"],
)
def test_a_planted_bug_with_a_signal_is_found(old, new):
    with pytest.raises(Flaw):
        explore_interrupts(load((old, new)), sets, raises, waits)
