"""Programs that end in one way or another, with things pending."""

import importlib
import os
import signal
import sys
import threading
import time
import warnings

from helpers import self_setting, until

from fastevent import Event, SharedEvent


def pend():
    """Leave a callback that takes a while, a deadline that is far, and an event for the exit."""
    begun = Event()
    pend.late = self_setting(Event, 3600, lambda event: os.write(1, b"late "))
    pend.exit = Event()
    pend.exit.callback(os.write, 1, b"exit ")
    pend.exit.set_at_exit()
    pend.slow = self_setting(Event, 0.01, lambda event: (begun.set(), time.sleep(0.1), os.write(1, b"callback ")))
    until(begun.is_set)


def ends():
    kind = sys.argv[1]
    pend()
    if kind == "sys.exit":
        sys.exit()
    if kind == "an exception":
        sys.excepthook = lambda *_: None
        raise ValueError
    if kind == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    if kind == "os._exit":
        os._exit(0)


def outlived():
    """A thread runs on for as long as the deadline that it waits for."""
    limit = self_setting(Event, 0.3, lambda event: os.write(1, b"deadline "))
    threading.Thread(target=limit.wait).start()
    pend()


def forked():
    """A child sets a shared event as the last thing that it does."""
    warnings.simplefilter("ignore")
    shared, kind = SharedEvent(), sys.argv[1]

    def work():
        pend()
        shared.set(kind)
        if kind == "os._exit":
            os._exit(0)
        if kind == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)

    if kind in ("sys.exit", "os._exit", "SIGTERM"):
        pid = os.fork()
        if pid == 0:
            work()
            sys.exit()
        os.waitpid(pid, 0)
    else:
        package = importlib.import_module(kind)
        context = package if kind == "billiard" else package.get_context("fork")
        process = context.Process(target=work)
        process.start()
        process.join()
    until(shared.is_set)
    assert shared.reason == kind
