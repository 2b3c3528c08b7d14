"""wait_any(), wait_all() and wait_async()."""

import asyncio
import gc
import signal
import threading
import time
import weakref
from math import inf
from unittest import mock

import pytest
from helpers import PATIENCE, Threads, python


def later(function, seconds=0.02):
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


def nothing_is_left(*events):
    return all(event.status().callbacks == event.status().waiters == 0 for event in events)


# wait_any


def test_any_that_is_set_already(fastevent):
    a, b, c = (fastevent.Event() for _ in range(3))
    b.set()
    assert fastevent.wait_any([a, b, c]) == [b]
    c.set()
    assert fastevent.wait_any((c, a, b, c), 0) == [c, b, c]
    assert fastevent.wait_any(iter([a, b])) == [b]
    assert nothing_is_left(a, b, c)


def test_any_that_is_set_later(fastevent):
    events = [fastevent.Event() for _ in range(10)]
    later(events[7].set)
    assert fastevent.wait_any([*events, events[7]]) == [events[7]] * 2
    assert nothing_is_left(*events)


def test_any_of_none(fastevent):
    assert fastevent.wait_any([]) == [] == fastevent.wait_any([], 5)


@pytest.mark.parametrize("timeout", [0, -1, 0.02])
def test_any_in_vain(fastevent, timeout):
    event, start = fastevent.Event(), time.monotonic()
    assert fastevent.wait_any([event], timeout) == []
    assert time.monotonic() - start >= timeout or not timeout > 0
    assert nothing_is_left(event)


def test_any_that_is_cleared_at_once(fastevent):
    for _ in range(50):
        event, other = fastevent.Event(), fastevent.Event()
        answers = []
        with Threads(
            lambda event=event, other=other, answers=answers: answers.append(fastevent.wait_any([other, event], PATIENCE))
        ):
            while not event.status().waiters:
                time.sleep(0.0005)
            event.set()
            event.clear()
        assert answers == [[event]]


def test_any_of_thousands(fastevent):
    events = [fastevent.Event() for _ in range(5000)]
    later(events[4321].set)
    assert fastevent.wait_any(events) == [events[4321]]
    assert nothing_is_left(*events)


def test_any_of_those_that_set_themselves(fastevent):
    slow, quick = fastevent.Event(300, set_on_timeout=True), fastevent.Event(0.5, set_on_timeout=True)
    assert fastevent.wait_any([slow, quick]) == [quick]
    assert time.monotonic_ns() >= quick._fe_period()[2]
    quick.clear()
    assert fastevent.wait_any([slow, quick], 0.001) == []


def test_a_plain_timeout_sets_nothing(fastevent):
    assert fastevent.wait_any([fastevent.Event(0.01)], 0.05) == []


def test_any_without_a_number_ends_at_the_last_of_the_own_timeouts(fastevent):
    events = [fastevent.Event(0.01), fastevent.Event(0.1), fastevent.Event(0)]
    assert fastevent.wait_any(events) == []
    assert all(event.check_timeout() for event in events)
    assert nothing_is_left(*events)


def test_any_without_a_number_waits_on_where_one_has_no_timeout(fastevent):
    events, answers = [fastevent.Event(0.01), fastevent.Event()], []
    with Threads(lambda: answers.append(fastevent.wait_any(events))):
        while not events[0].check_timeout():
            time.sleep(0.001)
        assert not answers
        events[1].set()
    assert answers == [[events[1]]]


def test_all_without_a_number_ends_at_the_first_own_timeout_of_who_is_not_set(fastevent):
    done, quick, slow = fastevent.Event(0), fastevent.Event(0.05), fastevent.Event(300)
    done.set()
    assert fastevent.wait_all([done, quick, slow]) is False
    assert quick.check_timeout() and not slow.check_timeout()
    assert nothing_is_left(quick, slow)


@pytest.mark.parametrize("wait", ["wait_any", "wait_all"])
def test_clear_puts_the_own_timeout_off_for_who_waits_for_several(fastevent, wait):
    event, ended = fastevent.Event(0.2), []

    def waits():
        getattr(fastevent, wait)([event])
        ended.append(time.monotonic_ns())

    with Threads(waits):
        while not event.status().waiters:
            time.sleep(0.001)
        event.clear()
        deadline = event._fe_period()[2]
    assert ended[0] >= deadline


def test_a_default_timeout_does_not_end_it(core):
    code = """
from fastevent import Event, wait_any
import threading
event = Event(300)
threading.Timer(0.3, event.set).start()
print(wait_any([event]) == [event])
"""
    assert python(code, core, WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT="0.01") == "True\n"


def test_any_wakes_each_of_many_threads(fastevent, tiny_switch_interval):
    for _ in range(30):
        events, answers = [fastevent.Event() for _ in range(4)], []
        with Threads(
            *[lambda events=events, answers=answers: answers.append(fastevent.wait_any(events, PATIENCE))] * 4, events[2].set
        ):
            pass
        assert answers == [[events[2]]] * 4
        assert nothing_is_left(*events)


# wait_all


def test_all(fastevent):
    events = [fastevent.Event() for _ in range(5)]
    assert fastevent.wait_all(events, 0.01) is False
    for event in events[:4]:
        event.set()
    assert fastevent.wait_all(events, 0) is False
    assert fastevent.wait_all(events[:4]) is True
    later(events[4].set)
    assert fastevent.wait_all([*events, *events]) is True
    assert fastevent.wait_all([]) is True
    assert nothing_is_left(*events)


def test_all_are_set_at_different_times(fastevent):
    """One that is cleared before the last is set has been set."""
    events, answers = [fastevent.Event() for _ in range(3)], []
    with Threads(lambda: answers.append(fastevent.wait_all(events, PATIENCE))):
        for event in reversed(events):
            while not event.status().waiters:
                time.sleep(0.001)
            event.set()
            event.clear()
    assert answers == [True] and nothing_is_left(*events)


def test_all_of_those_that_set_themselves(fastevent):
    events = [fastevent.Event(0.01 * n, set_on_timeout=True) for n in range(4)]
    assert fastevent.wait_all(events) is True
    assert time.monotonic_ns() >= max(event._fe_period()[2] for event in events)


@pytest.mark.parametrize("wait", ["wait_any", "wait_all"])
def test_what_is_foreign_is_refused(fastevent, wait):
    for wrong in (threading.Event(), None, 5):
        with pytest.raises(TypeError, match=r"only a fastevent\.Event can be waited for together with others, not"):
            getattr(fastevent, wait)([fastevent.Event(), wrong], 0)
    with pytest.raises(TypeError, match=r"^events must be an iterable of fastevent.Event objects, not <fastevent.Event at"):
        getattr(fastevent, wait)(fastevent.Event())
    with pytest.raises(TypeError):
        getattr(fastevent, wait)([fastevent.Event()], "1")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that signals here")
def test_what_a_handler_raises_ends_it_and_leaves_nothing(fastevent):
    class Stop(Exception):
        pass

    def handler(*_):
        raise Stop

    events = [fastevent.Event() for _ in range(3)]
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for wait in (fastevent.wait_any, fastevent.wait_all):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Stop):
                wait(events)
            assert nothing_is_left(*events)
    finally:
        signal.signal(signal.SIGALRM, before)


# wait_async


def test_a_coroutine_is_woken_by_a_thread(fastevent):
    async def main():
        event = fastevent.Event()
        later(event.set)
        assert await event.wait_async() is True
        assert await event.wait_async(0) is True
        return event

    assert nothing_is_left(asyncio.run(main()))


def test_many_tasks_in_many_loops(fastevent):
    event, answers = fastevent.Event(), []

    async def main():
        answers.extend(await asyncio.gather(*[event.wait_async(PATIENCE) for _ in range(20)]))

    with Threads(*[lambda: asyncio.run(main())] * 4):
        while event.status().waiters < 80:
            time.sleep(0.002)
        event.set()
        event.clear()
    assert answers == [True] * 80 and nothing_is_left(event)


@pytest.mark.parametrize("timeout", [0, -1, 0.02, 1e-9])
def test_a_coroutine_times_out(fastevent, timeout):
    async def main():
        event, start = fastevent.Event(), time.monotonic()
        assert await event.wait_async(timeout) is False
        assert time.monotonic() - start >= timeout
        return event

    assert nothing_is_left(asyncio.run(main()))


def test_the_timeout_of_the_event_ends_it(fastevent):
    async def main():
        event = fastevent.Event(0.02)
        assert await event.wait_async() is False and event.check_timeout()
        assert await event.wait_async(0.01) is False
        event = fastevent.Event(0.02, set_on_timeout=True)
        assert await event.wait_async() is True and event.check_timeout()
        event = fastevent.Event(0.02, set_on_timeout=True)
        assert await event.wait_async(inf) is True and event.check_timeout()

    asyncio.run(main())


def test_clear_puts_the_timeout_off(fastevent):
    async def main():
        event = fastevent.Event(0.6)
        waiting = asyncio.ensure_future(event.wait_async())
        await asyncio.sleep(0.05)
        event.clear()
        deadline = event._fe_period()[2]
        assert await waiting is False
        assert time.monotonic_ns() >= deadline

    asyncio.run(main())


def test_a_cancelled_task_leaves_nothing(fastevent):
    async def main():
        event = fastevent.Event()
        task = asyncio.ensure_future(event.wait_async())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert event.status().waiters == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert nothing_is_left(event)
        event.set()

    asyncio.run(main())


def test_a_closed_loop_is_left_alone(fastevent):
    event, other = fastevent.Event(), fastevent.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(event.wait_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    calls = []
    event.add_callback(calls.append)
    event.set()
    assert calls == [event]
    other.set()
    there = weakref.ref(event)
    task._log_destroy_pending = False
    task.get_coro().close()
    del task, event, calls
    gc.collect()
    assert there() is None


def test_a_set_that_clear_follows_wakes_a_coroutine_that_waits_for_ever(fastevent):
    async def main():
        event = fastevent.Event()
        task = asyncio.ensure_future(event.wait_async())
        while not event.status().waiters:
            await asyncio.sleep(0)
        event.set()
        event.clear()
        assert await asyncio.wait_for(task, PATIENCE) is True

    asyncio.run(main())


def test_a_coroutine_may_be_woken_twice(fastevent):
    async def main():
        errors, event = [], fastevent.Event()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        task = asyncio.ensure_future(event.wait_async())
        while not event.status().waiters:
            await asyncio.sleep(0)
        (waker,) = event._fe_callbacks
        waker.call(event)
        waker.call(event)
        assert await task is True
        await asyncio.sleep(0)
        assert not errors

    asyncio.run(main())


def test_a_coroutine_rests_while_it_waits(fastevent):
    rounds = []

    class Counting(fastevent.Event):
        def _fe_sets_itself_at(self):
            rounds.append(1)
            return super()._fe_sets_itself_at()

    assert asyncio.run(Counting().wait_async(0.1)) is False
    assert len(rounds) < 10  # an event loop may wake a little early


def test_what_a_loop_that_is_open_raises_is_logged(fastevent, caplog):
    def fails(*_):
        raise RuntimeError("no more calls")

    async def main():
        event = fastevent.Event()
        task = asyncio.ensure_future(event.wait_async())
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe = fails
        event.set()
        del loop.call_soon_threadsafe
        task.cancel()

    asyncio.run(main())
    assert "no more calls" in caplog.text


def test_without_a_loop_it_is_refused(fastevent):
    waiting = fastevent.Event().wait_async()
    with pytest.raises(RuntimeError, match="no running event loop"):
        waiting.send(None)


def test_a_bad_timeout_is_refused(fastevent):
    async def main():
        with pytest.raises(TypeError):
            await fastevent.Event().wait_async("1")

    asyncio.run(main())


def test_a_race_of_set_and_timeout_loses_nothing(fastevent):
    async def main():
        for number in range(200):
            event = fastevent.Event()
            threading.Timer(0.002, event.set).start()
            seen = await event.wait_async(0.0005 + number * 0.00001)
            if not seen:
                assert await event.wait_async(PATIENCE)
            assert nothing_is_left(event)

    asyncio.run(main())


def test_a_signal_handler_wakes_a_coroutine(fastevent):
    async def main():
        event = fastevent.Event()
        with event.set_on_signals(signal.SIGTERM):
            asyncio.get_running_loop().call_later(0.02, signal.raise_signal, signal.SIGTERM)
            assert await event.wait_async(PATIENCE)
        assert event.reason is signal.SIGTERM

    asyncio.run(main())


def test_a_set_that_has_told_nobody_yet_counts(fastevent):
    """Time runs out while the thread that sets the event is between its flag and its subscribers."""
    event, answers = fastevent.Event(), []
    with Threads(
        lambda: answers.append(fastevent.wait_any([event], 1) == [event]),
        lambda: answers.append(asyncio.run(event.wait_async(1))),
    ):
        while event.status().waiters < 2:
            time.sleep(0.001)
        event._fe_put_up(None, [])
        event.clear()
    assert answers == [True, True] and nothing_is_left(event)


@pytest.mark.parametrize("wait", ["wait_any", "wait_all"])
def test_who_set_itself_just_in_time_counts(fastevent, wait):
    """With both at the same moment, `Event.wait()` says True, too."""
    for _ in range(20):
        event = fastevent.Event(0.002, set_on_timeout=True)
        assert getattr(fastevent, wait)([event], 0.0021) and event.wait(0)


def test_a_coroutine_that_waits_for_one_that_sets_itself_never_hears_false(fastevent):
    async def waits():
        return [await fastevent.Event(n % 60 * 1e-6, set_on_timeout=True).wait_async() for n in range(2_000)]

    assert all(asyncio.run(waits()))


def test_whoever_waits_is_no_callback_to_be_removed(fastevent):
    event = fastevent.Event()

    async def waits():
        task = asyncio.ensure_future(event.wait_async(PATIENCE))
        while not event.status().waiters:
            await asyncio.sleep(0)
        assert event.remove_callback(mock.ANY) == 0
        event.set()
        return await task

    assert asyncio.run(waits()) is True


@pytest.mark.parametrize("set_on_timeout", [False, True])
def test_an_event_whose_set_is_still_on_its_way_does_not_end_it(fastevent, set_on_timeout):
    """A `set()` tells its children one by one, and only then who waits for several: the own timeout may pass meanwhile."""
    event, other, answers = fastevent.Event(0.3, set_on_timeout=set_on_timeout), fastevent.Event(), []

    class Slow(fastevent.Event):
        def _fe_take_over(self, reason, told):
            while event._fe_period()[2] > time.monotonic_ns() - 10**8:
                time.sleep(0.001)
            super()._fe_take_over(reason, told)

    child = Slow(parents=[event])
    with Threads(lambda: answers.append(fastevent.wait_all([event, other]))):
        while not event.status().waiters:
            time.sleep(0.001)
        event.set("in time")
        other.set()
    assert answers == [True] and child.reason == "in time"
