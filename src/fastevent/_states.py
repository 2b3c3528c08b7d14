"""The events of a bridge that the program holds, and how their states are read and created."""

from __future__ import annotations

import random
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import KeyedRef, WeakValueDictionary

from fastevent._core import attach_polls
from fastevent._event import Event
from fastevent._notify import Waker, call_in_helper, set_and_notify
from fastevent._reasons import decode, encode
from fastevent._session import Session
from fastevent._set_once import SetOnce
from fastevent._store import Refused, Store, Trouble
from fastevent._time import NEVER, deadline_after, monotonic_ns

BATCH = 500  # names in one round trip; fewer after a failure, in case the network is too slow for that many
MOST_UNSENT = 32_768  # set events that are kept for the store; those that the program holds are kept anyway


class Entry:
    """What a bridge knows of an event."""

    __slots__ = ("kind", "looked_up", "name", "options", "renew_at", "state", "stored", "waker")

    def __init__(self, kind: str, name: str, options: tuple[Any, ...], waker: Waker) -> None:
        self.kind = kind
        self.name = name
        self.options = options  # as passed to event()
        self.waker = waker  # has it sent
        self.looked_up = Event(inf)  # set after the first look at the store
        self.state: str | None = None  # for the store, once the event has been set here
        self.stored = False  # whether the store had a state when it was last asked
        self.renew_at = NEVER  # when the state, which this process has created, needs a new time to expire


class RemoteEvent(SetOnce):
    # What event() of a bridge returns. It has no docstring of its own, so that help() shows that of Event.

    __slots__ = ("_fe_entry",)

    if TYPE_CHECKING:
        _fe_entry: Entry

    @property
    def _fe_why_not_clear(self) -> str:  # type: ignore[override]
        return f"an event of {self._fe_entry.kind} stays set on all machines: use another name for the next attempt"

    @property
    def _fe_why_not_restart(self) -> str:  # type: ignore[override]
        return f"the timeout of an event of {self._fe_entry.kind} cannot restart: use an Event with this one for a parent"


attach_polls(RemoteEvent)


class Events(WeakValueDictionary[str, RemoteEvent]):
    """The events of a bridge that the program holds, by name."""

    def add(self, name: str, event: RemoteEvent) -> RemoteEvent:
        """Add *event* unless there is one of that *name*. Return the one that there is.

        That is one step, which no thread, signal handler or finalizer comes into; `setdefault()` is several.
        """
        data, remove = vars(self)["data"], vars(self)["_remove"]
        reference = KeyedRef(event, remove, name)
        while (found := data.setdefault(name, reference)()) is None:
            remove(reference)  # takes out an event that no longer exists
        first: RemoteEvent = found
        return first

    def held(self) -> list[RemoteEvent]:
        # Not by values(): that iteration fails if another thread adds one.
        return [event for reference in self.valuerefs() if (event := reference()) is not None]


class States:
    """What is to be read and created."""

    def __init__(self, store: Store, trouble: Trouble) -> None:
        self.store = store
        self.trouble = trouble
        self.events = Events()
        self.pending: dict[str, None] = {}  # the names whose states are to be read or created
        self.unsent: dict[str, RemoteEvent] = {}  # set here and not stored yet
        self.batch = BATCH

    def ask_for(self, name: str) -> bool:
        """Have the state of that *name* read, or created if it is set here. Return False if too many are waiting."""
        has_room = len(self.pending) < MOST_UNSENT
        if has_room:
            self.pending[name] = None
        return has_room

    def keep(self, event: RemoteEvent) -> None:
        """Keep a set *event* until its state has been created."""
        name = event._fe_entry.name
        if len(self.unsent) < MOST_UNSENT:
            self.unsent[name] = event
        elif name not in self.unsent:
            text = "%d set events wait for %s; of more, those that the program does not hold are lost"
            self.trouble.warn_once(text, MOST_UNSENT, self.store.name)

    def all_unsent(self) -> dict[str, None]:
        """Return the names of all events that are set and have not been sent, also of those that only the program keeps."""
        return dict.fromkeys([*self.unsent, *(event._fe_entry.name for event in self.events.held() if _is_unsent(event))])

    def failed(self, failures: int) -> None:
        self.pending.clear()  # it must not grow while the store is away; afterwards all states are read
        self.batch = max(1, BATCH >> failures)

    def succeeded(self) -> None:
        self.batch = BATCH

    def exchange(self, session: Session) -> Refused | None:
        """Read the states of the pending names, then create those of events that have been set here.

        Return why the store has refused to create some of them, or None.
        """
        to_create: list[RemoteEvent] = []
        for batch in self.batches(list(self.pending)):
            for name in batch:
                self.pending.pop(name, None)  # before the look: a message that comes later asks for another
            events = [event for name in batch if (event := self.events.get(name)) is not None]
            self.read(session, [event for event in events if event._fe_entry.state is None or event._fe_entry.stored])
            to_create += [event for event in events if _is_unsent(event)]
            for event in events:
                event._fe_entry.looked_up.set()
        return self.create(session, to_create)

    def read(self, session: Session, events: list[RemoteEvent]) -> None:
        renew, now = {}, monotonic_ns()
        for event, state in zip(events, session.read([event._fe_entry.name for event in events]), strict=True):
            entry = event._fe_entry
            entry.stored = state is not None and self.arrived(event, state)
            if not entry.stored:
                entry.renew_at = NEVER
            elif entry.renew_at <= now and entry.state is not None:
                renew[entry.name] = entry.state
                entry.renew_at = self.renew_at()
        with suppress(Refused):
            session.create(renew, replace=True)

    def arrived(self, event: RemoteEvent, state: str | bytes) -> bool:
        """Set *event* for the reason that is stored. Return False if it is none."""
        try:
            reason = decode(state)
        except Exception:  # of any kind, because any program may have written it
            self.note_junk(event._fe_entry.name, state)
            return False
        if not event._fe_read().is_set:
            event._fe_entry.stored = True  # first, so that it is not sent
            set_and_notify(event, reason, call=call_in_helper)
        return True

    def note_junk(self, name: str, state: object) -> None:
        self.trouble.warn_once("%r in %s holds no reason: %.100r", self.store.prefix + name, self.store.name, state)

    def create(self, session: Session, events: list[RemoteEvent]) -> Refused | None:
        refused: Refused | None = None
        for batch in self.batches(events):
            try:
                self.create_batch(session, batch)
            except Refused as error:
                refused = error
                if not self.create_singly(session, batch):
                    break
        return refused

    def create_singly(self, session: Session, events: list[RemoteEvent]) -> bool:
        """Create what the store does not refuse. Return False if it refuses whatever is asked of it."""
        refusals = 0
        random.shuffle(events)  # so that a few that are refused do not stand in the way of others
        for event in events:
            try:
                self.create_batch(session, [event])
                refusals = 0
            except Refused:
                refusals += 1
                if refusals == 4:
                    return False
        return True

    def create_batch(self, session: Session, events: list[RemoteEvent]) -> None:
        states = {event._fe_entry.name: event._fe_entry.state or encode(event._fe_read().reason) for event in events}
        existing = session.create(states)
        junk = {}
        for name, state in zip(existing, session.read(existing), strict=True):
            try:
                decode(state or "")
            except Exception:
                self.note_junk(name, state)
                junk[name] = states[name]
        session.create(junk, replace=True)
        for event in events:
            entry = event._fe_entry
            entry.stored = True
            if entry.name not in existing or entry.name in junk:
                entry.state, entry.renew_at = states[entry.name], self.renew_at()
            self.unsent.pop(entry.name, None)

    def renew_at(self) -> int:
        return deadline_after(monotonic_ns(), self.store.expire / 2)

    def batches(self, items: list[Any]) -> list[list[Any]]:
        return [items[first : first + self.batch] for first in range(0, len(items), self.batch)]


def _is_unsent(event: RemoteEvent) -> bool:
    return event._fe_read().is_set and not event._fe_entry.stored
