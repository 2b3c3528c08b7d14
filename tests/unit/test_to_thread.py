"""`await event.to_thread(function)`: a thread that its task does not leave behind."""

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import weakref

import pytest
from helpers import TIMEOUT
from loops import Asyncio, Trio, both, in_thread, nothing_is_left, since_3_11, until


class Work:
    """A function for a thread: it waits for its event, and then for permission to end."""

    def __init__(self, event):
        self.event = event
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = False

    def __call__(self):
        self.begun.set()
        assert self.event.wait(TIMEOUT)
        assert self.may_end.wait(TIMEOUT)
        self.ended = True
        return "result"


@both
def test_result_and_arguments_pass(fastevent, library):
    async def main():
        event = fastevent.Event()
        answer = await event.to_thread(lambda *args, **kwargs: (args, kwargs, threading.get_ident()), 1, function=2, event=3)
        assert answer[:2] == ((1,), {"function": 2, "event": 3}) and answer[2] != threading.get_ident()
        assert not event.is_set() and await nothing_is_left(library, event)

    library.run(main)


@both
@pytest.mark.parametrize("kind", [ValueError, StopIteration, KeyboardInterrupt, SystemExit])
def test_an_exception_passes(fastevent, library, kind):
    def fails():
        raise kind("x")

    async def main():
        event = fastevent.Event()
        with pytest.raises(RuntimeError if kind is StopIteration else kind):
            await event.to_thread(fails)
        assert not event.is_set()

    library.run(main)


@both
def test_context_variables_travel(fastevent, library):
    variable = contextvars.ContextVar("variable", default="none")

    def work():
        before = variable.get()
        variable.set("changed in the thread")
        return before

    async def main():
        variable.set("of the task")
        assert await fastevent.Event().to_thread(work) == "of the task" == variable.get()

    library.run(main)


@both
def test_a_cancelled_task_waits_for_its_thread(fastevent, library):
    async def main():
        event = fastevent.Event()
        work = Work(event)
        work.may_end.set()
        assert await library.cancel_when(work.begun.is_set, lambda: event.to_thread(work))
        assert work.ended and event.reason.startswith(library.Cancelled.__name__)
        assert await nothing_is_left(library, event)

    library.run(main)


def test_further_cancellations_do_not_end_the_waiting(fastevent):
    async def main():
        event = fastevent.Event()
        work = Work(event)
        task = asyncio.ensure_future(event.to_thread(work))
        while not work.begun.is_set():
            await asyncio.sleep(0.001)
        for message in ("first", "second", "third"):
            task.cancel(message)
            for _ in range(3):
                await asyncio.sleep(0)
            assert not task.done() and event.is_set()
        assert event.reason == "CancelledError: first"
        work.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.ended

    Asyncio.run(main)


@pytest.mark.parametrize("kind", ["explicit", "deadline"])
def test_a_shielded_thread_outlasts_a_scope_of_trio(fastevent, kind):
    trio = pytest.importorskip("trio")

    async def main():
        event = fastevent.Event()
        work = Work(event)
        with trio.CancelScope() as outer:
            with trio.move_on_after(0.01 if kind == "deadline" else TIMEOUT) as scope:

                def interferes():
                    work.begun.wait(TIMEOUT)
                    if kind == "explicit":
                        trio.from_thread.run_sync(scope.cancel, trio_token=token)
                    event.wait(TIMEOUT)
                    trio.from_thread.run_sync(outer.cancel, trio_token=token)
                    work.may_end.set()

                token = trio.lowlevel.current_trio_token()
                in_thread(interferes)
                await event.to_thread(work)
        assert work.ended and (scope.cancelled_caught or outer.cancelled_caught)

    Trio.run(main)


@both
def test_a_set_event_alone_raises_nothing(fastevent, library):
    async def main():
        event = fastevent.Event()
        work = Work(event)
        work.may_end.set()
        in_thread(lambda: (work.begun.wait(TIMEOUT), event.set("why")))
        assert await event.to_thread(work) == "result"
        assert await event.to_thread(work) == "result"  # it is set already

    library.run(main)


@both
def test_a_block_of_the_event_ends_both(fastevent, library):
    async def main():
        event = fastevent.Event()
        work = Work(event)
        work.may_end.set()
        with pytest.raises(fastevent.EventCancelled, match="why"):
            async with event:
                in_thread(lambda: (work.begun.wait(TIMEOUT), event.set("why")))
                try:
                    await event.to_thread(work)
                finally:
                    assert work.ended
                await library.sleep(TIMEOUT)  # should the thread have been faster than the cancellation

    library.run(main)


@both
@pytest.mark.parametrize("raises", ["EventCancelled", "EventTimeout", "ValueError"])
def test_only_an_unexpected_exception_is_logged(fastevent, library, raises, caplog):
    async def main():
        event, begun = fastevent.Event(), threading.Event()

        def work():
            begun.set()
            event.wait(TIMEOUT)
            raise getattr(fastevent, raises, ValueError)("x")

        assert await library.cancel_when(begun.is_set, lambda: event.to_thread(work))

    library.run(main)
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == (raises == "ValueError") and all("work" in message for message in logged)


@both
def test_a_failing_callback_does_not_end_the_waiting(fastevent, library):
    async def main():
        event = fastevent.Event()
        work = Work(event)
        work.may_end.set()

        def fails(event):
            raise BaseException("from a callback")

        async def task():
            with pytest.raises(BaseException, match="from a callback"):
                await event.to_thread(work)

        event.add_callback(fails)
        await library.cancel_when(work.begun.is_set, task)
        assert work.ended

    library.run(main)


@both
def test_full_executors_delay_nothing(fastevent, library):
    """More threads than any executor has wait for one that comes last."""

    async def main():
        event, begun = fastevent.Event(), threading.Semaphore(0)

        def waits():
            begun.release()
            return event.wait(TIMEOUT)

        def sets():
            for _ in range(60):
                begun.acquire()
            event.set()

        answers = await library.together(*[lambda: event.to_thread(waits)] * 60, lambda: event.to_thread(sets))
        assert answers == [True] * 60 + [None]

    library.run(main)


def test_a_call_that_has_not_begun_is_dropped(fastevent, monkeypatch):
    monkeypatch.delitem(sys.modules, "anyio", raising=False)  # it would run the call in a thread of its own
    calls, go_on = [], threading.Event()

    async def main():
        event = fastevent.Event()

        async def body():
            await event.to_thread(calls.append, 1)

        run, started = threading.Thread.run, threading.Event()

        def late(thread):  # between the start of a thread and its first step
            started.set()
            go_on.wait(TIMEOUT)
            run(thread)

        monkeypatch.setattr(threading.Thread, "run", late)
        assert await Asyncio.cancel_when(started.is_set, body)
        assert event.is_set()

    Asyncio.run(main)
    go_on.set()
    assert not calls


def test_no_thread_no_call(fastevent, monkeypatch):
    def fails(*_):
        raise RuntimeError("can't start new thread")

    async def main():
        event = fastevent.Event()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fails)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await event.to_thread(print)
        assert not event.is_set()

    Asyncio.run(main)


@both
def test_a_bad_function_is_refused(fastevent, library):
    async def coroutine_function():
        raise AssertionError

    class Asynchronous:
        async def __call__(self):
            raise AssertionError

    async def main():
        event = fastevent.Event()
        with pytest.raises(TypeError, match="must be callable, not 5"):
            event.to_thread(5)
        for function in (coroutine_function, Asynchronous()):
            with pytest.raises(TypeError, match="not the coroutine function"):
                event.to_thread(function)

    library.run(main)


def test_outside_of_a_task_it_is_refused(fastevent):
    with pytest.raises(RuntimeError, match=r"to_thread\(\) needs a running task of asyncio or trio"):
        fastevent.Event().to_thread(print).send(None)


def test_trio_functions_reach_back(fastevent):
    trio = pytest.importorskip("trio")

    async def main():
        return await fastevent.Event().to_thread(trio.from_thread.run_sync, trio.lowlevel.current_task)

    assert Trio.run(main)


@since_3_11
def test_a_timeout_is_still_a_timeout(fastevent):
    async def main():
        event = fastevent.Event()
        work = Work(event)
        work.may_end.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await event.to_thread(work)
        assert work.ended == work.begun.is_set() and asyncio.current_task().cancelling() == 0

    Asyncio.run(main)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="objects are freed by count in CPython alone")
def test_no_cycle_keeps_result_or_exception(fastevent):
    class Thing(Exception):
        pass

    def makes():
        return things.setdefault(0, Thing())

    def raises():
        raise makes()

    things = {}

    async def main():
        event = fastevent.Event()

        async def use_the_thread(seconds):  # without the GIL, what an idle thread has made is freed once it goes on
            await event.to_thread(int)
            await asyncio.sleep(seconds)

        await event.to_thread(makes)
        there = [weakref.ref(things.pop(0))]
        try:
            await event.to_thread(raises)
        except Thing:
            pass
        there.append(weakref.ref(things.pop(0)))
        await until(lambda: all(reference() is None for reference in there), use_the_thread)  # which drops them last

    gc.collect()
    gc.disable()
    try:
        Asyncio.run(main)
    finally:
        gc.enable()
