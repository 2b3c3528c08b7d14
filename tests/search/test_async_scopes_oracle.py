"""`async with event` beside `asyncio.timeout()`: what both do is the same at every await of a body."""

import asyncio
import sys
from contextlib import suppress

import pytest
from conftest import CORES
from helpers import SCALE
from loops import Asyncio

if sys.version_info < (3, 11):
    pytest.skip("asyncio.timeout() came with Python 3.11", allow_module_level=True)
hypothesis = pytest.importorskip("hypothesis", reason="hypothesis does not install here")

from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

#: What another task does while the body pauses, turn by turn.
ACTIONS = st.lists(st.lists(st.sampled_from(["set outer", "set inner", "cancel"]), max_size=3), max_size=12)

#: How a body behaves at each of its awaits, if it is cancelled there.
REACTIONS = st.lists(st.sampled_from(["pass on", "swallow", "clean up", "fail"]), max_size=4)

#: What the inner block has to do with the outer one.
RELATIONS = st.sampled_from(["child", "same", "none"])


class Timeout:
    """`asyncio.timeout()` in the role of an event: a timeout that passes is a set."""

    def __init__(self):
        self.is_set = False
        self.inner = []  # what is set along with this
        self.blocks = []

    def set(self):
        if not self.is_set:
            self.is_set = True
            self.reschedule()
            for inner in self.inner:
                inner.set()

    def reschedule(self):
        for block in self.blocks:
            with suppress(RuntimeError):  # it has been left, or has ended already
                block.reschedule(asyncio.get_running_loop().time())

    def child(self):
        child = Timeout()
        child.is_set = self.is_set
        self.inner.append(child)
        return child

    async def __aenter__(self):
        self.blocks.append(asyncio.timeout(0 if self.is_set else None))
        await self.blocks[-1].__aenter__()

    async def __aexit__(self, *error):
        try:
            await self.blocks.pop().__aexit__(*error)
        finally:
            self.set()


async def pause(trace, reaction):
    try:
        await asyncio.sleep(0)
        trace.append("resumed")
    except asyncio.CancelledError:
        trace.append(f"cancelled: {reaction}")
        if reaction == "clean up":
            await asyncio.sleep(0)
            trace.append("cleaned up")
        if reaction == "fail":
            raise ValueError from None
        if reaction != "swallow":
            raise


async def body(make, trace, relation, before, within, after, catch):
    task = asyncio.current_task()
    outer = make()
    inner = outer.child() if relation == "child" else outer if relation == "same" else make()
    yield outer, inner
    try:
        async with outer:
            for reaction in before:
                await pause(trace, reaction)
            try:
                async with inner:
                    for reaction in within:
                        await pause(trace, reaction)
            except Exception as error:
                trace.append(f"inner: {kind(error)}")
                if not catch:
                    raise
            trace.append(f"{task.cancelling()} requests")
            for reaction in after:
                await pause(trace, reaction)
    finally:
        trace.append(f"{task.cancelling()} requests")


def kind(error):
    return "ended" if isinstance(error, TimeoutError) or type(error).__name__ == "EventCancelled" else type(error).__name__


async def run(make, program, actions):
    """Return what happens in a body, step by step, to its last."""
    trace, sources = [], []

    async def runs():
        steps = body(make, trace, *program)
        sources.extend(await steps.__anext__())
        try:
            await steps.__anext__()
        except StopAsyncIteration:
            trace.append("returned")
        except BaseException as error:
            trace.append(kind(error))
        for _ in range(3):  # nothing is left that cancels what follows
            await pause(trace, "swallow")

    task = asyncio.ensure_future(runs())
    await asyncio.sleep(0)
    for turn in actions:
        for action in turn:
            if action == "cancel":
                task.cancel()
            else:
                sources[action == "set inner"].set()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    return trace


@settings(max_examples=int(150 * SCALE), deadline=None, derandomize=SCALE == 1)
@example(  # a request to cancel that the body has survived is there before the inner block, and does not count for it
    program=("none", ["swallow"], ["pass on", "pass on"], [], False),
    actions=[["cancel"], ["set inner"]],
)
@given(
    program=st.tuples(RELATIONS, REACTIONS, REACTIONS, REACTIONS, st.booleans()),
    actions=ACTIONS,
)
def test_the_block_does_what_a_timeout_does(core, program, actions):
    expected = Asyncio.run(lambda: run(Timeout, program, actions))
    assert Asyncio.run(lambda: run(CORES[core].Event, program, actions)) == expected
