"""Programs of several processes, for the tests of SharedEvent.

    METHOD=spawn PYTHONPATH=tests python tests/processes/shared_programs.py NAME

runs one of them, and so does shared_faults.py. The exit code is 0 and nothing is printed if all went well. METHOD is how
`multiprocessing` starts a process: the first of METHODS unless given.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from helpers import TIMEOUT

from fastevent.shared import _place

if "WITHOUT" in os.environ:  # what another system does not have
    for absent in os.environ["WITHOUT"].split():
        setattr(_place, absent, False)

from fastevent.shared import _hub

METHODS = tuple(method for method in ("fork", "spawn", "forkserver") if method in multiprocessing.get_all_start_methods())
KILLED = -getattr(signal, "SIGKILL", signal.SIGTERM)  # the exit code of a process that was killed


class Program(NamedTuple):
    run: Callable[[], object]
    methods: tuple[str, ...]  # under which it runs in the tests
    needs_posix: bool


class Programs(dict):
    """Programs by name."""

    def add(self, function, methods, needs_posix):
        self[function.__name__] = Program(function, methods if os.name == "posix" or not needs_posix else (), needs_posix)
        return function

    def every_method(self, function):
        return self.add(function, METHODS, needs_posix=False)

    def every_method_of_posix(self, function):
        return self.add(function, METHODS, needs_posix=True)

    def one_method(self, function):
        return self.add(function, METHODS[:1], needs_posix=False)

    def under_fork(self, function):
        return self.add(function, METHODS[:1], needs_posix=True)

    def by_name(self, function):
        """Add a program that a test of its own runs."""
        return self.add(function, (), needs_posix=True)

    def main(self):
        self[sys.argv[1]].run()


def context():
    return multiprocessing.get_context(os.environ.get("METHOD", METHODS[0]))


def run(target, *arguments):
    process = context().Process(target=target, args=arguments)
    process.start()
    return process


def joined(*processes, code=0):
    for process in processes:
        process.join(TIMEOUT)
        assert process.exitcode == code, (process, process.exitcode)


def received(connection):
    assert connection.poll(TIMEOUT), "nothing comes"
    return connection.recv()


def address():
    """Return the address of this process as a home."""
    return _hub.hub().own().home.address


# What child processes run


def waits(event, connection):
    connection.send(os.getpid())
    event.wait(TIMEOUT)
    connection.send(event.reason)


def polls(event, connection):
    connection.send(os.getpid())
    deadline = time.monotonic() + TIMEOUT
    while not event.is_set() and time.monotonic() < deadline:
        pass
    connection.send(event.reason)


def reason_of(event):
    event.wait(TIMEOUT)
    return event.reason


def waiting(*targets_and_events):
    """Start processes. Return each, once it says that it runs, with this end of a pipe to it."""
    started = []
    for target, event in targets_and_events:
        here, there = context().Pipe()
        started.append((run(target, event, there), here))
    for process, connection in started:
        assert received(connection) == process.pid
    return started
