"""What several test modules need: two cores in one process, threads that report, children that are bounded."""

import importlib
import os
import subprocess
import sys
import threading
import time

#: Longer than anything takes on a loaded machine: who reaches it hangs.
PATIENCE = 60.0

CORE_SWITCH = {"c": {}, "py": {"FASTEVENT_PURE_PYTHON": "1"}}


def load(pure):
    """Import the package anew, over the Python core or as it comes, and leave `sys.modules` as it was."""

    def ours():
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "fastevent"}

    before, variable = ours(), os.environ.pop("FASTEVENT_PURE_PYTHON", None)
    for name in before:
        del sys.modules[name]
    try:
        if pure:
            os.environ["FASTEVENT_PURE_PYTHON"] = "1"
        return importlib.import_module("fastevent")
    finally:
        os.environ.pop("FASTEVENT_PURE_PYTHON", None)
        if variable is not None:
            os.environ["FASTEVENT_PURE_PYTHON"] = variable
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)


class Threads:
    """Threads that start together; leaving the block joins them and raises what one of them raised."""

    def __init__(self, *functions):
        self.errors = []
        self.barrier = threading.Barrier(len(functions) + 1)
        self.threads = [threading.Thread(target=self.run, args=(function,), daemon=True) for function in functions]

    def run(self, function):
        try:
            self.barrier.wait(PATIENCE)
            function()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.barrier.wait(PATIENCE)
        return self

    def __exit__(self, kind, *_):
        deadline = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if kind is None:
            if self.errors:
                raise self.errors[0]
            stuck = sum(thread.is_alive() for thread in self.threads)
            assert not stuck, f"{stuck} of {len(self.threads)} threads hang"


def in_wait(count):
    """Wait until *count* of the other threads are inside `wait()`: in the middle of the call, not before it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        frames = [frame for ident, frame in sys._current_frames().items() if ident != threading.get_ident()]
        if sum(is_waiting(frame) for frame in frames) >= count:
            time.sleep(0.1)  # from the call to the lock
            return
        time.sleep(0.001)
    raise AssertionError("the threads do not come to wait()")


def is_waiting(frame):
    return frame.f_code.co_name in {"waits", "_fe_wait_until"}


def python(code, core="c", *arguments, timeout=PATIENCE, **environment):
    """Run *code* in a new interpreter over *core*; return what it printed. Whatever it writes to stderr fails the test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FASTEVENT_", "WORKFLOW_CORE_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**inherited, **CORE_SWITCH[core], **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
