"""The thread "fastevent shared": it waits for sockets, reads, and calls what other threads have posted.

Which sockets it waits for is looked up anew in each round, and is kept nowhere. So nothing is left over of a socket that has
been closed, by whomever, and a failure of one round does not reach the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from fastevent._process import expect_exit, generation, log, sleep
from fastevent._threads import Helper, Life, helpers_ended
from fastevent._time import NEVER, monotonic_ns
from fastevent.shared._sockets import Socket, pair, readable_and_writable

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 5.0  # after failures of the thread itself, in seconds


class Watched(Protocol):
    """What the thread waits for."""

    alarm_at: int
    is_full: bool
    is_broken: bool

    @property
    def socket(self) -> Socket | None: ...

    def on_ready(self, can_write: bool) -> None: ...

    def on_alarm(self) -> None: ...

    def on_broken(self) -> None: ...

    def end(self) -> None: ...


class Loop:
    """What the thread has to do in this process. A forked child has another one."""

    def __init__(self, start: Callable[[], object]) -> None:
        self.generation = generation()
        self.start = start
        self.watched: dict[Watched, None] = {}
        self.posts: deque[Callable[[], object]] = deque()
        self.can_start = True  # the thread; not in a fork handler of PyPy
        self.is_over = False  # the process exits
        self._waking: tuple[Socket, Socket] | None = None  # while the thread runs

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
        expect_exit()
        self.start()
        self.interrupt()

    def interrupt(self) -> None:
        waking = self._waking
        if waking is not None:
            with suppress(OSError):  # it has been woken often enough, or it will look at everything anyway
                waking[1].send(b"!")

    def is_needed(self) -> bool:
        is_here = self.generation == generation()  # just after a fork, this may still be what the parent has to do
        return is_here and self.can_start and not self.is_over and bool(self.posts or self.watched)

    def close(self) -> None:
        """Close all descriptors, also in a forked child."""
        for watched in list(self.watched):
            if watched.socket is not None:
                watched.socket.close()
        self.stop_waking()

    # For the thread

    def work(self, life: Life) -> None:
        failures = 0
        try:
            while self.goes_on(life):
                try:
                    self.work_once()
                    failures = 0
                except BaseException:
                    if not failures:
                        log("in the thread of shared events, which goes on")
                    failures += 1
                    self.pause(life, min(_SHORTEST_PAUSE * 2**failures, _LONGEST_PAUSE))
        finally:
            self.stop_waking()

    def goes_on(self, life: Life) -> bool:
        """Return False before a fork and at the end, which is after `multiprocessing` has waited for children."""
        return not life.ending or (bool(helpers_ended) and not self.is_over)

    def pause(self, life: Life, seconds: float) -> None:
        end = monotonic_ns() + int(seconds * 1e9)
        while self.goes_on(life) and monotonic_ns() < end:
            sleep(0.01)

    def work_once(self) -> None:
        waking = self._waking
        if waking is None or waking[0].fileno() == -1 or waking[1].fileno() == -1:
            self.stop_waking()
            waking = self._waking = pair()
        for watched in list(self.watched):
            if watched.is_broken:
                self.safely(watched.on_broken)
            elif watched.socket is not None and watched.socket.fileno() == -1:
                self.safely(watched.end)
        by_descriptor = {watched.socket.fileno(): watched for watched in list(self.watched) if watched.socket is not None}
        wanted = {descriptor: watched.is_full for descriptor, watched in by_descriptor.items() if descriptor != -1}
        wanted[waking[0].fileno()] = False
        alarm_at = 0 if self.posts else min([watched.alarm_at for watched in list(self.watched)], default=NEVER)
        seconds = None if alarm_at == NEVER else max(0, alarm_at - monotonic_ns()) / 1e9
        for descriptor, can_write in readable_and_writable(wanted, seconds).items():
            if descriptor == waking[0].fileno():
                with suppress(OSError):
                    waking[0].receive(4_096)
            elif descriptor in by_descriptor:
                self.safely(partial(by_descriptor[descriptor].on_ready, can_write))
        while self.posts:
            self.safely(self.posts.popleft())
        for watched in list(self.watched):
            if watched.alarm_at <= monotonic_ns():
                self.safely(watched.on_alarm)

    def safely(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException:  # of a finalizer, for instance: the thread is for all events
            log("in the thread of shared events")

    def stop_waking(self) -> None:
        waking, self._waking = self._waking, None
        for end in waking or ():
            end.close()


class Thread(Helper):
    """The thread itself. It rests in `Loop.work_once()`, and outlives the other helpers as the process exits."""

    def __init__(self, loop: Callable[[], Loop]) -> None:
        super().__init__("fastevent shared", lambda life: loop().work(life), lambda: loop().is_needed())
        self._loop = loop

    def wake(self) -> None:
        self._loop().interrupt()

    def ask_to_end(self) -> Life | None:
        return None if helpers_ended and not self._loop().is_over else super().ask_to_end()
