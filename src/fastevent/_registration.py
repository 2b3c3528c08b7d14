"""A function that is called once when an event is set."""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from types import TracebackType
from typing import Any, NoReturn

from fastevent._core import Call
from fastevent._process import Token, begin_rest, exists


class Registration(Call):
    """What `Event.add_callback()` and `Event.callback()` return: a function that is called once when the event is set.

    As a context manager it ends with the block: then the function is not running in another thread, and will not be called.

    It does not keep the event alive. The event keeps it, and so the function, until the call or until `remove()`.

    Thread safety: safe on shared objects.
    """

    __slots__ = ()

    def __init__(self) -> None:
        raise TypeError("a registration is made by event.add_callback(function) or event.callback(function, …)")

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

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot pickle or copy {self!r}: an event of this process keeps this very object")

    def __repr__(self) -> str:
        return f"<fastevent.Registration of {self._called!r} at {id(self):#x}>"

    def _wait(self) -> None:
        """Wait for the end of the call, unless this thread makes it, or a fork has left its thread behind."""
        token: Token | None = None
        while not self.remove():
            caller = self._caller()
            if caller is None:  # an exception has come before it began
                continue
            ident, thread = caller
            if ident == get_ident() or not exists(thread) or thread[0] not in sys._current_exceptions():
                break
            token = self._put_token(Token(allocate_lock))
            if token is None or self._is_over():
                break
            token.rest(begin_rest())
        if token is not None:
            token.wake()  # for another thread that waits
