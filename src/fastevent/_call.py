"""A call that is made once, or never: in Python. The compiled core has its own, which differs only in speed."""

from __future__ import annotations

import sys
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import compress, starmap
from operator import is_
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any
from weakref import ref

from fastevent._process import Thread, Token, this_thread

if TYPE_CHECKING:
    from fastevent._core_py import EventCore

#: `inspect.CO_COROUTINE`. To import inspect for it would take a quarter of the time that this package takes to import.
_COROUTINE = 0x80

#: Whether a signal handler may run between any two steps of Python, and not only as a function begins and at the end of a call.
_ANYWHERE = sys.version_info < (3, 11) or sys.implementation.name != "cpython"


class Call:
    """A call of a function, which is made when an event is set. See `Registration`, which is made of it."""

    __slots__ = ("__weakref__", "_args", "_claims", "_event", "_function", "_kwargs")

    _event: ref[EventCore]
    _function: Callable[..., object]
    _args: tuple[Any, ...] | None  # None: the function is called with the event
    _kwargs: dict[str, Any] | None
    #: "caller": the green thread and the thread that make the call, or None if it was removed before. "token": what threads
    #: rest on that wait for the end, or None after it. The first thread that writes a key decides. "over": there after the end.
    _claims: dict[str, Any]

    def __call__(self, event: EventCore) -> None:
        """Call the function, unless that has been done or it was removed."""
        claims, has_begun = self._claims, False
        thread = get_ident(), this_thread()  # a tuple of this call alone
        try:
            if _ANYWHERE:
                self._claim_and_call(event, thread)
            elif claims.setdefault("caller", thread) is thread:
                has_begun = True
                if self._args is None or self._kwargs is None:
                    self._function(event)
                else:
                    self._function(*self._args, **self._kwargs)
        finally:
            try:
                self._end(event, thread, has_begun)
            except BaseException:  # from a signal handler: a thread would wait for ever
                self._end(event, thread, has_begun)
                raise

    def _claim_and_call(self, event: EventCore, thread: tuple[int, Thread]) -> None:
        # if claims.setdefault("caller", thread) is thread: function(*args, **kwargs)
        claimed = map(is_, map(self._claims.setdefault, ("caller",), (thread,)), (thread,))
        args = (event,) if self._args is None else self._args
        function = partial(self._function, **self._kwargs) if self._kwargs else self._function
        deque(starmap(function, compress((args,), claimed)), 0)  # in one step, as far as signals go

    def _end(self, event: EventCore, thread: tuple[int, Thread], has_begun: bool) -> None:
        claims = self._claims
        if has_begun or (_ANYWHERE and claims.get("caller") is thread):
            event._fe_callbacks.pop(self, None)  # only now, so that no interruption loses the call
            claims["over"] = True
            token = claims.setdefault("token", None)
        elif claims.get("caller") is thread:  # a signal handler has raised: `set_and_notify()` makes another attempt
            claims.pop("caller", None)
            token = claims.get("token")
        else:
            return
        if token is not None:
            token.wake()

    def remove(self) -> bool:
        """Take the function back. Return True if it has not been called and will not be, False if the call has begun.

        Thread safety: safe on shared objects. It never waits: a call that has begun goes on.
        """
        in_time = self._claims.setdefault("caller", None) is None
        event = self._event() if in_time else None
        if event is not None:
            event._fe_callbacks.pop(self, None)
        return in_time

    @property
    def is_pending(self) -> bool:
        """Whether the call has not begun, and may still come."""
        return "caller" not in self._claims

    @property
    def _called(self) -> Callable[..., object]:
        return self._function

    def _caller(self) -> tuple[int, Thread] | None:
        """Return which green thread and which thread make the call, or have made it; None if there is none."""
        caller: tuple[int, Thread] | None = self._claims.get("caller")
        return caller

    def _put_token(self, token: Token) -> Token | None:
        """Have a *token* woken at the end of the call, unless there is one. Return the one that is, or None at the end."""
        shared: Token | None = self._claims.setdefault("token", token)
        return shared

    def _is_over(self) -> bool:
        """Return whether the call has ended."""
        return "over" in self._claims


def new_call(cls: type[Any], event: EventCore, function: Any, args: Any, kwargs: Any) -> Any:
    check_callback(function)
    call = object.__new__(cls)
    call._event = ref(event)
    call._function = function
    call._args = args
    call._kwargs = kwargs
    call._claims = {}
    return call


def in_callback() -> bool:
    """Return whether the calling thread makes a `Call`."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is Call.__call__.__code__:
            return True
        frame = frame.f_back
    return False


def check_callback(function: Any, what: str = "a callback") -> None:
    """Raise `TypeError` if *function* cannot be called, or is a coroutine function, which does nothing when it is called."""
    if not callable(function):
        raise TypeError(f"{what} must be callable, not {function!r}")
    called = function.func if isinstance(function, partial) else function
    code = getattr(called, "__code__", None) or getattr(type(called).__call__, "__code__", None)
    if isinstance(code, CodeType) and code.co_flags & _COROUTINE:  # an object may make up any attribute
        raise TypeError(
            f"{what} must be a plain function, not the coroutine function {function!r}: "
            "in asyncio, call loop.call_soon_threadsafe(loop.create_task, …) in a plain one"
        )
