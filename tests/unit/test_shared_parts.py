"""The parts of a SharedEvent that need no other process: lines, what is remembered, who lives, reasons."""

import errno
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from helpers import TIMEOUT

from fastevent import EventTimeout, _reasons
from fastevent._process import Call
from fastevent._time import NEVER, SECOND
from fastevent.shared import _follower, _held, _place, _reach, _sets, _sockets, _wire
from fastevent.shared._loop import Loop


def nested(depth):
    reason = []
    for _ in range(depth):
        reason = [reason]
    return reason


class Raises:
    @property
    def __class__(self):
        raise RuntimeError("outside of any context")

    def __str__(self):
        raise ValueError("no text")


REASONS = {
    "has no class": Raises,
    "deep": lambda: nested(20_000),
    "long number": lambda: 10**1_000,
    "no JSON": lambda: {"a": {1: object()}},
    "long list": lambda: ["x"] * 10**5,
}


@pytest.mark.parametrize("make", REASONS.values(), ids=REASONS)
def test_any_reason_is_sent(make):
    text = _reasons.encode(make())
    assert len(text) <= _reasons.LONGEST_TEXT
    assert _reasons.decode(text)


@pytest.mark.parametrize("reason", ["x" * 60_000, [0] * 20_000, {"a": ["x" * 60_000]}], ids=["text", "list", "dict"])
@pytest.mark.parametrize("timed_out", [False, True])
def test_of_a_long_reason_the_beginning_is_read(reason, timed_out):
    read = _reasons.decode(json.dumps({"reason": reason, "timed_out": timed_out}))
    assert str(read) == str(reason)[: _reasons.LONGEST_REASON] + "…"
    assert isinstance(read, EventTimeout if timed_out else str)


class Text(str):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize("reason", ["by Ann", Text("by Ann")])
def test_a_text_is_sent_though_a_signal_handler_has_raised(reason):
    assert _reasons.decode(_reasons.encode_repr(reason)) == "by Ann"


def test_a_timeout_stays_one():
    assert type(_reasons.decode(_reasons.encode(EventTimeout("late")))) is EventTimeout


@pytest.mark.parametrize(
    "text",
    ["[" * 60_000, '{"a":' * 60_000, "[" * 40 + '"' + '\\"' * 32_000, "{}", "1", '{"reason": 1}', "\udcff", " " * 70_000],
)
def test_what_is_no_reason_is_refused_soon(text):
    started = time.thread_time()
    with pytest.raises(ValueError):
        _reasons.decode(text)
    assert time.thread_time() - started < 1


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="reads numbers of any length")
def test_a_long_number_is_read_as_its_digits():
    digits, limit = "9" * 1_000, sys.get_int_max_str_digits()
    text = f'{{"reason": {digits}, "timed_out": false}}'
    assert _reasons.decode(text) == int(digits)
    sys.set_int_max_str_digits(640)
    try:
        assert _reasons.decode(text) == digits
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_line_that_was_cut_off_says_nothing():
    whole = _wire.set_line(123, '{"reason": "a b", "timed_out": false}').strip()
    assert _wire.words_of(whole) == [b"set", b"123", b'{"reason": "a b", "timed_out": false}']
    assert not any(_wire.words_of(whole[:length]) for length in range(len(whole)))


def test_a_sealed_line_is_for_the_key():
    key, text = os.urandom(32), _wire.set_line(7, "x" * 48_000)
    line = _wire.sealed(key, text)
    assert len(line) <= _wire.LONGEST_LINE and b"x" * 20 not in line  # four come by chance
    _, word = _wire.words_of(line.strip())
    assert _wire.opened(key, word)[:2] == [b"set", b"7"]
    for wrong_key, wrong_word in (
        (os.urandom(32), word),
        (key, (b"B" if word.startswith(b"A") else b"A") + word[1:]),
        (key, b""),
        (key, b"\xff"),
    ):
        with pytest.raises(ValueError):
            _wire.opened(wrong_key, wrong_word)


@pytest.mark.parametrize("word", [b"", b"-1", b"1" * 19, b"1.0", b"\xb2", b"1\x04"])
def test_a_number_is_digits(word):
    with pytest.raises(ValueError):
        _wire.number_of(word)


def test_what_is_forgotten_is_the_reason_alone(monkeypatch):
    monkeypatch.setattr(_sets, "MOST_CAUSES", 100)
    causes = _sets.Causes()
    for number in range(0, 20_000, 2):
        causes.add(number, _sets.NO_REASON)
        causes.trim()
    assert len(causes._lines) == 100
    assert all((number in causes) == (number % 2 == 0) for number in range(20_000))


def test_reasons_are_bounded_in_bytes():
    causes = _sets.Causes()
    for number in range(1_000):
        causes.add(number, "x" * 48_000)
        causes.trim()
    assert sum(map(len, causes._lines.values())) <= _sets.MOST_BYTES
    assert all(number in causes for number in range(1_000)) and 1_000 not in causes


def test_full_blocks_of_numbers_cost_nothing():
    numbers = _sets.Numbers()
    for number in range(3 * numbers.BLOCK):
        numbers.add(number)
    assert not numbers._blocks and 3 * numbers.BLOCK - 1 in numbers and 3 * numbers.BLOCK not in numbers


def test_numbers_are_taken_out_again():
    numbers = _sets.Numbers()
    added = {*range(8_192), *range(10_000, 30_000, 7), 10**12}
    for number in added:
        numbers.add(number)
    taken = []
    while numbers:
        taken += numbers.take()
    assert sorted(taken) == sorted(added) and not numbers.take()


def test_what_is_not_confirmed_is_bounded_and_kept():
    unconfirmed = _sets.Unconfirmed()
    for number in range(100_000):
        if unconfirmed.add(number, json.dumps({"reason": "x" * 3_000, "timed_out": False})):
            unconfirmed.trim()
    assert sum(map(len, unconfirmed.reasons.values())) < 4 << 20
    said = list(unconfirmed.reasons)
    for number in said:  # grows
        said += unconfirmed.confirm(number)
    assert sorted(said) == list(range(100_000)) and not unconfirmed


@pytest.fixture
def home():
    listener = _place.Listener()
    listener.remove()
    return listener.home


def test_this_process_lives(home, monkeypatch):
    assert home.lives()
    monkeypatch.setattr(_place, "HAS_PROC", False)
    assert home.lives()


@pytest.mark.parametrize("has_proc", [True, False])
def test_a_process_that_has_ended_does_not_live(home, monkeypatch, has_proc):
    monkeypatch.setattr(_place, "HAS_PROC", has_proc and _place.HAS_PROC)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = home._replace(pid=process.pid, start=_place._start(process.pid) or "")
    assert other.lives()
    process.communicate(b"\n")
    assert not other.lives()


@pytest.mark.skipif(not _place.HAS_PROC, reason="has no /proc")
def test_a_number_given_again_is_another_process(home):
    assert not home._replace(start="1").lives()
    assert home._replace(start="1", spaces=(1, 1)).lives()  # of another container: it cannot be known


def test_an_interpreter_that_has_ended_does_not_live(home):
    if _place._interpreters_of_process is None:
        pytest.skip("has no interpreters")
    ended = home._replace(interpreter=99)
    assert not ended.lives() and str(ended) == f"interpreter 99 of process {os.getpid()}"


@pytest.mark.parametrize("has_paths, has_names", [(True, False), (False, True), (False, False)])
def test_a_listener_is_reached(monkeypatch, has_paths, has_names):
    monkeypatch.setattr(_place, "HAS_PATHS", has_paths and _place.HAS_PATHS)
    monkeypatch.setattr(_place, "HAS_NAMES", has_names and _place.HAS_NAMES)
    listener = _place.Listener()
    try:
        assert len(listener.sockets) == 1
        for address in listener.home.addresses():
            sock = _place.connect(address)
            listener.sockets[address].accept().close()
            sock.close()
    finally:
        listener.remove()


@pytest.mark.skipif(not _place.HAS_PATHS, reason="has no Unix sockets")
def test_an_address_that_was_removed_is_made_again():
    listener = _place.Listener()
    try:
        os.unlink(listener.home.address)
        os.rmdir(listener.directory)
        listener.renew(listener.home.address)
        _place.connect(listener.home.address).close()
        assert os.stat(listener.directory).st_mode & 0o777 == 0o700
    finally:
        listener.remove()
    assert not os.path.exists(listener.directory)


def test_select_waits_for_more_sockets_than_it_takes(monkeypatch):
    """As on Windows, which has no `poll()`."""
    monkeypatch.setattr(_sockets, "native_select", SimpleNamespace(select=select.select))
    monkeypatch.setattr(_sockets, "MOST_SELECTED", 2)
    with ExitStack() as stack:
        pairs = [_sockets.pair() for _ in range(5)]
        for sock in sum(pairs, ()):
            stack.callback(sock.close)
        wanted = {here.fileno(): False for here, _ in pairs}
        started = time.monotonic()
        assert _sockets.readable_and_writable(wanted, 0.05) == {}
        assert time.monotonic() - started >= 0.05
        pairs[4][1].send(b"x")
        wanted[pairs[0][0].fileno()] = True
        assert _sockets.readable_and_writable(wanted, None) == {pairs[4][0].fileno(): False, pairs[0][0].fileno(): True}
        assert _sockets.readable_and_writable({pairs[4][0].fileno(): False}, None)


@pytest.mark.skipif(sys.platform == "win32", reason="no program closes handles that it does not know")
@pytest.mark.parametrize("use", [lambda sock: sock.send(b"!"), lambda sock: sock.close()], ids=["send", "close"])
def test_what_is_opened_meanwhile_is_left_alone(use, monkeypatch):
    """As a socket looks whether its descriptor is its own, the program closes it and opens others."""
    looks, opened = _sockets._identity, []

    def closes(descriptor):
        identity = looks(descriptor)
        os.close(descriptor)
        opened.extend(socket.socketpair())
        return identity

    for end in _sockets.pair():
        monkeypatch.setattr(_sockets, "_identity", closes)
        try:
            use(end)
        except OSError:
            pass
        monkeypatch.undo()
        end._raw.detach()
    for here, there in zip(opened[::2], opened[1::2], strict=True):
        here.sendall(b"mine")
        there.sendall(b"mine")
        assert here.recv(100) == there.recv(100) == b"mine"
        here.close()
        there.close()


@pytest.mark.skipif(sys.platform == "win32", reason="has handles instead")
def test_sockets_get_low_numbers_where_none_is_left():
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ends = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        with pytest.raises(OSError):
            while True:
                ends += _sockets.pair()
        assert min(end.fileno() for end in ends) < 64 < max(end.fileno() for end in ends)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for end in ends:
            end.close()


@pytest.fixture
def to_home(home):
    """A connection to the home of an event that this process follows."""
    connection = _follower.ToHome(home, Loop(lambda: None, lambda: None), _held.Held(), lambda connection: None)
    connection.loop.is_over = True  # nobody is woken
    connection.follows[1] = None
    yield connection
    connection.loop.close()


@pytest.fixture
def connects(monkeypatch):
    """Whatever is connected to takes what is sent; returns the other ends."""
    theirs = []

    def connect(address):
        mine, other = _sockets.pair()
        theirs.append(other)
        return mine

    monkeypatch.setattr(_reach, "connect", connect)
    yield theirs
    for other in theirs:
        other.close()


def test_a_connection_made_as_another_ends_is_given_its_time(to_home, connects, monkeypatch):
    to_home.reach()
    to_home.is_trusted = True
    monkeypatch.setattr(to_home._attempts, "begin_again", to_home.reach)  # as another thread does just then
    to_home.end()
    assert len(connects) == 2 and to_home.socket is not None
    to_home.on_alarm()  # of the connection that has ended
    assert to_home.socket is not None
    assert time.monotonic_ns() + SECOND < to_home.alarm_at < NEVER  # by then, the home has to prove itself


def test_a_connection_made_as_an_attempt_is_due_is_given_its_time(to_home, connects):
    to_home._try_later()
    assert to_home.alarm_at < NEVER
    to_home.reach()  # as another thread does just before the alarm
    to_home.on_alarm()
    assert len(connects) == 1 and time.monotonic_ns() + SECOND < to_home.alarm_at < NEVER


@pytest.mark.parametrize("attempt", ["reach", "on_alarm"])
def test_after_an_attempt_that_raised_comes_another(to_home, monkeypatch, attempt):
    def connect(address):
        raise MemoryError

    monkeypatch.setattr(_reach, "connect", connect)
    with pytest.raises(MemoryError):
        getattr(to_home, attempt)()
    assert time.monotonic_ns() < to_home.alarm_at < time.monotonic_ns() + 60 * SECOND


@pytest.mark.parametrize("trusted", [True, False])
def test_a_home_is_gone_only_if_nobody_listens_for_long(to_home, connects, monkeypatch, trusted):
    connect, refuses = _reach.connect, [True]

    def refuse_or_connect(address):
        if refuses:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "it makes its sockets again")
        return connect(address)

    monkeypatch.setattr(_reach, "connect", refuse_or_connect)
    monkeypatch.setattr(_reach, "REFUSAL", SECOND // 5)
    to_home.reach()
    refuses.clear()
    to_home.reach()
    assert len(connects) == 1
    if trusted:
        to_home.is_trusted = True
        to_home._attempts.succeeded()
        to_home._attempts.show_end([errno.ECONNREFUSED])  # by a thread that was refused before, and gets on now
    time.sleep(0.3)
    refuses.append(True)
    to_home.end()
    to_home.reach()
    assert not to_home.is_gone
    time.sleep(0.3)
    to_home.reach()
    assert to_home.is_gone


def test_an_attempt_that_fails_as_the_thread_gives_up_trying_is_repeated(to_home, monkeypatch):
    def connect(address):
        raise OSError(errno.EMFILE, "no descriptor")

    def lives(home):
        monkeypatch.undo()
        monkeypatch.setattr(_reach, "connect", connect)
        to_home.follow(1)  # by another thread
        return True

    to_home.follows.clear()
    while to_home._attempts.are_frequent():
        to_home._attempts.next()
    monkeypatch.setattr(_place.Home, "lives", lives)
    to_home.on_alarm()
    assert to_home.needs_home()
    assert to_home.alarm_at < NEVER


def lines_of(data):
    inbox = _wire.Inbox()
    inbox.add(bytes(data))
    return [_wire.words_of(line) for line in iter(lambda: inbox.next_line(_wire.LONGEST_LINE), None) if line]


def test_a_set_that_connects_is_said_at_once_though_many_are_not_confirmed(to_home, connects, home, monkeypatch):
    monkeypatch.setattr(_follower, "MOST_SEALED", 3)
    to_home.unconfirmed.reasons.update(dict.fromkeys(range(2, 9), _reasons.encode("earlier")))
    to_home.publish(1, _reasons.encode("last"))
    [other] = connects
    _, *sets = lines_of(other.receive(65_536))
    assert _wire.opened(home.key, sets[-1][1])[:2] == [b"set", b"1"]


def reason_of_sealed_set(data):
    [greet, [sealed, text]] = lines_of(data)
    word, number, reason = _wire.opened(b"key", text)
    assert (greet[0], sealed, word, number) == (b"greet", b"sealed", b"set", b"7")
    return _wire.reason_of(reason)


@pytest.mark.skipif(not _place.HAS_PATHS, reason="the loopback has no room so small")
def test_a_set_is_sent_whole_though_the_socket_takes_it_in_parts(connects, monkeypatch):
    connect, read = _reach.connect, bytearray()

    def with_little_room(address):
        mine = connect(address)
        mine._raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that there is
        return mine

    def wait_for(wanted, seconds):
        read.extend(connects[0].receive(1_000))
        return {}

    monkeypatch.setattr(_reach, "connect", with_little_room)
    monkeypatch.setattr(_sockets, "readable_and_writable", wait_for)
    _reach.send_apart(b"key", ["address"], 7, _reasons.encode("x" * 3_999), 60 * SECOND)
    while data := connects[0].receive(65_536):
        read += data
    assert reason_of_sealed_set(read) == "x" * 3_999


@pytest.mark.skipif(sys.platform == "win32", reason="no program closes handles that it does not know")
def test_a_socket_that_is_closed_while_it_is_full_is_an_error_of_the_system(monkeypatch):
    mine, other = _sockets.pair()
    with pytest.raises(BlockingIOError):
        while True:
            mine.send(b"x" * 65_536)

    def closes(sock, data):
        monkeypatch.undo()
        os.close(sock.number)
        raise BlockingIOError

    monkeypatch.setattr(_sockets.Socket, "send", closes)
    with pytest.raises(OSError, match="closed by the program"):
        mine.send_all(b"x", time.monotonic_ns() + 60 * SECOND)
    mine.close()
    other.close()


def test_a_set_is_sent_to_a_home_that_is_about_to_accept(connects, monkeypatch):
    connect, refusals = _reach.connect, [BlockingIOError(11, "full"), ConnectionRefusedError(111, "not yet")]

    def full(address):
        if refusals:
            raise refusals.pop()
        return connect(address)

    monkeypatch.setattr(_reach, "connect", full)
    _reach.send_apart(b"key", ["address"], 7, _reasons.encode("stop"), 60 * SECOND)
    assert reason_of_sealed_set(connects[0].receive(65_536)) == "stop"


def test_a_call_that_holds_a_connection_stops_no_other(to_home, connects):
    """It may be interrupted by a signal handler, which waits for what the thread has yet to do."""
    to_home.reach()
    call = Call()
    assert to_home.claim.take(call)
    done = []
    to_home.loop.post(to_home.end)
    to_home.loop.post(done.append, True)
    helper = threading.Thread(target=to_home.loop._do_what_there_is, args=({},), daemon=True)
    helper.start()
    helper.join(TIMEOUT)
    assert not helper.is_alive() and done and to_home.socket is not None
    to_home.claim.give_back(call)
    to_home.loop._do_what_there_is({})
    assert to_home.socket is None


def test_random_numbers_come_before_a_connection(to_home, connects, monkeypatch):
    """For them, PyPy needs a descriptor for a moment. With one that is left, a connection is made; with none, later."""

    def none_left():
        raise OSError(errno.EMFILE, "Too many open files", "/dev/urandom")

    monkeypatch.setattr(_reach, "new_nonce", none_left)
    to_home.reach()
    _reach.send_apart(b"key", ["address"], 7, _reasons.encode("stop"), 0)
    assert not connects and time.monotonic_ns() < to_home.alarm_at < NEVER
