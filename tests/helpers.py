"""What several test modules need: two cores in one process, threads that report, children that are bounded."""

import ast
import importlib
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import types
import warnings
from pathlib import Path
from textwrap import dedent

import needs

#: In seconds, longer than anything takes on a loaded machine: a test that reaches it hangs.
TIMEOUT = 60.0

#: How much longer than usual the long tests run: `make soak` asks for more.
SCALE = float(os.environ.get("FASTEVENT_TEST_SCALE", "1"))

#: Whether a test fails if this machine lacks what it needs. Otherwise it is skipped.
COMPLETE = os.environ.get("FASTEVENT_TEST_COMPLETE") == "1"

#: Whether threads of Python code take turns.
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

#: What is raised at the end of the stack. Compiled calls of PyPy take too little stack for a method to try whether there is
#: enough of it. So a method may raise in the middle, and the next call completes that. PyPy itself may raise a `TypeError`.
STACK_ERRORS = (RecursionError, TypeError) if sys.implementation.name == "pypy" else RecursionError

#: The folder of the tests, and that of the project.
TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

#: Folders in which no socket can be made, as the path of its address would be too long.
TOO_LONG = "a-directory-whose-path-is-longer-than-the-address-of-a-socket-may-be/" * 2

CORE_SWITCH = {"c": {}, "py": {"FASTEVENT_PURE_PYTHON": "1"}}


def load(pure):
    """Import the package again, over the Python core or as it comes, and leave `sys.modules` as it was."""

    def ours():
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "fastevent"}

    before, variable = ours(), os.environ.pop("FASTEVENT_PURE_PYTHON", None)
    for name in before:
        del sys.modules[name]
    try:
        if pure:
            os.environ["FASTEVENT_PURE_PYTHON"] = "1"
        package = importlib.import_module("fastevent")
        importlib.import_module("fastevent.debug")
        importlib.import_module("fastevent.testing")
        return package
    finally:
        os.environ.pop("FASTEVENT_PURE_PYTHON", None)
        if variable is not None:
            os.environ["FASTEVENT_PURE_PYTHON"] = variable
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)


def import_over(package, name):
    """Import a module of the package that it does not import by itself, over the core of this *package*."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "fastevent"}
    for each in before:
        del sys.modules[each]
    parts = [part for part in vars(package).values() if isinstance(part, types.ModuleType)]
    sys.modules.update({part.__name__: part for part in (package, *parts) if part.__name__.startswith("fastevent")})
    try:
        return importlib.import_module(name)
    finally:
        for each in [each for each in sys.modules if each.partition(".")[0] == "fastevent"]:
            del sys.modules[each]
        sys.modules.update(before)


class Threads:
    """Threads that start together; leaving the block joins them and raises what one of them raised."""

    def __init__(self, *functions):
        self.errors = []
        self.barrier = threading.Barrier(len(functions) + 1)
        self.threads = [threading.Thread(target=self.run, args=(function,), daemon=True) for function in functions]

    def run(self, function):
        try:
            self.barrier.wait(TIMEOUT)
            function()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.barrier.wait(TIMEOUT)
        return self

    def __exit__(self, kind, *_):
        deadline = time.monotonic() + TIMEOUT
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if kind is None:
            if self.errors:
                raise self.errors[0]
            stuck = sum(thread.is_alive() for thread in self.threads)
            assert not stuck, f"{stuck} of {len(self.threads)} threads hang"


class Interruption(BaseException):
    """What a signal handler raises."""


def interrupt():
    raise Interruption


class SignalAt:
    """A block in which a signal *handler* is called at the *place*-th place where one may run in *files*.

    Such places are the beginning of a function, and the return of one that is written in C. `is_done` tells whether there were
    so many.
    """

    def __init__(self, place, files, handler=interrupt):
        self.left, self.files, self.handler, self.is_done = place, files, handler, False

    def profile(self, frame, kind, _):
        if kind in {"call", "c_return"} and frame.f_code.co_filename in self.files:
            self.left -= 1
            if self.left == -1:
                self.is_done = True
                self.handler()

    def __enter__(self):
        warnings.simplefilter("ignore", ResourceWarning)  # of a socket that has just been made
        sys.setprofile(self.profile)
        return self

    def __exit__(self, kind, *_):
        sys.setprofile(None)
        return kind is Interruption


class SignalAtLine:
    """A block in which a signal *handler* is called at the *place*-th line of the functions whose code *is_watched*.

    `is_done` tells whether there were so many.
    """

    def __init__(self, place, is_watched, handler=interrupt):
        self.left, self.is_watched, self.handler, self.is_done = place, is_watched, handler, False

    def begin(self, frame, kind, _):
        code = frame.f_code
        return self.trace if code.co_filename != __file__ and self.is_watched(code) else None

    def trace(self, frame, kind, _):
        if kind == "line":
            self.left -= 1
            if self.left == 0:
                self.is_done = True
                self.handler()
        return self.trace

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.begin)
        return self

    def __exit__(self, kind, *_):
        sys.settrace(self.before)
        return kind is Interruption


class CtrlC:
    """A block in which Ctrl-C comes again and again, from `send()` on, until it has raised in a function of the package.

    So it ends what the main thread waits for there, however long the thread needs to get there.
    """

    def __init__(self):
        self.has_raised = threading.Event()
        self.sender = threading.Thread(target=self.work)

    def work(self):
        while not self.has_raised.wait(0.05):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def interrupt(self, number, frame):
        if frame.f_globals["__name__"].startswith("fastevent.") and not self.has_raised.is_set():
            self.has_raised.set()
            raise KeyboardInterrupt

    def send(self):
        self.sender.start()

    def __enter__(self):
        self.before = signal.signal(signal.SIGINT, self.interrupt)
        return self

    def __exit__(self, *_):
        self.has_raised.set()
        if self.sender.is_alive():
            self.sender.join(TIMEOUT)
        signal.signal(signal.SIGINT, self.before)


def need(name):
    """Return the program that fulfils this need of `needs.py`. Without one, skip the test, or the whole module."""
    import pytest  # not at the top: programs import this module, too

    program = needs.find(name)
    if program is None:
        if COMPLETE:
            pytest.fail(f"{' or '.join(needs.NEEDS[name][0])} is missing, and FASTEVENT_TEST_COMPLETE=1 asks for it")
        pytest.skip(f"{' or '.join(needs.NEEDS[name][0])} is missing", allow_module_level=True)
    return program


def need_failing_allocations(core):
    """Skip the test if this interpreter cannot let an allocation fail, or if it ends where one fails in Python code."""
    import pytest  # not at the top: programs import this module, too

    pytest.importorskip("_testcapi", reason="this interpreter cannot let an allocation fail")
    if core == "py" and hasattr(sys, "gettotalrefcount"):
        pytest.skip("a debug build ends where Python code finds no memory")


def until(condition):
    """Wait until *condition()* is true. Return what it returned."""
    end = time.monotonic() + TIMEOUT
    while not (answer := condition()):
        assert time.monotonic() < end, f"after {TIMEOUT:.0f} s, still {answer!r}: {describe(condition)}"
        time.sleep(0.001)
    return answer


def describe(condition):
    """Return the source of *condition* and the values in it."""
    try:
        values = inspect.getclosurevars(condition).nonlocals
        lines = [inspect.getsource(condition).strip()]
    except (OSError, TypeError):  # no Python function, or one without a file
        return repr(condition)
    return "\n".join(lines + [f"    where {name} = {value!r}" for name, value in values.items()])


def until_waiting(event, count=1):
    """Wait until *count* threads and tasks wait for *event*."""
    until(lambda: event.status().waiters >= count)


def deadline(event):
    """Return the deadline of *event* in nanoseconds, on the clock of `time.monotonic_ns()`."""
    return event._fe_period().deadline


def until_deadline(event):
    """Wait until the deadline of *event* has passed, and call nothing of it meanwhile."""
    end = deadline(event)
    while time.monotonic_ns() < end:
        time.sleep(0.0005)


def self_setting(Event, seconds, *callbacks):
    """Return a self-setting event whose timeout starts when it has its *callbacks*, however long it takes to add them."""
    event = Event(3600, set_on_timeout=True)
    for callback in callbacks:
        event.add_callback(callback)
    event.restart_timeout(seconds)
    return event


def in_child(function):
    """Call *function* in a forked child. Return its exit code: 0, or 1 if the function raised."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(int(TIMEOUT))
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child_environment(core="c", **settings):
    """Return the environment of a Python over *core* that finds this module and its neighbours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FASTEVENT_", "WORKFLOW_CORE_"))}
    paths = [os.environ.get("PYTHONPATH"), str(TESTS), str(TESTS / "processes"), str(TESTS / "search")]
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **CORE_SWITCH[core], **settings}


#: Runs the program in the second argument, whose tracebacks name the file in the first.
RUN = "import sys; exec(compile(sys.argv.pop(2), sys.argv.pop(1), 'exec'))"


def command(program, before=""):
    """Return the arguments by which Python runs *program*: a text, or a function, whose body runs as if it were a module.

    The text *before* runs first. It defines the parameters of the function.
    """
    if callable(program):
        return ["-c", RUN, inspect.getfile(program), body(program, before)]
    return ["-c", dedent(program)]


def body(function, before=""):
    """Return the source of the body of *function*, each line at its place in the file, after a few lines *before*."""
    lines, first = inspect.getsourcelines(function)
    start = ast.parse(dedent("".join(lines))).body[0].body[0].lineno - 1
    return before + "\n" * max(first + start - 2 - before.count("\n"), 1) + "if True:\n" + "".join(lines[start:])


def python(program, core="c", *arguments, before="", timeout=TIMEOUT, **environment):
    """Run *program*, the body of a function or a text, in a new interpreter over *core*; return what it printed.

    It may import this module, too. Whatever it writes to stderr fails the test.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", *command(program, before), *map(str, arguments)],
        env=child_environment(core, **environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
