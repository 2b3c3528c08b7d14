"""The import path of the Event API reference: `from ddeutil.workflow.event import Event`."""

from fastevent import Event, check_interval, default_timeout

__all__ = ["Event", "check_interval", "default_timeout"]
