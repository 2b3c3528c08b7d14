"""What goes wrong around a SharedEvent, beside what `faults/processes.py` has for any event: see programs.py."""

import _socket
import gc
import logging
import os
import pickle
import select
import signal
import socket
import threading
from itertools import count

from helpers import TIMEOUT, SignalAt, interrupt, until
from programs import KILLED, Programs, address, context, joined, received, run, waiting, waits

from fastevent import Event, SharedEvent
from fastevent.shared import _connection, _event, _follower, _held, _home, _hub, _place, _reach, _sets, _sockets, _wire

FAULTS = Programs()


# Faults


def counts_set(events, connection):
    connection.send(len(events))
    connection.send(sum(event.wait(TIMEOUT) for event in events))


@FAULTS.under_fork
def a_stopped_follower_is_remembered_only_so_far():
    """It connects again when it goes on."""
    _connection.MOST_LINES = 100
    events = [SharedEvent() for _ in range(2_000)]
    here, there = context().Pipe()
    process = run(counts_set, events, there)
    received(here)
    until(lambda: [len(follower.follows) for follower in _hub.hub().own().followers] == [len(events)])
    os.kill(process.pid, signal.SIGSTOP)
    for event in events:
        event.set()
    until(lambda: not _hub.hub().own().followers)
    os.kill(process.pid, signal.SIGCONT)
    assert received(here) == len(events)
    joined(process)


def waits_for_its_own(connection):
    event = SharedEvent()
    connection.send_bytes(pickle.dumps(event))
    event.wait(TIMEOUT)
    connection.send(event.reason)


@FAULTS.one_method
def a_set_arrives_though_the_event_is_released_and_arrives_again():
    """At the same moment, by other threads: one releases an earlier object, and one finds the new one and sets it."""
    here, there = context().Pipe()
    process = run(waits_for_its_own, there)
    assert here.poll(TIMEOUT)
    ticket = here.recv_bytes()
    earlier, hub = pickle.loads(ticket), _hub.hub()
    (home,) = hub.homes.values()
    until(lambda: home.is_trusted)

    def add(reference):
        home.drop(reference.key[1])
        _held.Held.add(hub.held, reference)
        reference().set("found")

    del earlier
    gc.collect()  # on PyPy, it is freed by this alone
    hub.held.add = add
    assert pickle.loads(ticket).reason == "found"
    assert received(here) == "found"
    joined(process)


def home_of_many(count, connection):
    events = [SharedEvent() for _ in range(count)]
    connection.send([pickle.dumps(event) for event in events])
    connection.send(sum(event.wait(TIMEOUT) for event in events))
    received(connection)


def makes_one(connection):
    connection.send(SharedEvent())
    until(lambda: _hub.hub().own().followers)


@FAULTS.one_method
def nothing_is_kept_of_homes_that_are_gone():
    def is_nothing_kept():
        gc.collect()  # on PyPy, the event that was dropped is freed by this alone
        return not _hub.hub().homes

    events = []
    for keeps in True, False:
        here, there = context().Pipe()
        process = run(makes_one, there)
        event = received(here)
        if keeps:
            events.append(event)
        del event
        joined(process)
        until(is_nothing_kept)
    assert all(event.wait(TIMEOUT) for event in events)


@FAULTS.every_method_of_posix
def sets_for_a_stopped_home_are_remembered_in_bounded_memory():
    """What is forgotten is the reasons, of events that nobody holds."""
    _sets.MOST_REASONS, _connection.MOST_LINES = 100, 500
    here, there = context().Pipe()
    process = run(home_of_many, 10_000, there)
    events = list(map(pickle.loads, received(here)))
    (to_home,) = _hub.hub().homes.values()
    until(lambda: to_home.is_trusted and not to_home.outbox)
    os.kill(process.pid, signal.SIGSTOP)
    while events:
        events.pop().set("x" * 1_000)
    until(lambda: len(to_home.unconfirmed.reasons) <= 200)
    assert len(to_home.outbox) <= 10_000 + 2 * 500
    os.kill(process.pid, signal.SIGCONT)
    assert received(here) == 10_000
    until(lambda: not to_home.unconfirmed)
    here.send("end")
    joined(process)


def sets_all(tickets, home):
    ends = _hub.wait_for_end

    def ends_thread(*arguments):
        ends(*arguments)
        os.kill(home, signal.SIGCONT)

    _hub.wait_for_end = ends_thread
    for event in list(map(pickle.loads, tickets)):
        event.set("late")


@FAULTS.every_method_of_posix
def a_worker_that_exits_has_set_all_at_a_home_that_was_slow():
    """More than it may say before the home has proved itself, and more than the socket takes."""
    here, there = context().Pipe()
    home = run(home_of_many, 1_500, there)
    tickets = received(here)
    os.kill(home.pid, signal.SIGSTOP)
    worker = run(sets_all, tickets, home.pid)
    assert received(here) == 1_500
    here.send("end")
    joined(worker, home)


def home(connection, ending):
    events = [SharedEvent(), SharedEvent()]
    connection.send((events[0], pickle.dumps(events[1])))
    received(connection)
    if ending == "set":
        events[0].set("finished")
    elif ending == "killed":
        connection.send("kill me")
        received(connection)


def ended_home(ending):
    here, there = context().Pipe()
    process = run(home, there, ending)
    event, ticket = received(here)
    (follower, connection), *_ = waiting((waits, event))
    assert not event.wait(0.2)
    here.send("end")
    if ending == "killed":
        received(here)
        process.kill()
        joined(process, code=KILLED)
    else:
        joined(process)
    assert event.wait(TIMEOUT)
    gone = f"process {process.pid}, which made it, is gone"
    assert event.reason == ("finished" if ending == "set" else gone)
    assert received(connection) in {event.reason, gone}  # it may have asked too late for another reason
    joined(follower)
    late = pickle.loads(ticket)
    assert late.wait(TIMEOUT) and late.reason == gone


@FAULTS.every_method
def a_killed_home_sets_its_events():
    ended_home("killed")


@FAULTS.every_method
def an_exited_home_sets_its_events():
    ended_home("exit")


@FAULTS.every_method
def a_home_sets_and_exits_at_once():
    ended_home("set")


def sets_and_exits(events, number, at_once):
    events[number].set(number)
    if at_once:
        os._exit(0)


@FAULTS.every_method
def a_worker_sets_and_exits_at_once():
    events = [SharedEvent() for _ in range(6)]
    workers = [run(sets_and_exits, events, number, number % 2 and _place.SENT_IS_KEPT) for number in range(6)]
    for number, event in enumerate(events):
        assert event.wait(TIMEOUT), f"lost: {number}"
        assert event.reason == number
    joined(*workers)


def sets_in_handler(events, connection):
    rest = iter(events)

    def handler(*_):
        event = next(rest, None)
        if event is None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            event.set("in a handler")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for event in events:
        SharedEvent().set()
        event.wait(0.002)
        event.set("in the loop")
    signal.setitimer(signal.ITIMER_REAL, 0)
    connection.send("done")


@FAULTS.every_method_of_posix
def a_storm_of_handlers_loses_nothing():
    events = [SharedEvent() for _ in range(300)]
    here, there = context().Pipe()
    process = run(sets_in_handler, events, there)
    for event in events:
        assert event.wait(TIMEOUT)
        assert event.reason in {"in a handler", "in the loop"}
    assert received(here) == "done"
    joined(process)


HUB = tuple(module.__file__ for module in (_connection, _event, _follower, _held, _home, _hub, _place, _reach, _sets))


def arrives_interrupted(place, connection):
    tickets, held = received(connection), []

    def handler():
        held.append(pickle.loads(tickets[0]))
        interrupt()

    with SignalAt(place, HUB, handler) as interrupted:
        held.append(pickle.loads(tickets[0]))
    first, second = map(pickle.loads, tickets)
    connection.send(interrupted.is_done)
    connection.send(all(event.wait(TIMEOUT) for event in (first, *held)))
    second.set()


@FAULTS.under_fork
def an_interrupted_arrival_loses_nothing():
    for place in count():
        here, there = context().Pipe()
        process = run(arrives_interrupted, place, there)
        first, second = SharedEvent(), SharedEvent()
        here.send([pickle.dumps(first), pickle.dumps(second)])
        is_done = received(here)
        first.set()
        assert received(here), f"nothing arrives: {place}"
        assert second.wait(TIMEOUT), f"nothing is sent: {place}"
        joined(process)
        del first, second  # the next process is to inherit none
        if not is_done:
            break


def exits_in_handler(place, connection):
    first, second = map(pickle.loads, received(connection))

    def handler():
        second.set("last")
        os._exit(0)

    with SignalAt(place, HUB, handler):
        first.set()
    connection.send("was not interrupted")


@FAULTS.under_fork
def a_handler_that_sets_and_exits_at_once_loses_nothing():
    """Though it has interrupted a call that was sending to the same home."""
    for place in count():
        here, there = context().Pipe()
        process = run(exits_in_handler, place, there)
        first, second = SharedEvent(), SharedEvent()
        here.send([pickle.dumps(first), pickle.dumps(second)])
        joined(process)
        if here.poll():
            break
        assert second.wait(TIMEOUT), f"lost: {place}"
        assert second.reason == "last"
        del first, second  # the next process is to inherit none


def makes_interrupted(place, connection):
    _place.HAS_PATHS = False  # whose directory an interruption may leave behind
    with SignalAt(place, HUB) as interrupted:
        event = SharedEvent()
    event = SharedEvent()
    connection.send((interrupted.is_done, pickle.dumps(event)))
    event.set("made")
    received(connection)


@FAULTS.under_fork
def an_interrupted_start_makes_a_home():
    for place in count():
        here, there = context().Pipe()
        process = run(makes_interrupted, place, there)
        is_done, ticket = received(here)
        event = pickle.loads(ticket)
        assert event.wait(TIMEOUT) and event.reason == "made", f"nothing arrives: {place}"
        here.send("end")
        joined(process)
        del event
        if not is_done:
            break


# What must not get in the way


@FAULTS.one_method
def a_slow_callback_delays_no_other_event():
    slow, other = SharedEvent(), SharedEvent()
    both = Event()
    here, there = context().Pipe()
    process = run(sets_both, slow, other, there)
    slow.add_callback(lambda event: other.wait(TIMEOUT) and both.set())
    here.send("now")
    assert both.wait(TIMEOUT)
    joined(process)


def sets_both(first, second, connection):
    received(connection)
    first.set()
    second.set()


@FAULTS.under_fork
def a_full_backlog_is_no_dead_home():
    here, there = context().Pipe()
    process = run(busy_home, there)
    ticket, address = received(here)
    os.kill(process.pid, signal.SIGSTOP)
    fillers = []
    try:
        while True:
            filler = socket.socket(socket.AF_UNIX)
            filler.setblocking(False)
            fillers.append(filler)
            filler.connect(address)
    except BlockingIOError:
        pass
    event = pickle.loads(ticket)
    assert not event.wait(0.3)
    for filler in fillers:
        filler.close()
    os.kill(process.pid, signal.SIGCONT)
    here.send("set it")
    assert event.wait(TIMEOUT)
    assert event.reason == "at last"
    here.send("end")
    joined(process)


def busy_home(connection):
    _place.BACKLOG = 4
    event = SharedEvent()
    connection.send((pickle.dumps(event), address()))
    received(connection)
    event.set("at last")
    received(connection)


@FAULTS.under_fork
def strangers_cost_only_their_connections():
    """A wrong key, garbage, half a line, a line without end, a wrong role, and a thousand that say nothing."""
    event = SharedEvent()
    (process, connection), *_ = waiting((waits, event))

    def stranger(sent=b""):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address())
        sock.sendall(sent)
        return sock

    def greeting(key, role="greeting"):
        return _wire.line(b"greet", b"1", _wire.proof(key, role, b"1", address()))

    key, number = _hub.hub().own().home.key, event._fe_key[1]
    reason = b'{"reason": "me", "timed_out": false}'
    dropped = [
        stranger(greeting(b"wrong") + _wire.set_line(number, reason)),
        stranger(greeting(key, "follower")),
        stranger(greeting(key) + _wire.set_line(number, reason)),  # with the key, but perhaps by what it has read
        stranger(greeting(key) + _wire.sealed(b"wrong", _wire.set_line(number, reason))),
        stranger(_wire.set_line(number, reason)),
        stranger(os.urandom(500) + b"\n"),
        stranger(b"[" * 1_000 + b"\n"),
        stranger(b"greet \xc3\xa4 \xc3\xa4\n"),
        stranger(b"x" * 5_000),
        stranger(b"x" * 5_000 + b"\n"),
    ]
    for sock in dropped:
        sock.settimeout(TIMEOUT)
        try:
            while sock.recv(1_000):
                pass
        except ConnectionResetError:
            pass
        sock.close()
    half = stranger(b"greet ")
    silent = []
    for _ in range(1_000):
        silent.append(stranger())
        if len(silent) > 100:
            silent.pop(0).close()
    until(lambda: len(_hub.hub().own().strangers) <= _home.MOST_STRANGERS)
    assert not event.is_set()
    event.set("stop")
    assert received(connection) == "stop"
    joined(process)
    for sock in (half, *silent):
        sock.close()


@FAULTS.one_method
def connections_that_end_are_made_again():
    event, late = SharedEvent(), SharedEvent()
    (process, connection), *_ = waiting((waits, event))
    (other, its_end), *_ = waiting((waits, late))
    for _ in range(3):
        before = list(_hub.hub().own().followers)
        for follower in before:
            _hub.hub().loop.post(follower.end)
        until(lambda before=before: len(_hub.hub().own().followers) == 2 and not set(_hub.hub().own().followers) & set(before))
    event.set("stop")
    assert received(connection) == "stop"
    late.set("too")
    assert received(its_end) == "too"
    joined(process, other)


@FAULTS.one_method
def an_impostor_is_not_believed():
    """A process that has taken the address of a home, without its key."""
    ended = run(len, ())
    joined(ended)
    impostor = socket.create_server(("127.0.0.1", 0))
    address = impostor.getsockname()
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            ready, _, _ = select.select([impostor], [], [], 0.05)
            if ready:
                sock, _ = impostor.accept()
                lines = (
                    _wire.line(b"hello", b"1"),
                    _wire.line(b"prove", b"no"),
                    _wire.set_line(1, '{"reason": 1, "timed_out": false}'),
                )
                sock.sendall(b"".join(lines))
                sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    event = pickle.loads(pickle.dumps(SharedEvent())).__reduce__()
    arrive, (home, *rest) = event
    gone = _place.Home(*home)._replace(pid=ended.pid, address=address, name="", key=b"key")
    event = arrive(tuple(gone), *rest)
    assert event.wait(TIMEOUT)
    assert event.reason == f"process {ended.pid}, which made it, is gone"
    stop.set()
    thread.join(TIMEOUT)
    impostor.close()


class RefusedLate(_sockets.Socket):
    code = 0

    def connect(self, address):
        self.code = super().connect(address)
        return 0

    def error(self):
        return self.code or super().error()


@FAULTS.one_method
def a_late_refusal_is_one():
    """The kernel of Windows asks several times whether nobody listens at a port, and says so two seconds later."""
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        address = closed_soon.getsockname()
    arrive, (home, *rest) = SharedEvent().__reduce__()
    _place.for_address = lambda address: RefusedLate(_socket.socket())
    _follower.REFUSAL = 10**9
    gone = _place.Home(*home)._replace(address=address, name="", key=b"key")
    event = arrive(tuple(gone), *rest)
    assert event.wait(TIMEOUT) and event.reason == f"process {os.getpid()}, which made it, is gone"


def may_open_nothing(event, connection):
    import resource  # of POSIX

    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    has_looked = threading.Event()
    _hub.hub().loop.post(has_looked.set)
    assert has_looked.wait(TIMEOUT)  # and will look again
    connection.send("here")
    connection.send(event.wait(TIMEOUT) and event.reason)


@FAULTS.under_fork
def a_process_that_may_open_no_descriptor_any_more_hears_of_a_set():
    """Then `poll()` waits for none, either. Programs do that to lock themselves in."""
    event = SharedEvent()
    here, there = context().Pipe()
    process = run(may_open_nothing, event, there)
    assert received(here) == "here"
    until(lambda: any(follower.follows for follower in _hub.hub().own().followers))
    event.set("go")
    assert received(here) == "go"
    joined(process)


@FAULTS.under_fork
def too_many_descriptors():
    """A home that has none left accepts again when it has."""
    import resource  # of POSIX

    logging.getLogger("fastevent").propagate = False  # it says so
    logging.getLogger("fastevent").addHandler(logging.NullHandler())
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    event = SharedEvent()
    (process, connection), *_ = waiting((waits, event))
    until(lambda: _hub.hub().own().followers)
    files = []
    try:
        while True:
            files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        os.close(files.pop())
    client = socket.socket(socket.AF_UNIX)
    client.connect(address())
    event.set("stop")
    assert received(connection) == "stop"
    for file in files:
        os.close(file)
    client.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(address())
        assert client.recv(100).startswith(b"\nhello ")
    joined(process)


if __name__ == "__main__":
    FAULTS.main()
