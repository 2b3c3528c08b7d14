"""Events in tasks of anyio: cancelled scopes, and functions of `to_thread()` that call back."""

import asyncio
import time

import pytest
from helpers import TIMEOUT, until

anyio = pytest.importorskip("anyio")

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def test_a_cancelled_scope_does_not_turn_the_loop(Event):
    """A client that leaves, under FastAPI, cancels such a scope while the thread still runs."""

    async def main():
        loop, rounds = asyncio.get_running_loop(), []
        select = loop._selector.select
        loop._selector.select = lambda timeout: rounds.append(timeout) or select(timeout)
        with anyio.move_on_after(0.05):
            await Event().to_thread(time.sleep, 0.5)
        return len(rounds)

    assert asyncio.run(main()) < 100


@BACKENDS
def test_the_event_is_set_and_the_thread_ends(Event, backend):
    pytest.importorskip(backend)

    async def main():
        event, ended = Event(), []
        with anyio.move_on_after(0.05) as scope:
            await event.to_thread(lambda: (event.wait(TIMEOUT), ended.append(True)))
        assert scope.cancelled_caught and event.is_set() and ended == [True]

    anyio.run(main, backend=backend)


@BACKENDS
def test_from_thread_works_in_to_thread(Event, backend):
    pytest.importorskip(backend)

    async def doubled(number):
        await anyio.sleep(0)
        return 2 * number

    async def main():
        return await Event().to_thread(lambda: anyio.from_thread.run(doubled, 21))

    assert anyio.run(main, backend=backend) == 42


@BACKENDS
def test_check_cancelled_works_in_to_thread(Event, backend):
    pytest.importorskip(backend)
    seen = []

    def work():
        until(lambda: checked() is not None)

    def checked():
        try:
            anyio.from_thread.check_cancelled()
        except BaseException as error:
            seen.append(type(error).__name__)
            return True

    async def main():
        with anyio.move_on_after(0.05):
            await Event().to_thread(work)

    anyio.run(main, backend=backend)
    assert seen and "Cancelled" in seen[0]


@BACKENDS
def test_a_scope_of_anyio_around_a_block(Event, backend):
    pytest.importorskip(backend)

    async def main():
        with anyio.move_on_after(0.05) as scope:
            async with Event() as event:
                await anyio.sleep(TIMEOUT)
        assert scope.cancelled_caught and event.is_set()

    anyio.run(main, backend=backend)
