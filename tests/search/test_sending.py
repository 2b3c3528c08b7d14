"""What sends to other processes, through every schedule of a few threads, and with a signal at every place: see `explorer`.

This is `Connection.send()` of a `SharedEvent`, with the claim. Each thread says one line over the same connection, as a set()
does. A line is lost if nothing is left to send it.
"""

import sys
from unittest import mock

import pytest
from explorer import (
    SECOND,
    Flaw,
    Interrupted,
    Schedule,
    Table,
    at_every_place,
    current,
    every_schedule,
    monotonic_ns,
    watch_function,
)
from helpers import HAS_GIL, SCALE

from fastevent._process import Claim
from fastevent.shared import _connection

pytestmark = pytest.mark.skipif(
    not HAS_GIL or sys.implementation.name != "cpython",
    reason="needs CPython's events for every instruction, in which threads hang without the GIL",
)
PATIENCE = SECOND // 10


class Outbox:
    def __init__(self, run):
        self.step = run.step
        self.lines = []

    def __bool__(self):
        self.step("outbox: bool", {"outbox"})
        return bool(self.lines)

    def __getitem__(self, index):
        self.step("outbox[0]", {"outbox"})
        return self.lines[index]

    def append(self, line):
        self.step("outbox: append", {"outbox"}, {"outbox"})
        self.lines.append(line)

    def popleft(self):
        self.step("outbox: popleft", {"outbox"}, {"outbox"})
        return self.lines.pop(0)


class Call:
    def __init__(self):
        self.thread = current.run.current


class Connection(_connection.Connection):
    def __init__(self, run):
        super().__init__(run, run)
        self._run = run
        self.outbox = Outbox(run)
        self.claim._holders = Table()

    @property
    def _rest(self):
        if hasattr(self, "_run"):
            self._run.step("rest", {"rest"})
        return vars(self)["rest"]

    @_rest.setter
    def _rest(self, rest):
        if hasattr(self, "_run"):
            self._run.step("rest = ...", writes={"rest"})
        vars(self)["rest"] = rest


class Sending(Schedule):
    """The threads of a process that send over one connection. It is their hub and their socket, too."""

    def __init__(self, path, threads, full=0):
        super().__init__(path, (*threads, Sending.ends))
        self.full = full  # how often the socket takes nothing
        self.blocks = bool(full)
        self.now = 0
        self.sent = []
        self.said = []
        self.posted = False  # the thread "fastevent shared" is woken: it sends what is left where it waits for room
        self.connection = None

    def begin(self):
        self.connection = Connection(self)

    def send(self, line):
        self.step("socket: send", {"socket"}, {"socket"})
        if self.full:
            self.full -= 1
            raise BlockingIOError
        self.sent.append(line)
        return len(line)

    def wake(self):
        self.step("the thread is woken")
        self.posted = True

    def pauses(self):
        """Let other threads go on, until that may make a difference."""
        end = self.now + SECOND // 10
        self.step("pauses", {"clock", self.connection.claim._holders.name}, ready=lambda: self.now >= end or self._is_free())

    def _is_free(self):
        return not self.connection.claim._holders.content

    def says(self, line, patience=0):
        self.said.append(line)
        self.step("is called", {"clock"})
        end = self.now + patience
        try:
            self._publish(line, patience)
        except Interrupted:  # set() begins again
            self._publish(line, patience)
            raise
        self.step("has returned", {"clock", "socket"})
        if self.now < end and not self.blocks and line not in self.sent:
            raise Flaw(f"{line} would not be sent if the process ended now")

    def _publish(self, line, patience):
        self.connection.outbox.append(line)
        self.connection.send(patience)

    def ends(self):
        self.step("the others are done", ready=lambda: self.is_quiet)

    def check_end(self, left):
        if self.posted and self.connection.is_full:
            rest = vars(self.connection)["rest"]
            lines = self.connection.outbox.lines
            self.sent += [rest, *lines[1:]] if rest else lines  # a line leaves the outbox once it is sent
        if left:
            self.error = Flaw(f"{self.names(left)} hangs")
        elif self.connection.claim._holders.content:
            self.error = Flaw("no call can send any more")
        elif not set(self.said) <= set(self.sent):
            self.error = Flaw(f"of {self.said}, {self.sent} were sent")
        elif not self.interrupts and sorted(self.sent) != sorted(self.said):
            self.error = Flaw(f"of {self.said}, {self.sent} were sent")


def says_a(run):
    run.says(b"a", PATIENCE)


def says_b(run):
    run.says(b"b")


def says_d(run):
    run.says(b"d", PATIENCE)


def says_c(run):
    run.says(b"c")


def sends(run):
    run.connection.send()


def time_passes(run):
    run.step("a second passes", writes={"clock"})
    run.now += SECOND


def raises(run):
    raise Interrupted


@pytest.fixture(autouse=True)
def explored():
    for function in (_connection.Connection.send, _connection.Connection._send, _connection.Connection._write, Claim.give_back):
        watch_function(function)
    with (
        mock.patch.object(_connection, "Call", Call),
        mock.patch.object(_connection, "monotonic_ns", monotonic_ns),
        mock.patch.object(_connection, "sleep", lambda seconds: current.run.pauses()),
    ):
        yield


def explore(*threads, **options):
    return every_schedule(lambda path: Sending(path, threads, **options))


@pytest.mark.parametrize(
    "threads, full",
    [([says_a, says_b], 0), ([says_a, says_b], 1), ([says_a, says_d], 0), ([says_a, says_b, time_passes], 0)],
)
def test_no_line_is_lost(threads, full):
    assert explore(*threads, full=full) >= 100


soak = pytest.mark.skipif(SCALE <= 1, reason="takes minutes: make soak explores it")


@pytest.mark.parametrize(
    "call, handler, threads",
    [
        (says_a, says_c, []),
        (says_a, raises, []),
        (sends, says_c, [says_b]),
        (sends, raises, [says_b]),
        pytest.param(says_a, says_c, [says_b], marks=soak),
        pytest.param(says_a, raises, [says_b], marks=soak),
    ],
)
def test_a_signal_loses_no_line(call, handler, threads):
    places, schedules = at_every_place(call, handler, lambda interrupted: explore(interrupted, *threads))
    assert places >= 5 and schedules >= (10 * places if threads else places)
