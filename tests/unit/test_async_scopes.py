"""`async with event`: the body of a task is cancelled when the event is set or has timed out."""

import asyncio
import gc
import signal
import sys
import threading
import time
import weakref
from contextlib import suppress

import pytest
from helpers import TIMEOUT, deadline, until
from loops import Asyncio, Trio, both, in_thread, nothing_is_left, since_3_11, trio


@both
def test_a_set_cancels_the_body(fastevent, library):
    async def main():
        event = fastevent.Event()
        with pytest.raises(fastevent.EventCancelled, match="cancelled: disk full") as caught:
            async with event as entered:
                assert entered is event
                in_thread(event.set, "disk full")
                await library.sleep(TIMEOUT)
        assert type(caught.value) is fastevent.EventCancelled and caught.value.reason == "disk full"
        assert event.reason == "disk full"
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_the_own_timeout_cancels_the_body(fastevent, library):
    async def main():
        event = fastevent.Event(0.02)
        with pytest.raises(fastevent.EventTimeout, match=r"timed out after 0\.02 s"):
            async with event:
                await library.sleep(TIMEOUT)
        assert event.check_timeout() and event.reason == "EventTimeout: timed out after 0.02 s"
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_a_self_setting_event_cancels_the_body(fastevent, library):
    async def main():
        event = fastevent.Event(0.02, set_on_timeout=True)
        child = event.child()
        with pytest.raises(fastevent.EventTimeout, match=r"timed out after 0\.02 s"):
            async with child:
                await library.sleep(TIMEOUT)
        assert isinstance(child.reason, fastevent.EventTimeout) and event.check_timeout()
        with pytest.raises(fastevent.EventTimeout) as caught:
            async with fastevent.Event(0.01, set_on_timeout=True) as event:
                await library.sleep(TIMEOUT)
        assert caught.value.reason is event.reason is caught.value.__cause__
        assert await nothing_is_left(library, event, child)

    library.run(main)


@both
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_body_in_time_raises_nothing(fastevent, library, timeout):
    async def main():
        event = fastevent.Event(timeout)
        async with event:
            await library.sleep(0)
            assert not event.is_set()
        assert event.is_set() and event.reason == "the block was left"
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_what_the_body_raises_passes(fastevent, library):
    async def main():
        for error in (ValueError("x"), StopIteration("x"), StopAsyncIteration("x"), KeyError("x")):
            event = fastevent.Event()
            with pytest.raises(type(error)) as caught:
                async with event:
                    await library.sleep(0)
                    raise error
            assert caught.value is error and event.reason.startswith(type(error).__name__)
            assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_a_set_event_cancels_at_the_first_pause(fastevent, library):
    async def main():
        for event in (fastevent.Event(), fastevent.Event(0)):
            event.set() if event.timeout is None else None
            with pytest.raises(fastevent.EventCancelled):
                async with event:
                    await library.sleep(0)
                    raise AssertionError("it was not cancelled")
            async with event:
                pass  # it ends before any pause
            assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_a_set_at_the_end_cancels_nothing(fastevent, library):
    async def main():
        event = fastevent.Event()
        async with event:
            await library.sleep(0)
            event.set("done")
        assert event.reason == "done"
        assert await nothing_is_left(library, event)  # with pauses, which a late cancellation would end

    library.run(main)


@both
def test_leaving_sets_the_child_alone(fastevent, library):
    async def main():
        shutdown = fastevent.Event()
        async with shutdown.child() as request:
            await library.sleep(0)
        assert request.is_set() and not shutdown.is_set()
        with pytest.raises(fastevent.EventCancelled, match="going down"):
            async with shutdown.child():
                shutdown.set("going down")
                await library.sleep(TIMEOUT)
        assert await nothing_is_left(library, shutdown)

    library.run(main)


@both
def test_a_foreign_cancellation_stays_one(fastevent, library):
    async def main():
        event, entered = fastevent.Event(), []

        async def body():
            async with event:
                entered.append(True)
                await library.sleep(TIMEOUT)

        assert await library.cancel_when(lambda: entered, body)
        assert event.is_set() and event.reason.startswith(library.Cancelled.__name__)
        assert await nothing_is_left(library, event)

    library.run(main)


@both
@pytest.mark.parametrize("set_first", [False, True])
def test_a_foreign_cancellation_wins(fastevent, library, set_first):
    if library is Asyncio and sys.version_info < (3, 11):
        pytest.skip("best effort: no uncancel()")

    async def main():
        event, entered = fastevent.Event(), []

        async def body():
            async with event:
                entered.append(True)
                await library.sleep(TIMEOUT)

        def both():
            if entered and set_first:
                event.set()
            return entered

        try:
            assert await library.cancel_when(both, body)
        finally:
            event.set()
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_tasks_share_an_event(fastevent, library):
    async def main():
        event, ended = fastevent.Event(), []

        async def body():
            try:
                async with event:
                    await library.sleep(TIMEOUT)
            except fastevent.EventCancelled as error:
                ended.append(error.reason)

        async def sets():
            await library.sleep(0.01)
            event.set("all")

        await library.together(*[body] * 10, sets)
        assert ended == ["all"] * 10
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_loops_share_an_event(fastevent, library):
    event, ended, threads = fastevent.Event(), [], []

    async def body():
        try:
            async with event:
                await library.sleep(TIMEOUT)
        except fastevent.EventCancelled as error:
            ended.append(error.reason)

    for _ in range(3):
        threads.append(threading.Thread(target=library.run, args=(body,), daemon=True))
        threads[-1].start()
    until(lambda: len(event._fe_wakers) == 3)
    event.set("all")
    for thread in threads:
        thread.join(TIMEOUT)
    assert ended == ["all"] * 3 and not event._fe_wakers


@both
def test_an_event_is_entered_twice(fastevent, library):
    async def main():
        event, trace = fastevent.Event(), []
        with pytest.raises(fastevent.EventCancelled):
            async with event:
                async with event:
                    await library.sleep(0)
                trace.append("the inner block has set it")
                await library.sleep(TIMEOUT)
        assert trace and await nothing_is_left(library, event)

    library.run(main)


@both
@pytest.mark.parametrize("inner_is_child", [False, True])
def test_the_outermost_block_never_misses_a_set(fastevent, library, inner_is_child):
    async def main():
        event = fastevent.Event()
        with pytest.raises(fastevent.EventCancelled, match="why"):
            async with event:
                with suppress(fastevent.EventCancelled):
                    async with event.child() if inner_is_child else event:
                        in_thread(event.set, "why")
                        await library.sleep(TIMEOUT)
                await library.sleep(TIMEOUT)
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_the_block_follows_restart_timeout(fastevent, library):
    async def main():
        event, start = fastevent.Event(0.05), time.monotonic()
        with pytest.raises(fastevent.EventTimeout):
            async with event:
                assert event.restart_timeout(TIMEOUT)
                await library.sleep(0.1)  # the old deadline passes
                in_thread(event.restart_timeout, 0.02)
                await library.sleep(TIMEOUT)
        assert 0.12 <= time.monotonic() - start < TIMEOUT
        assert await nothing_is_left(library, event)

    library.run(main)


@both
def test_the_block_follows_clear(fastevent, library):
    async def main():
        event = fastevent.Event(0.5)
        with pytest.raises(fastevent.EventTimeout):
            async with event:
                await library.sleep(0.05)
                event.clear()
                end = deadline(event)
                await library.sleep(TIMEOUT)
        assert time.monotonic_ns() >= end

    library.run(main)


@both
def test_a_set_counts_although_a_clear_follows(fastevent, library):
    async def main():
        event = fastevent.Event()
        with pytest.raises(fastevent.EventCancelled, match=r"^cancelled$"):
            async with event:
                event.set("why")
                event.clear()
                await library.sleep(TIMEOUT)
        assert event.reason == "EventCancelled: cancelled"

    library.run(main)


@both
def test_an_exception_as_reason_is_the_cause(fastevent, library):
    async def main():
        event, reason = fastevent.Event(), OSError("disk full")
        with pytest.raises(fastevent.EventCancelled) as caught:
            async with event:
                event.set(reason)
                await library.sleep(TIMEOUT)
        assert caught.value.__cause__ is caught.value.reason is reason

    library.run(main)


@both
def test_a_signal_handler_ends_the_body(fastevent, library):
    async def main():
        event = fastevent.Event()
        with event.set_on_signals(signal.SIGTERM), pytest.raises(fastevent.EventCancelled, match="SIGTERM"):
            async with event.child():
                signal.raise_signal(signal.SIGTERM)
                await library.sleep(TIMEOUT)

    library.run(main)


@both
def test_a_subclass_may_override_set(fastevent, library):
    class Noisy(fastevent.Event):
        def set(self):  # as in `threading`
            calls.append(self)
            super().set()

    calls = []

    async def main():
        async with Noisy():
            await library.sleep(0)

    library.run(main)
    assert len(calls) == 1


@both
def test_an_ended_block_leaves_no_cycle(fastevent, library):
    async def main():
        event = fastevent.Event()
        with suppress(fastevent.EventCancelled):
            async with event:
                event.set()
                await library.sleep(TIMEOUT)
        return weakref.ref(event)

    gc.collect()
    gc.disable()
    try:
        there = Asyncio.run(main) if library is Asyncio else None
        if there is not None and sys.implementation.name == "cpython":
            assert there() is None
        elif library is Trio:
            there = library.run(main)  # which has cycles of its own
            gc.collect()
            assert there() is None
    finally:
        gc.enable()


def test_outside_of_a_task_it_is_refused(fastevent):
    event = fastevent.Event()
    with pytest.raises(RuntimeError, match="asyncio or trio"):
        event.__aenter__().send(None)

    async def main():
        errors = []

        def step():
            with pytest.raises(RuntimeError, match="asyncio or trio") as caught:
                event.__aenter__().send(None)
            errors.append(caught.value)

        asyncio.get_running_loop().call_soon(step)
        await asyncio.sleep(0.01)
        assert errors

    Asyncio.run(main)
    assert not event.is_set() and not event._fe_wakers


# asyncio alone


def test_an_abandoned_generator_leaves_its_block(fastevent):
    """Another task closes it: the event loop's own."""

    async def main():
        event = fastevent.Event()

        async def numbers():
            async with event:
                yield 1

        generator = numbers()
        assert await generator.__anext__() == 1 and event._fe_wakers
        del generator
        gc.collect()
        await asyncio.sleep(0.01)
        assert event.is_set() and await nothing_is_left(Asyncio, event)

    Asyncio.run(main)


def test_a_closed_loop_is_left_alone(fastevent):
    event, loop = fastevent.Event(), asyncio.new_event_loop()

    async def body():
        async with event:
            await asyncio.sleep(TIMEOUT)

    task = loop.create_task(body())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    event.set()
    assert event.is_set()
    task._log_destroy_pending = False
    task.get_coro().close()
    assert not event._fe_wakers


def test_wait_for_and_the_block_keep_apart(fastevent):
    async def main():
        async def body(event):
            async with event:
                await asyncio.sleep(TIMEOUT)

        with pytest.raises(asyncio.TimeoutError) as caught:
            await asyncio.wait_for(body(fastevent.Event()), 0.01)
        assert not isinstance(caught.value, fastevent.EventTimeout)
        with pytest.raises(fastevent.EventTimeout):
            await asyncio.wait_for(body(fastevent.Event(0.01)), TIMEOUT)
        with pytest.raises(fastevent.EventTimeout):
            async with fastevent.Event(0.01):
                await asyncio.wait_for(asyncio.sleep(TIMEOUT), TIMEOUT)

    Asyncio.run(main)


@since_3_11
def test_timeout_and_the_block_keep_apart(fastevent):
    async def main():
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                async with fastevent.Event():
                    await asyncio.sleep(TIMEOUT)
        assert type(caught.value) is TimeoutError
        with pytest.raises(fastevent.EventTimeout):
            async with fastevent.Event(0.01):
                async with asyncio.timeout(TIMEOUT):
                    await asyncio.sleep(TIMEOUT)
        assert asyncio.current_task().cancelling() == 0

    Asyncio.run(main)


@since_3_11
def test_a_task_group_ends_with_the_block(fastevent):
    async def main():
        event, ended = fastevent.Event(), []

        async def child():
            try:
                await asyncio.sleep(TIMEOUT)
            finally:
                ended.append(True)

        with pytest.raises(fastevent.EventCancelled, match="why"):
            async with event:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
                    group.create_task(child())
                    await asyncio.sleep(0)
                    event.set("why")
        assert ended == [True, True] and asyncio.current_task().cancelling() == 0

    Asyncio.run(main)


@since_3_11
def test_a_failing_task_group_passes_the_block(fastevent):
    async def main():
        async def fails():
            raise ValueError

        event = fastevent.Event()
        with pytest.raises(BaseException) as caught:
            async with event:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        assert event.is_set()

    Asyncio.run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_has_blocks(fastevent):
    async def main():
        event = fastevent.Event()
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def body():
            async with event:
                await asyncio.sleep(TIMEOUT)

        task = asyncio.create_task(body())
        event.set("eager")
        with pytest.raises(fastevent.EventCancelled, match="eager"):
            await task

    Asyncio.run(main)


@pytest.mark.skipif(trio is None, reason="trio does not install here")
def test_what_fails_under_cancellation_is_the_reason(fastevent):
    event = fastevent.Event(0.02)

    async def main():
        async with event, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, TIMEOUT)
            try:
                await trio.sleep(TIMEOUT)
            finally:
                raise ValueError

    with pytest.raises(BaseException) as caught:
        Trio.run(main)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert event.reason.startswith("ExceptionGroup: ")


# Both libraries in one thread, and above both


@pytest.mark.skipif(trio is None, reason="trio does not install here")
def test_trio_as_a_guest_of_asyncio(fastevent):
    async def main():
        done = asyncio.get_running_loop().create_future()
        event, other = fastevent.Event(), fastevent.Event()

        async def guest():
            with pytest.raises(fastevent.EventCancelled, match="for the guest"):
                async with event:
                    await trio.sleep(TIMEOUT)
            assert await other.wait_async(TIMEOUT)
            return "guest"

        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=done.set_result,
        )
        with pytest.raises(fastevent.EventCancelled, match="for the host"):
            async with fastevent.Event() as mine:
                while not event._fe_wakers:
                    await asyncio.sleep(0.001)
                event.set("for the guest")
                mine.set("for the host")
                await asyncio.sleep(TIMEOUT)
        other.set()
        return (await done).unwrap()

    assert Asyncio.run(main) == "guest"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_under_anyio(fastevent, backend):
    anyio = pytest.importorskip("anyio")
    if backend == "trio":
        pytest.importorskip("trio")

    async def main():
        event = fastevent.Event()
        with pytest.raises(fastevent.EventCancelled, match="why"):
            async with event:
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep, TIMEOUT)
                    in_thread(event.set, "why")
                    await anyio.sleep(TIMEOUT)
        with anyio.move_on_after(0.01) as scope:
            async with fastevent.Event() as event:
                await anyio.sleep(TIMEOUT)
        assert scope.cancelled_caught and event.is_set()
        with anyio.fail_after(TIMEOUT), pytest.raises(fastevent.EventTimeout):
            async with fastevent.Event(0.01):
                with anyio.move_on_after(TIMEOUT):
                    await anyio.sleep(TIMEOUT)

    anyio.run(main, backend=backend)
