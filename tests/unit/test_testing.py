"""A clock that tests move: `fastevent.testing.frozen_clock()`."""

import os
import signal
import threading
import time
from collections import deque
from itertools import count
from math import inf, nan

import pytest
from helpers import SCALE, TIMEOUT, SignalAt, Threads, python, until, until_waiting
from loops import both

HOUR = 3600.0


@pytest.fixture
def clock(modules):
    with modules.testing.frozen_clock() as clock:
        yield clock


def test_time_stands_still(Event, clock):
    event = Event(0.001)
    time.sleep(0.01)
    assert event.remaining() == 0.001 and event.status().elapsed == 0 and not event.check_timeout()
    event.check()
    clock.advance(0.001)
    assert event.check_timeout() and event.remaining() == 0 and event.status().elapsed == 0.001
    assert not event.is_set()


def test_a_deadline_is_exact_to_the_nanosecond(Event, clock):
    event = Event(HOUR, set_on_timeout=True)
    clock.advance(HOUR - 1)
    clock.advance(0.999999999)
    assert not event.is_set() and not event.check_timeout() and event.remaining() == 1e-9
    clock.advance(1e-9)
    assert event.is_set() and str(event.reason) == "timed out after 3600 s"


def test_a_poll_follows_a_far_deadline(Event, clock):
    event = Event(HOUR)
    assert not event.check_timeout()
    clock.advance(HOUR - 1)
    assert not event.check_timeout()
    clock.advance(1)
    assert event.check_timeout()


def test_deadlines_come_in_order_with_what_they_cause(Event, clock):
    calls, children, events = [], [], {seconds: Event(seconds, set_on_timeout=True) for seconds in (30, 10, 20)}
    reference = Event(100)
    for seconds, event in events.items():
        child = event.child()
        child.add_callback(lambda _, seconds=seconds: calls.append((seconds, reference.remaining())))
        children.append(child)
    clock.advance(60)
    assert calls == [(10, 90), (20, 80), (30, 70)]


def test_a_callback_may_make_the_next_deadline(Event, clock):
    made = []

    def again(event):
        made.append(Event(10, set_on_timeout=True))
        made[-1].add_callback(again)

    again(None)
    clock.advance(95)
    assert [event.is_set() for event in made] == [True] * 9 + [False]


def test_a_child_may_end_before_its_parent(Event, clock):
    parent = Event(2 * HOUR, set_on_timeout=True)
    child, sibling = parent.child(HOUR, name="child"), parent.child()
    clock.advance(HOUR)
    assert child.is_set() and not parent.is_set() and not sibling.is_set() and sibling.remaining() == HOUR
    clock.advance(HOUR)
    assert parent.is_set() and sibling.reason is parent.reason


def test_a_watchdog_is_fed(Event, clock):
    dog = Event(60, set_on_timeout=True)
    for _ in range(10):
        clock.advance(59)
        assert dog.restart_timeout() and dog.remaining() == 60
    dog.clear()
    clock.advance(60)
    assert dog.is_set() and not dog.restart_timeout()


def test_threads_wait_by_it(fastevent, clock):
    Event, answers = fastevent.Event, {}
    unset, own = Event(), Event(HOUR)
    limit = Event(HOUR, set_on_timeout=True)
    waits = {
        "wait with a number": lambda: unset.wait(HOUR),
        "wait": lambda: own.wait(),
        "wait until set": lambda: limit.wait(),
        "any": lambda: fastevent.wait_any([unset, limit]),
        "none": lambda: fastevent.wait_any([unset], HOUR),
        "all": lambda: fastevent.wait_all([limit, unset], HOUR),
    }
    with Threads(*[lambda name=name, wait=wait: answers.update({name: wait()}) for name, wait in waits.items()]):
        until(lambda: len(unset.status().waiting) == 4 and len(limit.status().waiting) == 3)
        clock.advance(HOUR - 1)
        time.sleep(0.02)
        assert answers == {}
        clock.advance(1)
    expected = [False, False, True, [limit], [], False]
    assert answers == dict(zip(waits, expected, strict=True))


def test_ticks_go_by_it(Event, clock):
    event, ticks = Event(10.5), []
    with Threads(lambda: [ticks.append(number) for number in event.ticks(1)]):
        for number in range(10):
            until(lambda number=number: len(ticks) == number + 1 and event.status().waiting)
            clock.advance(1)
        until(lambda: len(ticks) == 11 and event.status().waiting)
        clock.advance(1)
    assert ticks == list(range(11)) and event.remaining() == 0


@both
def test_tasks_wait_by_it(fastevent, clock, library):
    Event, log = fastevent.Event, []

    async def main():
        async def waits():
            log.append(await Event().wait_async(HOUR))

        async def block():
            try:
                async with Event(2 * HOUR):
                    await library.sleep(TIMEOUT)
            except fastevent.EventTimeout as error:
                log.append(str(error))

        async def moves():
            for _ in range(2):
                await library.sleep(0.01)
                clock.advance(HOUR)
                await library.sleep(0.02)

        await library.together(waits, block, moves)

    library.run(main)
    assert log == [False, "timed out after 7200 s"]


@both
def test_two_hours_pass_within_a_second(fastevent, modules, library):
    Event, start, log = fastevent.Event, time.monotonic(), []
    with modules.testing.frozen_clock() as clock:
        parent = Event(2 * HOUR, set_on_timeout=True, name="parent")
        child = parent.child(HOUR)
        for event in parent, child:
            event.add_callback(lambda event: log.append(event.timeout))
        dog = Event(60, set_on_timeout=True)

        async def main():
            try:
                async with Event(100):
                    log.append("begun")
                    await library.sleep(TIMEOUT)
            except fastevent.EventTimeout:
                log.append("task")

        with Threads(parent.wait, lambda: Event().wait(1800), lambda: fastevent.wait_any([child]), lambda: library.run(main)):
            until_waiting(parent)
            until(lambda: "begun" in log)
            for _ in range(10):
                clock.advance(50)
                assert dog.restart_timeout()
            until(lambda: "task" in log)
            clock.advance(7000)
    assert log == ["begun", "task", HOUR, 2 * HOUR]
    assert time.monotonic() - start < 10  # a second on a machine of its own
    assert Event(0.01).wait(0.001) is False


def test_under_the_patch_threading_lives_by_it(core):
    def program():
        import threading

        from helpers import until

        import fastevent
        from fastevent.testing import frozen_clock

        fastevent.patch_threading()
        called = []
        with frozen_clock() as clock:
            timer = threading.Timer(3600, called.append, [1])
            timer.start()
            until(lambda: timer.finished.status().waiting)
            clock.advance(3599)
            assert not called
            clock.advance(1)
            timer.join(10)
        assert called == [1]

    python(program, core)


# What goes on by the real clock


def test_the_real_clock_counts_afterwards(Event, modules):
    with modules.testing.frozen_clock() as clock:
        before = time.monotonic()
        event = Event(HOUR)
        clock.advance(100)
        late = Event(HOUR)
    assert before - 1 < Event(5)._start_time <= time.monotonic()
    assert event.remaining() <= HOUR and late.remaining() == HOUR and late.status().elapsed == 0  # it begins in the future
    short = Event(0.01, set_on_timeout=True)
    until(short.is_set)
    assert not Event().wait(0.01)


def test_an_exception_leaves_nothing_behind(Event, modules):
    with pytest.raises(ZeroDivisionError), modules.testing.frozen_clock() as clock:
        event = Event(HOUR, set_on_timeout=True)
        clock.advance(1 / 0)
    assert modules._time.clock.longest_wait == modules._time.LONGEST_WAIT
    assert not event.is_set() and not Event().wait(0.01)
    with modules.testing.frozen_clock() as clock:
        clock.advance(HOUR)
    until(lambda: not modules._timers.timers.events.firing)
    with pytest.raises(RuntimeError, match=r"^the clock is not frozen: "):
        clock.advance(1)


def test_a_wait_goes_on_after_the_block(Event, modules):
    event, answers = Event(), []
    with Threads(lambda: answers.append(event.wait()), lambda: answers.append(event.wait(TIMEOUT))):
        with modules.testing.frozen_clock():
            until_waiting(event, 2)
            time.sleep(0.01)
        time.sleep(0.01)
        event.set()
    assert answers == [True, True]


def test_an_earlier_wait_ends_by_the_real_time(Event, modules):
    event, answers = Event(), []
    with Threads(lambda: answers.append(event.wait(0.2)), lambda: answers.append(event.wait())):
        until_waiting(event, 2)
        with modules.testing.frozen_clock() as clock:
            clock.advance(1)
            until(lambda: answers == [False])
            event.set()
    assert answers == [False, True]


def test_an_earlier_deadline_holds_in_the_block(Event, modules):
    event = Event(HOUR, set_on_timeout=True)
    with modules.testing.frozen_clock() as clock:
        clock.advance(HOUR)
        assert event.is_set()


def test_a_stuck_callback_delays_no_other(Event, clock):
    """The pool grows by the real clock."""
    release, called = threading.Event(), []
    event = Event(1, set_on_timeout=True)
    event.add_callback(lambda _: release.wait(TIMEOUT))
    event.add_callback(called.append)
    thread = threading.Thread(target=clock.advance, args=(1,))
    thread.start()
    until(lambda: called)
    release.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_the_real_clock(core):
    def program():
        from helpers import in_child

        from fastevent import Event
        from fastevent.testing import frozen_clock

        def child():
            assert not Event().wait(0.01)
            assert Event(0.01, set_on_timeout=True).wait()
            try:
                clock.advance(1)
            except RuntimeError:
                pass
            else:
                raise AssertionError
            with frozen_clock() as own:
                event = Event(3600, set_on_timeout=True)
                own.advance(3600)
                assert event.is_set()

        with frozen_clock() as clock:
            event = Event(3600, set_on_timeout=True)
            in_child(child)
            clock.advance(3600)
            assert event.is_set()

    python(program, core)


# What is refused


def test_only_one_block_is_open(modules):
    frozen_clock = modules.testing.frozen_clock
    with frozen_clock() as clock:
        with pytest.raises(RuntimeError, match=r"^the clock is frozen already: "), frozen_clock():
            raise AssertionError
        with pytest.raises(RuntimeError, match=r"^the clock is frozen already: "), clock:
            raise AssertionError
        clock.advance(1)
    with pytest.raises(RuntimeError, match=r"^the block of this clock is over: "), clock:
        raise AssertionError
    with frozen_clock() as clock:
        clock.advance(1)


@pytest.mark.parametrize("wrong", [-1, nan, inf, 1e300])
def test_seconds_must_be_finite(clock, wrong):
    with pytest.raises(ValueError, match=r"^seconds must be "):
        clock.advance(wrong)


@pytest.mark.parametrize("wrong", ["1", None, True])
def test_seconds_must_be_a_number(clock, wrong):
    with pytest.raises(TypeError, match=r"^seconds must be "):
        clock.advance(wrong)


@pytest.mark.parametrize("by", ["set", "timeout"])
def test_a_callback_cannot_advance(Event, clock, by):
    errors, event = [], Event(1, set_on_timeout=True)

    def advances(_):
        try:
            clock.advance(1)
        except RuntimeError as error:
            errors.append(str(error))

    event.add_callback(advances)
    if by == "set":
        event.set()
    else:
        clock.advance(1)
    assert errors == ["a callback cannot advance the clock, because advance() waits for callbacks"]


def test_a_callback_that_waits_for_time_is_named(Event, modules, clock, monkeypatch):
    monkeypatch.setattr(modules.testing, "PATIENCE", 2 * 10**8)
    stop, event = Event(), Event(1, set_on_timeout=True)

    def waits_for_frozen_time(_):
        stop.wait(HOUR)

    event.add_callback(waits_for_frozen_time)
    with pytest.raises(TimeoutError, match=r"waits_for_frozen_time.*does it wait for time to pass\?$"):
        clock.advance(5)
    assert event.status().elapsed == 1
    stop.set()
    clock.advance(4)


def test_two_threads_cannot_advance_at_once(Event, clock):
    release, event = threading.Event(), Event(1, set_on_timeout=True)
    event.add_callback(lambda _: release.wait(TIMEOUT))
    with Threads(lambda: clock.advance(1)):
        until(event.is_set)
        with pytest.raises(RuntimeError, match=r"^the clock is being advanced already"):
            clock.advance(1)
        release.set()
    clock.advance(1)


# Races


def test_advance_completes_what_a_waiter_has_begun(Event, modules, clock):
    """A thread in wait() may be in the middle of setting the event as advance() comes: the children are set all the same."""
    for _ in range(300):
        event = Event(1, set_on_timeout=True)
        children, calls = [event.child() for _ in range(20)], []
        children[-1].add_callback(calls.append)
        with Threads(event.wait):
            until_waiting(event)
            clock.advance(1)
            assert all(child.is_set() for child in children) and len(calls) == 1


def test_no_round_is_early_late_or_hangs(fastevent, modules, tiny_switch_interval):
    Event = fastevent.Event

    def play(seconds):
        answers = []
        with modules.testing.frozen_clock() as clock:
            early, late = Event(seconds, set_on_timeout=True), Event(seconds + 10)
            with Threads(lambda: answers.append(early.wait()), lambda: answers.append(late.wait())):
                clock.advance(seconds - 1)
                clock.advance(0.999999999)
                assert not early.is_set() and not answers
                clock.advance(1e-9)
                assert early.is_set() and not late.check_timeout()
                clock.advance(10)
        assert sorted(answers) == [False, True]

    for number in range(int(150 * SCALE)):
        play(10 + number % 100)


def test_the_thread_hides_no_deadline_as_it_reads(modules):
    """It moves entries into its heap at the very moment when `advance()` looks for the next deadline."""

    class Unread(deque):
        def __iter__(self):
            schedule.read()
            return super().__iter__()

    schedule = modules._timers.Schedule(lambda: 0, lambda: None)
    schedule.unread = Unread()
    schedule.add(5, print, lambda: schedule)
    assert [deadline for deadline, _, _ in schedule.entries_until(10)] == [5]


@pytest.mark.not_traced
def test_the_end_may_be_interrupted_anywhere(modules):
    """Only at its very beginning, it is left out, and the page says what ends the block then."""
    left = []
    for place in count():
        clock = modules.testing.frozen_clock()
        with SignalAt(place, [modules.testing.__file__]) as interrupted, clock:
            pass
        if modules.testing._claim.holder is clock:
            left.append(place)
            with pytest.raises(RuntimeError, match="frozen already"), modules.testing.frozen_clock():
                pass
            clock.__exit__(None, None, None)
        assert modules.testing._claim.holder is None
        assert modules._time.clock.longest_wait == modules._time.LONGEST_WAIT
        if not interrupted.is_done:
            break
    assert len(left) == 1 and place > 3


@pytest.mark.not_traced
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that sends signals")
def test_advance_may_be_interrupted_anywhere(core):
    def program():
        import random
        import signal
        import time

        from fastevent import Event, _time, testing

        class Interruption(BaseException):
            pass

        def interrupt(*_):
            raise Interruption

        signal.signal(signal.SIGALRM, interrupt)
        numbers = random.Random(0)
        for _ in range(400):
            with testing.frozen_clock() as clock:
                event = Event(5, set_on_timeout=True)
                try:
                    signal.setitimer(signal.ITIMER_REAL, numbers.random() * 3e-4 + 1e-6)
                    clock.advance(5)
                    time.sleep(1)
                except Interruption:
                    pass
                clock.advance(5)
                assert event.is_set()
            assert testing._claim.holder is None and _time.clock.longest_wait == _time.LONGEST_WAIT
            assert abs(Event(1)._start_time - time.monotonic()) < 1
        print("over")

    assert python(program, core) == "over\n"
