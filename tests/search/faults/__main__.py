import faulthandler
import importlib
import os
import signal
import sys
import warnings


def main(name, path="fastevent:Event", scale="1"):
    from faults import FAULTS, PROCESS_FAULTS

    faulthandler.enable()
    warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is what is tested
    module, _, attribute = path.partition(":")
    try:
        (FAULTS | PROCESS_FAULTS)[name](getattr(importlib.import_module(module), attribute), float(scale))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # its handler does not outlive the interpreter


if __name__ == "__main__":  # and not where `multiprocessing` imports it again
    searches = os.path.dirname(sys.path[0])
    sys.path[:1] = [searches, os.path.dirname(searches)]
    main(*sys.argv[1:])
