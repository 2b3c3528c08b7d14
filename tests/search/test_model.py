"""Sequences of every public call against a simple model, and arguments of every kind, by hypothesis."""

import sys
import threading
import time

import pytest
from conftest import CORES
from helpers import SCALE

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis does not install here")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.stateful import (  # noqa: E402
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

SETTINGS = settings(
    max_examples=int(150 * SCALE), deadline=None, derandomize=SCALE == 1, suppress_health_check=list(HealthCheck)
)

TIMEOUTS = st.sampled_from([None, 0, 0.0, 300, 1e300, float("inf")])


class Machine(RuleBasedStateMachine):
    """The model: a flag with its reason, whether the timeout has passed, subscribers, the answers of waiting threads."""

    Event = None

    @initialize(timeout=TIMEOUTS)
    def make(self, timeout):
        self.event = self.Event(timeout)
        self.learn(timeout)
        self.flag = False
        self.reason = None
        self.waiters = []
        self.registrations = []  # with the numbers of their functions
        self.pending = []  # the calls that are to come
        self.calls = []
        self.expected_calls = []
        self.children = []  # each with whether it is set, and why

    def learn(self, timeout):
        self.timeout = None if timeout is None else float(timeout)
        self.started = self.event._start_time

    @rule(reason=st.sampled_from([None, "why", 5]))
    def set(self, reason):
        assert self.event.set(reason) is None
        self.model_set(reason)
        self.all_return_true()

    @rule()
    def set_and_clear(self):
        self.event.set()
        self.event.clear()
        self.model_set(None)
        self.model_clear()
        self.all_return_true()

    def model_set(self, reason):
        if not self.flag:
            self.flag, self.reason = True, reason
            self.expected_calls += self.pending
            self.pending.clear()
        for child in self.children:
            if not child[1]:
                child[1:] = [True, self.reason]

    def model_clear(self):
        self.flag, self.reason = False, None

    @rule(number=st.integers(0, 3))
    def add_a_callback(self, number):
        self.registrations.append((number, self.event.add_callback(self.called[number])))
        (self.expected_calls if self.flag else self.pending).append(number)

    @rule(number=st.integers(0, 3))
    def remove_a_callback(self, number):
        removed = [registration.remove() for other, registration in self.registrations if other == number]
        assert removed.count(True) == self.pending.count(number)
        self.registrations = [item for item in self.registrations if item[0] != number]
        self.pending = [other for other in self.pending if other != number]

    @property
    def called(self):
        if "functions" not in vars(self):
            self.functions = [lambda event, number=number: self.calls.append(number) for number in range(4)]
        return self.functions

    @precondition(lambda self: len(self.children) < 5)
    @rule(timeout=st.sampled_from([None, 300, float("inf")]))
    def make_a_child(self, timeout):
        child = self.event.child(timeout, name="part")
        assert child.name == child.status().name == "part" and child.timeout == timeout
        self.children.append([child, self.flag, self.reason])

    @precondition(lambda self: self.children)
    @rule(which=st.integers(0, 4), what=st.sampled_from(["set", "clear", "drop"]))
    def change_a_child(self, which, what):
        child = self.children[which % len(self.children)]
        if what == "drop":
            self.children.remove(child)
        elif what == "clear":
            child[0].clear()
            child[1:] = [False, None]
        else:
            child[0].set("its own")
            if not child[1]:
                child[1:] = [True, "its own"]

    def all_return_true(self):
        for thread, answers in self.waiters:
            thread.join(60)
            assert answers == [True]
        self.waiters.clear()

    @rule()
    def clear(self):
        before = time.monotonic()
        assert self.event.clear() is None
        self.model_clear()
        if self.timeout is not None:
            assert before <= self.event._start_time <= time.monotonic()

    @rule(arguments=st.sampled_from([(), (300,), (1e300,), (float("inf"),)]))
    def restart_timeout(self, arguments):
        if not arguments and self.timeout is None:
            with pytest.raises(ValueError, match=r"^restart_timeout\(\) without a number needs an event with a timeout"):
                self.event.restart_timeout()
            return
        before = time.monotonic()
        in_time = not self.flag and self.timeout != 0
        assert self.event.restart_timeout(*arguments) is in_time
        if in_time:
            self.learn(*(arguments or (self.timeout,)))
            assert before <= self.started <= time.monotonic()

    @rule(timeout=TIMEOUTS)
    def make_new(self, timeout):
        self.set(None)
        self.event.__init__(timeout)
        self.learn(timeout)
        self.model_clear()

    @rule(timeout=st.sampled_from([0, -1, 1e-6, 0.001, False, -float("inf")]))
    def wait_a_moment(self, timeout):
        start = time.monotonic_ns()
        assert self.event.wait(timeout) is self.flag
        if not self.flag:
            assert time.monotonic_ns() - start >= max(timeout, 0) * 1e9 or timeout < 0

    @precondition(lambda self: self.flag or self.timeout == 0)
    @rule()
    def wait_for_nothing_or_the_timeout(self):
        assert self.event.wait() is self.flag

    @precondition(lambda self: not self.flag and self.timeout != 0 and len(self.waiters) < 4)
    @rule(timeout=st.sampled_from([None, 60, 1e9, float("inf")]))
    def start_a_waiter(self, timeout):
        answers, ready = [], threading.Event()

        def wait():
            ready.set()
            answers.append(self.event.wait(timeout))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        ready.wait()
        time.sleep(0.002)
        self.waiters.append((thread, answers))

    @rule()
    def an_attribute(self):
        self.event.label = "x"
        assert self.event.label == "x"
        del self.event.label

    @invariant()
    def agrees(self):
        if not hasattr(self, "event"):
            return
        assert self.event.is_set() is self.flag and self.event.flag is self.flag
        assert self.event.check_timeout() is (self.timeout == 0)
        assert self.event._timeout == self.timeout and (self.event._start_time is None) is (self.timeout is None)
        assert (": set" if self.flag else ": unset") in repr(self.event)
        assert self.event.reason == self.reason and self.calls == self.expected_calls
        status = self.event.status()
        assert (status.callbacks, status.timed_out) == (len(self.pending), self.timeout == 0)
        assert [[child.is_set(), child.reason] for child, *_ in self.children] == [state for _, *state in self.children]
        assert status.children == len(self.children) or sys.implementation.name != "cpython"
        # No wait has ended without a set().
        assert all(not answers for _, answers in self.waiters) or self.flag

    def teardown(self):
        if hasattr(self, "event"):
            self.event.set()
            self.all_return_true()


def test_sequences_of_calls_agree_with_the_model(Event):
    run_state_machine_as_test(type("Machine", (Machine,), {"Event": Event}), settings=SETTINGS)


ODDITIES = [int, float, ..., NotImplemented, 10**400, -(10**400), sys, threading.TIMEOUT_MAX]
ANYTHING = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.fractions(), st.complex_numbers()),
    *(st.text(max_size=5), st.binary(max_size=5), st.lists(st.integers(), max_size=2), st.dates(), st.timedeltas()),
    *(st.builds(object), st.functions(), st.sampled_from(ODDITIES)),
)


def result(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except Exception as error:
        return type(error), str(error)


@SETTINGS
@given(timeout=ANYTHING)
def test_any_timeout_is_taken_or_refused_alike(timeout):
    events = [result(CORES[core].Event, timeout=timeout) for core in CORES]
    if all(isinstance(event, threading.Event) for event in events):
        # A short timeout may pass between the two looks.
        late = [event.check_timeout() for event in events if not 0 < (event._timeout or 0) < 60]
        assert len(set(late)) <= 1
        events = [(event._timeout, event.is_set()) for event in events]
    assert all(event == events[0] for event in events), events
    assert not isinstance(events[0][0], type) or events[0][0] in (TypeError, ValueError)


@SETTINGS
@given(timeout=ANYTHING)
def test_any_wait_answers_as_threading_event(timeout):
    """Where that does not wait: a number above zero waits, and is tried in `test_contract.py`."""
    try:
        waits = timeout is None or 0 < timeout
    except Exception:
        waits = False
    if waits and isinstance(timeout, (int, float)):
        for core in CORES:
            event = CORES[core].Event()
            event.set()
            assert event.wait(timeout) is True
        return
    if waits:
        return
    expected = result(threading.Event().wait, timeout)
    if isinstance(expected, tuple) and expected[0] is TypeError:
        hint = "; use its .total_seconds()" if hasattr(timeout, "total_seconds") else ""
        expected = TypeError, f"timeout must be a number of seconds or None, not {timeout!r}{hint}"
    for core in CORES:
        assert result(CORES[core].Event().wait, timeout) == expected


@SETTINGS
@given(
    method=st.sampled_from(
        [
            "set",
            "clear",
            "is_set",
            "check_timeout",
            "wait",
            "__init__",
            "isSet",
            "__repr__",
            "_at_fork_reinit",
            "restart_timeout",
            "child",
        ]
    ),
    arguments=st.lists(ANYTHING, max_size=3),
    named=st.dictionaries(st.sampled_from(["timeout", "reason", "name", "x", "self"]), ANYTHING, max_size=2),
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_any_call_is_refused_alike(method, arguments, named):
    """On a set event: nothing waits. The words about wrong arguments are the interpreter's or Cython's: not compared."""
    kinds = []
    for core in CORES:
        event = CORES[core].Event()
        event.set()
        what = result(getattr(event, method), *arguments, **named)
        kinds.append(what[0] if isinstance(what, tuple) else type(what).__name__)
        event.clear()
        assert event.wait(0) is False
    assert all(kind == kinds[0] for kind in kinds), kinds
