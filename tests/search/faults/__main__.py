import faulthandler
import importlib
import os
import signal
import sys
import warnings

searches = os.path.dirname(sys.path[0])
sys.path[:1] = [searches, os.path.dirname(searches)]

from faults import FAULTS, PROCESS_FAULTS  # noqa: E402

if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is what is tested
    name, path, scale = (*sys.argv[1:], *("fastevent:Event", "1")[len(sys.argv) - 2 :])
    module, _, attribute = path.partition(":")
    try:
        (FAULTS | PROCESS_FAULTS)[name](getattr(importlib.import_module(module), attribute), float(scale))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # its handler does not outlive the interpreter
