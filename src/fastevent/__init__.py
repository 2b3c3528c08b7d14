"""`threading.Event` with a timeout and cancellation, and polling as cheap as an empty method call."""

from typing import TYPE_CHECKING, Any

from fastevent._config import check_interval, default_timeout
from fastevent._core import IMPLEMENTATION
from fastevent._errors import EventCancelled, EventTimeout
from fastevent._event import Event
from fastevent._patch import patch_threading, unpatch_threading
from fastevent._registration import Registration
from fastevent._several import wait_all, wait_any
from fastevent._status import EventStatus

_ELSEWHERE = {"RedisEvents": "redis", "PostgresEvents": "postgres", "frozen_clock": "testing", "dump": "debug", "tree": "debug"}

if TYPE_CHECKING:
    from fastevent.shared._event import SharedEvent

__version__ = "0.1.0"

__all__ = [
    "IMPLEMENTATION",
    "Event",
    "EventCancelled",
    "EventStatus",
    "EventTimeout",
    "Registration",
    "SharedEvent",
    "check_interval",
    "default_timeout",
    "patch_threading",
    "unpatch_threading",
    "wait_all",
    "wait_any",
]


for _name in __all__:  # one rule for what `repr()`, pickle and help() show of all that is exported
    if _name != "SharedEvent" and _name != "IMPLEMENTATION":
        globals()[_name].__module__ = "fastevent"


def __getattr__(name: str) -> Any:
    # Imported at its first use, because it needs sockets, and most programs do not.
    if name == "SharedEvent":
        from fastevent.shared._event import SharedEvent

        globals()[name] = SharedEvent
        return SharedEvent
    if name in _ELSEWHERE:
        module = f"fastevent.{_ELSEWHERE[name]}"
        raise AttributeError(f"{name} is in the module {module}: from {module} import {name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
