"""What processes say to each other, through every order of sending, receiving, forgetting and ending: see `explorer`.

This is the source of a home and of those that follow it, with the proofs of both sides. Nothing is set that nobody set, what
was set reaches each process that holds it, and a stranger hears nothing.
"""

import pytest
from explorer import SECOND, Flaw, current, every_schedule
from explorer.processes import Socket, Talk, talking

from fastevent import _reasons
from fastevent._time import NEVER
from fastevent.shared import _connection, _follower, _held, _home, _hub, _reach, _sets, _wire


@pytest.fixture(autouse=True)
def stand_ins():
    with talking():
        yield


def explore(begin, *threads, **options):
    return every_schedule(lambda path: Talk(path, begin, threads, **options))


# What is there before the threads start


def makes_events(run):
    for _ in range(4):
        run.home.make()


def a_follower_arrives(run, number=1):
    makes_events(run)
    with run.acts_in(run.follower):
        run.follower.take(number)


def all_follow(run):
    makes_events(run)
    for follower in run.followers:
        with run.acts_in(follower):
            follower.take(1)
            run.settle()


def all_follow_and_home_drops(run):
    all_follow(run)
    run.home.drop(1)


def all_follow_what_is_cut_off(run):
    all_follow(run)
    run.arrival = "in part, and again"


def a_follower_of_another_event(run):
    a_follower_arrives(run, 4)
    run.settle()


def a_follower_asks_for_another_event(run):
    a_follower_of_another_event(run)
    with run.acts_in(run.follower):
        run.follower.take(1)


def follows_a_stranger(run):
    run.listening = {"path": "stranger"}
    a_follower_arrives(run)
    run.settle()
    follower_sets(run)
    run.listening = {"path": "home"}


# What threads do


def home_sets(run, number=1):
    with run.acts_in(run.home):
        run.move("sets")
        run.home.events[number].set("of the home")


def home_sets_three(run):
    for number in 2, 3, 4:
        home_sets(run, number)


def home_sets_another(run):
    home_sets(run, 2)


def home_sets_and_exits(run):
    home_sets(run)
    (follower,) = run.home.own().followers
    if b"set 1 " not in follower.socket.other.heard:
        raise Flaw("a follower is not notified if the home exits now")


def home_answers(run):
    """As the thread of the home does."""
    with run.acts_in(run.home):
        (follower,) = run.home.own().followers
        run.move("answers")
        follower.add(_wire.line(b"got", b"4"))
        follower.send()


def home_ends_the_connection(run):
    with run.acts_in(run.home):
        run.move("ends a connection")
        for follower in list(run.home.own().followers):
            run.home.loop.post(follower.on_broken)


def home_closes_its_descriptors(run):
    """As a program does that becomes a daemon. What has not been read is lost."""
    with run.acts_in(run.home):
        run.move("closes its descriptors")
        for sock in run.home.sockets():
            sock.close()


def home_asks(run):
    """As for a ticket that comes back."""
    with run.acts_in(run.home):
        run.move("asks")
        was_recorded = 1 in run.home.own().causes
        line = run.home.own().line(1)
        if (was_recorded and line is None) or (line is not None and not run.said.get(1)):
            raise Flaw(f"{line} of an event that was set for {run.said.get(1)}")


def follower_takes(run, *numbers):
    with run.acts_in(run.follower):
        run.move("takes")
        for number in numbers or (1,):
            run.follower.take(number)


def follower_takes_two(run):
    follower_takes(run, 1, 2)


def follower_sets(run):
    with run.acts_in(run.follower):
        run.move("sets")
        run.follower.events[1].set("of a follower")


def follower_sets_what_it_finds(run):
    key = run.home.own().home, 1
    with run.acts_in(run.follower):
        run.move("finds the event", lambda: _held.Held.of(run.follower.held, key))
        run.follower.events[1].set("of a follower")


def follower_releases(run):
    with run.acts_in(run.follower):
        run.move("releases")
        run.follower.drop(1)
    run.has_released = True


def follower_takes_what_it_releases(run):
    with run.acts_in(run.follower):
        run.move("takes", lambda: 1 not in run.follower.events)
        run.follower.take(1)
    run.has_taken = True


def home_sets_later(run):
    with run.acts_in(run.home):
        run.move("sets later", lambda: hasattr(run, "has_released") and hasattr(run, "has_taken"))
        run.home.events[1].set("of the home")


def follower_sets_and_drops(run):
    follower_sets(run)
    with run.acts_in(run.follower):
        run.move("drops")
        run.follower.drop(1)


def follower_sets_and_exits(run):
    follower_sets(run)
    with run.acts_in(run.follower):
        run.move("exits")
        run.follower.exit()


def other_follower_sets(run):
    with run.acts_in(run.followers[1]):
        run.move("sets")
        run.followers[1].events[1].set("of the other")


def only_a_stranger_listens(run):
    run.is_cut_off = True
    home_ends_the_connection(run)
    run.listening = {"path": "stranger"}


def a_stranger_listens(run):
    home_ends_the_connection(run)
    run.listening = {"path": "stranger", "name": "home"}
    with run.acts_in(run.follower):
        run.move(
            "some seconds pass", lambda: run.is_quiet or any(each.other in run.strangers for each in run.follower.sockets())
        )
        run.now += 4 * SECOND


def a_stranger_repeats(run):
    """What it has heard in place of the home, and something of its own."""
    with run.acts_in(run.home):
        run.move("is reached by a stranger")
        sock = run.connect("path")
        sock.other.chunks.append(run.strangers[0].heard + _wire.line(b"follow", b"2") + _wire.set_line(3, _sets.NO_REASON))
        run.move("is said more by a stranger", lambda: sock.other.is_closed or not sock.other.chunks)
    heard = {line[:-1].split(b" ")[0] for line in sock.heard.split(b"\n") if line}
    if not heard <= {b"hello", b"prove"}:
        raise Flaw(f"a stranger has heard {sock.heard}")


def home_seems_gone(run):
    run.may_seem_gone = True
    home_ends_the_connection(run)
    run.listening = {"path": None}
    with run.acts_in(run.follower):
        attempts = next(iter(run.follower.homes.values()))._attempts
        run.move("many seconds pass", lambda: attempts._refused_since < NEVER or run.is_quiet)
        run.now += 20 * SECOND
        run.move("finds the home again", lambda: run.follower.events[1].state.is_set)
        run.listening = {"path": "home"}
        run.follower.take(2)


TWO = {"followers": ("follower", "other")}
SCENARIOS = {
    "arrives, home sets": ([makes_events, home_sets, follower_takes], {}),
    "arrives, home sets, in pieces": ([makes_events, home_sets, follower_takes], {"arrival": "in pieces"}),
    "arrives, both set": ([a_follower_arrives, follower_sets, home_sets], {"arrival": "in pieces"}),
    "both set": ([all_follow, follower_sets, home_sets], {"arrival": "in pieces"}),
    "a follower sets": ([all_follow_and_home_drops, follower_sets], TWO),
    "each line comes twice": ([a_follower_arrives, follower_sets], {"arrival": "twice"}),
    "each line is cut off, and comes again": ([all_follow_what_is_cut_off, follower_sets, home_sets], {}),
    "two followers set": ([all_follow, follower_sets, other_follower_sets], TWO),
    "three are set, one is remembered": ([makes_events, home_sets_three, follower_takes_two], {}),
    "home ends": ([all_follow, home_ends_the_connection, home_sets], {}),
    "home ends, follower drops": ([all_follow, home_ends_the_connection, follower_sets_and_drops], {}),
    "home ends, follower exits": (
        [all_follow, home_ends_the_connection, follower_sets_and_exits],
        {"fine": "home socket"},
    ),
    "home closes its descriptors": ([all_follow, home_closes_its_descriptors, follower_sets_and_drops], {}),
    "a stranger listens": ([all_follow, a_stranger_listens, follower_sets], {}),
    "a stranger repeats": ([follows_a_stranger, a_stranger_repeats], {}),
    "home seems gone": ([all_follow, home_seems_gone], {}),
    "threads: home sets, follower asks": ([a_follower_asks_for_another_event, home_sets], {"fine": "home follows causes"}),
    "threads: home exits": ([all_follow, home_sets_and_exits, home_answers], {"fine": "home claim outbox socket"}),
    "threads: home forgets": ([makes_events, home_sets, home_sets_another, home_asks], {"fine": "home causes"}),
    "threads: both set": ([all_follow, follower_sets, home_sets], {"fine": "follower follows outbox"}),
    "threads: arrives, is set": (
        [a_follower_of_another_event, follower_takes, follower_sets_what_it_finds],
        {"fine": "follower held follows"},
    ),
    "threads: arrives, is released": (
        [all_follow, follower_releases, follower_takes_what_it_releases, home_sets_later],
        {"fine": "follower follows"},
    ),
    "threads: a stranger listens": (
        [all_follow, only_a_stranger_listens, follower_sets],
        {"fine": "follower trust"},
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_and_nothing_invented(name):
    threads, options = SCENARIOS[name]
    assert explore(*threads, **options)


# Planted bugs: each replaces a method by one that is wrong


def looks_and_then_registers(self, number):
    if number in self.own.causes:
        self.add(number)
    else:
        self.follows[number] = None


def notifies_and_then_records(self, number, reason):
    for follower in list(self.followers):
        if number in follower.follows:
            follower.add(number)
            follower.send()
            follower.follows.pop(number, None)
    self.causes.add(number, reason)


def sends_without_waiting(self, timeout=0):
    _connection.Sending._send(self, 0)


def passes_on_what_it_holds(self, number, reason):
    self.held.arrived((self.home, number), _wire.reason_of(reason))


def forgets_the_reason_first(self):
    while self._recent:
        self._order.append(self._recent.popleft())
    while len(self._order) > 1:
        oldest = self._order.popleft()
        self._lines.pop(oldest)
        self._forgotten.add(oldest)


def remembers_the_newest_only(self, number):
    self.newest = max(number, getattr(self, "newest", 0))


def has_all_up_to_the_newest(self, number):
    return number <= getattr(self, "newest", 0)


def looks_at_a_piece(self, longest):
    if not self._data:
        return None
    line, self._data = bytes(self._data).strip(), bytearray()
    return line


def ends_at_once(self):
    self.end()


def ends_at_a_second_greeting(self, words, receive=_home.FromFollower.receive):
    return not (words[:1] == [b"greet"] and self.has_greeted) and receive(self, words)


def believes_a_greeting(self, words, receive=_home.FromFollower.receive):
    answer = receive(self, words)
    if words[:1] == [b"greet"] and self.has_greeted:
        self.is_trusted = True
        self.own.followers[self] = None
    return answer


def begins_with_the_same_address(self):
    return self.home.addresses()


def says_nothing_again(self):
    for number, event in self.held.of_home(self.home):
        if not event._fe_read().is_set:
            self.follows[number] = None
            self.outbox.append(-number)


def says_all_that_is_set(self, introduce=_follower.ToHome.introduce):
    introduce(self)
    for number, event in self.held.of_home(self.home):
        _, is_set, reason = event._fe_read()
        if is_set:
            self.unconfirmed.add(number, _reasons.encode(reason))
            self.outbox.append(number)


def seals_by_an_earlier_look(self, number, reason):
    if number not in self.follows:
        return
    self.unconfirmed.add(number, reason)
    is_trusted = self.is_trusted
    current.run.touch("trust", "has looked", (), {f"trust {id(self)}"})
    self.add(_wire.set_line(number, reason) if is_trusted else _wire.sealed_set(self.home.key, number, reason))
    self.reach()
    self.follows.pop(number, None)


def holds_and_then_follows(self, reference):
    home, number = reference.key
    self.held.add(reference)
    current.run.touch("held", "has held", (), {f"follows {id(self.to_home(home).follows)}"})
    if not reference()._fe_read().is_set:
        self.to_home(home).follow(number)


def looks_and_then_drops(self, reference):
    others = self.held.remove(reference)
    if others is not None:
        others = others or self.held.references_to(reference.key)
        self.homes[reference.key[0]].drop(reference.key[1])
        for other in others:
            self.hold(other)


BUGS = {
    "looks and then registers": (
        "threads: home sets, follower asks",
        _home.FromFollower,
        {"_follow": looks_and_then_registers},
    ),
    "notifies and then records": ("threads: home sets, follower asks", _home.OwnHome, {"publish": notifies_and_then_records}),
    "waits for no thread": ("threads: home exits", _home.FromFollower, {"send": sends_without_waiting}),
    "passes on what it holds": ("a follower sets", _home.OwnHome, {"was_set": passes_on_what_it_holds}),
    "forgets the reason first": ("threads: home forgets", _sets.Causes, {"trim": forgets_the_reason_first}),
    "remembers the newest only": (
        "three are set, one is remembered",
        _sets.Numbers,
        {"add": remembers_the_newest_only, "__contains__": has_all_up_to_the_newest},
    ),
    "forgets that it was set": ("three are set, one is remembered", _sets.Numbers, {"add": lambda self, number: None}),
    "looks at a piece": ("arrives, home sets, in pieces", _wire.Inbox, {"next_line": looks_at_a_piece}),
    "ends at once": ("home ends, follower exits", _home.FromFollower, {"on_broken": ends_at_once}),
    "stops receiving never": ("home ends, follower exits", Socket, {"stop_receiving": lambda self: None}),
    "believes no greeting twice": ("each line comes twice", _home.FromFollower, {"receive": ends_at_a_second_greeting}),
    "believes a greeting": ("a stranger repeats", _home.FromFollower, {"receive": believes_a_greeting}),
    "begins with the same address": ("a stranger listens", _reach.Attempts, {"addresses": begins_with_the_same_address}),
    "says nothing again": (
        "home closes its descriptors",
        _follower.ToHome,
        {"begin": lambda self: None, "introduce": says_nothing_again},
    ),
    "says all that is set": ("home seems gone", _follower.ToHome, {"introduce": says_all_that_is_set}),
    "seals by an earlier look": ("threads: a stranger listens", _follower.ToHome, {"publish": seals_by_an_earlier_look}),
    "looks and then drops": ("threads: arrives, is released", _hub.Hub, {"release": looks_and_then_drops}),
    "holds and then follows": ("threads: arrives, is set", _hub.Hub, {"hold": holds_and_then_follows}),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_found(bug, monkeypatch):
    scenario, cls, methods = BUGS[bug]
    for name, method in methods.items():
        monkeypatch.setattr(cls, name, method)
    threads, options = SCENARIOS[scenario]
    with pytest.raises(Flaw):
        explore(*threads, **options)
