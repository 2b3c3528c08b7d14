"""The thread "fastevent shared": it waits for sockets, reads, and calls what other threads have posted.

Which sockets it waits for is looked up anew in each round, and is kept nowhere. So nothing is left over of a socket that the
program or this package has closed, and a failure of one round does not reach the next. A thread that nobody can wake, because
the program has closed the sockets for that, is left behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from fastevent._process import Claim, expect_exit, generation, log, native, sleep
from fastevent._threads import Helper, Life, helpers_ended
from fastevent._time import SECOND, monotonic_ns
from fastevent.shared._sockets import Socket, pair, readable_and_writable

_SHORTEST_PAUSE, _LONGEST_PAUSE = SECOND // 50, 5 * SECOND  # after failures of the thread itself
#: Until the thread looks whether its sockets are still there: as long as it has run. The system does not say
#: that the program has closed and replaced the descriptors for which a thread waits. Daemons do that soon after they begin.
_SHORTEST_LOOK, _LONGEST_LOOK = SECOND // 20, 60 * SECOND
#: After the program has closed descriptors, until the thread makes others: meanwhile, the program may be opening its own.
AFTER_CLOSING = SECOND // 20

Ends = tuple[Socket, Socket]


class Watched(Protocol):
    """What the thread waits for."""

    is_full: bool
    is_broken: bool

    @property
    def alarm_at(self) -> int:
        """When `on_alarm()` is to be called."""
        raise NotImplementedError

    @property
    def socket(self) -> Socket | None: ...

    def on_ready(self, can_write: bool) -> None: ...

    def on_alarm(self) -> None: ...

    def on_broken(self) -> None: ...

    def end(self) -> None: ...


class Waking:
    """Two sockets, one at each end: what any thread writes into one of them wakes the thread that waits for the other.

    They belong to the process, and outlive the thread, which ends at each fork.
    """

    def __init__(self) -> None:
        self._pairs: dict[str, Ends] = {}  # "present"

    @property
    def ends(self) -> Ends | None:
        return self._pairs.get("present")

    def make(self) -> Ends:
        """Make the sockets, unless they are there. Raises `OSError`."""
        ends = self.ends
        if ends is None:
            made = pair()
            ends = self._pairs.setdefault("present", made)
            if ends is not made:
                self.close(made)
        return ends

    def wake(self) -> bool:
        """End the present waiting of the thread. Return False if it waits for a socket that the program has closed."""
        ends = self.ends
        if ends is None:  # it will look at everything anyway
            return True
        try:
            ends[1].send(b"!")
        except BlockingIOError:  # it has been woken often enough
            pass
        except OSError:
            if self._pairs.pop("present", None) is not None:
                self.close(ends)
                with suppress(OSError):
                    self.make()
                return False
        return True

    def works(self, ends: Ends) -> bool:
        return self.ends is ends and -1 not in (ends[0].fileno(), ends[1].fileno())

    def close(self, ends: Ends | None) -> None:
        if ends is not None:
            if self.ends is ends:
                self._pairs.pop("present", None)
            for end in ends:
                end.close()


class Loop:
    """What the thread has to do in this process. A forked child has another one."""

    def __init__(self, start: Callable[[], object], leave_behind: Callable[[], object]) -> None:
        self.generation = generation()
        self.start = start
        self.leave_behind = leave_behind
        self.watched: dict[Watched, None] = {}
        self.posts: deque[Callable[[], object]] = deque()
        self.can_start = True  # the thread; not in a fork handler of PyPy
        self.is_over = False  # the process exits
        self._waking = Waking()
        self._thread = 0  # the ident of the present one
        self._round = Claim()  # of a thread, while it does what there is to do

    # For any thread and any signal handler

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the thread call *function*. Where the thread cannot start, the next call tries again."""
        self.posts.append(partial(function, *arguments))
        self.wake()

    def watch(self, watched: Watched) -> None:
        self.watched[watched] = None
        self.wake()

    def wake(self) -> None:
        """End the present waiting of the thread, or the next one."""
        if self.is_over or native.get_ident() == self._thread:  # which looks at everything before it waits
            return
        expect_exit()
        with suppress(OSError):  # where no descriptor is left, the thread tries again
            self._waking.make()  # here and not in the thread: just after a fork, a program may be replacing its descriptors
        self.start()
        self.interrupt()

    def interrupt(self) -> None:
        if not self._waking.wake():
            self.leave_behind()

    def is_needed(self) -> bool:
        is_here = self.generation == generation()  # just after a fork, this may still be what the parent has to do
        return is_here and self.can_start and not self.is_over and bool(self.posts or self.watched)

    def close(self) -> None:
        """Close all descriptors, also in a forked child."""
        for watched in list(self.watched):
            if watched.socket is not None:
                watched.socket.close()
        self._waking.close(self._waking.ends)

    # For the thread

    def work(self, life: Life) -> None:
        self._thread = me = native.get_ident()
        try:
            self._keep_working(life)
        finally:
            if self._thread == me:
                self._thread = 0

    def _keep_working(self, life: Life) -> None:
        failures, began = 0, monotonic_ns()
        while self.goes_on(life):
            try:
                self._work_until(life, monotonic_ns() + min(max(_SHORTEST_LOOK, monotonic_ns() - began), _LONGEST_LOOK))
                failures = 0
            except BaseException:
                if not failures:
                    log("in the thread of shared events, which goes on")
                failures += 1
                self.pause(life, min(_SHORTEST_PAUSE << min(failures, 20), _LONGEST_PAUSE))

    def _work_until(self, life: Life, look_at: int) -> None:
        """Look which sockets the program has closed, and then work for that time, or until there is reason to look again."""
        waking = self._waking.make()
        if not self._waking.works(waking):
            self._waking.close(waking)
            self.pause(life, AFTER_CLOSING)
            return
        for watched in list(self.watched):
            if watched.socket is not None and watched.socket.fileno() == -1:
                self.safely(watched.end)
        while self.goes_on(life) and monotonic_ns() < look_at and self.work_once(life, waking[0], look_at):
            pass

    def goes_on(self, life: Life) -> bool:
        """Return False before a fork and at the end, which is after `multiprocessing` has waited for children."""
        return not life.ending or (bool(helpers_ended) and not self.is_over)

    def pause(self, life: Life, nanoseconds: int) -> None:
        end = monotonic_ns() + nanoseconds
        while self.goes_on(life) and monotonic_ns() < end:
            sleep(0.01)

    def work_once(self, life: Life, waking: Socket, look_at: int) -> bool:
        """Return False if the program has closed a socket."""
        with_sockets = [(watched, sock.number) for watched in list(self.watched) if (sock := watched.socket) is not None]
        by_number = {number: watched for watched, number in with_sockets}
        if len(by_number) < len(with_sockets):  # a later socket has got the number of that one
            return False
        wanted = {number: watched.is_full for watched, number in with_sockets}
        to_wake = waking.number  # once: another thread that finds it closed makes others
        wanted[to_wake] = False
        wanted.pop(-1, None)
        has_work = bool(self.posts) or any(watched.is_broken for watched in list(self.watched))
        wake_at = 0 if has_work else min([look_at, *[watched.alarm_at for watched in list(self.watched)]])
        ready = readable_and_writable(wanted, max(0, wake_at - monotonic_ns()) / 1e9)
        if not self.goes_on(life):
            return True
        if not self._round.take(life):  # a thread that was left behind has not finished its own
            sleep(0.001)
            return True
        can_be_woken = True
        try:
            if ready.pop(to_wake, None) is not None:
                can_be_woken = not waking.is_at_end()
            self._do_what_there_is({by_number[number]: can_write for number, can_write in ready.items()})
        finally:
            self._round.give_back(life)
        return can_be_woken

    def _do_what_there_is(self, ready: dict[Watched, bool]) -> None:
        for watched, can_write in ready.items():
            self.safely(partial(watched.on_ready, can_write))
        self.do_posts()
        for watched in list(self.watched):
            if watched.alarm_at <= monotonic_ns():
                self.safely(watched.on_alarm)
            elif watched.is_broken:
                self.safely(watched.on_broken)

    def do_posts(self) -> None:
        for _ in range(len(self.posts)):  # not what they post in turn: one that must wait for another thread posts itself again
            self.safely(self.posts.popleft())

    def safely(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException:  # of a finalizer, for instance: the thread is for all events
            log("in the thread of shared events")


class Thread(Helper):
    """The thread itself. It rests in `Loop.work_once()`, and outlives the other helpers as the process exits."""

    def __init__(self, loop: Callable[[], Loop]) -> None:
        super().__init__("fastevent shared", lambda life: loop().work(life), lambda: loop().is_needed())
        self._loop = loop

    def wake(self) -> None:
        self._loop().interrupt()

    def ask_to_end(self) -> Life | None:
        return None if helpers_ended and not self._loop().is_over else super().ask_to_end()
