"""An event with all that can hang on one, for the faults: what they do to a plain event, they do to this one."""

from fastevent import Event
from fastevent._subscribers import Waker


class Watched(Event):
    """It has a child, which has a child, and every set() calls a callback and what `wait_any()` and coroutines wait by."""

    def __init__(self, timeout=None):
        super().__init__(timeout)
        self.child = Event(parents=[self])
        self.grandchild = Event(parents=[self.child])
        self.calls = []
        self._listen()

    def clear(self):
        super().clear()
        self.child.clear()
        self.grandchild.clear()
        self._listen()

    def _listen(self):
        if self.status().callbacks < 2:
            self.add_callback(Watched._called)
            self._fe_subscribe(Waker(Watched._called))

    def _called(self):
        if len(self.calls) < 1000:
            self.calls.append(self.reason)
