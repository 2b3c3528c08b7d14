"""`threading.Event` with a timeout and with cancellation, whose polling costs what an empty method call costs."""

from fastevent._config import check_interval, default_timeout
from fastevent._event import IMPLEMENTATION, Event, EventCancelled, EventStatus, EventTimeout
from fastevent._patch import patch_threading, unpatch_threading
from fastevent._waiting import wait_all, wait_any

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
