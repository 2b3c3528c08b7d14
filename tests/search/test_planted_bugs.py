"""Bugs planted in the Python core: the explorer finds each.

A bug is a function of the loaded core. It replaces a method, or a function of a module, by one that is wrong.
"""

import sys

import pytest
from explorer import SECOND, Flaw, explore, explore_interrupts, load
from explorer.run import Run
from explorer.signals import watch
from test_interleavings import (
    adds_a_callback,
    adds_a_child,
    clears,
    expires,
    pytestmark,  # noqa: F401
    raises,
    reads,
    restarts_later,
    restarts_sooner,
    sets,
    sets_and_clears,
    time_passes,
    tracing,
    waits,
    waits_a_second,
    waits_for_any,
    waits_for_the_event,
)


def replace(core, cls=None, **methods):
    """Replace methods of the core, or of another class; each gets the one that it replaces as its first argument."""
    cls = cls or core.EventCore
    for name, method in methods.items():
        original = getattr(cls, name)
        setattr(cls, name, lambda *arguments, method=method, original=original: method(original, *arguments))


def successor(core, state, **changes):
    """Return a successor of *state* with these *changes*."""
    names = ("sets", "is_set", "waiters", "reason", "seconds", "start", "deadline")
    return core._State(**{**{name: getattr(state, name) for name in names}, **changes})


def offer(core, event, **changes):
    """Offer a successor of the newest state, once. Return it, and whether it was taken."""
    state = event._fe_newest()
    offered = successor(core, state, **changes)
    return offered, state.next.setdefault(core._NEXT, offered) is offered


# Waiting


def waits_without_a_look_at_the_event(core):
    def wait(_, self, waiters, deadline, until_timeout):
        waiter = core._Waiter()
        waiters[waiter] = None
        waiter.lock.acquire(True, -1)
        waiters.pop(waiter, None)
        return True

    replace(core, _fe_wait=wait)


def answers_by_the_lock_alone(core):
    def wait(_, self, waiters, deadline, until_timeout):
        waiter = core._Waiter()
        waiters[waiter] = None
        woken = self._fe_is_over(waiters) or waiter.lock.acquire(True, (deadline - core.clock.now()) / SECOND)
        self._fe_leave(waiters, waiter)
        return woken

    replace(core, _fe_wait=wait)


def leaves_its_waiter_behind(core):
    replace(core, _fe_leave=lambda *_: None)


def times_out_early(core):
    deadline_after = core.deadline_after
    core.deadline_after = lambda start, seconds: deadline_after(start, seconds) - SECOND


def hands_no_place_on(core):
    replace(core, _fe_leave=lambda _, self, waiters, waiter: waiters.pop(waiter, None))


def hands_no_place_on_when_it_raises(core):
    def leave(original, self, waiters, waiter):
        if sys.exc_info()[0] is None:
            return original(self, waiters, waiter)
        waiters.pop(waiter, None)

    replace(core, _fe_leave=leave)


# set()


def does_not_wake(core):
    core._wake = lambda waiters, count: None


def wakes_before_the_flag_is_set(core):
    wake = core._wake

    def try_set(original, self, *arguments):
        wake(self._fe_newest().waiters, core._WINDOW)
        original(self, *arguments)

    core._wake = lambda waiters, count: None
    replace(core, _fe_try_set=try_set)


def wakes_waiters_of_the_next_period(core):
    wake = core._wake

    def finish_set(original, self, state, pending):
        original(self, state, pending)
        wake(self._fe_newest().waiters, core._WINDOW)

    replace(core, _fe_finish_set=finish_set)


def takes_waiters_out_before_it_wakes_them(core):
    def wake(waiters, count):
        try:
            waiter, _ = waiters.popitem()
        except KeyError:
            return
        waiter.wake()

    core._wake = wake


def sets_without_a_second_try(core):
    def try_set(_, self, reason, pending, only_if_expired=False):
        state = self._fe_newest()
        if not state.is_set:
            state, taken = offer(core, self, sets=state.sets + 1, is_set=True, reason=reason)
            if not taken:
                return
        self._fe_finish_set(state, pending)

    replace(core, _fe_try_set=try_set)


def an_interrupted_set_does_not_wake(core):
    def try_set(_, self, reason, pending, only_if_expired=False):
        state = self._fe_newest()
        taken = state.is_set
        while not taken:
            state, taken = offer(core, self, sets=state.sets + 1, is_set=True, reason=reason)
        self._fe_finish_set(state, pending)

    replace(core, _fe_try_set=try_set)


def forgets_the_reason(core):
    def try_set(original, self, reason, *arguments):
        original(self, None, *arguments)

    replace(core, _fe_try_set=try_set)


def changes_a_state_that_is_taken(core):
    def finish_set(original, self, state, pending):
        original(self, state, pending)
        state.reason = state.reason

    replace(core, _fe_finish_set=finish_set)


def an_old_timeout_sets_without_a_second_look_at_the_clock(core):
    def try_set(original, self, reason, pending, only_if_expired=False):
        if not only_if_expired or core.clock.now() >= self._fe_deadline():
            original(self, reason, pending)

    replace(core, _fe_try_set=try_set)


# clear() and restart_timeout()


def overwrites_the_successor(core):
    def append(_, self, state, offer, finish=None, *arguments):
        state.next[core._NEXT] = offer
        if finish:
            finish(*arguments)
        return True

    replace(core, _fe_append=append)


def clears_without_a_second_try(core):
    def reset(_, self):
        state = self._fe_newest()
        if state.is_set or state.seconds is not None:
            self._fe_append(state, core._unset(state, state.seconds))

    replace(core, _fe_reset=reset)


def clear_takes_a_wakeup_back(core):
    replace(core, _fe_is_over=lambda _, self, waiters: self._fe_newest().is_set)


def begins_a_period(core, waiters):
    unset = core._unset
    core._unset = lambda state, seconds: successor(core, unset(state, seconds), waiters=waiters(state))


def each_deadline_has_waiters_of_its_own(core):
    begins_a_period(core, lambda state: core.Table())


def all_periods_share_their_waiters(core):
    begins_a_period(core, lambda state: state.waiters)


def restart_counts_as_a_set(core):
    def restart(original, self, seconds):
        answer = original(self, seconds)
        state = self._fe_newest()
        offer(core, self, sets=state.sets + 1)
        return answer

    replace(core, _fe_restart=restart)


def restart_wakes_no_waiter(core):
    replace(core, _fe_restart=lambda original, self, seconds: original(self, seconds) and False)
    core._Waiter.wake = lambda self: None


def restart_takes_waiters_out(core):
    def restart(original, self, seconds):
        answer = original(self, seconds)
        core._wake(self._fe_newest().waiters, core._WINDOW)
        return answer

    replace(core, _fe_restart=restart)


def restarts_without_a_second_look_at_the_clock(core):
    def restart(_, self, seconds):
        state = self._fe_newest()
        if state.is_set or core.clock.now() >= state.deadline:
            return None
        while not self._fe_append(state, core._unset(state, seconds)):
            state = self._fe_newest()
        return True

    replace(core, _fe_restart=restart)


# Subscribers


def notifies_no_subscriber(core):
    core.notify._notify = lambda pending, call: None


def a_timeout_that_came_too_late_notifies_children(core):
    def try_set(original, self, reason, pending, only_if_expired=False):
        original(self, reason, pending, only_if_expired)
        if not pending:
            pending.append((self, self._fe_newest().sets, None))

    replace(core, _fe_try_set=try_set)


def calls_a_callback_twice(core):
    def call(_, self, event):
        self._function(event)
        self._function(event)

    replace(core, core.Registration, __call__=call)


def calls_a_callback_whichever_thread_has(core):
    def call(_, self, event):
        self._claims.setdefault("call", 0)
        self._function(event)

    replace(core, core.Registration, __call__=call)


def does_not_look_again(core):
    """After a callback, a child or a waker was added."""
    replace(core, _fe_set_since=lambda *_: False)


def calls_callbacks_for_a_set_of_the_past(core):
    def register(original, self, kind, key, subscriber):
        sets = original(self, kind, key, subscriber)
        getattr(self, kind)[key] = subscriber, sets - 1
        return sets

    replace(core, _fe_register=register)


@pytest.mark.parametrize(
    "bug, threads, options",
    [
        (waits_without_a_look_at_the_event, [waits, sets], {}),
        (answers_by_the_lock_alone, [waits_a_second, sets, time_passes], {}),
        (leaves_its_waiter_behind, [waits_a_second, time_passes], {}),
        (times_out_early, [waits_a_second, time_passes], {}),
        (does_not_wake, [waits, sets], {}),
        (wakes_before_the_flag_is_set, [waits, sets], {}),
        (wakes_waiters_of_the_next_period, [waits, sets_and_clears, clears], {}),
        (sets_without_a_second_try, [sets, clears], {"timeout": 5}),
        (forgets_the_reason, [sets, reads], {}),
        (changes_a_state_that_is_taken, [sets, reads], {}),
        (an_old_timeout_sets_without_a_second_look_at_the_clock, [expires, clears, time_passes], {"timeout": 1}),
        (overwrites_the_successor, [clears, sets], {"timeout": 5}),
        (clears_without_a_second_try, [clears, sets, time_passes], {"timeout": 5}),
        (clear_takes_a_wakeup_back, [waits, sets_and_clears], {}),
        (each_deadline_has_waiters_of_its_own, [waits, clears], {"timeout": 5}),
        (each_deadline_has_waiters_of_its_own, [waits, restarts_later], {"timeout": 5}),
        (all_periods_share_their_waiters, [waits, sets_and_clears, sets_and_clears], {}),
        (restart_counts_as_a_set, [restarts_later, reads], {"timeout": 5}),
        (restart_wakes_no_waiter, [waits_for_the_event, restarts_sooner, time_passes], {"timeout": 5}),
        (restart_takes_waiters_out, [waits_for_the_event, restarts_sooner, sets], {"timeout": 5}),
        (restarts_without_a_second_look_at_the_clock, [restarts_later, sets], {"timeout": 5}),
        (notifies_no_subscriber, [sets], {"first": adds_a_child}),
        (notifies_no_subscriber, [waits_for_any, sets], {}),
        (a_timeout_that_came_too_late_notifies_children, [sets, clears, expires], {"timeout": 1, "first": adds_a_child}),
        (calls_a_callback_whichever_thread_has, [adds_a_callback, sets], {}),
        (calls_a_callback_twice, [adds_a_callback, sets], {}),
        (does_not_look_again, [adds_a_callback, sets], {}),
        (does_not_look_again, [adds_a_child, sets], {}),
        (does_not_look_again, [waits_for_any, sets], {}),
        (calls_callbacks_for_a_set_of_the_past, [sets, clears, adds_a_callback], {}),
    ],
)
def test_a_planted_bug_is_found(bug, threads, options):
    with pytest.raises(Flaw):
        explore(load(bug), *threads, **options)


def test_a_lost_place_is_found():
    with pytest.raises(Flaw):
        explore(load(hands_no_place_on, window=1), waits, waits, sets)


def test_a_missing_timer_is_found():
    def adds_no_timer(core):
        core.notify.timers.events.add = lambda *_: None

    with pytest.raises(Flaw):
        explore(load(adds_no_timer), Run.keep_deadlines, time_passes, timeout=1, set_on_timeout=True)


@tracing
@pytest.mark.parametrize(
    "bug, call, threads",
    [
        (an_interrupted_set_does_not_wake, sets, [waits]),
        (takes_waiters_out_before_it_wakes_them, sets, [waits]),
        (hands_no_place_on_when_it_raises, waits, [waits, sets]),
    ],
)
def test_a_planted_bug_with_a_signal_is_found(bug, call, threads):
    with pytest.raises(Flaw):
        explore_interrupts(load(bug, window=1, watch=watch), call, raises, *threads)
