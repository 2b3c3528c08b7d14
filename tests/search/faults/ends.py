"""Exits of the interpreter."""

import subprocess
import sys

from helpers import command

from faults.common import fault


@fault
def exit_while_daemons_wait(Event, scale):
    """250 exits of the interpreter while daemon threads wait, with events in globals and in cycles with finalizers"""

    def program(Event):
        import threading
        import time

        event, timed = Event(), Event()

        class Last:
            def __del__(self):
                event.set()
                timed.set()

        class Holder:
            pass

        last, holder = Last(), Holder()
        last.me, holder.me, holder.event = last, holder, Event()
        for _ in range(4):
            threading.Thread(target=event.wait, daemon=True).start()
            threading.Thread(target=timed.wait, args=(0.003,), daemon=True).start()
        time.sleep(0.003)

    paths = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n"
    run = [sys.executable, *command(program, paths + f"from {Event.__module__} import {Event.__qualname__} as Event\n")]
    for _ in range(int(250 * scale) // 2):
        pair = [subprocess.Popen(run, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
        for process in pair:
            assert process.communicate(timeout=100) == (b"", b"")
            assert process.returncode == 0, process.returncode
