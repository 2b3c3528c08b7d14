"""Every schedule of a few threads over the source itself: a stateless model checker.

The sources of `_notify`, `_core_py`, `_registration`, `_several` and `_event` run on real threads, one at a time. What these
share is replaced: an empty dict display makes a `Table`, and locks, the clock and the attributes that change are stand-ins.
Each operation on one of those is a step: the thread stops before it and says what the step will read and write, and the
explorer chooses which thread makes the next step. All else is local to a thread or constant, so stopping there as well would
lead to no other outcome. The steps are the operations that are atomic in Python.

All choices that matter are tried, depth first, by running the same threads again. Two steps that touch nothing in common, or
only read it, lead to the same state in either order, so of the schedules that differ in such orders alone one is enough. Only
races are reversed (see `Run.do`), and sleep sets (Godefroid, "Partial-Order Methods for the Verification of Concurrent
Systems", 1996) leave out what was seen, and no end state. What is checked depends on the order of steps that are dependent:
the checks are steps, too, and say what they read.

A schedule ends only when no thread can make a step. Time passes in `Run.tick` alone, and a timeout may be noticed at any step
after that.

`tests/search/test_sending.py` does the same for what sends to other processes, with a `Schedule` and stand-ins of its own, and
`tests/search/test_receiving.py` for what processes say to each other.

    shared      what the threads share, and what must hold between two states of an event
    schedules   one schedule, and which others have to be tried
    run         `explore()`, what the threads of a scenario can do, and what must hold then
    signals     a signal at every place: `explore_interrupts()`
    processes   processes that talk over sockets
"""

from explorer.run import explore
from explorer.schedules import Schedule, every_schedule
from explorer.shared import SECOND, Flaw, Interrupted, Table, current, load, monotonic_ns
from explorer.signals import at_every_place, explore_interrupts, watch_function

__all__ = [
    "SECOND",
    "Flaw",
    "Interrupted",
    "Schedule",
    "Table",
    "at_every_place",
    "current",
    "every_schedule",
    "explore",
    "explore_interrupts",
    "load",
    "monotonic_ns",
    "watch_function",
]
