"""The bridge between the events of this process and a store that other machines reach, too.

A store keeps a state for each name that has been set: the reason, as text. It is the truth; a message is only a hint that the
state of a name is worth reading. So a lost message loses nothing: the states of all names are read after each subscription, and
once a minute. A state is created only if there is none, so the first cause wins. It is created again where the store has lost
it.

Two threads serve a bridge, each over a connection of its own: one waits for messages, the other reads and creates states. A
thread closes its connection as it ends, and any failure ends a connection. So there is one way to begin, whether at first,
after a failure, after a fork or in a forked child: with new connections, after which all states are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from importlib import import_module
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import finalize, ref

from fastevent._event import Event
from fastevent._notify import Waker, call_in_helper, set_and_notify, subscribe, unsubscribe
from fastevent._process import BRIDGES, Token, at_exit, expect_exit, generation, native, sleep
from fastevent._session import LIMIT, ConnectedHelper, Session
from fastevent._set_once import publish_if_set
from fastevent._states import Entry, RemoteEvent, States
from fastevent._store import Store, Trouble
from fastevent._threads import EXIT_TIMEOUT, Life, wait_for_end
from fastevent._time import NEVER, SECOND, deadline_after, monotonic_ns

if TYPE_CHECKING:
    from typing_extensions import Self

# In seconds:
FIRST_LOOK = 1.0  # how long event() waits for the state of a new event
SILENCE = 9.0  # without a message for so long, the store must answer a question
REREAD = 60.0  # how often all states are read though nothing has happened; more often if they expire soon
LONGEST_REFUSAL_PAUSE = 5.0  # between two attempts to create what the store has refused
FLUSH = 5.0  # how long close(), or the exit of the interpreter, tries to send what has been set

_links: dict[_Link, None] = {}  # not closed yet


class Bridge:
    """What the classes of all stores have in common."""

    def __init__(self, store: Store) -> None:
        if not _in_main_interpreter():
            raise RuntimeError(f"{type(self).__name__} need the main interpreter: a client that is stuck must be left behind")
        self._link = _Link(store)
        self.connected: Event = self._link.connected
        finalize(self, self._link.drop).atexit = False
        self._link.start()

    def event(
        self, name: str, timeout: float | None = None, *, parents: Iterable[Event] = (), set_on_timeout: bool = False
    ) -> Event:
        """Return the event of that *name*: the same object as long as this process holds it.

        The other arguments are those of `Event`. Without them, an event that exists is returned as it is. The call waits up to
        a second for the server to say whether a new event is set already, but not while the server is away.

        Raises `ValueError` if the event exists and was made with other arguments, and after `close()`.
        """
        link, options = self._link, (timeout, tuple(parents), set_on_timeout)
        link.store.check(name, "name")
        kind = type(self).__name__
        if link.closed:
            raise ValueError(f"event({name!r}) of a {kind} that is closed")
        event: RemoteEvent | None = link.events.get(name)
        if event is None:
            event = RemoteEvent(timeout, parents=options[1], set_on_timeout=set_on_timeout, name=name)
            # The waker keeps this object, and so the connections, as long as the event lives.
            event._fe_entry = Entry(kind, name, options, Waker(partial(self._send_if_set, ref(event))))
            event = link.events.add(name, event)
        entry = event._fe_entry
        if options not in ((None, (), False), entry.options):
            raise ValueError(f"{event!r} was made with timeout, parents, set_on_timeout={entry.options}, not {options}")
        if not entry.looked_up.is_set():  # also where a signal handler has interrupted the call that made it
            subscribe(event, entry.waker)
            entry.waker.wake()  # a parent or the timeout may have set it already
            link.request(name)
            if not (link.away or _is_set_within(entry.looked_up, FIRST_LOOK)):
                link.away = True  # the next call need not wait as long
        return event

    def _send_if_set(self, reference: ref[RemoteEvent]) -> None:
        event = reference()
        if event is not None and not event._fe_entry.stored:
            publish_if_set(reference, self._send)  # in the thread that sets it, because it may call code of the user's

    def _send(self, event: RemoteEvent, text: str) -> None:
        event._fe_entry.state = event._fe_entry.state or text
        self._link.send(event)

    def close(self) -> None:
        """Send what has been set here, and close the connections. No attempt to send begins after five seconds.

        The events go on in this process alone. Called again, it does nothing.
        """
        _close([self._link])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        link, kind = self._link, type(self)
        state = "closed" if link.closed else "connected" if self.connected.is_set() else "not connected"
        name = f"{kind.__module__}.{kind.__qualname__}"
        return f"<{name} {link.store.prefix!r} at {id(self):#x}: {state}, {len(link.events)} events>"


class _Link:
    """The threads of a bridge, and what they share. It keeps events alive that have not been sent, but no `Bridge`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.connected = Event(inf, name=f"{store.prefix} connected")
        self.trouble = Trouble(store)
        self.states = States(store, self.trouble)
        self.events, self.pending, self.unsent = self.states.events, self.states.pending, self.states.unsent
        self.refusals = 0  # in a row
        self.subscribed = False
        self.stale = False  # whether states may have changed without a message
        self.away = False  # whether the store does not answer
        self.closed = False
        self.generation = generation()
        self.listener = ConnectedHelper(f"fastevent {store.name.lower()} messages", self, self.serve_messages)
        self.keeper = ConnectedHelper(f"fastevent {store.name.lower()} keys", self, self.serve_states)
        _links[self] = None

    # For any thread. What set() calls takes no lock, since a signal handler may call it.

    def needed(self) -> bool:
        # A forked child makes no connection before it has an event.
        return not self.closed and (self.generation == generation() or bool(self.events))

    def start(self) -> None:
        expect_exit()
        self.listener.start_if_needed()
        self.keeper.start_if_needed()

    def send(self, event: RemoteEvent) -> None:
        """Have the state of *event* created."""
        generation()  # a forked child forgets what is unsent first
        if not self.closed:
            self.states.keep(event)
            self.request(event._fe_entry.name)

    def request(self, name: str) -> None:
        """Have the state of the event of that *name* read, or created if it is set here."""
        if not self.closed:
            if not self.states.ask_for(name):
                self.stale = True  # so all are asked for
            self.start()
            self.keeper.wake()

    def flush(self, deadline: int) -> None:
        """Leave it to the keeper to send what is unsent, until the *deadline*."""
        while self.states.all_unsent() and self.keeper.life is not None and monotonic_ns() < deadline:
            self.keeper.wake()  # ends its pause after a failure
            sleep(0.05)

    def retire(self) -> list[Life | None]:
        """End the threads, and return without waiting."""
        self.closed = True
        for thread in (self.listener, self.keeper):
            thread.unregister()
        self.keeper.wake()  # which may be the calling thread, with the last reference to an event that it has sent
        return [self.listener.ask_to_end(), self.keeper.ask_to_end()]

    def drop(self) -> None:
        """End the threads of a bridge that the program does not hold any more."""
        self.retire()
        if not self.unsent:
            _links.pop(self, None)

    def forget(self) -> None:
        """Start again in a forked child. The parent sends what is unsent."""
        self.unsent.clear()
        self.subscribed = False
        self.connected.clear()

    # For the two threads. One that was left behind in a call does nothing more when that returns.

    def failed(self, thread: ConnectedHelper, error: BaseException) -> None:
        if thread is self.listener:
            self.subscribed = False
        else:
            self.states.failed(thread.failures)
            if thread.failures > 1:
                self.away = True
                for event in self.events.held():
                    event._fe_entry.looked_up.set()
        self.connected.clear()
        if thread.failures > 1:
            self.trouble.begin(error)

    def reached(self) -> None:
        """Note that all states have been read while messages arrive."""
        set_and_notify(self.connected, call=call_in_helper)
        if not self.subscribed:  # the other thread may have cleared it in between
            self.connected.clear()
        elif not self.refusals:
            self.trouble.end()

    def serve_messages(self, session: Session) -> None:
        self.subscribed = False
        connection = session.connection
        session.call(LIMIT, connection.listen)
        while self.listener.goes_on(session.life):
            if not self.subscribed:
                self.listener.failures = 0
                self.stale = True
                self.subscribed = True  # after `stale`, for the other thread
                self.keeper.wake()
            names = session.call(SILENCE + LIMIT, connection.next_names, SILENCE)
            for name in names:
                self.receive(name)
            if not names:
                session.call(LIMIT, connection.ping)

    def receive(self, name: str | None) -> None:
        if name is None:
            self.stale = True
            self.keeper.wake()
            return
        event = self.events.get(name)
        if event is not None and not event._fe_entry.stored:
            self.request(name)

    def serve_states(self, session: Session) -> None:
        self.stale = True
        reread, again = 0, NEVER
        while True:
            if self.stale or monotonic_ns() >= reread:
                self.stale = False
                reread = deadline_after(monotonic_ns(), min(REREAD, self.store.expire / 4))
                self.pending.update((reference.key, None) for reference in self.events.valuerefs())
            subscribed = self.subscribed
            refused = self.states.exchange(session)
            if not self.keeper.goes_on(session.life):
                return
            self.keeper.failures = 0
            self.states.succeeded()
            self.away = False
            if refused is not None and again == NEVER:
                self.trouble.begin(refused)
                self.refusals += 1
                pause = min(0.25 * 2 ** min(self.refusals, 10), LONGEST_REFUSAL_PAUSE)
                again = deadline_after(monotonic_ns(), pause)
            elif again == NEVER:
                self.refusals = 0
            if subscribed and not self.stale and (self.trouble or not self.connected.is_set()):
                self.reached()
            self.keeper.rest(min(reread, again) - monotonic_ns())
            if monotonic_ns() >= again or not self.keeper.goes_on(session.life):
                return  # where the store refuses, to try again over a new connection: another server may answer there


def _is_set_within(event: Event, seconds: float) -> bool:
    """Do what `event.wait(seconds)` does, also where a test has frozen the clock."""
    token, until = Token(), deadline_after(monotonic_ns(), seconds)
    waker = Waker(token.wake)
    subscribe(event, waker)
    try:
        while not event.is_set() and (left := until - monotonic_ns()) > 0:
            token.rest(left)
    finally:
        unsubscribe(event, waker)
    return event.is_set()


# The end


class _LastSending:
    """A thread that sends what a link has not sent. It may be stuck in the client, so nothing waits for it for ever."""

    def __init__(self, link: _Link, deadline: int) -> None:
        self.link = link
        self.deadline = deadline
        self.session = Session(Life(), lambda limit: None)
        self.is_over = False
        self.ended = Token()

    def start(self) -> None:
        try:
            native.start_new_thread(self.run, ())
        except RuntimeError:  # as `_can_start_threads()` has said, so the keeper was left to send
            if self.link.keeper.life is None and not self.link.keeper.left_behind:
                self.run()
            self.is_over = True  # a keeper that is still there is stuck in the client, in which this thread would be stuck, too

    def run(self) -> None:
        try:
            while (names := self.link.states.all_unsent()) and monotonic_ns() < self.deadline:
                try:
                    self.session.connect(self.link.store)
                    self.link.pending.update(names)
                    self.link.states.exchange(self.session)
                except BaseException:  # from a user's client
                    pass
                finally:
                    self.session.close()
                if self.link.states.all_unsent():
                    sleep(0.02)
        finally:
            self.is_over = True
            self.ended.wake()

    def wait(self) -> None:
        """Wait for its end, until the deadline; then for as long again while it gets on from second to second."""
        latest, until = deadline_after(self.deadline, FLUSH), self.deadline - SECOND
        self.ended.rest(max(0, until - monotonic_ns()))
        left, before = len(self.link.states.all_unsent()), NEVER
        while not self.is_over and (monotonic_ns() < self.deadline or (left < before and monotonic_ns() < latest)):
            self.ended.rest(SECOND)
            left, before = len(self.link.states.all_unsent()), left
        self.session.interrupt()
        if left := len(self.link.states.all_unsent()):
            self.link.trouble.warn("%d events that were set have not been sent to %s", left, self.link.store.name)


def _can_start_threads() -> bool:
    """Return False as the interpreter exits, on Python 3.12."""
    try:
        native.start_new_thread(int, ())
    except RuntimeError:
        return False
    return True


def _close(links: list[_Link]) -> None:
    deadline = deadline_after(monotonic_ns(), FLUSH)
    unsent = [link for link in links if link.states.all_unsent()]
    if unsent and not _can_start_threads():
        for link in unsent:
            link.flush(deadline)
    lives = [life for link in links for life in link.retire()]
    sendings = [_LastSending(link, deadline) for link in links if link in _links]
    for sending in sendings:
        sending.start()
    for sending in sendings:
        sending.wait()
    wait_for_end(lives, max(EXIT_TIMEOUT // 10, min(EXIT_TIMEOUT, deadline - monotonic_ns())))
    for link in links:
        link.connected.clear()
        _links.pop(link, None)  # only now: if a signal handler interrupts this, the exit of the interpreter does it again


def close_all() -> None:
    _close(list(_links))


at_exit(BRIDGES, close_all)


def _in_main_interpreter() -> bool:
    for name in "_interpreters", "_xxsubinterpreters":
        with suppress(ImportError):
            interpreters: Any = import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
    return True
