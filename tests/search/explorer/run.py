"""What the threads of a scenario can do with an event, and what must hold then."""

from explorer.schedules import Schedule, every_schedule
from explorer.shared import SECOND, TIMED_OUT, Flaw, History


def explore(core, *threads, timeout=None, set_on_timeout=False, first=None):
    """Run the *threads*, functions of a `Run`, over an event with this *timeout* in all schedules. Return how many these are.

    What is to be done *first* is done before they start.

    Raises `Flaw` for the first schedule that ends as none may.
    """
    return every_schedule(lambda path: Run(core, path, threads, timeout, set_on_timeout, first))


class Run(Schedule):
    def __init__(self, core, path, threads, timeout, set_on_timeout, first):
        super().__init__(path, (*threads, Run.set_at_last))
        self.core = core
        self.options = timeout, set_on_timeout
        self.first = first
        self.now = 0
        self.timers = []  # in place of the helper thread: what it has to do
        self.histories = {}  # of the events
        self.until = {}  # of every thread that waits: before when it must not return False
        self.timeouts = {}  # and the argument of its call
        self.released = set()  # the threads that waited when a set() came
        self.reasons = {}  # of every thread in set()
        self.clearing = []  # the threads in clear()
        self.children = []
        self.callbacks = []

    def begin(self):
        self.event = self.new_event(*self.options)
        if self.first:
            self.first(self)

    def new_event(self, timeout=None, set_on_timeout=False):
        """Return an event whose history is kept; with "bare" for a timeout, of a subclass that never calls `__init__`."""
        event = self.core.Event.__new__(self.core.Event)
        self.histories[event] = History(f"event {len(self.histories)}", event)
        if timeout != "bare":
            event.__init__(timeout, set_on_timeout=set_on_timeout)
        self.histories[event].allows = lambda reason: reason is self.reasons.get(self.current, reason)
        return event

    @property
    def history(self):
        return self.histories[self.event]

    def blocks(self):
        """Give a signal the opportunity to come to a thread that is blocked."""
        if self.current in self.interrupts:
            self.interrupts[self.current].opportunity()

    def during(self, what, call, reads=frozenset(), writes=frozenset()):
        """Make the *call*. Return its answer, and the states that the event had meanwhile, from the first to the last."""
        history = self.history
        reads = {*reads, *(known.name for known in self.histories.values())}
        self.step(f"{what} begins", reads)
        first = max(len(history.states) - 1, 0)
        answer = call()
        self.step(f"{what} is {answer}", reads, writes)
        return answer, history.states[first:]

    def wait(self, timeout=None, until=float("inf")):
        """Call `wait(timeout)`. False is right *until* that time at the earliest, without a timeout."""
        self._wait("wait()", lambda: self.event.wait(timeout), timeout, until)

    def wait_any(self, timeout=None, until=float("inf")):
        """Call `wait_any()` for the event."""
        self._wait("wait_any()", lambda: self.core.wait_any([self.event], timeout), timeout, until)

    def _wait(self, what, call, timeout, until):
        me = self.current
        reads = set() if timeout is None else {"clock"}
        self.step(f"{what} is called", reads)
        self.until[me] = until if timeout is None else self.now + timeout * SECOND
        self.timeouts[me] = timeout
        try:
            answer, states = self.during(what, call, reads)
            if answer and not any(state.is_set for state in states):
                raise Flaw("True without a set()")
            if not answer and me in self.released:
                raise Flaw("False in spite of a set()")
            if not answer and self.now < self.until[me]:
                raise Flaw("False too early")
        finally:
            self.until.pop(me, None)
            self.released.discard(me)
            if self.current is not None and me in self.history.waiting():
                raise Flaw("a waiter is left behind")

    def set(self, reason=None):
        """Call `set(reason)`: the event was set then, for that reason or for an earlier one, and its children are."""
        self._set("set()", reason, lambda: self.event.set(reason))

    def expire(self):
        """Set the event if its timeout has passed, as the timer of a self-setting event does."""
        self._set("expire()", TIMED_OUT, lambda: self.core.notify.set_and_notify(self.event, TIMED_OUT, only_if_expired=True))

    def _set(self, what, reason, call):
        self.step("the children are noted", {"children"})
        children = [self.histories[child] for child in self.children]
        me = self.current
        self.reasons[me] = reason
        try:
            _, states = self.during(what, call)
        finally:
            del self.reasons[me]
        sets = [state.is_set for state in states]
        if reason is not TIMED_OUT and not any(sets):
            raise Flaw("set() has no effect")
        # A timeout that comes too late promises nothing.
        if (all(sets) if reason is TIMED_OUT else any(sets)) and not all(child.is_set() for child in children):
            raise Flaw("set() does not set a child")

    def clear(self):
        """Call `clear()`: the event was unset then, and the timeout restarted."""
        self.step("clear() is called", {"clock"})
        now = self.now
        self.clearing.append(self.current)
        _, states = self.during("clear()", self.event.clear)
        self.clearing.remove(self.current)
        if not any(not state.is_set and (state.seconds is None or state.start >= now) for state in states):
            raise Flaw("clear() has no effect")

    def restart(self, seconds):
        """Call `restart_timeout(seconds)`: True if the timeout restarted then, False if the event was set or had timed out."""
        self.step("restart_timeout() is called", {"clock"})
        now = self.now
        answer, states = self.during("restart_timeout()", lambda: self.event.restart_timeout(seconds), {"clock"})
        if answer and not any(not s.is_set and s.start >= now and s.seconds == seconds for s in states):
            raise Flaw("restart_timeout() has no effect")
        if not answer and not any(state.is_set or self.now >= state.deadline for state in states):
            raise Flaw("restart_timeout() is refused in time")

    def read(self):
        """Read flag and reason: each is what it was at some moment of the call."""
        is_set, states = self.during("is_set()", self.event.is_set)
        if is_set not in [state.is_set for state in states]:
            raise Flaw(f"is_set() is {is_set}")
        reason, states = self.during("reason", lambda: self.event.reason)
        if reason not in [state.reason for state in states]:
            raise Flaw(f"the reason is {reason!r}")

    def add_child(self):
        """Add a child. It is set by each set() from now on, and for no other reason."""
        child = self.new_event()
        parent, history = self.history, self.histories[child]
        first = None

        def add_child():
            nonlocal first
            first = max(len(parent.states) - 1, 0)
            self.core.notify.add_child(self.event, child)

        history.reads = {parent.name}
        history.allows = lambda reason: any(state.is_set and state.reason is reason for state in parent.states[first:])
        _, states = self.during("add_child()", add_child, writes={"children"})
        if all(state.is_set for state in states) and not history.is_set():
            raise Flaw("a child of a set parent is not set")
        self.children.append(child)

    def add_callback(self):
        """Add a callback and return its registration. A set() calls it that is in progress or is yet to come."""
        history = self.history
        first = None
        calls = []

        def callback(event):
            self.step("the callback is called", {history.name})
            if not any(state.is_set for state in history.states[first:]):
                self.error = Flaw("a callback is called for a set() of the past")
            calls.append(event)

        def add_callback():
            nonlocal first
            first = max(len(history.states) - 1, 0)
            return self.event.add_callback(callback)

        gone = []
        self.callbacks.append((callback, calls, gone))
        registration, _ = self.during("add_callback()", add_callback)
        return registration, gone

    def remove(self, registration, gone):
        in_time, _ = self.during("remove()", registration.remove)
        gone.extend([self.event] * in_time)

    def tick(self):
        """Let a second pass."""
        self.step("a second passes", writes={"clock"})
        self.now += SECOND

    def keep_deadlines(self):
        """Do what the helper thread "fastevent timers" does."""
        while True:
            self.step("a deadline has come", {"clock", "timers"}, {"timers"}, lambda: self.is_quiet or self._next_timer())
            timer = self._next_timer()
            if timer is None:
                return
            self.timers.remove(timer)
            _, fire, reference = timer
            fire(reference)

    def _next_timer(self):
        return next((timer for timer in self.timers if timer[0] <= self.now), None)

    def check_quiet(self):
        """Check that each thread that waits does so by right: no set() has come for it, and its deadline has not passed."""
        others = (Run.set_at_last, Run.keep_deadlines)
        blocked = [number for number in self.pending if self.threads[number] not in others]
        newest = self.history.states[-1]
        if self.released.intersection(blocked) or (blocked and newest.is_set):
            self.error = Flaw(f"{self.names(blocked)} waits in spite of a set()")
        elif self.now >= newest.deadline and any(self.timeouts[number] is None for number in blocked):
            self.error = Flaw(f"{self.names(blocked)} waits in spite of its timeout")
        elif self.event._fe_self_setting and not newest.is_set and self.now >= newest.deadline:
            self.error = Flaw("a self-setting event is not set")
        elif newest.is_set:
            self._check_subscribers()

    def check_end(self, left):
        if left:
            self.error = Flaw(f"{self.names(left)} hangs")
        else:
            self._check_subscribers()

    def _check_subscribers(self):
        """Check, after a set(), that all subscribers were notified: a callback once, if it was not removed."""
        if not all(self.histories[child].is_set() for child in self.children):
            self.error = Flaw("a child is not set")
        for _, calls, removed in self.callbacks:
            if len(calls) + len(removed) != 1:
                self.error = Flaw(f"a callback is called {len(calls)} times, and removed {len(removed)} times")

    def set_at_last(self):
        """Wake the threads that are blocked by right. Then each must come to an end."""
        self.step("the others are done or wait", ready=lambda: self.is_quiet)
        self.event.set()
