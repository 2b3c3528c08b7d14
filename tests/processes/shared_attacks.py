"""What strangers, impostors, strange reasons and strange programs do to a SharedEvent: see programs.py.

These programs know nothing of how the processes talk: they find a home from outside, as any other program of the machine does.
"""

import ctypes
import enum
import errno
import logging
import multiprocessing
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from helpers import TIMEOUT, until
from programs import KILLED, Programs, context, joined, received, run, waiting, waits

from fastevent import SharedEvent
from fastevent._time import SECOND
from fastevent.shared import _follower, _home, _hub, _place, _reach

ATTACKS = Programs()


class Logged(logging.Handler):
    """Counts what the package logs, and keeps it off stderr."""

    def __init__(self):
        super().__init__()
        self.messages = []
        logger = logging.getLogger("fastevent")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record):
        self.messages.append(record.getMessage())


# Where a home is, seen from outside


def addresses_of(pid):
    """Return where a process listens: paths, abstract names, or hosts and ports."""
    inodes = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            inodes.add(os.readlink(f"/proc/{pid}/fd/{descriptor}").removeprefix("socket:[").removesuffix("]"))
    found = []
    with open("/proc/net/unix", errors="surrogateescape") as file:
        for fields in map(str.split, list(file)[1:]):
            if fields[3] == "00010000" and fields[6] in inodes and len(fields) > 7:
                found.append("\0" + fields[7][1:] if fields[7].startswith("@") else fields[7])
    with open("/proc/net/tcp") as file:
        for fields in map(str.split, list(file)[1:]):
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(("127.0.0.1", int(fields[1].split(":")[1], 16)))
    return found


def connected(address):
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(TIMEOUT)
    sock.connect(address)
    return sock


def listening(address):
    if not isinstance(address, str):
        return socket.create_server(address)
    with suppress(FileNotFoundError, ValueError):
        os.unlink(address)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(address)
    sock.listen(50)
    return sock


# Strangers


def home_on_small_stacks(size, connection):
    with suppress(ValueError):  # of an interpreter that allows no stack as small
        threading.stack_size(size)
    event = SharedEvent()
    connection.send(pickle.dumps(event))
    event.wait(TIMEOUT)
    connection.send(event.reason)


@ATTACKS.under_fork
def no_line_of_a_stranger_ends_a_home():
    """On threads with the smallest stacks: nested in any way, complete or not, long or short."""
    lines = [
        text * (60_000 // len(text)) + end
        for text in (b"[", b'{"a":', b"{", b"[{", b'"\\"', b"x ", b"9")
        for end in (b"\n", b"")
    ]
    lines += [b"[" * 1_000 + b"\n", b'{"nonce": ' * 90 + b"\n", b"set 1 {}\n", b"\n" * 60_000, b"\0\n" * 30_000]
    for size in (32_768, 65_536, 262_144):
        here, there = context().Pipe()
        process = run(home_on_small_stacks, size, there)
        ticket = received(here)
        for line in lines:
            for address in addresses_of(process.pid):
                with connected(address) as sock, suppress(OSError):
                    sock.sendall(line)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(10_000):
                        pass
        pickle.loads(ticket).set("it lives")
        assert received(here) == "it lives", size
        joined(process)


@ATTACKS.under_fork
def a_flood_of_strangers_delays_nobody_who_is_believed():
    event, late = SharedEvent(), SharedEvent()
    (process, connection), *_ = waiting((waits, event))
    flooding = context().Process(target=floods, args=(addresses_of(os.getpid()),))
    flooding.start()
    try:
        time.sleep(0.3)
        (newcomer, its_end), *_ = waiting((waits, late))
        event.set("go")
        assert received(connection) == "go"
        late.set("too")
        assert received(its_end) == "too"
    finally:
        flooding.kill()
    joined(process, newcomer)
    joined(flooding, code=-signal.SIGKILL)


def floods(addresses):
    while True:
        socks = []
        for _ in range(200):
            sock = socket.socket(socket.AF_UNIX if isinstance(addresses[0], str) else socket.AF_INET)
            sock.setblocking(False)
            with suppress(OSError):
                sock.connect(addresses[0])
                sock.send(b"hello\n")
            socks.append(sock)
        for sock in socks:
            sock.close()


# Impostors


def makes_and_stays(connection):
    event = SharedEvent()
    connection.send(event)
    received(connection)


def follows(event, connection):
    Logged()
    connection.send("here")
    connection.send(event.wait(3 * TIMEOUT) and event.reason)


def impostor_serves(answer):
    """Have a program at the address of a home that was killed. Return what a follower says, and which process the home was."""
    Logged()
    here, there = context().Pipe()
    home = run(makes_and_stays, there)
    event = received(here)
    its_end, end = context().Pipe()
    follower = run(follows, event, end)
    assert received(its_end) == "here"
    secret = "the password of the data base"
    mine = event
    time.sleep(0.3)
    os.kill(follower.pid, signal.SIGSTOP)
    addresses = addresses_of(home.pid)
    home.kill()
    home.join(TIMEOUT)
    servers = [listening(address) for address in addresses]
    heard, socks = bytearray(), []
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            ready, _, _ = select.select([*servers, *socks], [], [], 0.05)
            for each in ready:
                if each in servers:
                    sock, _ = each.accept()
                    socks.append(sock)
                    with suppress(OSError):
                        sock.sendall(answer)
                else:
                    try:
                        data = each.recv(65_536)
                    except OSError:
                        data = b""
                    heard.extend(data)
                    if not data:
                        socks.remove(each)
                        each.close()

    thread = threading.Thread(target=serve)
    thread.start()
    os.kill(follower.pid, signal.SIGCONT)
    time.sleep(0.5)
    mine.set(secret)
    said = received(its_end)
    stop.set()
    thread.join(TIMEOUT)
    for each in [*servers, *socks]:
        each.close()
    joined(follower)
    assert said, "never set"
    assert secret.encode() not in heard, bytes(heard)
    return said, home.pid


@ATTACKS.under_fork
def a_silent_impostor_is_given_up():
    said, pid = impostor_serves(b"")
    assert said == f"process {pid}, which made it, is gone", said


@ATTACKS.under_fork
def an_impostor_that_talks_is_given_up():
    for answer in (
        b"hello\n",
        b"[" * 60_000 + b"\n",
        os.urandom(1_000),
        b"\n" * 10_000,
        b'{"proof": "no"}\n{"set": 1}\nset 1 {}\n',
    ):
        said, pid = impostor_serves(answer)
        assert said == f"process {pid}, which made it, is gone", said


def passes_on(path, name, connection):
    """Listen at the path in place of the home, and connect each follower to the home by its name. Send what is heard."""
    server, links, heard = listening(path), {}, bytearray()
    connection.send("listens")
    while not connection.poll():
        for each in select.select([server, *links], [], [], 0.05)[0]:
            if each is server:
                here, there = server.accept()[0], connected(name)
                links[here], links[there] = there, here
                continue
            with suppress(OSError):
                data = each.recv(65_536)
                heard += data
                links[each].sendall(data)
                if data:
                    continue
            other = links.pop(each)
            links.pop(other, None)
            each.close()
            other.close()
    for each in (server, *links):
        each.close()
    connection.send(bytes(heard))


@ATTACKS.under_fork
def a_stranger_between_follower_and_home_learns_and_keeps_nothing():
    logged, event, secret = Logged(), SharedEvent(), "the password of the data base"
    path, name = sorted(addresses_of(os.getpid()), reverse=True)
    shutil.rmtree(os.path.dirname(path))
    os.mkdir(os.path.dirname(path))
    here, there = context().Pipe()
    stranger = run(passes_on, path, name, there)
    assert received(here) == "listens"
    (process, connection) = waiting((waits, event))[0]
    event.set(secret)
    assert received(connection) == secret
    here.send("end")
    heard = received(here)
    assert b"greet" in heard and not any(word in heard for word in (b"prove", b"follow", secret.encode()))
    joined(process, stranger)
    assert not logged.messages


# Reasons


class Proxy:
    """As that of werkzeug outside a request."""

    @property
    def __class__(self):
        raise RuntimeError("working outside of request context")


class Lies:
    @property
    def __class__(self):
        return dict


class Unnamed(enum.Enum):
    A = 1

    @property
    def name(self):
        raise ValueError("no name")


class Exits(enum.Enum):
    A = 1

    @property
    def name(self):
        raise SystemExit


class Text(str):
    def __str__(self):
        raise ValueError("no text")

    def __len__(self):
        raise ValueError("no length")

    def __getitem__(self, key):
        raise ValueError("no part")


class Interrupts:
    def __str__(self):
        raise KeyboardInterrupt


class NoText:
    def __str__(self):
        return 5  # noqa: PLE0307


class Broken(dict):
    def items(self):
        raise OSError("no items")

    def values(self):
        raise OSError("no values")

    def __iter__(self):
        raise OSError("no keys")

    def __repr__(self):
        raise OSError("no text")


class Meta(type):
    @property
    def __name__(cls):
        raise ValueError("no name")

    def __repr__(cls):
        raise ValueError("no text")


class Strange(metaclass=Meta):
    def __repr__(self):
        raise ValueError("no text")


class Late(TimeoutError):
    def __str__(self):
        raise ValueError("no text")


def nested(depth, wrap):
    reason = []
    for _ in range(depth):
        reason = wrap(reason)
    return reason


def strange_reasons():
    wraps = [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}, lambda inner: [[], {"b": [inner]}, 1]]
    objects = [Proxy(), Lies(), Unnamed.A, Exits.A, Text("x"), Interrupts(), NoText(), Broken(a=1), Strange(), Strange, Late()]
    numbers = [10**641, -(10**1_000), [10**4_000], {"n": 10**700}, 10**640 - 1, float("inf"), [float("nan")], 1e400]
    deep = [nested(depth, wrap) for depth in (15, 16, 17, 31, 32, 33, 99, 100, 101, 990) for wrap in wraps]
    texts = ["[" * 3_000, "{" * 3_000, '\\"' * 1_500, "\ud800", "\n", " ", "", "\0", "\n" * 3_000, "🏴" * 5_000]
    large = [["[" * 50] * 50, [{}] * 1_000, {"a": [[]] * 300}, ["🏴"] * 1_000]
    keys = [{1: 2}, {None: 1}, {(1, 2): 3}, {"\ud800": 1}, {Proxy: 1}]
    others = [{1, 2}, b"\xff", memoryview(b"x"), range(10), object(), sys, [Proxy()], [Unnamed.A], [Broken(a=1)]]
    return objects + numbers + deep + texts + large + keys + others


def gets(tickets, digits, size, connection):
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(digits)
    if size:
        with suppress(ValueError):
            threading.stack_size(size)
    events = [pickle.loads(ticket) for ticket in tickets]
    connection.send("here")
    deadline = time.monotonic() + TIMEOUT
    connection.send([rank for rank, event in enumerate(events) if not event.wait(max(0, deadline - time.monotonic()))])


@ATTACKS.under_fork
def no_reason_prevents_a_set():
    """Neither on its way to followers, nor on its way to the home, nor in a ticket."""
    Logged()
    sys.setrecursionlimit(20_000)
    reasons = strange_reasons()
    for digits, size in ((640, 0), (0, 65_536)):
        events = [SharedEvent() for _ in reasons]
        here, there = context().Pipe()
        process = run(gets, [pickle.dumps(event) for event in events], digits, size, there)
        assert received(here) == "here"
        set_all(events, reasons)
        lost = received(here)
        assert not lost, [(rank, type(reasons[rank])) for rank in lost]
        joined(process)
        late, there = context().Pipe()
        process = run(gets, [pickle.dumps(event) for event in events], digits, size, there)
        assert received(late) == "here"
        lost = received(late)
        assert not lost, [(rank, type(reasons[rank])) for rank in lost]
        joined(process)


def set_all(events, reasons):
    for event, reason in zip(events, reasons, strict=True):
        with suppress(KeyboardInterrupt, SystemExit):
            event.set(reason)
        assert event.is_set() and event.reason is reason


def sets_strangely(tickets, connection):
    Logged()
    sys.setrecursionlimit(20_000)
    set_all(list(map(pickle.loads, tickets)), strange_reasons())
    connection.send("done")


@ATTACKS.under_fork
def no_reason_of_a_follower_prevents_a_set():
    events = [SharedEvent() for _ in strange_reasons()]
    here, there = context().Pipe()
    process = run(sets_strangely, [pickle.dumps(event) for event in events], there)
    assert received(here) == "done"
    deadline = time.monotonic() + TIMEOUT
    lost = [rank for rank, event in enumerate(events) if not event.wait(max(0, deadline - time.monotonic()))]
    assert not lost, [(rank, type(strange_reasons()[rank])) for rank in lost]
    joined(process)


@ATTACKS.under_fork
def a_deep_reason_is_sent_from_a_small_stack():
    deep = [nested(depth, wrap) for depth in (10, 40, 1_000) for wrap in (lambda inner: [inner], lambda inner: {"a": inner})]
    for size in (32_768, 65_536, 131_072):
        with suppress(ValueError):
            threading.stack_size(size)
        for reason in deep:
            event = SharedEvent()
            thread = threading.Thread(target=event.set, args=(reason,))
            thread.start()
            thread.join(TIMEOUT)
            assert event.is_set()


# Nothing is set that nobody set


def answers_late(ticket, connection):
    event = pickle.loads(ticket)
    connection.send("here")
    received(connection)
    connection.send((event.is_set(), event.reason))
    received(connection)
    connection.send((event.wait(TIMEOUT), event.reason))


@ATTACKS.under_fork
def many_sets_set_no_other_event():
    """An event that is held by another process alone, one that is in a queue, and the set ones that are forgotten."""
    held, queued, known = (pickle.dumps(SharedEvent()) for _ in range(3))
    first_event = SharedEvent()
    first_set = pickle.dumps(first_event)
    first_event.set("long ago")
    del first_event
    first, there = context().Pipe()
    process = run(answers_late, held, there)
    assert received(first) == "here"
    between = []
    for rank in range(70_000):
        event = SharedEvent()
        if rank % 7_000 == 0:
            between.append(pickle.dumps(event))
        else:
            event.set()
        del event
    second, there = context().Pipe()
    newcomer = run(answers_late, queued, there)
    assert received(second) == "here"
    others = [pickle.loads(ticket) for ticket in between]
    time.sleep(0.3)
    assert not any(event.is_set() for event in others)
    for connection in (first, second):
        connection.send("?")
        assert received(connection) == (False, None)
    assert not pickle.loads(known).is_set()
    assert pickle.loads(first_set).is_set()
    pickle.loads(held).set("now")
    pickle.loads(queued).set("now")
    for connection in (first, second):
        connection.send("?")
        assert received(connection)[0]
    joined(process, newcomer)


# Arriving


def loads_all(ticket, seconds, connection):
    sys.setswitchinterval(1e-5)
    errors, stop = [], time.monotonic() + seconds

    def load():
        try:
            while time.monotonic() < stop and not errors:
                pickle.loads(ticket)
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.send(errors)


@ATTACKS.under_fork
def an_event_arrives_while_another_thread_drops_it():
    event = SharedEvent()
    here, there = context().Pipe()
    process = run(loads_all, pickle.dumps(event), 3, there)
    assert received(here) == []
    joined(process)


class Job(SharedEvent):
    kind = "job"

    def __init__(self, number, **options):
        super().__init__(**options)
        self.number = number

    def cancel(self):
        self.set("cancelled")


class Answers(SharedEvent):
    def __getattr__(self, name):
        raise RuntimeError(f"asked for {name}")


class Slotted(SharedEvent):
    __slots__ = ("size",)


def describes(events, connection):
    job, slotted = events
    connection.send((type(job).__name__, job.number, job.name, job.timeout, type(slotted).__name__, slotted.size))
    job.cancel()


@ATTACKS.every_method
def a_subclass_arrives_as_itself():
    job, slotted = Job(42, timeout=60, name="x"), Slotted()
    slotted.size = 7
    here, there = context().Pipe()
    process = run(describes, [job, slotted], there)
    assert received(here) == ("Job", 42, "x", 60, "Slotted", 7)
    assert job.wait(TIMEOUT) and job.reason == "cancelled"
    assert pickle.loads(pickle.dumps(job)) is job and job.number == 42
    answers = Answers()
    assert pickle.loads(pickle.dumps(answers)) is answers
    joined(process)


# Descriptors


def foreign():
    """Return sockets of a program that has them where others were."""
    pairs = [socket.socketpair() for _ in range(6)]
    ends = [end for pair in pairs for end in pair]
    for end in ends:
        end.setblocking(False)
    return ends


def heard_by(ends):
    """Return what has been written into these sockets, and close them."""
    heard = []
    for end in ends:
        with suppress(BlockingIOError):
            heard.append(end.recv(1_000))
    for end in ends:
        end.close()
    return heard


def close_all_but(connection):
    """Close all descriptors, as daemons do, but those of the program's own pipe and of its output."""
    kept = {0, 1, 2, connection.fileno()}
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in kept:
            with suppress(OSError):
                os.close(descriptor)


def daemon(made_before, connection):
    logged = Logged()
    before = [SharedEvent() for _ in range(made_before)]
    time.sleep(0.2 * made_before)
    close_all_but(connection)
    ends = foreign()
    event = SharedEvent()
    (process, its_end), *_ = waiting((waits, event))
    time.sleep(0.3)
    for each in before:
        each.set("earlier")
    event.set("stop")
    reason = received(its_end)
    process.join(TIMEOUT)
    connection.send((reason, heard_by(ends), len(logged.messages) < 5 or logged.messages[:5]))
    connection.recv()


def daemon_of(made_before):
    here, there = context().Pipe()
    process = run(daemon, made_before, there)
    said = received(here)
    assert said == ("stop", [], True), said
    here.send("end")
    joined(process)


@ATTACKS.under_fork
def a_daemon_that_has_closed_its_descriptors_makes_events():
    daemon_of(0)


@ATTACKS.under_fork
def a_daemon_that_closes_the_descriptors_of_an_event_makes_others():
    daemon_of(2)


def child_without_descriptors(event, connection):
    time.sleep(0.2)  # no thread can know its descriptors while another one closes and replaces them
    close_all_but(connection)
    ends = foreign()
    connection.send("here")
    reason = event.wait(TIMEOUT) and event.reason
    connection.send((reason, heard_by(ends)))


@ATTACKS.under_fork
def a_child_that_has_closed_its_descriptors_hears_of_a_set():
    Logged()
    event = SharedEvent()
    here, there = context().Pipe()
    process = run(child_without_descriptors, event, there)
    assert received(here) == "here"
    event.set("go")
    said = received(here)
    assert said == ("go", []), said
    joined(process)


def closes_sets_and_exits(event, connection):
    event.is_set()
    time.sleep(0.2)  # it is connected
    close_all_but(connection)
    _ends = foreign()
    event.set("last")
    os._exit(0)


@ATTACKS.under_fork
def a_worker_closes_its_descriptors_sets_and_exits_at_once():
    for _ in range(5):
        event = SharedEvent()
        _, there = context().Pipe()
        process = run(closes_sets_and_exits, event, there)
        assert event.wait(TIMEOUT) and event.reason == "last"
        joined(process)


def home_loses_what_is_under_way(connection):
    """Its thread is held up, as by the machine, until its descriptors are closed: with a set in one of them."""
    Logged()
    event, gate = SharedEvent(), threading.Event()
    connection.send(event)
    assert received(connection) == "connected"
    _hub.hub().loop.post(gate.wait)
    connection.send("now")
    assert received(connection) == "set"
    close_all_but(connection)
    gate.set()
    connection.send(event.wait(TIMEOUT) and event.reason)


@ATTACKS.every_method
def a_set_under_way_to_descriptors_that_are_closed_arrives():
    """Though the process that has set the event no longer holds it."""
    Logged()
    here, there = context().Pipe()
    process = run(home_loses_what_is_under_way, there)
    event = received(here)
    until(lambda: any(connection.is_trusted for connection in _hub.hub().homes.values()))
    here.send("connected")
    assert received(here) == "now"
    event.set("under way")
    del event
    here.send("set")
    assert received(here) == "under way"
    joined(process)


def home_that_is_slow_to_listen_again(connection):
    Logged()
    _home.AFTER_CLOSING = SECOND // 2
    event = SharedEvent()
    connection.send(event)
    assert received(connection) == "connected"
    time.sleep(0.2)  # no thread can know its descriptors while another one closes and replaces them
    close_all_but(connection)
    connection.send("closed")
    connection.send(event.wait(TIMEOUT) and event.reason)


def sets_as_it_is_told_and_exits(event, connection):
    _follower.SEND_TIMEOUT = 10 * SECOND
    (home,) = _hub.hub().homes.values()
    until(lambda: home.is_trusted)
    connection.send("connected")
    assert received(connection) == "closed"
    until(lambda: not home.is_trusted)  # otherwise, the set may be under way to what is closed
    event.set("last")
    os._exit(0)


@ATTACKS.every_method_of_posix
def a_set_arrives_while_its_home_makes_its_sockets_again():
    """Though the process that has set the event ends at once."""
    here, there = context().Pipe()
    home = run(home_that_is_slow_to_listen_again, there)
    event = received(here)
    its_end, end = context().Pipe()
    process = run(sets_as_it_is_told_and_exits, event, end)
    here.send(received(its_end))
    its_end.send(received(here))
    assert received(here) == "last"
    joined(process, home)


def home_that_may_not_touch_its_directory(connection):
    """As one that has given up its rights."""
    logged = Logged()
    _home.RENEWAL = SECOND // 50
    os.utime = refuse
    event = SharedEvent()
    time.sleep(0.3)
    connection.send(event)
    connection.send((event.wait(TIMEOUT) and event.reason, logged.messages))


def refuse(*arguments):
    raise PermissionError(errno.EPERM, "not yours")


@ATTACKS.every_method_of_posix
def a_home_that_has_given_up_its_rights_still_listens():
    here, there = context().Pipe()
    home = run(home_that_may_not_touch_its_directory, there)
    event = received(here)
    (connection,) = _hub.hub().homes.values()
    until(lambda: connection.is_trusted)
    assert connection.proofs.address == connection.home.address  # the first one that it has
    event.set("go")
    assert received(here) == ("go", [])
    joined(home)


def waits_without_proc(event, connection):
    """As after a `chroot()`."""
    stat = os.stat
    os.stat = lambda path, *arguments, **options: (
        refuse() if str(path).startswith("/proc/") else stat(path, *arguments, **options)
    )
    shutil.rmtree(os.path.dirname(event._fe_key[0].address))
    connection.send("here")
    connection.send(event.wait(TIMEOUT) and event.reason)


@ATTACKS.under_fork
def a_process_that_sees_neither_directory_nor_proc_connects_by_name():
    if not _place.HAS_NAMES:
        return
    event = SharedEvent()
    here, there = context().Pipe()
    home = _hub.hub().own()
    process = run(waits_without_proc, event, there)
    assert received(here) == "here"
    until(lambda: len(home.followers) == 1)
    for follower in list(home.followers):
        home.loop.post(follower.on_broken)
    until(lambda: [follower for follower in home.followers if follower.address == home.home.name])
    event.set("go")
    assert received(here) == "go"
    joined(process)


# Forks


class Raised(Exception):
    pass


@ATTACKS.under_fork
def a_handler_that_raises_after_a_fork_costs_nothing():
    """A signal each few milliseconds, whose handler raises where it is: in the child only."""
    Logged()
    mine, event = os.getpid(), SharedEvent()

    def handler(*_):
        if os.getpid() != mine:
            raise Raised

    signal.signal(signal.SIGALRM, handler)
    sys.unraisablehook = lambda args: None  # for what it raises in the functions of others at a fork
    children = []
    for rank in range(60):
        pid = 0
        r, w = os.pipe()
        try:
            pid = os.fork()
            if not pid:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 * (rank + 1))
                for _ in range(20):
                    time.sleep(0.001)
        except Raised:
            pass
        if not pid and os.getpid() != mine:
            while True:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    os.write(w, b"here")
                    os._exit(not event.wait(TIMEOUT))
                except Raised:
                    pass
        children.append(pid)
        os.read(r, 10)
        os.close(r)
        os.close(w)
    event.set("go")
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert not any(codes), codes


@ATTACKS.under_fork
def a_fork_in_c_has_connections_of_its_own():
    fork = ctypes.PyDLL(None).fork
    event, back = SharedEvent(), SharedEvent()
    (other, its_end), *_ = waiting((waits, event))
    time.sleep(0.3)  # no other thread needs the interpreter then, whose own locks such a fork leaves as they are
    pid = fork()
    if not pid:
        made = SharedEvent()
        made.set("mine")
        ok = pickle.loads(pickle.dumps(made)).reason == "mine"
        back.set("from the child")
        ok = ok and event.wait(TIMEOUT) and event.reason == "go"
        os._exit(not ok)
    assert back.wait(TIMEOUT) and back.reason == "from the child"
    event.set("go")
    assert received(its_end) == "go"
    joined(other)
    assert os.waitpid(pid, 0)[1] == 0


# The end of a home


def forks_in_c_and_is_killed(connection):
    event = SharedEvent()
    connection.send(event)
    assert received(connection) == "connected"
    time.sleep(0.3)  # as above
    pid = ctypes.PyDLL(None).fork()
    if not pid:
        time.sleep(4 * TIMEOUT)
        os._exit(0)
    connection.send(pid)
    os.kill(os.getpid(), signal.SIGKILL)


@ATTACKS.under_fork
def a_home_is_gone_though_its_fork_in_c_keeps_its_sockets():
    _reach.LOOK, _reach.PROOF_TIMEOUT = SECOND // 2, SECOND // 2
    here, there = context().Pipe()
    home = run(forks_in_c_and_is_killed, there)
    event = received(here)
    until(lambda: any(connection.is_trusted for connection in _hub.hub().homes.values()))
    here.send("connected")
    pid = received(here)
    try:
        assert event.wait(TIMEOUT)
        assert event.reason == f"process {home.pid}, which made it, is gone"
    finally:
        os.kill(pid, signal.SIGKILL)
    joined(home, code=KILLED)


def follower_in_fork(event, w):
    pid = os.fork()
    if not pid:
        os.write(w, b"h")
        event.wait(2 * TIMEOUT)
        os.write(w, b"1" if event.reason == "go" else b"0")
        os._exit(0)
    return pid


def sets_and_exits(count, r, w, connection):
    Logged()  # on a loaded machine, a follower says that it waits
    event = SharedEvent()
    for _ in range(count):
        follower_in_fork(event, w)
    for _ in range(count):
        os.read(r, 1)
    time.sleep(1 + count / 200)
    connection.send("ready")
    event.set("go")
    os._exit(0)


def home_exits_with(count):
    r, w = os.pipe()
    here, there = context().Pipe()
    process = run(sets_and_exits, count, r, w, there)
    assert received(here) == "ready"
    joined(process)
    heard = b""
    while len(heard) < count:
        heard += os.read(r, count)
    assert heard == b"1" * count, f"{heard.count(b'0')} of {count} do not know the reason"


@ATTACKS.under_fork
def a_home_that_exits_at_once_has_told_40():
    home_exits_with(40)


@ATTACKS.under_fork
def a_home_that_exits_at_once_has_told_400():
    home_exits_with(400)


# Directories and rights


@ATTACKS.under_fork
def a_cleaned_directory_is_no_dead_home():
    event, unset = SharedEvent(), SharedEvent()
    for address in addresses_of(os.getpid()):
        if isinstance(address, str) and not address.startswith("\0"):
            shutil.rmtree(os.path.dirname(address))
    (process, connection), (other, its_end) = waiting((waits, event), (waits, unset))
    assert not its_end.poll(1)
    event.set("go")
    assert received(connection) == "go"
    unset.set("go")
    assert received(its_end) == "go"
    joined(process, other)


def gives_up_its_rights(event, connection):
    logged = Logged()
    os.setgid(65534)
    os.setuid(65534)
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    until(lambda: event.wait(0.01) or logged.messages)  # and not is_set(): on PyPy, the child notices sets once it waits
    connection.send("here")
    received(connection)
    connection.send((event.is_set() and event.reason, logged.messages))
    os._exit(0)


def said_without_rights(seconds):
    """Return the reason that such a process receives, and what it logs within that time."""
    event = SharedEvent()
    here, there = context().Pipe()
    process = run(gives_up_its_rights, event, there)
    if seconds:
        assert received(here) == "here"
        time.sleep(seconds)
    event.set("go")
    if not seconds:
        assert received(here) == "here"
    here.send("go on")
    said = received(here)
    joined(process)
    return said


@ATTACKS.under_fork
def a_process_that_may_not_connect_says_so_once():
    if os.getuid():
        return
    _place.HAS_NAMES = False
    reason, logged = said_without_rights(2)
    assert reason is False and len(logged) == 1 and "Permission denied" in logged[0], (reason, logged)


@ATTACKS.under_fork
def a_process_that_may_not_open_a_directory_connects_by_name():
    if os.getuid():
        return
    assert said_without_rights(0) == ("go", [])


if __name__ == "__main__":
    try:
        ATTACKS.main()
    except BaseException:
        for process in multiprocessing.active_children():  # which may wait for what does not come
            process.kill()
        raise
