"""A self-setting event with all that can depend on one, for the faults."""

from fastevent import Event
from fastevent._notify import Waker, subscribe


class Watched(Event):
    """It has a child, which has a child, and every set() calls a callback and a waker. Its deadline moves at every clear()."""

    def __init__(self, timeout=300):
        super().__init__(timeout, set_on_timeout=True)
        self.child = Event(parents=[self])
        self.grandchild = self.child.child(300)
        self.calls = []
        self.wakes = []
        subscribe(self, Waker(self._woken))
        self.add_callback(Watched._called)

    def clear(self):
        super().clear()
        self.restart_timeout(200)  # nearer, which wakes all that wait
        self.restart_timeout(300)
        self.child.clear()
        self.grandchild.clear()
        if not self.status().callbacks:
            self.add_callback(Watched._called)

    def check_subscribers(self):
        """Check that a set() has reached them all."""
        status = self.status()
        assert self.grandchild.is_set() and self.calls and self.wakes
        assert (status.callbacks, status.children, status.waiters, status.timed_out) == (0, 1, 0, False)
        assert not self.restart_timeout()

    def _called(self):
        if len(self.calls) < 1000:
            self.calls.append(self.reason)

    def _woken(self):
        if len(self.wakes) < 1000:
            self.wakes.append(self.flag)
