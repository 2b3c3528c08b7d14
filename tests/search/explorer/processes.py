"""Processes that talk over sockets, as threads of one schedule: the source of `fastevent.shared` itself, over stand-ins.

Each process is a `Hub` with its home, its connections and what its thread "fastevent shared" does. Stand-ins are the sockets,
the clock, the events and the descriptors for which the thread waits. A step is what a thread of a scenario does in one process,
or a round of the thread "fastevent shared". A scenario may name a *fine* process and parts of it, as "follower follows held".
Then each access to these parts is a step there. What comes besides belongs to the step before.
"""

import errno
import os
from collections import deque
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import NamedTuple
from unittest import mock

from explorer.schedules import Schedule
from explorer.shared import SECOND, Flaw, current
from fastevent._time import NEVER
from fastevent.shared import _connection, _follower, _held, _home, _hub, _loop, _place, _reach, _sets, _wire

_NUMBERS = count(1_000)  # of descriptors


class Socket:
    """One end of a connection."""

    def __init__(self, name):
        self.name = name
        self.descriptor = next(_NUMBERS)
        self.other = None
        self.chunks = []  # what has been sent to it and is not read yet
        self.heard = b""  # all that has been sent to it
        self.is_closed = self.is_stopped = False

    def fileno(self):
        return -1 if self.is_closed else self.descriptor

    def is_readable(self):
        return bool(self.chunks) or self.is_stopped or self.other.is_closed

    def is_writable(self):
        run = current.run
        return self.other.is_closed or self.other.is_stopped or run.room is None or len(self.other.chunks) < run.room

    def send(self, data):
        current.run.touch("socket", "sends", (), {self.other.name})
        if self.other.is_closed or self.other.is_stopped:
            raise BrokenPipeError(errno.EPIPE, "the other side has ended")
        if not self.is_writable():
            raise BlockingIOError
        pieces = [data]
        if current.run.arrival == "in pieces":
            pieces = [data[: len(data) // 2], data[len(data) // 2 :]]
        elif current.run.arrival == "in part, and again":  # as if a signal handler had raised
            pieces = [data[: len(data) // 2], data]
        elif current.run.arrival == "twice":
            pieces = [data, data]
        self.other.chunks += pieces
        self.other.heard += data
        return len(data)

    def send_all(self, data, deadline):
        self.send(data)

    def receive(self, size):
        current.run.touch("socket", "receives", (), {self.name})
        if self.chunks:
            return self.chunks.pop(0)
        if not self.is_readable():
            raise BlockingIOError
        return b""

    def error(self):
        return 0

    def stop_receiving(self):
        current.run.touch("socket", "stops receiving", (), {self.name})
        self.is_stopped = True

    def close(self):
        current.run.touch("socket", "closes", (), {self.name, self.other.name})
        self.is_closed = True


class Home(_place.Home):
    __slots__ = ()

    def addresses(self):
        return list(current.run.listening)

    def lives(self):
        return current.run.home_lives


class Listener:
    """Where the home is found is decided by `Talk.listening`."""

    def __init__(self):
        self.home = Home(os.getpid(), "", 0, (0, 0), "path", "", b"the key")
        self.sockets = {}


class Loop(_loop.Loop):
    """Its thread is one of the schedule, and sees by itself what there is to do."""

    def __init__(self):
        super().__init__(None, None)

    def wake(self):
        pass

    def safely(self, function):
        function()


def next_attempt(attempts):
    """Try again at once, unless nobody listens."""
    attempts._pause = _reach.LONGEST_PAUSE
    return current.run.now + (SECOND if attempts._refused_since < NEVER else 0)


class State(NamedTuple):
    sets: int
    is_set: bool
    reason: object


class Event:
    def __init__(self, process, key):
        self.process = process
        self._fe_key = key
        self.state = State(0, False, None)
        self.reference = _held.Reference(self)
        self.reference.key = key

    def _fe_read(self):
        return self.state

    def set(self, reason):
        run = current.run
        run.said.setdefault(self._fe_key[1], set()).add(reason)
        set_and_notify(self, reason)


def set_and_notify(event, reason, call=None):
    if event.state.is_set:
        return
    run, said = current.run, current.run.said.get(event._fe_key[1], ())
    is_gone = reason == f"{event._fe_key[0]}, which made it, is gone"
    if not (reason in said or (said and reason is None) or (is_gone and run.may_seem_gone)):
        raise Flaw(f"{event.process.name} sets event {event._fe_key[1]} for {reason!r}, which nobody has said")
    event.state = State(1, True, reason)
    _hub.notify(event.reference)


class Process(_hub.Hub):
    def __init__(self, name):
        super().__init__()
        self.name = name
        self.loop = Loop()
        self.held = Held()
        self.events = {}  # those that the program has, by number
        self.backlog = []
        self.has_exited = False
        self._rounds = count()

    def make(self):
        key = self.own().new_key()
        return self.join(Event(self, key))

    def take(self, number):
        """Make the event of a ticket, which says that it is not set."""
        return self.join(Event(self, (current.run.home.own().home, number)))

    def join(self, event):
        self.events[event._fe_key[1]] = event
        self.hold(event.reference)
        _hub.notify(event.reference)
        return event

    def drop(self, number):
        reference = self.events.pop(number).reference
        self.release(reference)

    def sockets(self):
        return [watched.socket for watched in list(self.loop.watched) if watched.socket is not None]

    def exit(self):
        """As by `os._exit()`: what was sent can still be read."""
        self.has_exited = True
        for sock in self.sockets():
            sock.close()

    def has_work(self):
        if self.has_exited:
            return False
        watched = list(self.loop.watched)
        return bool(self.backlog or self.loop.posts or self.ready()) or any(
            each.is_broken or _has_lost_its_socket(each) or each.alarm_at <= current.run.now for each in watched
        )

    def ready(self):
        ready = {}
        for each in list(self.loop.watched):
            sock = each.socket
            if sock is not None and not sock.is_closed and (sock.is_readable() or (each.is_full and sock.is_writable())):
                ready[each] = each.is_full and sock.is_writable()
        return ready

    def round(self):
        if next(self._rounds) > 200:
            raise Flaw(f"{self.name} comes to no end")
        while self.backlog:
            self.own().accepted(*self.backlog.pop(0), _wire.new_nonce())
        for each in filter(_has_lost_its_socket, list(self.loop.watched)):
            each.end()
        self.loop._do_what_there_is(self.ready())


def _has_lost_its_socket(watched):
    return watched.socket is not None and watched.socket.fileno() == -1


# What threads of a process share


def _steps(part, base, reads, writes):
    """Return a subclass of *base* in which each call of these methods is a step, where this *part* is fine."""

    def method(name, writes):
        original = getattr(base, name)

        def call(self, *arguments):
            names = {f"{part} {id(self)}"}
            current.run.touch(part, name, names, names if writes else ())
            return original(self, *arguments)

        return call

    methods = {name: method(name, False) for name in reads} | {name: method(name, True) for name in writes}
    return type(base.__name__, (base,), methods)


DICT = ["get", "__contains__"], ["setdefault", "pop", "__setitem__", "__delitem__"]
Held = _steps("held", _held.Held, ["of"], ["add", "remove"])
Follows = _steps("follows", dict, *DICT)
Causes = _steps("causes", dict, *DICT)
Holders = _steps("claim", dict, *DICT)
Outbox = _steps("outbox", deque, ["__getitem__"], ["append", "appendleft", "popleft", "extend", "clear"])


class Fine:
    """A connection whose parts may be fine."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.outbox = Outbox(self.outbox)
        self.follows = Follows(self.follows)
        self.claim._holders = Holders()

    @property
    def is_trusted(self):
        current.run.touch("trust", "is_trusted", {f"trust {id(self)}"}, ())
        return vars(self)["is_trusted"]

    @is_trusted.setter
    def is_trusted(self, value):
        if "is_trusted" in vars(self):
            current.run.touch("trust", "is_trusted = ...", (), {f"trust {id(self)}"})
        vars(self)["is_trusted"] = value


class ToHome(Fine, _follower.ToHome):
    pass


class FromFollower(Fine, _home.FromFollower):
    pass


class Talk(Schedule):
    """A home and processes that follow it. The *threads* are functions of a `Talk`; each process serves what comes, besides."""

    def __init__(self, path, begin, threads, fine="nothing", room=None, arrival="", followers=("follower",)):
        self.home = None
        self.followers = []
        serving = [self._serving(rank) for rank in range(1 + len(followers))]
        super().__init__(path, (*threads, *serving, Talk.ends))
        self._begin = begin
        self._names = followers
        self._acting = {}  # of every thread: in which process
        self._fine, *self._parts = fine.split()
        self.arrival = arrival  # how what is sent arrives
        self.room = room
        self.may_seem_gone = False
        self.is_cut_off = False  # the follower finds a stranger in place of the home
        self.now = 0
        self.home_lives = True
        self.listening = {"path": "home"}  # by address: "home", "stranger", or None
        self.strangers = []  # ends of connections that have reached one
        self.said = {}  # of every event: the reasons that were given to set()
        self.connections = count(1)

    @property
    def follower(self):
        return self.followers[0]

    def begin(self):
        self.home = Process("home")
        self.followers = [Process(name) for name in self._names]
        causes = self.home.own().causes
        if self._fine == "home":
            causes._lines, causes._forgotten._blocks, causes._forgotten._full = Causes(), Causes(), Causes()
        self._begin(self)

    def settle(self):
        """Have all processes do what there is to do, before the threads start."""
        while busy := [process for process in (self.home, *self.followers) if process.has_work()]:
            for process in busy:
                with self.acts_in(process):
                    process.round()

    @contextmanager
    def acts_in(self, process):
        before = self._acting.get(self.current)
        self._acting[self.current] = process
        yield process
        self._acting[self.current] = before

    def here(self):
        return self._acting.get(self.current) or self.home

    def move(self, what, ready=lambda: True):
        """What comes is a step of this process, up to the next one."""
        here = self.here()
        pipes = {name for sock in here.sockets() for name in (sock.name, sock.other.name)}
        if here is self.home or not pipes:
            pipes.add("backlog")
        self.step(f"{here.name}: {what}", writes={here.name, *pipes}, ready=ready)

    def touch(self, part, what, reads, writes):
        here = self.here().name
        if here == self._fine and part in self._parts and not self.is_over:
            self.step(f"{here}: {part}: {what}", reads, writes)

    def _serving(self, rank):
        def serves(run):
            process = (run.home, *run.followers)[rank]
            with run.acts_in(process):
                while True:
                    run.move("goes on", process.has_work)
                    process.round()

        return serves

    def connect(self, address):
        whose = self.listening[address]
        self.touch("socket", "connects", (), {"backlog"})
        if whose is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")
        number = next(self.connections)
        here, there = Socket(f"to follower {number}"), Socket(f"to home {number}")
        here.other, there.other = there, here
        if whose == "home":
            self.home.backlog.append((there, address))
        else:
            self.strangers.append(there)
        return here

    def pauses(self):
        """As a set() waits for another thread that is sending."""
        claims = [each.claim._holders for each in self.here().connections()]
        self.step("pauses", {f"claim {id(claim)}" for claim in claims}, ready=lambda: not any(map(len, claims)))

    def ends(self):
        self.step("the others are done", ready=lambda: self.is_quiet)

    def check_end(self, left):
        hanging = [number for number in left if self.threads[number].__name__ != "serves"]
        if hanging:
            self.error = Flaw(f"{self.names(hanging)} hangs")
        causes = self.home.own().causes
        for number in range(1, 5):
            said = self.said.get(number)
            if bool(said) != (number in causes) and not self.is_cut_off:
                self.error = Flaw(f"the home knows {causes.line(number)} of event {number}, which was set for {said}")
        for process in (self.home, *self.followers):
            for number, event in {} if process.has_exited or self.is_cut_off else process.events.items():
                said = self.said.get(number)
                if bool(said) != event.state.is_set and not self.may_seem_gone:
                    self.error = Flaw(f"{process.name} has {event.state} of event {number}, which was set for {said}")
        for stranger in self.strangers:
            words = {line[:-1].split(b" ")[0] for line in stranger.heard.split(b"\n") if line}
            if not words <= {b"greet", b"sealed"}:
                self.error = Flaw(f"a stranger has heard {stranger.heard}")


@contextmanager
def talking():
    """Have the source of `fastevent.shared` run over the stand-ins."""
    stand_ins = [
        (_hub, "hub", lambda: current.run.here()),
        (_hub, "ToHome", ToHome),
        (_home, "FromFollower", FromFollower),
        (_home, "Listener", Listener),
        (_held, "set_and_notify", set_and_notify),
        (_reach, "connect", lambda address: current.run.connect(address)),
        (_reach.Attempts, "next", next_attempt),
        (_reach.Attempts, "_log_once", lambda self, why: None),
        (_connection, "sleep", lambda seconds: current.run.pauses()),
        (_sets, "MOST_CAUSES", 1),
        (_sets, "MOST_UNTRIMMED", 0),
        (_sets.Numbers, "BLOCK", 8),
        *((module, "monotonic_ns", lambda: current.run.now) for module in (_connection, _home, _loop, _reach)),
    ]
    with ExitStack() as stack:
        for place, name, stand_in in stand_ins:
            stack.enter_context(mock.patch.object(place, name, stand_in))
        yield
