"""`threading.Event` with a timeout and cancellation, and polling as cheap as an empty method call."""

from typing import TYPE_CHECKING, Any

from fastevent._config import check_interval, default_timeout
from fastevent._core import IMPLEMENTATION
from fastevent._errors import EventCancelled, EventStatus, EventTimeout
from fastevent._event import Event
from fastevent._patch import patch_threading, unpatch_threading
from fastevent._wait import wait_all, wait_any

if TYPE_CHECKING:
    from fastevent._shared import SharedEvent

__version__ = "0.1.0"

__all__ = [
    "IMPLEMENTATION",
    "Event",
    "EventCancelled",
    "EventStatus",
    "EventTimeout",
    "SharedEvent",
    "check_interval",
    "default_timeout",
    "patch_threading",
    "unpatch_threading",
    "wait_all",
    "wait_any",
]


def __getattr__(name: str) -> Any:
    # Imported at its first use, because it needs sockets, and most programs do not.
    if name == "SharedEvent":
        from fastevent._shared import SharedEvent

        globals()[name] = SharedEvent
        return SharedEvent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
