"""Exits of the interpreter."""

import subprocess
import sys

from faults.common import fault


@fault
def exit_while_daemons_wait(Event, scale):
    """250 exits of the interpreter while daemon threads wait, with events in globals and in cycles with finalizers"""
    code = f"""if True:
        import threading, time, importlib, sys
        sys.path[:0] = {[path for path in sys.path if path]!r}
        Event = getattr(importlib.import_module({Event.__module__!r}), {Event.__qualname__!r})
        event, timed = Event(), Event()
        class Last:
            def __del__(self):
                event.set(); timed.set()
        last = Last(); last.me = last
        class Holder: pass
        holder = Holder(); holder.event = Event(); holder.me = holder
        for _ in range(4):
            threading.Thread(target=event.wait, daemon=True).start()
            threading.Thread(target=timed.wait, args=(0.003,), daemon=True).start()
        time.sleep(0.003)
    """
    for _ in range(int(250 * scale) // 2):
        pair = [
            subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
        ]
        for process in pair:
            assert process.communicate(timeout=100) == (b"", b"")
            assert process.returncode == 0, process.returncode
