"""ticks(): a loop with pauses."""

import threading
import time

import pytest
from helpers import TIMEOUT, Threads, python, until_deadline, until_waiting
from loops import both


def test_ticks_count_until_set(Event):
    event, ticks = Event(), []
    for tick in event.ticks(0.001):
        ticks.append(tick)
        if tick == 4:
            event.set()
    assert ticks == [0, 1, 2, 3, 4]
    assert list(event.ticks()) == []


@pytest.mark.parametrize("self_setting", [False, True])
def test_the_timeout_ends_the_pause(Event, self_setting):
    ticks = []
    with Threads(lambda: ticks.extend(Event(0.03, set_on_timeout=self_setting).ticks(TIMEOUT * 10))):
        pass
    assert ticks == [0]
    event = Event(0.001, set_on_timeout=self_setting)
    until_deadline(event)
    assert list(event.ticks(TIMEOUT)) == []


def test_a_timeout_makes_no_pause_longer(Event):
    event, ticks = Event(TIMEOUT * 10), []

    def counts():
        for tick in event.ticks(0.001):
            ticks.append(tick)
            if tick == 3:
                break

    with Threads(counts):
        pass
    assert ticks == [0, 1, 2, 3]


def test_a_set_ends_the_pause(Event):
    for clear in False, True:
        event, ticks = Event(), []
        with Threads(lambda event=event, ticks=ticks: ticks.extend(event.ticks(TIMEOUT * 10))):
            until_waiting(event)
            event.set()
            if clear:
                event.clear()
        assert ticks == [0]


def test_a_clear_during_the_pause_changes_nothing(Event):
    event, ticks = Event(), []
    with Threads(lambda: ticks.extend(event.ticks(TIMEOUT * 10))) as running:
        until_waiting(event)
        event.clear()
        assert event.status().waiters == 1 and running.threads[0].is_alive()
        event.set()
    assert ticks == [0]


def test_ticks_keep_to_their_grid(Event, modules, monkeypatch):
    """Of ticks at 0, 10, 20 and so on, those are skipped that a round has taken longer than."""
    now, rounds, seen = [0], iter([3, 9, 10, 12, 35, 1, 0]), []

    class Pausing(Event):
        def _fe_wait_until(self, deadline):
            now[0] = max(now[0], deadline)
            return False

    monkeypatch.setattr(modules._ticks.clock, "now", lambda: now[0])
    for tick in Pausing().ticks(10e-9):
        seen.append((tick, now[0]))
        if (lasts := next(rounds, None)) is None:
            break
        now[0] += lasts
    assert seen == [(0, 0), (1, 10), (2, 20), (3, 30), (4, 50), (5, 90), (6, 100), (7, 110)]


def test_ticks_are_never_early(Event):
    interval, started, seen = 0.01, time.monotonic(), []
    for tick in Event().ticks(interval):
        seen.append(time.monotonic() - started)
        if tick == 10:
            break
        time.sleep(interval / 2)
    assert all(at >= tick * interval for tick, at in enumerate(seen))


def test_each_iterator_has_a_grid_of_its_own(Event):
    event = Event()
    first, second = event.ticks(0.001), event.ticks(TIMEOUT)
    assert [next(first), next(second), next(first), next(first)] == [0, 0, 1, 2]


def test_an_unfinished_loop_leaves_no_waiter(Event):
    event = Event()
    for tick in event.ticks(0.001):
        if tick == 2:
            break
    assert event.status().waiters == 0 and not event._fe_wakers


def test_the_check_interval_is_the_default(core):
    def program():
        import time

        import fastevent

        start = time.monotonic()
        ticks = fastevent.Event().ticks()
        next(ticks), next(ticks)
        print(time.monotonic() - start >= 0.03)

    assert python(program, core, WORKFLOW_CORE_EVENT_CHECK_INTERVAL="0.03") == "True\n"


@pytest.mark.parametrize(
    "wrong, error", [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_bad_interval_is_refused(Event, wrong, error):
    with pytest.raises(error, match=r"interval must be .* not"):
        Event().ticks(wrong)


def test_several_threads_may_tick(Event):
    event, ticks = Event(), [[] for _ in range(4)]

    def counts(own):
        for tick in event.ticks(0.001):
            own.append(tick)
            if all(len(each) > 5 for each in ticks):
                event.set()

    with Threads(*[lambda own=own: counts(own) for own in ticks]):
        pass
    assert all(own == list(range(len(own))) for own in ticks)


def test_a_set_from_a_timer_ends_ticks(Event):
    event, ticks = Event(), []
    for tick in event.ticks(TIMEOUT):
        ticks.append(tick)
        threading.Timer(0.02, event.set).start()
    assert ticks == [0]


# async for


@both
def test_async_ticks_count_until_set(Event, library):
    async def counts():
        event, ticks = Event(), []
        async for tick in event.ticks(0.001):
            ticks.append(tick)
            if tick == 4:
                event.set()
        return ticks

    assert library.run(counts) == [0, 1, 2, 3, 4]


@both
def test_the_timeout_ends_an_async_pause(Event, library):
    async def counts():
        return [tick async for tick in Event(0.03).ticks(TIMEOUT * 10)]

    assert library.run(counts) == [0]


def test_ticks_stay_at_their_end(Event):
    event = Event()
    ticks = event.ticks(0.001)
    assert next(ticks) == 0
    event.set()
    assert next(ticks, "end") == "end"
    event.clear()
    assert next(ticks, "end") == "end"


@pytest.mark.parametrize("interval", [1e10, 1e300, float("inf")])
def test_an_interval_may_outlast_the_clock(Event, interval):
    event, ticks = Event(), []
    with Threads(lambda: ticks.extend(event.ticks(interval))):
        until_waiting(event)
        event.set()
    assert ticks == [0]
