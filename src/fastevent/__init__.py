"""`threading.Event` with a timeout and cancellation, and polling as cheap as an empty method call."""

from fastevent._config import check_interval, default_timeout
from fastevent._core import IMPLEMENTATION
from fastevent._errors import EventCancelled, EventStatus, EventTimeout
from fastevent._event import Event
from fastevent._patch import patch_threading, unpatch_threading
from fastevent._wait import wait_all, wait_any

__version__ = "0.1.0"

__all__ = [
    "IMPLEMENTATION",
    "Event",
    "EventCancelled",
    "EventStatus",
    "EventTimeout",
    "check_interval",
    "default_timeout",
    "patch_threading",
    "unpatch_threading",
    "wait_all",
    "wait_any",
]
