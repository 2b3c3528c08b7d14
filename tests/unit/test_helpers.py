"""The threads "fastevent timers" and "fastevent callbacks": when they run, what they call, and what delays nothing."""

import gc
import itertools
import sys
import threading
import time
import weakref

from helpers import TIMEOUT, Threads, deadline, python, self_setting, until


def helper_names():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("fastevent "))


def test_a_process_without_need_has_no_helper(core):
    def program():
        import _thread

        from fastevent import Event, wait_any

        event = Event(0.001)
        event.add_callback(repr)
        event.child()
        event.wait()
        event.check_timeout()
        event.fileno()
        event.set()
        event.clear()
        for event in Event(), Event(0.001):
            event.wait(0.001)
        wait_any([event], 0.001)
        assert _thread._count() == 0

    python(program, core)


def test_one_thread_keeps_all_deadlines(core):
    def program():
        import _thread
        import threading

        from helpers import until

        from fastevent import Event

        late = [Event(3600 + i, set_on_timeout=True) for i in range(20_000)]
        soon, calls = [Event(1800, set_on_timeout=True) for _ in range(2_000)], []
        names = [thread.name for thread in threading.enumerate()]
        assert _thread._count() == 1 and names == ["MainThread", "fastevent timers"], names
        for event in soon + late:
            event.add_callback(calls.append)
        for event in soon:
            event.restart_timeout(0.1)
        until(lambda: len(calls) >= len(soon))
        assert calls == soon and not any(event.is_set() for event in late)
        until(lambda: _thread._count() == 2)  # with that of callbacks

    python(program, core)


def test_no_deadline_is_missed(Event, tiny_switch_interval):
    events, calls = [], []

    def called(event):
        calls.append((event, time.monotonic_ns() >= deadline(event)))

    def makes():
        for number in range(300):
            seconds = (number * 7919 % 13) / 2000 + 0.0005
            events.append(self_setting(Event, seconds, called))

    with Threads(makes, makes):
        pass
    until(lambda: len(calls) == len(events))
    assert all(in_time for _, in_time in calls) and {event for event, _ in calls} == set(events)


def test_an_earlier_deadline_is_kept(Event):
    later = Event(3600, set_on_timeout=True)
    time.sleep(0.02)  # the thread rests until then
    earlier = [Event(timeout, set_on_timeout=True) for timeout in (0.05, 0.02, 0.01)]
    until(lambda: all(event.is_set() for event in earlier))
    assert not later.is_set()


def test_equal_deadlines_are_kept_in_order(modules):
    """Two entries of the heap are compared by no more than deadline and number."""
    calls, references, end = [], [lambda: calls for _ in range(9)], time.monotonic_ns() + 10**8
    for reference in references:
        modules._timers.timers.events.add(end, calls.append, reference)
    until(lambda: len(calls) == len(references))
    assert calls == references


def test_a_later_deadline_wakes_no_thread(core):
    def program():
        import time

        from helpers import deadline, until

        from fastevent import Event, _timers

        rests, wakes, looks = [], [], []
        rest = _timers.timers.helper.rest
        _timers.timers.helper.rest = lambda time: rests.append(time) or rest(time)
        event = Event(3600, set_on_timeout=True)
        # At its start, the thread is woken, too.
        until(lambda: len(rests) == 2 and _timers.timers.events.asleep["until"] == deadline(event))
        _timers.timers.helper.wake = lambda: wakes.append(1)
        clock = _timers.timers.events.now
        _timers.timers.events.now = lambda: looks.append(1) or clock()
        _events = [Event(3601 + i, set_on_timeout=True) for i in range(900)]
        time.sleep(0.1)
        assert not wakes and not looks, (wakes, looks)
        del _timers.timers.helper.wake  # the exit wakes it

    python(program, core)


def test_deadlines_are_kept_while_many_are_made(core):
    """For each one that is read comes another one, so that the thread has never read them all."""

    def program():
        import heapq
        import types

        from helpers import until

        from fastevent import Event, _timers

        references = []

        def heappush(heap, entry):
            heapq.heappush(heap, entry)
            if not event.is_set():
                references.append(lambda: None)
                _timers.timers.events.unread.append((entry[0] + 10**12, id, references[-1]))

        event = Event(3600, set_on_timeout=True)
        _timers.heapq = types.SimpleNamespace(heappush=heappush, heappop=heapq.heappop, heapify=heapq.heapify)
        event.restart_timeout(0.05)
        until(event.is_set)

    python(program, core)


def test_the_timers_keep_no_event_alive(Event):
    event = Event(3600, set_on_timeout=True)
    reference = weakref.ref(event)
    time.sleep(0.01)
    del event
    until(lambda: [gc.collect()] and reference() is None)


def test_a_dropped_event_calls_nothing(Event):
    calls = []
    event = self_setting(Event, 0.05, calls.append)
    end = deadline(event)
    del event
    gc.collect()
    last = Event(0.06, set_on_timeout=True)
    until(lambda: last.is_set() and time.monotonic_ns() > end)
    assert calls == []


def test_restarts_leave_one_entry(core):
    def program():
        from helpers import until

        from fastevent import Event, _timers

        event = Event(3600, set_on_timeout=True)
        for _ in range(5_000):
            event.restart_timeout()
            event.__init__(3600, set_on_timeout=True)
            event.clear()
        until(lambda: _timers.timers.events.asleep.get("until", 1 << 64) < 1 << 63)
        assert len(_timers.timers.events.heap) == 1, len(_timers.timers.events.heap)

    python(program, core)


def test_the_heap_drops_dead_events_in_order(core):
    def program():
        import gc
        import random

        from helpers import deadline, until

        from fastevent import Event, _timers

        numbers = random.Random(0)
        events = [Event(3600 + 100 * numbers.random(), set_on_timeout=True) for _ in range(3000)]
        until(lambda: len(_timers.timers.events.heap) >= 2000)
        del events[:2900]
        gc.collect()
        events += [Event(3600 + 100 * numbers.random(), set_on_timeout=True) for _ in range(6000)]
        events.append(Event(1800, set_on_timeout=True))  # the next deadline, for which the thread reads all
        until(lambda: _timers.timers.events.asleep["until"] == deadline(events[-1]))
        heap = list(_timers.timers.events.heap)
        assert all(heap[(i - 1) // 2] <= heap[i] for i in range(1, len(heap)))
        alive = [event for *_, reference in sorted(heap) if (event := reference()) is not None]
        assert alive == sorted(events, key=deadline)
        assert len(heap) < len(events) + 2000, len(heap)

    python(program, core)


# Callbacks


def test_a_callback_that_exits_ends_no_thread(Event, caplog):
    called = threading.Event()
    events = self_setting(Event, 0.01, lambda event: sys.exit("no")), self_setting(Event, 0.02, lambda event: called.set())
    assert called.wait(TIMEOUT) and all(event.is_set() for event in events)
    assert "SystemExit: no" in caplog.text


def test_a_timer_that_raises_ends_no_thread(modules, Event, caplog):
    def fails(reference):
        raise ValueError("a bad timer")

    modules._timers.timers.events.add(0, fails, weakref.ref(fails))
    until(Event(0.01, set_on_timeout=True).is_set)
    assert "a bad timer" in caplog.text


def test_work_that_fails_pauses_longer_each_time(modules, caplog):
    starts = []

    def fails(life):
        starts.append(time.monotonic())
        if len(starts) < 9:
            raise OSError("no descriptor is left")

    helper = modules._threads.Helper("fastevent failing", fails, lambda: len(starts) < 9)
    try:
        for _ in range(100):  # what comes in between shortens no pause
            helper.start_if_needed()
            helper.wake()
        until(lambda: len(starts) == 9 and helper.life is None)
    finally:
        helper.unregister()
    pauses = [second - first for first, second in itertools.pairwise(starts)]
    assert all(pause >= 0.001 * 2**rank for rank, pause in enumerate(pauses, 1)), pauses
    assert [record.levelname for record in caplog.records] == ["ERROR"] and "fastevent failing" in caplog.text


def test_a_pausing_helper_ends_when_asked(modules, caplog):
    failures = []

    def fails(life):
        failures.append(life)
        raise OSError

    helper = modules._threads.Helper("fastevent failing", fails, lambda: not helper_ends)
    helper_ends = []
    try:
        helper.start()
        until(lambda: len(failures) >= 8)
        helper_ends.append(True)
        life = helper.ask_to_end()
        modules._threads.wait_for_end([life], int(TIMEOUT * 1e9))
        assert life.ended and helper.life is None
    finally:
        helper.unregister()


def test_a_stuck_callback_delays_nothing(Event):
    """No deadline, child, waiter or other callback."""
    go_on, answers, calls = threading.Event(), [], []
    unrelated = self_setting(Event, 0.01, lambda event: go_on.wait(TIMEOUT))
    job = Event(3600, set_on_timeout=True)
    part = job.child()
    for event in job, part:
        event.add_callback(calls.append)
    job.restart_timeout(0.1)
    other = Event(0.2, set_on_timeout=True)
    try:
        with Threads(lambda: answers.append(job.wait()), lambda: answers.append(part.wait()), other.wait):
            pass
        assert answers == [True] * 2
        until(lambda: calls == [job, part])
        assert unrelated.is_set() and not go_on.is_set()
    finally:
        go_on.set()


def test_several_stuck_callbacks_delay_nothing(core):
    def program():
        import threading

        from helpers import self_setting, until

        from fastevent import Event

        def helpers():
            return [thread.name for thread in threading.enumerate()].count("fastevent callbacks")

        go_on, calls = threading.Event(), []
        _stuck = [self_setting(Event, 0.01, lambda event: go_on.wait(60)) for _ in range(5)]
        first = self_setting(Event, 0.01, calls.append)
        until(lambda: calls == [first])
        assert helpers() >= 5
        last = self_setting(Event, 0.01, calls.append)
        until(lambda: calls[1:] == [last])
        go_on.set()
        until(lambda: helpers() == 1)  # those beyond the first one end
        again = self_setting(Event, 0.01, calls.append)
        until(lambda: calls[2:] == [again])

    python(program, core)


def test_callbacks_are_called_in_order(Event):
    calls, events = [], [Event(3600, set_on_timeout=True) for _ in range(3)]
    for number in range(300):
        events[number % 3].add_callback(lambda event, number=number: calls.append((events.index(event), number)))
    for event in events:
        event.restart_timeout(0.01)
    until(lambda: len(calls) == 300)
    assert calls == sorted(calls)


def test_a_callback_may_make_and_wait(fastevent):
    """In the helper thread, everything works as in any other."""
    seen = []

    def callback(event):
        inner = fastevent.Event(0.01, set_on_timeout=True)
        seen.append(inner.wait(TIMEOUT))
        deeper = self_setting(fastevent.Event, 0.01, lambda event: seen.append("deeper"))
        until(deeper.is_set)
        seen.append(len(fastevent.wait_any([deeper, event])))

    event = self_setting(fastevent.Event, 0.01, callback)
    until(lambda: len(seen) == 3)
    assert event.is_set() and seen[0] is True and set(seen[1:]) == {2, "deeper"}


# Where no thread can be started, and where the interpreter is patched


def test_without_a_thread_nothing_is_half_done(core):
    def program():
        import _thread

        from helpers import self_setting, until

        from fastevent import Event, _process

        start, parent = _process.native.start_new_thread, Event()

        def fails(*_):
            raise RuntimeError("can't start new thread")

        _process.native.start_new_thread = fails
        makes = [
            lambda: Event(3600, parents=[parent], set_on_timeout=True),
            lambda: parent.child(0.01),
            lambda: parent.child(0),
        ]
        for make in makes:
            for _ in range(2):
                try:
                    make()
                    print("no error")
                except RuntimeError as error:
                    assert str(error) == "can't start new thread"
        assert parent.status().children == 0 and _thread._count() == 0
        _process.native.start_new_thread = start
        calls, event = [], self_setting(Event, 0.01)
        event.add_callback(calls.append)
        until(lambda: calls == [event])

    assert python(program, core) == ""


def test_without_a_thread_callbacks_come_later(core):
    def program():
        from helpers import until

        from fastevent import Event, _process

        start, calls = _process.native.start_new_thread, []
        first, second, _third = (Event(3600, set_on_timeout=True) for _ in range(3))
        for event in first, second:
            event.add_callback(calls.append)

        def fails(*_):
            raise RuntimeError("can't start new thread")

        _process.native.start_new_thread = fails
        first.restart_timeout(0.01)
        until(first.is_set)  # by the thread of the timers
        assert first.wait() and calls == []
        _process.native.start_new_thread = start
        second.restart_timeout(0.01)
        until(lambda: calls == [first, second])

    python(program, core)


def test_a_patched_interpreter_has_native_helpers(core):
    def program():
        import _thread
        import threading
        import time

        def fails(*_):
            raise AssertionError("a patched function was called")

        _thread.start_new_thread = _thread.start_new = threading.Thread.start = time.sleep = fails
        from fastevent import Event

        calls, event = [], Event(3600, set_on_timeout=True)
        event.add_callback(lambda event: calls.append(threading.current_thread().name))
        event.restart_timeout(0.01)
        assert event.wait(60)
        end = time.monotonic() + 60
        while not calls and time.monotonic() < end:
            pass
        assert calls == ["fastevent callbacks"], calls

    python(program, core)


def test_helpers_are_named(Event):
    done = threading.Event()
    event = self_setting(Event, 0.01, lambda event: done.set())
    assert done.wait(TIMEOUT) and event.is_set()
    until(lambda: {"fastevent callbacks", "fastevent timers"} <= set(helper_names()))


def test_an_interrupted_start_leaves_one_thread(core):
    """A signal handler may raise just before the thread starts, and just after."""

    def program():
        import _thread

        from helpers import until

        from fastevent import Event, _process, _timers

        class Interruption(BaseException):
            pass

        start, take = _process.native.start_new_thread, _process.Claim.take

        def taken(claim, me):
            take(claim, me)
            raise Interruption

        def started(*arguments):
            start(*arguments)
            raise Interruption

        for interrupted in "before", "after":
            if interrupted == "before":
                _process.Claim.take = taken
            else:
                _process.native.start_new_thread = started
            try:
                Event(3600, set_on_timeout=True)
            except Interruption:
                _process.Claim.take, _process.native.start_new_thread = take, start
            else:
                raise AssertionError("not interrupted")
            assert interrupted == "after" or _timers.timers.helper.life is None
        event = Event(0.01, set_on_timeout=True)
        until(event.is_set)
        until(lambda: _thread._count() == 1)

    python(program, core)
