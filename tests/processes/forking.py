"""For programs that fork beside helper threads. Import this before fastevent: see `counts`."""

import _thread
import os
import sys
import traceback

from helpers import self_setting, until

#: How many threads there are when helpers have ended. Handlers run in the reverse order of their registration.
counts = []
os.register_at_fork(before=lambda: counts.append(_thread._count()))


def armed(seconds, function=repr, count=1):
    """Return *count* events that are set after these *seconds*, with *function* as a callback."""
    from fastevent import Event

    events = [self_setting(Event, seconds, function) for _ in range(count)]
    return events if count > 1 else events[0]


def in_child(function):
    """Call *function* in a forked child. Return the child's number, for `ended()`."""
    pid = os.fork()
    if pid == 0:
        try:
            if sys.implementation.name == "pypy":  # where helpers start at the first use after a bare fork
                armed(3600)
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid):
    """Return the exit code of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def all_set(events):
    until(lambda: all(event.is_set() for event in events))
