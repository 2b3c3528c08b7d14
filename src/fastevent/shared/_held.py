"""The shared events that this process holds."""

from __future__ import annotations

import weakref
from typing import Any

from fastevent._notify import call_in_helper, set_and_notify
from fastevent.shared._place import Home

#: What identifies an event in all processes: its home, and its number there.
Key = tuple[Home, int]


class Reference(weakref.ref[Any]):
    """A weak reference to a shared event, equal to itself alone."""

    __slots__ = ("key",)
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    key: Key


class Held:
    """References to the events, by key: of each mostly one."""

    def __init__(self) -> None:
        self.references: dict[Key, dict[Reference, None]] = {}

    def add(self, reference: Reference) -> None:
        while True:
            references = self.references.setdefault(reference.key, {})
            references[reference] = None
            if self.references.get(reference.key) is references:  # if not, remove() has just taken it out
                return

    def remove(self, reference: Reference) -> list[Reference] | None:
        """Return None if the event is still held by another reference; otherwise, those that were removed with this one."""
        references = self.references.get(reference.key, {})
        references.pop(reference, None)
        return None if references else list(self.references.pop(reference.key, ()))

    def references_to(self, key: Key) -> list[Reference]:
        return list(self.references.get(key, ()))

    def of(self, key: Key) -> list[Any]:
        return [event for reference in self.references_to(key) if (event := reference()) is not None]

    def of_home(self, home: Home) -> list[tuple[int, Any]]:
        return [(number, event) for of, number in list(self.references) if of == home for event in self.of((of, number))]

    def homes(self) -> list[Home]:
        return list({home: None for home, _ in list(self.references)})

    def arrived(self, key: Key, reason: object) -> None:
        """Set the event, because it is set elsewhere."""
        for event in self.of(key):
            set_and_notify(event, reason, call=call_in_helper)
