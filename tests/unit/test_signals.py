"""`with event:`, and set_on_signals()."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import TIMEOUT, CtrlC, SignalAtLine, Threads, child_environment, command, python, until

# `with event:`


def test_leaving_the_block_sets_the_event(Event):
    answers = []
    with Event() as event, Threads(lambda: answers.append(event.wait())):
        event.set("early")
    assert answers == [True]
    with Event() as event:
        assert not event.is_set()
    assert event.is_set() and event.reason == "the block was left"


def test_a_subclass_may_set_without_a_reason(Event):
    class Theirs(Event):
        def set(self):
            super().set()

    with Theirs() as event:
        pass
    assert event.is_set()


def test_an_exception_becomes_the_reason(Event):
    event = Event()
    with pytest.raises(ValueError, match="oops"), event:
        raise ValueError("oops")
    assert event.reason == "ValueError: oops"
    event.clear()
    with pytest.raises(KeyError), event:
        raise KeyError
    assert event.reason == "KeyError"


def test_an_exception_without_a_text_sets_it(Event):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    event = Event()
    with pytest.raises(Mute), event:
        raise Mute
    assert event.reason.startswith("Mute: <") and "Mute object at 0x" in event.reason


# set_on_signals()


@pytest.fixture(autouse=True)
def handlers_are_restored():
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    assert after == before


def test_a_signal_sets_the_event(Event):
    event = Event()
    with event.set_on_signals() as same:
        assert same is event
        signal.raise_signal(signal.SIGTERM)
        assert event.is_set() and event.reason == "SIGTERM"
        event.clear()
        signal.raise_signal(signal.SIGINT)
        assert event.reason == "SIGINT"
    assert event.is_set() and repr(event).endswith("set: SIGINT>")


def test_a_block_without_signals_sets_nothing(Event):
    event = Event()
    with event.set_on_signals():
        pass
    assert not event.is_set()


def test_a_second_ctrl_c_interrupts(Event):
    """Otherwise nothing but SIGKILL would end a shutdown that hangs."""
    event = Event()
    with event.set_on_signals(signal.SIGINT, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        assert event.reason == "SIGINT"
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT"])
def test_a_second_sigterm_ends_the_process(core, first):
    def program():
        import signal
        import sys

        from fastevent import Event

        event = Event()
        with event.set_on_signals():
            signal.raise_signal(signal.Signals[sys.argv[1]])
            print(event.reason, flush=True)
            signal.raise_signal(signal.SIGTERM)
            print("still here")

    run = [sys.executable, *command(program), first]
    done = subprocess.run(run, env=child_environment(core), capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.stdout, done.stderr) == (f"{first}\n", "")
    assert done.returncode == (-signal.SIGTERM if os.name == "posix" else 3)  # Microsoft's C library exits so


def test_a_second_signal_calls_the_earlier_handler(Event):
    calls, event = [], Event()
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append((number, frame is not None)))
    with event.set_on_signals(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
        assert calls == []
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert calls == [(signal.SIGTERM, True)] * 2
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_an_ignored_signal_stays_ignored(Event):
    """As under `nohup`, or in a program that a script has started in the background."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Event().set_on_signals(signal.SIGTERM, signal.SIGINT) as event:
            for _ in range(3):
                signal.raise_signal(signal.SIGTERM)
            assert not event.is_set() and signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
            assert event.reason == "SIGINT"
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_first_signal_counts_from_clear(Event):
    calls = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    event = Event()
    with event.set_on_signals(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
        event.clear()
        signal.raise_signal(signal.SIGTERM)
        assert calls == [] and event.reason == "SIGTERM"
        event.clear()
        event.set("by hand")
        signal.raise_signal(signal.SIGTERM)  # the first one since clear(), however the event was set
        assert calls == [] and event.reason == "by hand"
        signal.raise_signal(signal.SIGTERM)
        assert calls == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_first_signal_counts_from_entry(Event):
    calls = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    event = Event()
    event.set("before")
    for _ in range(2):
        with event.set_on_signals(signal.SIGTERM):
            signal.raise_signal(signal.SIGTERM)
            assert calls == [] and event.reason == "before"
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_signal_sets_the_events_of_all_blocks(Event):
    calls, outer, inner = [], Event(), Event()
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    with outer.set_on_signals(signal.SIGTERM):
        with inner.set_on_signals(signal.SIGTERM):
            signal.raise_signal(signal.SIGTERM)
            assert inner.is_set() and outer.is_set() and not calls
            inner.clear()
            signal.raise_signal(signal.SIGTERM)  # the first one for the inner block
            assert inner.is_set() and not calls
            signal.raise_signal(signal.SIGTERM)
            assert calls == [signal.SIGTERM]
        outer.clear()
        signal.raise_signal(signal.SIGTERM)
        assert outer.is_set() and len(calls) == 1
    signal.raise_signal(signal.SIGTERM)
    assert len(calls) == 2
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize("signals", [("SIGTERM",), ("SIGTERM", "SIGINT")])
def test_blocks_may_overlap(Event, signals):
    """As in two tasks: the block that began first ends first."""
    first, second = Event(), Event()
    one, other = first.set_on_signals("SIGTERM"), second.set_on_signals(*signals)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    signal.raise_signal(signal.SIGTERM)
    assert second.reason == "SIGTERM" and not first.is_set()
    other.__exit__(None, None, None)  # and the earlier handlers are back: see the fixture


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of signals here")
def test_a_storm_over_overlapping_blocks(Event):
    """While 2,000 signals a second come, blocks begin and end in every order; none takes the signal away from another."""
    seen, before = [], signal.signal(signal.SIGALRM, lambda *_: seen.append(None))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        end, rounds = time.monotonic() + 1, 0
        while time.monotonic() < end or rounds < 50:
            events = [Event() for _ in range(4)]
            blocks = [event.set_on_signals("SIGALRM") for event in events]
            for block in blocks:
                block.__enter__()
            order = random.Random(rounds).sample(range(4), 4)
            for number in order:
                for left in order[order.index(number) :]:
                    events[left].clear()
                    assert events[left].wait(TIMEOUT)
                blocks[number].__exit__(None, None, None)
            rounds += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert not Event.set_on_signals.__globals__["_signals"]._installed
        seen.clear()
        signal.raise_signal(signal.SIGALRM)
        assert len(seen) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(os.name != "posix", reason="the loop has no handlers here")
def test_the_first_signal_calls_the_loops_handler(Event):
    """It hangs on the descriptor that wakes the loop, so no handler of signals can stand before it."""

    async def main():
        loop, calls, event = asyncio.get_running_loop(), asyncio.Event(), Event()
        loop.add_signal_handler(signal.SIGTERM, calls.set)
        with event.set_on_signals("SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(calls.wait(), TIMEOUT)
            assert event.reason == "SIGTERM"
        loop.remove_signal_handler(signal.SIGTERM)

    asyncio.run(main())


def test_a_handler_of_the_program_stays(Event):
    calls, event, inner = [], Event(), Event()
    with event.set_on_signals("SIGTERM"):
        signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
        with inner.set_on_signals("SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
            assert inner.is_set() and not event.is_set() and not calls
            signal.raise_signal(signal.SIGTERM)
            assert calls == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert calls == [signal.SIGTERM] * 3 and not event.is_set()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_after_the_block_its_handler_acts_as_before(Event):
    """A library may put it back that has read it in the block."""
    calls = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    with Event().set_on_signals("SIGTERM"):
        ours = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, ours)
    event = Event()
    with event.set_on_signals("SIGTERM"):
        signal.raise_signal(signal.SIGTERM)
        assert event.is_set() and not calls
        signal.raise_signal(signal.SIGTERM)
        assert calls == [signal.SIGTERM]
    signal.raise_signal(signal.SIGTERM)
    assert len(calls) == 2
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def is_of_signals(code):
    return "_signals" in code.co_filename


def test_interrupted_entering_and_leaving_act_as_before(Event):
    """At every line of both, a signal handler raises in turn."""

    def handler(number, frame):
        seen.append(number)

    seen, before = [], signal.signal(signal.SIGTERM, handler)
    for place in range(1, 1000):
        event = Event()
        signal.signal(signal.SIGTERM, handler)
        block = event.set_on_signals("SIGTERM")
        with SignalAtLine(place, is_of_signals) as interrupted, block:
            pass
        if not interrupted.is_done:
            break
        del block
        gc.collect()
        signal.raise_signal(signal.SIGTERM)  # what is left of a handler acts as before
        assert len(seen) == place and not event.is_set()
    signal.signal(signal.SIGTERM, before)
    assert 10 < place < 1000


def test_no_point_of_a_block_loses_a_sigterm(Event):
    """Either the earlier handler sees it, or the event is set."""
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    for place in range(1, 1000):
        event = Event()
        seen.clear()
        block = event.set_on_signals("SIGTERM")
        with SignalAtLine(place, is_of_signals, lambda: signal.raise_signal(signal.SIGTERM)) as interrupted, block:
            pass
        if not interrupted.is_done:
            break
        assert event.is_set() + len(seen) == 1, place
    assert 10 < place < 1000
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.not_traced
def test_a_handler_that_raises_leaves_no_call_open(Event):
    """The handler of a second signal, which interrupts that of the first."""

    def is_watched(code):
        file = code.co_filename
        return "fastevent" in file and any(part in file for part in ("_signals", "_callbacks", "_threads", "_process"))

    for place in range(1, 1000):
        event, calls = Event(), []
        event.callback(calls.append, 1)
        block = event.set_on_signals("SIGTERM")
        with block:
            with SignalAtLine(place, is_watched) as interrupted:
                signal.raise_signal(signal.SIGTERM)
            until(lambda caused=block._calls: not caused._pending)
        assert calls == [1] * event.is_set(), place
        if not interrupted.is_done:
            break
    assert 10 < place < 1000


def test_signals_are_for_the_main_thread(Event):
    def refused():
        with pytest.raises(ValueError, match=r"^set_on_signals\(\) works in the main thread only, not in 'Thread-"):
            Event().set_on_signals()

    with Threads(refused):
        pass


@pytest.mark.parametrize("wrong", [0, 12345, "SIGNOTHING", None, [signal.SIGTERM]])
def test_what_is_not_a_signal_is_refused(Event, wrong):
    with pytest.raises(ValueError, match=r"^a signal must be one of this system's signal\.Signals, not ") as caught:
        Event().set_on_signals(signal.SIGTERM, wrong)
    assert repr(wrong) in str(caught.value)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="every signal can be handled here")
def test_sigkill_is_refused(Event):
    with pytest.raises(ValueError, match=r"^SIGKILL cannot be handled$"):
        Event().set_on_signals(signal.SIGTERM, signal.SIGKILL)


def test_a_handler_from_c_is_refused(Event, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", {}.get)
        with pytest.raises(ValueError, match=r"^the handler of SIGINT was not installed from Python"):
            Event().set_on_signals()


# Callbacks of a signal


def test_callbacks_of_a_signal_run_in_a_helper(Event):
    event, names = Event(), []
    child = event.child()
    for each in event, child:
        each.add_callback(lambda each: names.append((each, threading.current_thread().name)))
    with event.set_on_signals(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
        assert child.reason == "SIGTERM"
    assert names == [(event, "fastevent callbacks"), (child, "fastevent callbacks")]


def test_leaving_waits_for_callbacks_of_its_signals(Event):
    event, other, begun, done = Event(), Event(), threading.Event(), []
    other.add_callback(lambda event: until(lambda: done))  # of no signal

    def slow(event):
        begun.set()
        time.sleep(0.05)
        done.append("done")

    event.add_callback(slow)
    with Threads(other.set):
        with event.set_on_signals(signal.SIGTERM):
            signal.raise_signal(signal.SIGTERM)
        assert done == ["done"]


def test_the_waiting_needs_no_processor(Event):
    def computes(event):
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass

    event = Event()
    event.add_callback(computes)
    with event.set_on_signals(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
        start = time.thread_time()
    assert time.thread_time() - start < 0.1


def test_leaving_waits_for_a_callback_that_raises(Event, caplog):
    event = Event()
    event.add_callback(lambda event: 1 / 0)
    event.add_callback(lambda event: sys.exit("no"))
    with event.set_on_signals(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
    assert "ZeroDivisionError" in caplog.text
    until(lambda: "SystemExit: no" in caplog.text)  # by the thread, after the call


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal to another thread here")
def test_ctrl_c_ends_the_waiting(Event):
    event, go_on = Event(), threading.Event()
    event.add_callback(lambda event: go_on.wait(TIMEOUT))
    with CtrlC() as ctrl_c, pytest.raises(KeyboardInterrupt):
        with event.set_on_signals(signal.SIGTERM):
            signal.raise_signal(signal.SIGTERM)
            ctrl_c.send()
    go_on.set()


def test_a_callback_of_sigterm_is_not_lost(core, tmp_path):
    """It takes 50 ms and writes a file, while main() returns at once."""

    def program():
        import signal
        import sys
        import time

        from fastevent import Event

        def saves(event):
            time.sleep(0.05)
            with open(sys.argv[1], "w") as file:
                file.write("saved")

        def main():
            stop = Event()
            stop.add_callback(saves)
            with stop.set_on_signals():
                signal.raise_signal(signal.SIGTERM)
                stop.wait()

        main()

    python(program, core, str(tmp_path / "state"))
    assert (tmp_path / "state").read_text() == "saved"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of signals here")
def test_callbacks_may_use_locks_under_many_signals(core):
    """Of 500 signals a second, the callbacks put into the queue that the interrupted thread uses."""

    def program():
        import queue
        import signal

        from fastevent import Event

        event, items, found = Event(), queue.Queue(), []
        signal.signal(signal.SIGALRM, lambda *_: None)  # of a second signal before clear()
        with event.set_on_signals(signal.SIGALRM):
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            for number in range(500):
                event.add_callback(lambda event, number=number: items.put(number))
                while not event.is_set():
                    items.put(None)
                    found.append(items.get())
                event.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
        while not items.empty():
            found.append(items.get())
        print(sorted(number for number in found if number is not None) == list(range(500)))

    assert python(program, core) == "True\n"


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_a_second_signal_may_interrupt_the_first(Event):
    """It comes while the first one is still notifying."""
    event, seconds, calls = Event(), [], []
    before = signal.signal(signal.SIGUSR1, lambda *_: seconds.append(event.reason))
    try:

        class Interrupted(Event):
            def _fe_try_set(self, *arguments):
                super()._fe_try_set(*arguments)
                if not calls:
                    calls.append(None)
                    signal.raise_signal(signal.SIGUSR1)

        child = Interrupted(parents=[event])
        with event.set_on_signals(signal.SIGUSR1):
            signal.raise_signal(signal.SIGUSR1)
        assert child.is_set() and seconds == ["SIGUSR1"]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_waits_for_no_callback(core):
    """The thread that makes the call has stayed in the parent."""

    def program():
        import os
        import signal
        import threading

        from fastevent import Event

        event, begun, end = Event(), threading.Event(), threading.Event()

        def callback(event):
            begun.set()
            assert end.wait(60)

        event.add_callback(callback)
        import warnings

        warnings.simplefilter("ignore")  # the callback is running
        with event.set_on_signals(signal.SIGUSR1):
            signal.raise_signal(signal.SIGUSR1)
            assert begun.wait(60)
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
            else:
                assert os.waitpid(pid, 0)[1] == 0
                end.set()
        if pid == 0:
            os._exit(0)

    python(program, core)
