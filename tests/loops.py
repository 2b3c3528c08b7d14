"""What tests over asyncio and trio need: one name for what each calls by its own."""

import asyncio
import sys
import threading
import time

import pytest
from helpers import TIMEOUT

try:
    import trio
except ImportError:  # it does not install here
    trio = None


class Asyncio:
    name = "asyncio"
    Cancelled = asyncio.CancelledError
    sleep = staticmethod(asyncio.sleep)

    @staticmethod
    def run(function):
        async def main():
            return await asyncio.wait_for(function(), TIMEOUT)

        return asyncio.run(main())

    @staticmethod
    async def cancel_when(condition, function):
        """Run the coroutine *function* in a task, and cancel it once *condition* holds. Return whether that ended it."""
        task = asyncio.ensure_future(function())
        await until(condition, asyncio.sleep)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    @staticmethod
    async def together(*functions):
        return await asyncio.gather(*[function() for function in functions])

    @staticmethod
    def timers():
        """Return how many timers will do something."""
        return sum(not timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)


class Trio:
    name = "trio"
    if trio is not None:
        Cancelled = trio.Cancelled
        sleep = staticmethod(trio.sleep)

    @staticmethod
    def run(function):
        async def main():
            with trio.fail_after(TIMEOUT):
                return await function()

        return trio.run(main)

    @staticmethod
    async def cancel_when(condition, function):
        scope, outcome = trio.CancelScope(), []

        async def run():
            try:
                with scope:
                    await function()
            except Exception as error:  # not in the group that a nursery makes of it
                outcome.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(condition, trio.sleep)
            scope.cancel()
        if outcome:
            raise outcome[0]
        return scope.cancelled_caught

    @staticmethod
    async def together(*functions):
        answers = {}

        async def run(number, function):
            answers[number] = await function()

        async with trio.open_nursery() as nursery:
            for number, function in enumerate(functions):
                nursery.start_soon(run, number, function)
        return [answers[number] for number in range(len(functions))]

    @staticmethod
    def timers():
        tasks = [trio.lowlevel.current_root_task()]
        for task in tasks:
            tasks.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
        return sum(task.name.startswith("fastevent") for task in tasks)


LIBRARIES = [Asyncio, pytest.param(Trio, marks=pytest.mark.skipif(trio is None, reason="trio does not install here"))]

#: For tests with a parameter `library`.
both = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)

since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout() came with Python 3.11")


async def until(condition, sleep):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await sleep(0.001)


def in_thread(function, *arguments):
    """Call *function* in a thread that a test need not wait for."""
    threading.Thread(target=function, args=arguments, daemon=True).start()


async def nothing_is_left(library, *events):
    """Return whether no subscriber of these events and no timer is left once the loop has turned."""
    for _ in range(3):
        await library.sleep(0)
    if library is Trio:
        await until(lambda: library.timers() == 0, library.sleep)
        timers = 0
    else:
        timers = library.timers() - 1  # that of run()
    status = [(event.status().waiters, event.status().callbacks, dict(event._fe_wakers)) for event in events]
    blocks = [[waker for waker in event._fe_wakers if hasattr(waker, "leave")] for event in events]
    return timers == 0 and status == [(0, 0, {})] * len(events) and not any(blocks)
