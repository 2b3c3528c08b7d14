"""Processes that hold shared events live through what befalls processes, while events are set here and there.

    PYTHONPATH=tests python tests/processes/shared_chaos.py SECONDS [SEED]

Workers make events, follow those of others, and set them. At random they are killed and stopped, fork, close all descriptors
and open others, give up their rights, exit as soon as they have set, forget events and receive them again. Some have small
stacks. Their directories are cleaned away. A stranger connects to all of them: floods, half of a line, silence.

Each set() must arrive, with its reason, at each process that lives. Nothing may be set that nobody has set. Nothing may reach
or close a descriptor that a worker has opened. No set() may take longer than 50 ms of its own thread's time. The exit code is 0
and nothing is printed if that holds; the seed is printed otherwise.
"""

import faulthandler
import logging
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from multiprocessing import resource_tracker

from helpers import TIMEOUT
from shared_attacks import addresses_of

from fastevent import Event, SharedEvent

WORKERS = 6
LONGEST_SET = 0.05  # seconds
SMALL_STACK = 32_768  # bytes
NOBODY = 65_534
METHODS = ("fork", "spawn", "forkserver")


def silence():
    """Keep off stderr what the package says about descriptors that were closed, and directories that are gone."""
    logger = logging.getLogger("fastevent")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


# What a worker does when it is asked


class Worker:
    def __init__(self, connection, has_small_stack):
        self.connection = connection
        self.has_small_stack = has_small_stack
        self.events = {}
        self.foreign = []

    def make(self, name):
        self.events[name] = SharedEvent(name=name)
        return self.events[name]

    def hold(self, tickets):
        self.events.update({name: pickle.loads(ticket) for name, ticket in tickets.items()})

    def forget(self, names):
        for name in names:
            self.events.pop(name, None)

    def set(self, name, reason):
        if self.has_small_stack:
            thread = threading.Thread(target=self.events[name].set, args=(reason,))
            thread.start()
            thread.join()
        else:
            self.events[name].set(reason)

    def set_and_exit(self, name, reason):
        self.events[name].set(reason)
        os._exit(0)

    def set_and_be_killed(self, name, reason):
        self.events[name].set(reason)
        os.kill(os.getpid(), signal.SIGKILL)

    def reasons(self, names):
        """Wait until these events are set."""
        deadline = time.monotonic() + TIMEOUT
        for rank, name in enumerate(names):
            event = self.events[name]
            if rank % 2:
                event.wait(max(0, deadline - time.monotonic()))
            while not event.is_set() and time.monotonic() < deadline:
                time.sleep(0.001)
        return {name: self.state(name) for name in names}

    def state(self, name):
        event = self.events[name]
        return event.reason if event.is_set() else "not set"

    def states(self, names):
        return {name: self.state(name) for name in names}

    def close_descriptors(self, how):
        """Close all, as a daemon does, and open others, which get the same numbers."""
        time.sleep(0.2)  # no thread can make a descriptor and know it while another one closes and replaces all
        kept = {0, 1, 2, self.connection.fileno(), *(end.fileno() for end in self.foreign)}
        kept.add(resource_tracker._resource_tracker._fd)  # which `multiprocessing` closes after a fork
        for descriptor in sorted(map(int, os.listdir("/proc/self/fd")), reverse=how == "downwards"):
            if descriptor not in kept:
                with suppress(OSError):
                    os.close(descriptor)
        for end in (end for _ in range(8) for end in socket.socketpair()):
            end.setblocking(False)
            self.foreign.append(end)

    def foreign_descriptors_are_untouched(self):
        """Return whether they are still open, and nothing but what is written here comes in."""
        for here, there in zip(self.foreign[::2], self.foreign[1::2], strict=True):
            for end, other in ((here, there), (there, here)):
                end.send(b"mine")
                if other.recv(100) != b"mine":
                    return False
        return True

    def give_up_rights(self):
        if not os.getuid():
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    def fork(self):
        """The child goes on in place of this process, which lives as long as the child."""
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)
        if sys.implementation.name == "pypy":  # where a child of a bare fork notices sets from its first wait on
            Event().wait(0.001)
        return os.getpid()


def works(connection, has_small_stack):
    faulthandler.enable()
    silence()
    if has_small_stack:
        with suppress(ValueError):  # of an interpreter that allows no stack as small
            threading.stack_size(SMALL_STACK)
    worker = Worker(connection, has_small_stack)
    with suppress(EOFError, ConnectionError):
        while True:
            what, *arguments = connection.recv()
            connection.send(getattr(worker, what)(*arguments))
    os._exit(0)


# A stranger


def annoys(connection, seed):
    """Connect to those that listen, and behave in each bad way."""
    randomness, open_ones, pids = random.Random(seed), [], []
    while True:
        if connection.poll(randomness.random() / 20):
            pids = connection.recv()
        addresses = []
        with suppress(OSError):
            found = addresses_of(randomness.choice(pids)) if pids else []
            addresses = [address for address in found if "fastevent" in address]  # and not those of `multiprocessing`
        for _ in range(randomness.choice([1, 1, 5, 100])):
            for address in addresses:
                sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
                sock.setblocking(False)
                with suppress(OSError):
                    sock.connect(address)
                    sock.send(
                        randomness.choice([b"", b"greet ", b"\n", b"x" * 5_000, b"[" * 60_000, b"set 1 {}\n", os.urandom(300)])
                    )
                open_ones.append(sock)
        while len(open_ones) > 150:
            open_ones.pop(randomness.randrange(len(open_ones))).close()


# The one that asks


class Handle:
    """A worker, seen from here."""

    def __init__(self, method, has_small_stack):
        context = multiprocessing.get_context(method)
        self.connection, there = context.Pipe()
        self.process = context.Process(target=works, args=(there, has_small_stack), daemon=True)
        self.process.start()
        self.pids = [self.process.pid]
        self.is_stopped = False
        there.close()

    def __repr__(self):
        return f"<{' > '.join(map(str, self.pids))}>"

    @property
    def pid(self):
        return self.pids[-1]

    def ask(self, what, *arguments):
        self.connection.send((what, *arguments))

    def answer(self, what=""):
        assert self.connection.poll(1.5 * TIMEOUT), f"{self} does not answer: {what}"
        return self.connection.recv()

    def do(self, what, *arguments):
        self.ask(what, *arguments)
        return self.answer(what)

    def fork(self):
        self.pids.append(self.do("fork"))

    def signal(self, number):
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        self.is_stopped = number == signal.SIGSTOP

    def end(self):
        self.signal(signal.SIGKILL)
        self.process.join(TIMEOUT)
        self.connection.close()


class Chaos:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.counts = Counter()  # of what has been done, for who wants to know
        self.history = []  # of the present round
        #: Processes that have closed their descriptors in this round, with what was under way to them, and those that have set
        #: events of theirs since: they live until they can say so again.
        self.closed = set()
        self.spared = set()
        self.slowest = 0.0
        self.never = {}  # by name: an event that nobody sets, and the process that made it
        self.mine = SharedEvent(name="never")
        self.never["never"] = self.mine, os.getpid()
        self.connection, there = multiprocessing.Pipe()
        self.stranger = multiprocessing.get_context("fork").Process(target=annoys, args=(there, seed), daemon=True)
        self.stranger.start()
        self.workers = []
        for rank in range(WORKERS):
            self.hire(METHODS[rank % 3], rank < 2)

    def note(self, what, *about):
        self.counts[what] += 1
        self.history.append(f"{what} {about}")

    def hire(self, method, has_small_stack):
        worker = Handle(method, has_small_stack)
        self.workers.append(worker)
        worker.do("hold", {name: pickle.dumps(event) for name, (event, _) in self.never.items()})
        name = f"never {worker.pid}"
        event = worker.do("make", name)
        self.never[name] = event, worker.pid
        for other in self.workers:
            other.do("hold", {name: pickle.dumps(event)})
        self.show_strangers()
        return worker

    def show_strangers(self):
        self.connection.send([os.getpid(), *(worker.pid for worker in self.workers)])

    def round(self, number):
        self.history = [f"round {number}"]
        self.closed.clear()
        self.spared.clear()
        for worker in self.workers:
            if self.random.random() < 0.2:
                self.disturb(worker)
        events = {f"{number}.{rank}": self.make(f"{number}.{rank}") for rank in range(self.random.randint(1, 6))}
        tickets = {name: pickle.dumps(event) for name, (event, _) in events.items()}
        for worker in self.workers:
            worker.ask("hold", tickets)
        for worker in self.workers:
            worker.answer("hold")
        for worker in self.workers:
            if self.random.random() < 0.1:
                self.disturb(worker)
        for worker in self.some(1):
            worker.signal(signal.SIGSTOP)
            self.note("stopped", worker)
        ended = {}  # workers that are no more, for a round
        expected = {name: self.set(name, event, home, ended) for name, (event, home) in events.items()}
        for worker in set(self.some(2)) - self.spared if self.random.random() < 0.3 else ():
            worker.signal(signal.SIGKILL)
            ended[worker] = None
            self.note("killed", worker)
        for worker in ended:
            self.workers.remove(worker)
            worker.end()
        for worker in self.workers:
            if worker.is_stopped:
                worker.signal(signal.SIGCONT)
        self.check(events, expected, tickets, {pid for worker in ended for pid in worker.pids})
        for worker in self.workers:
            worker.ask("forget", list(events))
        for worker in self.workers:
            worker.answer("forget")
        for _ in ended:
            self.hire(self.random.choice(METHODS), self.random.random() < 0.3)

    def some(self, most):
        count = self.random.randint(0, most)
        return self.random.sample([worker for worker in self.workers if not worker.is_stopped], count)

    def disturb(self, worker):
        what = self.random.choice(["close_descriptors", "give_up_rights", "fork", "clean"])
        self.note(what, worker)
        if what == "fork":
            if len(worker.pids) < 4:
                worker.fork()
        elif what == "close_descriptors":
            self.closed.add(worker.pid)
            self.connection.send([])  # no stranger comes meanwhile
            worker.do("close_descriptors", self.random.choice(["upwards", "downwards"]))
            self.show_strangers()
        elif what == "give_up_rights":
            worker.do("give_up_rights")
        else:
            self.clean()

    def clean(self):
        """Remove what a cleaner of directories finds old: a directory, or what is in it."""
        root = tempfile.gettempdir()
        for name in [name for name in os.listdir(root) if name.startswith("fastevent-")]:
            if self.random.random() < 0.3:
                path = os.path.join(root, name)
                shutil.rmtree(path, ignore_errors=True)
                if self.random.random() < 0.3:
                    with suppress(OSError):
                        os.mkdir(path, 0o700)

    def make(self, name):
        """Return an event, and the process that has made it."""
        home = self.random.choice([None, None, *self.workers])
        if home is None:
            return SharedEvent(name=name), os.getpid()
        return home.do("make", name), home.pid

    def set(self, name, event, home, ended):
        """Set the event, or do not. Return the reason."""
        reason = self.random.choice([name, {"why": [name] * 5}, name * 500])
        able = [worker for worker in self.workers if not worker.is_stopped and worker not in ended]
        setter = self.random.choice([None, *able])
        if self.random.random() < 0.2:
            return "not set"
        if setter is None:
            self.note("set here", name, home)
            # By this thread's own time: on a loaded machine another process may have the processor meanwhile.
            before = time.thread_time()
            event.set(reason)
            self.slowest = max(self.slowest, time.thread_time() - before)
            return reason
        ways = ["set"] * 8
        if home in self.closed:
            self.spared.add(setter)
        elif setter not in self.spared and not any(worker.is_stopped and home in worker.pids for worker in self.workers):
            ways += ["set_and_exit", "set_and_be_killed"]
        way = self.random.choice(ways)
        self.note(way, setter, name, home)
        setter.ask(way, name, reason)
        if way == "set":
            setter.answer(way)
        else:
            setter.process.join(TIMEOUT)
            ended[setter] = None
        return reason

    def check(self, events, expected, tickets, dead):
        everything = {**events, **self.never}
        gone = {name: f"process {home}, which made it, is gone" for name, (_, home) in everything.items() if home in dead}
        sets = [name for name in everything if name in gone or expected.get(name, "not set") != "not set"]
        unset = [name for name in everything if name not in sets]
        for worker in self.workers:
            worker.ask("states", unset)
        for worker in self.workers:
            states = worker.answer("what is not set")
            assert set(states.values()) <= {"not set"}, f"{worker}: nobody has set {states}"
        for worker in self.workers:
            worker.ask("reasons", sets)
        for worker in self.workers:
            self.check_reasons(worker, worker.answer("what is set"), expected, gone)
        mine = Worker(None, False)
        mine.events = {name: event for name, (event, _) in everything.items()}
        self.check_reasons("this process", mine.reasons(sets), expected, gone)
        assert set(mine.states(unset).values()) <= {"not set"}, f"nobody has set {mine.states(unset)}"
        names = [name for name in events if name not in gone]
        for worker in self.some(1):
            worker.do("forget", names)
            worker.do("hold", {name: tickets[name] for name in names})
            self.check_reasons(worker, worker.do("reasons", [name for name in names if name in sets]), expected, gone)
        for worker in self.workers:
            assert worker.do("foreign_descriptors_are_untouched"), f"{worker}: a foreign descriptor was touched"
        for name in set(gone) & set(self.never):
            del self.never[name]
            for worker in self.workers:
                worker.do("forget", [name])

    def check_reasons(self, who, states, expected, gone):
        for name, state in states.items():
            right = [reason for reason in (expected.get(name), gone.get(name)) if reason not in (None, "not set")]
            assert state in right, f"{who}: {name} is {state!r}, and not one of {right!r}"

    def end(self):
        self.stranger.kill()
        self.stranger.join(TIMEOUT)
        for worker in self.workers:
            worker.end()


def chaos(seconds, seed):
    everything = Chaos(seed)
    end, rounds = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < end:
            rounds += 1
            everything.round(rounds)
    except BaseException:
        print(*everything.history, sep="\n")
        raise
    everything.end()
    assert everything.slowest < LONGEST_SET, f"a set() took {everything.slowest:.3f} s"
    return rounds, everything.counts


if __name__ == "__main__":
    silence()
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    try:
        rounds, counts = chaos(seconds, seed)
        assert rounds > seconds / 20, f"only {rounds} rounds"
        if os.environ.get("VERBOSE"):
            print(rounds, "rounds;", *(f"{what} {count}" for what, count in sorted(counts.items())))
    except BaseException:
        print("seed", seed)
        for process in multiprocessing.active_children():
            process.kill()
        raise
