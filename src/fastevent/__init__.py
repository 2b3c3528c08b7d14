"""`threading.Event` with a timeout, whose polling costs what an empty method call costs."""

from fastevent._config import check_interval, default_timeout
from fastevent._event import IMPLEMENTATION, Event
from fastevent._patch import patch_threading, unpatch_threading

__all__ = ["IMPLEMENTATION", "Event", "check_interval", "default_timeout", "patch_threading", "unpatch_threading"]
