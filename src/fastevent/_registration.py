"""A function that is called once when an event is set."""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import compress, starmap
from operator import is_
from types import BuiltinFunctionType, FunctionType, TracebackType
from typing import TYPE_CHECKING, Any
from weakref import ref

from fastevent._notify import call_now
from fastevent._process import Thread, Token, exists, this_thread
from fastevent._time import begin_wait

if TYPE_CHECKING:
    from fastevent._core_py import EventCore

#: `inspect.CO_COROUTINE`. To import inspect for it would take a quarter of the time that this package takes to import.
_COROUTINE = 0x80

#: Whether a signal handler may run between any two steps of Python, and not only as a function begins and at the end of a call.
_ANYWHERE = sys.version_info < (3, 11) or sys.implementation.name != "cpython"


class Registration:
    """What `Event.add_callback()` and `Event.callback()` return: a function that is called once when the event is set.

    As a context manager it ends with the block: then the function is not running in another thread, and will not be called.

    It does not keep the event alive. The event keeps it, and so the function, until the call or until `remove()`.

    Thread safety: safe on shared objects.
    """

    __slots__ = ("__weakref__", "_args", "_claims", "_event", "_function", "_kwargs")

    def __init__(
        self, event: EventCore, function: Callable[..., object], args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None
    ) -> None:
        kind = type(function)
        if kind is FunctionType:
            if function.__code__.co_flags & _COROUTINE:
                check_callback(function)
        elif kind is not BuiltinFunctionType:
            check_callback(function)
        self._event = ref(event)
        self._function = function
        self._args = args  # None: the function is called with the event
        self._kwargs = kwargs
        # "call": which green thread and which thread make the call, or None if it was removed before. "end": None at the end of
        # the call, or the token of a thread that waits for that. The first thread that writes a key decides.
        self._claims: dict[str, Any] = {}
        try:
            if event._fe_add_callback(self):
                call_now(event, self, self)
        except BaseException:  # from a signal handler: the caller gets no registration
            self.remove()
            raise

    def remove(self) -> bool:
        """Take the function back. Return True if it has not been called and will not be, False if the call has begun.

        Thread safety: safe on shared objects. It never waits: a call that has begun goes on.
        """
        in_time = self._claims.setdefault("call", None) is None
        event = self._event() if in_time else None
        if event is not None:
            event._fe_callbacks.pop(self, None)
        return in_time

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Remove the function. Wait for the end of a call that another thread has begun.

        An exception from a signal handler, such as Ctrl-C, ends that waiting, and the promise with it.
        """
        try:
            in_time = self.remove()
        except BaseException:  # from a signal handler
            self.remove()
            raise
        if not in_time:
            self._wait()

    def __call__(self, event: EventCore) -> None:
        """Call the function, unless that has been done or it was removed."""
        claims, has_begun = self._claims, False
        thread = get_ident(), this_thread()  # a tuple of this call alone
        try:
            if _ANYWHERE:
                self._claim_and_call(event, thread)
            elif claims.setdefault("call", thread) is thread:
                has_begun = True
                if self._args is None or self._kwargs is None:
                    self._function(event)
                else:
                    self._function(*self._args, **self._kwargs)
        finally:
            try:
                if has_begun or (_ANYWHERE and claims.get("call") is thread):
                    event._fe_callbacks.pop(self, None)  # only now, so that no interruption loses the call
                    if claims.setdefault("end", None) is not None:
                        self._wake()
                elif claims.get("call") is thread:  # a signal handler has raised: `set_and_notify()` makes another attempt
                    claims.pop("call", None)
                    if claims.get("end") is not None:
                        claims["end"].wake()
            except BaseException:  # from a signal handler: a thread would wait for ever
                if claims.setdefault("end", None) is not None:
                    self._wake()
                raise

    @property
    def is_pending(self) -> bool:
        """Whether the call has not begun, and may still come."""
        return "call" not in self._claims

    def __repr__(self) -> str:
        return f"<fastevent.Registration of {self._function!r} at {id(self):#x}>"

    def _claim_and_call(self, event: EventCore, thread: tuple[int, Thread]) -> None:
        # if claims.setdefault("call", thread) is thread: function(*args, **kwargs)
        claimed = map(is_, map(self._claims.setdefault, ("call",), (thread,)), (thread,))
        args = (event,) if self._args is None else self._args
        function = partial(self._function, **self._kwargs) if self._kwargs else self._function
        deque(starmap(function, compress((args,), claimed)), 0)  # in one step, as far as signals go

    def _wake(self) -> None:
        self._claims["over"] = True
        self._claims["end"].wake()

    def _wait(self) -> None:
        """Wait for the end of the call, unless this thread makes it, or a fork has left its thread behind."""
        token: Token | None = None
        while not self.remove():
            call = self._claims.get("call")
            if call is None:  # an exception has come before it began
                continue
            ident, thread = call
            if ident == get_ident() or not exists(thread) or thread[0] not in sys._current_frames():
                break
            token = self._claims.setdefault("end", Token(allocate_lock))
            if token is None or "over" in self._claims:
                break
            token.rest(begin_wait())
        if token is not None:
            token.wake()  # for another thread that waits


def check_callback(function: Any, what: str = "a callback") -> None:
    """Raise `TypeError` if *function* cannot be called, or is a coroutine function, which does nothing when it is called."""
    if not callable(function):
        raise TypeError(f"{what} must be callable, not {function!r}")
    called = function.func if isinstance(function, partial) else function
    code = getattr(called, "__code__", None) or getattr(type(called).__call__, "__code__", None)
    if code is not None and code.co_flags & _COROUTINE:
        raise TypeError(
            f"{what} must be a plain function, not the coroutine function {function!r}: "
            "in asyncio, call loop.call_soon_threadsafe(loop.create_task, …) in a plain one"
        )
