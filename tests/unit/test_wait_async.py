"""`wait_async()` in asyncio and in trio."""

import asyncio
import signal
import sys
import threading
import time
from math import inf

import pytest
from helpers import TIMEOUT, Threads, deadline, until_waiting
from loops import Asyncio, Trio, both, in_thread, nothing_is_left, until


@both
def test_a_thread_wakes_a_task(fastevent, library):
    async def main():
        event = fastevent.Event()
        in_thread(event.set)
        assert await event.wait_async() is True
        assert await event.wait_async(0) is True
        assert await event.wait_async("of no interest") is True
        assert await nothing_is_left(library, event)

    library.run(main)


@both
@pytest.mark.parametrize("timeout", [0, -1, 0.02, 1e-9])
def test_time_runs_out(fastevent, library, timeout):
    async def main():
        event, start = fastevent.Event(), time.monotonic()
        assert await event.wait_async(timeout) is False
        assert time.monotonic() - start >= timeout
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_the_own_timeout_ends_it(fastevent, library):
    async def main():
        event = fastevent.Event(0.02)
        assert await event.wait_async() is False and event.check_timeout() and not event.is_set()
        assert await event.wait_async(0.01) is False
        for timeout in (None, inf, TIMEOUT):
            event = fastevent.Event(0.02, set_on_timeout=True)
            assert await event.wait_async(timeout) is True and event.check_timeout()
        event = fastevent.Event(TIMEOUT, set_on_timeout=True)
        assert await event.wait_async(0.01) is False
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_a_self_setting_event_never_answers_false(fastevent, library):
    async def main():
        for number in range(300):
            assert await fastevent.Event(number % 60 * 1e-6, set_on_timeout=True).wait_async()

    library.run(main)


@both
def test_clear_and_restart_timeout_reach_it(fastevent, library):
    async def main():
        async def wait():
            answer = await event.wait_async()
            assert time.monotonic_ns() >= deadline(event)
            return answer

        async def moves(move):
            await until(lambda: event.status().waiters, library.sleep)
            move()

        async def checked(move):
            return (await library.together(wait, lambda: moves(move)))[0]

        event = fastevent.Event(0.5)
        assert await checked(event.clear) is False
        event = fastevent.Event(TIMEOUT)
        assert await checked(lambda: event.restart_timeout(0.02)) is False
        event = fastevent.Event()
        assert await checked(lambda: event.restart_timeout(0.02)) is False
        event = fastevent.Event(TIMEOUT, set_on_timeout=True)
        assert await checked(lambda: event.restart_timeout(0.02)) is True
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_a_cancelled_wait_leaves_nothing(fastevent, library):
    async def main():
        event = fastevent.Event(TIMEOUT)
        assert await library.cancel_when(lambda: event.status().waiters, event.wait_async)
        assert await nothing_is_left(library, event)
        event.set()

    library.run(main)


@both
def test_a_set_counts_although_a_clear_follows(fastevent, library):
    async def main():
        event = fastevent.Event()

        async def sets():
            await until(lambda: event.status().waiters, library.sleep)
            event.set()
            event.clear()

        assert await library.together(event.wait_async, sets) == [True, None]

    library.run(main)


@both
def test_many_tasks_in_many_loops(fastevent, library):
    event, answers = fastevent.Event(), []

    async def main():
        answers.extend(await library.together(*[lambda: event.wait_async(TIMEOUT)] * 20))

    threads = [threading.Thread(target=library.run, args=(main,), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    until_waiting(event, 80)
    event.set()
    event.clear()
    for thread in threads:
        thread.join(TIMEOUT)
    assert answers == [True] * 80 and not event._fe_wakers


@both
def test_status_names_the_task(fastevent, library):
    async def main():
        event = fastevent.Event()

        async def looks():
            await until(lambda: event.status().waiters, library.sleep)
            waiting = event.status().waiting
            event.set()
            return waiting

        _, (name,) = await library.together(event.wait_async, looks)
        return name

    assert ("Task-" if library is Asyncio else "run") in library.run(main)


@both
def test_a_signal_handler_wakes_a_task(fastevent, library):
    async def main():
        event = fastevent.Event()
        with event.set_on_signals(signal.SIGTERM):

            async def raises():
                await until(lambda: event.status().waiters, library.sleep)
                signal.raise_signal(signal.SIGTERM)

            await library.together(event.wait_async, raises)
        assert event.reason == "SIGTERM"

    library.run(main)


@both
def test_a_race_of_set_and_timeout_loses_nothing(fastevent, library):
    async def main():
        for number in range(100):
            event = fastevent.Event()
            timer = threading.Timer(0.002, event.set)
            timer.start()
            if not await event.wait_async(0.0015 + number * 0.00001):
                assert await event.wait_async(TIMEOUT)
            timer.join(TIMEOUT)
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_the_wait_rests(fastevent, library):
    looks = []

    class Counting(fastevent.Event):
        def _fe_deadline(self):
            looks.append(1)
            return super()._fe_deadline()

    assert library.run(lambda: Counting().wait_async(0.1)) is False
    assert len(looks) < 20  # an event loop may wake a little early


@both
def test_a_bad_timeout_is_refused(fastevent, library):
    async def main():
        with pytest.raises(TypeError, match="must be a number of seconds or None, not '1'"):
            await fastevent.Event().wait_async("1")

    library.run(main)


def test_trio_gets_a_checkpoint(fastevent):
    pytest.importorskip("trio")
    from trio.testing import assert_checkpoints

    async def main():
        event = fastevent.Event()
        event.set()
        with assert_checkpoints():
            assert await event.wait_async()
        with assert_checkpoints():
            assert not await fastevent.Event().wait_async(0)

    Trio.run(main)


def test_outside_of_a_task_it_is_refused(fastevent):
    with pytest.raises(RuntimeError, match=r"wait_async\(\) needs a running task of asyncio or trio"):
        fastevent.Event().wait_async().send(None)


def test_what_an_open_loop_raises_is_logged(fastevent, caplog):
    def fails(*_):
        raise RuntimeError("no more calls")

    async def main():
        event = fastevent.Event()
        task = asyncio.ensure_future(event.wait_async())
        await until(lambda: event.status().waiters, asyncio.sleep)
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe = fails
        with Threads(event.set):
            pass
        del loop.call_soon_threadsafe
        event.set()
        assert await task is True

    Asyncio.run(main)
    assert "no more calls" in caplog.text


def test_a_closed_loop_is_left_alone(fastevent):
    event, loop = fastevent.Event(), asyncio.new_event_loop()
    task = loop.create_task(event.wait_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    calls = []
    event.add_callback(calls.append)
    event.set()
    assert calls == [event]
    task._log_destroy_pending = False
    task.get_coro().close()
    assert not event._fe_wakers


def test_a_set_in_the_loop_writes_no_byte(fastevent):
    async def main():
        loop, event, bytes_sent = asyncio.get_running_loop(), fastevent.Event(), []
        task = asyncio.ensure_future(event.wait_async())
        await until(lambda: event.status().waiters, asyncio.sleep)
        loop.call_soon_threadsafe = lambda *arguments: bytes_sent.append(arguments)
        event.set()
        del loop.call_soon_threadsafe
        assert await task is True and not bytes_sent

    Asyncio.run(main)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of signals here")
def test_a_handler_wakes_a_loop_that_sleeps(fastevent):
    """It runs in the loop's thread, but no task does: the loop is in `select()`."""

    event_of_handler = []
    before = signal.signal(signal.SIGALRM, lambda *_: event_of_handler[0].set("handler"))
    try:
        for _ in range(3):
            event = fastevent.Event()
            event_of_handler[:] = [event]

            async def waits(event=event):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                return await event.wait_async(TIMEOUT)

            assert Asyncio.run(waits) is True and event.reason == "handler"
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_may_set(fastevent):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        event = fastevent.Event()
        waits = loop.create_task(event.wait_async(TIMEOUT))

        async def sets():
            event.set()

        other = loop.create_task(sets())
        assert other.done()
        return await waits

    assert Asyncio.run(main) is True


def test_uvloop_wakes_a_task(fastevent):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        for sets in lambda event: event.set(), lambda event: in_thread(event.set):
            event = fastevent.Event()
            task = asyncio.ensure_future(event.wait_async(TIMEOUT))
            await asyncio.sleep(0.01)
            sets(event)
            assert await task is True

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
