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
    run.set("a")


def sets_too(run):
    run.set("b")


def clears(run):
    run.clear()


def sets_and_clears(run):
    run.set("c")
    run.clear()


def times_out(run):
    run.time_out()


def looks(run):
    run.look()


def time_passes(run):
    run.tick()


def raises(run):
    raise Interrupted


def adopts(run):
    run.adopt(run.new_event())


def adopts_and_adds_a_callback(run):
    adopts(run)
    adds_a_callback(run)


def adds_a_callback(run):
    run.add_callback()


def adds_and_removes_a_callback(run):
    run.remove_callback(run.add_callback())


@pytest.mark.parametrize(
    "least, threads",
    [
        (8, [waits, sets]),
        (100, [waits, sets, clears]),
        (100, [waits, sets, sets_too]),
        (20, [waits, sets_and_clears]),
        (100, [waits, waits, sets]),
        (1000, [waits, waits, sets_and_clears]),
        (100, [waits, sets_and_clears, clears]),
    ],
)
def test_who_waits_is_woken(explored, least, threads):
    assert explore(explored, *threads) >= least


@pytest.mark.parametrize("threads", [[waits_a_second, sets], [waits_a_second, sets, clears]])
def test_a_timeout_takes_nothing_back(explored, threads):
    assert explore(explored, *threads, time_passes) >= 60


def test_the_timeout_of_the_event_takes_nothing_back(explored):
    assert explore(explored, waits_for_the_event, sets, time_passes, timeout=1) >= 30


def test_clear_puts_the_timeout_off_for_who_waits(explored):
    assert explore(explored, waits_for_the_event, clears, time_passes, timeout=1) >= 30


@pytest.mark.parametrize("threads", [[waits, sets], [sets, sets_too]])
def test_the_first_look_at_an_event_without_init(explored, threads):
    assert explore(explored, *threads, timeout="bare") >= 8


@pytest.mark.parametrize("threads", [[sets, sets_too], [sets, clears], [sets_and_clears, clears]])
def test_a_reason_belongs_to_its_state(explored, threads):
    assert explore(explored, *threads, looks) >= 100


@pytest.mark.parametrize("threads", [[clears], [sets], [sets_and_clears], [times_out]])
def test_an_old_timeout_reaches_no_new_period(explored, threads):
    assert explore(explored, times_out, *threads, time_passes, looks, timeout=1) >= 20


@pytest.mark.parametrize("threads", [[sets], [sets_and_clears]])
@pytest.mark.parametrize("subscribes", [adopts, adds_a_callback, adds_and_removes_a_callback])
def test_who_subscribes_is_told(explored, subscribes, threads):
    assert explore(explored, subscribes, *threads) >= 5


@pytest.mark.parametrize("threads", [[sets, sets_too], [sets, clears]])
def test_whoever_has_subscribed_is_told(explored, threads):
    assert explore(explored, *threads, first=adopts_and_adds_a_callback) >= 5


def test_a_timeout_that_comes_too_late_tells_nobody(explored):
    assert explore(explored, sets, clears, times_out, timeout=1, first=adopts) >= 100


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
def test_a_signal_that_raises_in_set_while_another_sets(explored):
    places, schedules = explore_interrupts(explored, sets, raises, waits, sets_too)
    assert places >= 5
    assert schedules >= 5 * places


@tracing
@pytest.mark.parametrize("handler", [sets_too, raises])
def test_a_signal_in_clear(explored, handler):
    places, schedules = explore_interrupts(explored, clears, handler, sets, timeout=5)
    assert places >= 5
    assert schedules >= 2 * places


# Planted bugs: the explorer finds each

LOOKS = "while (state := self._fe_newest()).crowd is crowd:"
LOOKS_AGAIN = "return self._fe_newest().crowd is not crowd"
TAKES = """                if state.next.setdefault(_NEXT, successor) is successor:
                    return self._fe_wake_all(crowd, successor, told)
"""
WAKES = """        self._fe_state = state
        _wake(crowd)
"""
RESCUES = """                if state.next.get(_NEXT) is successor:
                    self._fe_wake_all(crowd, successor, told)
                raise
"""
BEGINS = """            if state.next.setdefault(_NEXT, successor) is successor:
                self._fe_state = successor
                return
"""
CROWD = "crowd = {} if state.crowd is None else state.crowd"


@pytest.mark.parametrize(
    "old, new, threads, timeout",
    [
        (LOOKS, "while state := self._fe_newest():", [waits, sets], None),
        (
            TAKES,
            "                _wake(crowd)\n" + TAKES.replace("self._fe_wake_all(crowd, ", "self._fe_wake_all({}, "),
            [waits, sets],
            None,
        ),
        (WAKES, "        self._fe_state = state\n", [waits, sets], None),
        (BEGINS, "            state.next[_NEXT] = self._fe_state = successor\n            return\n", [clears, sets], 5),
        ("finally:\n            crowd.pop(waiter, None)", "finally:\n            pass", [waits, sets], None),
        (LOOKS_AGAIN, "return self._fe_newest().crowd is None", [waits, sets_and_clears], None),
        ("if left <= 0 or", f"if left <= {SECOND} or", [waits_a_second, time_passes], None),
        (LOOKS_AGAIN, "return left > 0", [waits_a_second, sets, time_passes], None),
        (TAKES, TAKES + "                return\n", [sets, clears], 5),
        (BEGINS, BEGINS + "            return\n", [clears, sets, time_passes], 5),
        (CROWD, "crowd = {}", [waits, clears], 5),
        (CROWD, "crowd = state.crowd or vars(self).setdefault('_crowd', {})", [waits, sets_and_clears, sets_and_clears], None),
        ("_State(state.sets + 1, None, reason,", "_State(state.sets + 1, None, None,", [sets, looks], None),
        (WAKES, WAKES + "        state.reason = state.reason\n", [sets, looks], None),
        (TAKES, TAKES + "                timed_out = False\n", [times_out, clears, time_passes], 1),
        (
            "if crowd is None and (self._fe_children or self._fe_callbacks):\n                    told",
            "if self._fe_children:\n                    told",
            [sets, clears, times_out],
            1,
        ),
        ("callbacks.pop(callback, None) is None:", "False:", [adds_a_callback, sets], None),
        ("if self._fe_watch()[0] == callback.born or", "if True or", [adds_a_callback, sets], None),
        (
            "        callback.call(self)",
            "        callback.call(self)\n        callback.call(self)",
            [adds_a_callback, sets],
            None,
        ),
        ("if is_set:\n            told", "if False:\n            told", [adopts, sets], None),
        ("if sets not in event._fe_told and (", "if False and (", [sets], None),
        ("if was_born_before(callback, sets)", "if True", [sets, sets_and_clears, adds_a_callback], None),
    ],
    ids=[
        "does not look again",
        "wakes before the successor is taken",
        "does not wake",
        "clear() overwrites the successor",
        "leaves the waiter in the crowd",
        "clear() takes a wake-up back",
        "times out early",
        "does not look again when the time is up",
        "set() does not try again",
        "clear() does not try again",
        "a new crowd at clear() of an unset event",
        "one crowd for all periods",
        "no reason",
        "stores something in a state that is taken",
        "an old timeout that lost tries again without a look at the clock",
        "a timeout that came too late tells children",
        "calls a callback that a set() has taken",
        "does not look again after adding a callback",
        "calls a callback twice",
        "does not look again after adopting a child",
        "does not tell children",
        "calls callbacks for a set() of the past",
    ],
)
def test_a_planted_bug_is_found(old, new, threads, timeout):
    with pytest.raises(Flaw):
        explore(load((old, new)), *threads, timeout=timeout, first=adopts if "told" in old else None)


@tracing
@pytest.mark.parametrize("old, new", [(RESCUES, "                raise\n")], ids=["does not wake when it is interrupted"])
def test_a_planted_bug_with_a_signal_is_found(old, new):
    with pytest.raises(Flaw):
        explore_interrupts(load((old, new)), sets, raises, waits)
