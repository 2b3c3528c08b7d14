"""Programs of several processes, for the tests of SharedEvent.

    METHOD=spawn PYTHONPATH=tests python tests/processes/shared_programs.py NAME

runs one of them, and so does shared_faults.py. The exit code is 0 and nothing is printed if all went well. METHOD is how
`multiprocessing` starts a process: fork unless given.
"""

import multiprocessing
import os
import sys
import time

from helpers import TIMEOUT

from fastevent.shared import _hub, _place

METHODS = ("fork", "spawn", "forkserver")

for absent in os.environ.get("WITHOUT", "").split():  # what other systems do not have
    setattr(_place, absent, False)


class Programs(dict):
    """By name: each program, and the methods under which it runs in the tests."""

    def every_method(self, function):
        self[function.__name__] = function, METHODS
        return function

    def under_fork(self, function):
        self[function.__name__] = function, METHODS[:1]
        return function

    def main(self):
        self[sys.argv[1]][0]()


def context():
    return multiprocessing.get_context(os.environ.get("METHOD", "fork"))


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
