"""A store in memory, for the tests of the bridge: what it answers, refuses and how long it takes is theirs to say."""

import threading
import time

from helpers import import_over


class Server:
    """What connections have in common. Tests replace `connecting`, `reading` and `creating`, which are called first."""

    def __init__(self):
        self.states, self.connections = {}, []
        self.connecting = self.reading = self.creating = lambda *_: None


class Connection:
    def __init__(self, server):
        self.server, self.names, self.changed = server, None, threading.Condition()
        server.connections.append(self)

    def read(self, names):
        self.server.reading(self, names)
        return [self.server.states.get(name) for name in names]

    def create(self, states, replace):
        self.server.creating(self, states)
        existing = [] if replace else [name for name in states if name in self.server.states]
        self.server.states.update((name, states[name]) for name in states if name not in existing)
        for connection in self.server.connections:
            connection.publish(list(states))
        return existing

    def publish(self, names):
        with self.changed:
            if self.names is not None:
                self.names += names
                self.changed.notify()

    def listen(self):
        self.names = []

    def next_names(self, seconds):
        with self.changed:
            self.changed.wait_for(lambda: self.names or self not in self.server.connections, seconds)
            names, self.names = self.names, []
            if self not in self.server.connections:
                raise ConnectionError("interrupted")
            return names

    def ping(self):
        if self not in self.server.connections:
            raise ConnectionError("gone")

    def interrupt(self):
        with self.changed:
            if self in self.server.connections:
                self.server.connections.remove(self)
            self.changed.notify()

    def close(self):
        self.interrupt()


def make(fastevent, server, expire=86_400):
    """Return a bridge of that core over the *server*."""
    bridge = import_over(fastevent, "fastevent._bridge")

    class MemoryStore(fastevent._store.Store):
        name, prefix = "Memory", "test:"

        def connect(self):
            server.connecting()
            return Connection(server)

    store = MemoryStore()
    store.expire = expire
    return bridge.Bridge(store)


def stuck(released, seconds=60):
    """Return a function that does not return until *released* is set."""

    def wait(*_):
        end = time.monotonic() + seconds
        while not released.is_set() and time.monotonic() < end:
            time.sleep(0.01)

    return wait
