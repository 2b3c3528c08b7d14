"""What docs/guarantees.md promises and what lies between the subjects of the other files."""

import asyncio
import gc
import re
import select
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import HAS_GIL, ROOT, TESTS, TIMEOUT, Threads, self_setting, until, until_deadline, until_waiting
from loops import Asyncio, since_3_11

# The table


def sentences():
    """Return the sentences of the page, and the rows of its tables."""
    readme, page = (path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "docs/guarantees.md"))
    included = readme.partition("[start:guarantees] -->")[2].partition("<!-- --8<--")[0]
    page = page.replace('--8<-- "README.md:guarantees"', included).partition("\n## How they are checked")[0]
    found = []
    for block in re.split(r"\n\s*\n|\n(?=[-|#]|\d+\. )", page):
        text = re.sub(r"^(-|\d+\.) ", "", " ".join(block.split()))
        if text.startswith("|"):
            found.append(text)
        elif not text.startswith("#"):
            found += re.split(r"(?<=[.:!?]\*\*) |(?<=[.!?]) (?=[A-Z`*])", text)
    return [text for text in found if text.strip("|- ")]


def table():
    lines = Path(__file__).with_name("guarantees.txt").read_text(encoding="utf-8").partition("\n\n")[2].splitlines()
    return [line.rpartition(" | ")[::2] for line in lines if line]


def test_each_sentence_of_the_page_names_its_tests():
    rows = table()
    for sentence in sentences():
        assert any(sentence.startswith(beginning) for beginning, _ in rows), f"guarantees.txt has no test of: {sentence}"
    for beginning, _ in rows:
        assert any(sentence.startswith(beginning) for sentence in sentences()), f"no sentence begins with: {beginning}"


def test_the_tests_of_the_page_are_there():
    sources = [path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")]
    there = {name for source in sources for name in re.findall(r"^ *(?:async )?def (?:test_)?(\w+)\(", source, re.M)}
    there |= {path.name for path in (ROOT / "proofs").glob("*.pml")}
    named = {name for _, names in table() for name in re.split(", ", names) if name != "-"}
    assert not named - there


# Before and after


@pytest.mark.skipif(not HAS_GIL, reason="holds the GIL")
def test_a_wait_sees_a_set_after_its_time(Event):
    """The time of 200 waits ends while no thread runs but the one that then sets and clears the event. The last wait that
    began ends first, so that most run on before another one has woken them.
    """
    timeout, interval = 0.5, sys.getswitchinterval()
    while True:
        event, answers = Event(), []

        def waits(share, event=event, answers=answers, timeout=timeout):
            answers.append(event.wait(timeout * share))

        with Threads(*[partial(waits, 1 - number / 400) for number in range(200)]):
            until(lambda event=event, answers=answers: answers or event.status().waiters == 200)
            try:
                sys.setswitchinterval(100)
                all_wait = event.status().waiters == 200
                end = time.monotonic() + 1.1 * timeout
                while time.monotonic() < end:
                    pass
                event.set()
                event.clear()
            finally:
                sys.setswitchinterval(interval)
        if all_wait:
            assert answers == [True] * 200
            return
        timeout *= 2  # a loaded machine: the first wait was over before the last began


def test_waiters_are_woken_before_children_are_set(Event):
    answers = []

    class Child(Event):
        def _fe_try_set(self, *arguments):
            until(lambda: answers)
            super()._fe_try_set(*arguments)

    event = Event()
    child = Child(parents=[event])
    with Threads(lambda: answers.append(event.wait())):
        until_waiting(event)
        event.set()
    assert answers == [True] and child.is_set()


def test_several_threads_may_wait_for_all(fastevent):
    events, answers = [fastevent.Event(), fastevent.Event()], []
    with Threads(*[lambda: answers.append(fastevent.wait_all(events, TIMEOUT))] * 4):
        for event in events:
            until_waiting(event, 1)
            event.set()
    assert answers == [True] * 4


def test_every_thread_sees_a_set_that_has_returned(Event, tiny_switch_interval):
    """Each event is polled once, as soon as its `set()` has returned."""
    events, done, wrong = [Event() for _ in range(2000)], [], []

    def sets():
        for event in events:
            event.set()
            done.append(event)

    def polls():
        for number in range(len(events)):
            while len(done) <= number:
                time.sleep(0)
            if not done[number].is_set():
                wrong.append(number)

    with Threads(sets, polls, polls):
        pass
    assert not wrong


# A tree


def test_a_whole_tree_is_set_before_any_callback(Event):
    root = Event()
    tree, seen = [root], []
    for _ in range(4):
        tree.append(tree[-1].child())
    for event in tree[:3]:
        event.add_callback(lambda _: seen.append([event.is_set() for event in tree]))
    root.set()
    assert seen == [[True] * 5] * 3


def test_parents_and_deadlines_call_no_set_method(Event):
    class Counts(Event):
        def set(self, reason=None):
            raise AssertionError("called")

    parent = Event()
    child, timed = Counts(parents=[parent]), Counts(0.01, set_on_timeout=True)
    parent.set()
    assert child.is_set() and timed.wait(TIMEOUT)


@pytest.mark.parametrize("sets", ["parent", "block"])
def test_callbacks_run_in_the_thread_that_sets(Event, sets):
    event, threads = Event(), []
    child = event.child()
    child.add_callback(lambda _: threads.append(threading.get_ident()))
    if sets == "parent":
        event.set()
    else:
        with event:
            pass
    assert threads == [threading.get_ident()]


def test_children_outlast_a_cycle_of_their_parent(Event):
    """A `__del__` in the cycle sets the parent: children that live on are reached."""

    class Owner:
        def __init__(self):
            self.event = Event()
            self.me = self

        def __del__(self):
            self.event.set("the owner is gone")

    owner = Owner()
    child = owner.event.child()
    del owner
    until(lambda: (gc.collect(), child.is_set())[1])
    assert child.reason == "the owner is gone"


# Time


def test_what_goes_by_the_clock_is_never_late(fastevent):
    for set_on_timeout in False, True:
        event = fastevent.Event(0.02, set_on_timeout=set_on_timeout)
        until_deadline(event)
        assert event.remaining() == 0 and event.check_timeout()
        if set_on_timeout:
            with pytest.raises(fastevent.EventTimeout):
                event.check()


def test_remaining_and_elapsed_beside_other_threads(Event, tiny_switch_interval):
    event, stop = Event(100), threading.Event()

    def restarts():
        while not stop.is_set():
            event.restart_timeout(200)
            event.restart_timeout(100)
            event.clear()

    def reads():
        try:
            for _ in range(500):
                elapsed, remaining = event.status().elapsed, event.remaining()
                assert 0 <= elapsed < 50 and 50 < remaining <= 200, (elapsed, remaining)
        finally:
            stop.set()

    with Threads(restarts, reads):
        pass


def test_the_numbers_of_the_page(modules):
    page = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    for words, seconds in {
        "takes longer than 0.1 seconds": modules._callbacks.STUCK / 1e9,
        "A fork waits at most 0.1 seconds": modules._threads.FORK_TIMEOUT / 1e9,
        "ten seconds at most": modules._callbacks.CALLBACKS_TIMEOUT / 1e10 * 10,
    }.items():
        assert words in " ".join(page.split())
        assert seconds == (10 if words.startswith("ten") else 0.1)


def test_a_stuck_callback_delays_another_briefly(Event):
    """The quickest of a few: the machine may be slow, the rule is not."""
    delays = []
    for _ in range(3):
        go_on, begun, called = threading.Event(), threading.Event(), []
        _event = self_setting(
            Event,
            0.001,
            lambda _, begun=begun, go_on=go_on: (begun.set(), go_on.wait(TIMEOUT)),
            lambda _, called=called: called.append(time.monotonic()),
        )
        assert begun.wait(TIMEOUT)
        start = time.monotonic()
        until(lambda called=called: called)
        delays.append(called[0] - start)
        go_on.set()
    assert min(delays) < 0.5, delays


# Signals


class Interrupts:
    """A waker that raises what a signal handler would, once."""

    def __init__(self, modules, event):
        self.raised = False
        modules._notify.subscribe(event, modules._notify.Waker(self))

    def __call__(self):
        if not self.raised:
            self.raised = True
            raise KeyboardInterrupt


def test_an_interrupted_clear_keeps_the_deadline(modules, Event):
    event = Event(0.02, set_on_timeout=True)
    until(event.is_set)
    interrupts = Interrupts(modules, event)
    with pytest.raises(KeyboardInterrupt):
        event.clear()
    assert interrupts.raised
    until(event.is_set)


def test_an_interrupted_clear_reaches_the_descriptor(modules, Event):
    event = Event()
    interrupts = Interrupts(modules, event)
    interrupts.raised = True  # not yet
    descriptor = event.fileno()
    event.set()
    interrupts.raised = False
    with pytest.raises(KeyboardInterrupt):
        event.clear()
    assert select.select([descriptor], [], [], 0)[0] == []


def test_an_interrupted_restart_wakes_all(modules, Event):
    event, woken = Event(3600, set_on_timeout=True), []
    Interrupts(modules, event)
    waker = modules._notify.Waker(lambda: woken.append(True))
    modules._notify.subscribe(event, waker)
    with pytest.raises(KeyboardInterrupt):
        event.restart_timeout(0.02)
    assert woken
    until(event.is_set)


@pytest.mark.skipif(not hasattr(signal, "SIGURG"), reason="no signal that is ignored by default")
def test_a_harmless_signal_may_come_often(Event):
    event = Event()
    with event.set_on_signals(signal.SIGURG):
        for _ in range(3):
            signal.raise_signal(signal.SIGURG)
        assert event.is_set()
        event.clear()
        signal.raise_signal(signal.SIGURG)
        assert event.is_set() and event.reason == "SIGURG"
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL


def test_to_thread_outlasts_ctrl_c(fastevent, monkeypatch):
    """The interpreter raises it at the await."""
    monkeypatch.delitem(sys.modules, "anyio", raising=False)  # which would start the thread a turn of the loop later
    event, begun, ended = fastevent.Event(), threading.Event(), []

    def work():
        begun.set()
        assert event.wait(TIMEOUT)
        time.sleep(0.02)
        ended.append(True)

    class Interrupted:
        def __await__(self):
            coroutine = event.to_thread(work)
            coroutine.send(None)
            assert begun.wait(TIMEOUT)
            future = coroutine.throw(KeyboardInterrupt())
            while True:
                yield future
                future = coroutine.send(None)

    async def main():
        with pytest.raises(KeyboardInterrupt):
            await Interrupted()
        assert ended and event.reason == "KeyboardInterrupt"

    Asyncio.run(main)


# Tasks


@since_3_11
def test_an_abandoned_generator_ends_its_own_block(fastevent):
    """The loop closes it in a task of its own, while another task is in a block of the same event."""

    async def main():
        event, entered = fastevent.Event(), asyncio.Event()

        async def generates():
            async with event:
                yield

        async def stays():
            async with event:
                entered.set()
                await asyncio.sleep(TIMEOUT)

        async def abandons():
            generator = generates()
            await generator.__anext__()
            del generator
            gc.collect()
            while not event.is_set():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)  # a block that was still there would cancel this
            return "goes on"

        task = asyncio.ensure_future(stays())
        await entered.wait()
        assert await asyncio.ensure_future(abandons()) == "goes on"
        with pytest.raises(fastevent.EventCancelled):
            await task
        assert not event._fe_wakers

    Asyncio.run(main)


# Finalizers


CALLS = [
    *(lambda e: e.set("why"), lambda e: e.clear(), lambda e: e.is_set(), lambda e: e.wait(0), lambda e: e.check_timeout()),
    *(lambda e: e.reason, lambda e: e.flag, lambda e: e.remaining(), lambda e: e.status(), lambda e: e.child(), repr),
    *(lambda e: e.add_callback(repr), lambda e: e.add_callback(repr).remove(), lambda e: e.restart_timeout(9)),
    *(lambda e: e.fileno(), lambda e: next(iter(e.ticks(1e-9)), None)),
]


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="other collectors have no thresholds")
def test_finalizers_may_call_any_method_amid_any(Event):
    class Owner:
        def __init__(self, call):
            self.call, self.me = call, self

        def __del__(self):
            self.call(event)
            done.append(self.call)

    event, done = Event(100, set_on_timeout=True), []
    thresholds = gc.get_threshold()
    for outer in CALLS:
        for inner in CALLS:
            gc.collect(0)
            Owner(inner)
            gc.set_threshold(1, 0, 0)
            try:
                outer(event)
            finally:
                gc.set_threshold(*thresholds)
    gc.collect()
    assert len(done) == len(CALLS) ** 2
    event.clear()
    event.set("at last")
    assert event.wait(0) and event.reason == "at last"
