"""One schedule of threads, along the choices that were made before, and what other choices have to be tried."""

import threading
from _thread import allocate_lock
from itertools import count
from typing import NamedTuple

from helpers import TIMEOUT

from explorer.shared import Crash, Flaw, current


class Step(NamedTuple):
    what: str
    reads: frozenset
    writes: frozenset
    ready: object

    def commutes(self, other):
        return not (self.writes & (other.reads | other.writes) or other.writes & self.reads)


class Node:
    """A point on the path: the threads to continue with, the first of them in this run, and those that need not."""

    def __init__(self, choice, enabled, sleep):
        self.todo = [choice]
        self.enabled = enabled
        self.sleep = sleep

    def reverse(self, initials):
        """See to it that one of these threads goes first here, too; where none can, that every other one does."""
        if not self.sleep.union(self.todo).intersection(initials):
            possible = [number for number in initials if number in self.enabled]
            self.todo += possible[:1] or [n for n in self.enabled if n not in self.sleep and n not in self.todo]

    def advance(self):
        self.sleep = {*self.sleep, self.todo.pop(0)}
        return bool(self.todo)


class Done(NamedTuple):
    number: int
    step: Step
    knows: dict  # of every thread: how many of its steps come before this one, itself included, in every order of this kind

    def before(self, other):
        return self.knows[self.number] <= other.knows.get(self.number, 0)


def _learn(knows, done):
    for number, known in done.knows.items():
        knows[number] = max(known, knows.get(number, 0))


class Abandoned(BaseException):
    """Ends the threads of a run that is over."""


def every_schedule(make):
    """Run what *make(path)* returns, a `Schedule`, in all ways. Return how many these are.

    Raises `Flaw` for the first schedule that ends as none may.
    """
    path, schedules = [], 0
    while True:
        current.run = run = make(path)
        try:
            run.begin()
            schedules += run.complete()
        finally:
            current.run = None
        while path and not path[-1].advance():
            path.pop()
        if not path:
            return schedules


class Schedule:
    """One schedule: along the *path* as far as it goes, then on, making it longer."""

    def __init__(self, path, threads):
        self.path = path
        self.threads = threads  # the last one makes its first step when the others cannot go on
        self.current = None  # the number of the thread that runs; None outside the schedule
        self.pending = {}  # the next step of every thread that is not done
        self.batons = {}  # held while the thread may not run
        self.sleep = set()  # the threads whose next step was tried before and changes nothing now
        self.done = []  # the steps so far
        self.knows = {number: {} for number in range(len(threads))}  # see Done
        self.interrupts = {}  # the signals that come to threads
        self.error = None
        self.is_redundant = False
        self.is_quiet = False  # no thread could go on
        self.is_over = False
        self.over = allocate_lock()
        self.number = count(1).__next__  # names for what is shared

    def begin(self):
        """Make what the threads share."""

    def check_quiet(self):
        """Check that each thread that is blocked is so by right."""

    def check_end(self, left):
        """Check what must hold at the end. *left* are the threads that are blocked for ever."""

    def complete(self):
        """Run the schedule to its end. Return whether it is one that was not seen before."""
        self.over.acquire()
        workers = [threading.Thread(target=self.work, args=item, daemon=True) for item in enumerate(self.threads)]
        for number, worker in enumerate(workers):
            self.pending[number] = Step("start", frozenset(), frozenset(), lambda: True)
            self.batons[number] = allocate_lock()
            self.batons[number].acquire()
            worker.start()
        self.hand_over()
        assert self.over.acquire(timeout=TIMEOUT), "the explorer hangs"
        left, self.current, self.is_over = list(self.pending), None, True
        for number in left:
            self.batons[number].release()
            workers[number].join(TIMEOUT)
        for worker in workers:
            worker.join(TIMEOUT)
        if not (self.error or self.is_redundant):
            self.check_end(left)
        if self.error:
            steps = "".join(f"\n{self.names([number]):>18}: {step.what}" for number, step, _ in self.done)
            kind = Flaw if isinstance(self.error, Flaw) else Crash
            raise kind(f"{self.error}, after{steps}") from self.error
        return not self.is_redundant

    def names(self, numbers):
        return ", ".join(f"{self.threads[number].__name__} {number}" for number in numbers)

    def work(self, number, function):
        try:
            self.wait_for_turn(number)
            function(self)
        except Abandoned:
            return
        except BaseException as error:
            self.error = error
        del self.pending[number]
        self.hand_over()

    def wait_for_turn(self, number):
        self.batons[number].acquire()
        if self.current is None:
            raise Abandoned

    def hand_over(self):
        """Let the chosen thread run. Return its number, None if the run is over."""
        choice = self.choose()
        if choice is None:
            self.over.release()
        else:
            if self.current != choice:
                self.current = choice
                self.batons[choice].release()
        return choice

    def step(self, what, reads=frozenset(), writes=frozenset(), ready=lambda: True):
        """Stop the thread before its next step until that is chosen, which it is not before it is *ready*."""
        me = self.current
        if self.is_over:
            raise Abandoned
        if me is None:
            return
        self.pending[me] = Step(what, frozenset(reads), frozenset(writes), ready)
        if self.hand_over() != me:
            self.wait_for_turn(me)

    def choose(self):
        """Return the thread that makes the next step, None if the run is over."""
        if self.error:
            return None
        me, self.current = self.current, None  # what is read to know who can go on is no step of a thread
        enabled = [number for number, step in self.pending.items() if step.ready()]
        self.current = me
        if not enabled and not self.is_quiet:
            self.is_quiet = True
            self.check_quiet()
            for done in self.done:
                _learn(self.knows[len(self.threads) - 1], done)  # the last thread comes after all else
            return self.choose()
        if not enabled:
            return None
        depth = len(self.done)
        if depth == len(self.path):
            # A step that touches nothing commutes with all that ever comes
            awake = [n for n in enabled if not (self.pending[n].reads or self.pending[n].writes)]
            awake = awake or sorted((n for n in enabled if n not in self.sleep), key=lambda number: number != self.current)
            if not awake:
                self.is_redundant = True
                return None
            self.path.append(Node(awake[0], enabled, self.sleep))
        node = self.path[depth]
        choice = node.todo[0]
        step = self.pending[choice]
        self.sleep = {number for number in node.sleep if self.pending[number].commutes(step)}
        self.do(choice, step)
        return choice

    def do(self, number, step):
        """Note the step. Where it could have come before one that it depends on, have that tried, too.

        These are the races that source sets ask for (Abdulla, Aronis, Jonsson, Sagonas, "Optimal Dynamic Partial Order
        Reduction", 2014): the thread that goes first there begins what comes without the other step.
        """
        knows = self.knows[number]
        knows[number] = knows.get(number, 0) + 1
        done = Done(number, step, knows)
        races = []
        for n in reversed(range(len(self.done))):
            earlier = self.done[n]
            if not earlier.step.commutes(step) and not earlier.before(done):
                races.append(n)
                _learn(knows, earlier)
        done = Done(number, step, dict(knows))
        self.done.append(done)
        for n in races:
            rest = [later for later in self.done[n + 1 : -1] if not self.done[n].before(later)] + [done]
            firsts = {later.number: later for later in reversed(rest)}
            initials = [i for i, first in firsts.items() if not any(r.before(first) for r in rest[: rest.index(first)])]
            self.path[n].reverse(initials)
