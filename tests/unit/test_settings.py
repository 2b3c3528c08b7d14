"""The environment variables, the choice of the core, and `python -m fastevent`."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import CORES
from helpers import CORE_SWITCH, command, python

DEFAULT = "WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT"
INTERVAL = "WORKFLOW_CORE_EVENT_CHECK_INTERVAL"

needs_c = pytest.mark.skipif("c" not in CORES, reason="the Python core is alone here")

SHOW = "import fastevent as f; print(f.default_timeout(), f.check_interval(), f.Event()._timeout, f.Event(7)._timeout)"


def test_the_defaults_are_300_and_a_tenth(core):
    assert python(SHOW, core) == "300.0 0.1 None 7.0\n"


def test_empty_they_count_as_unset(core):
    assert python(SHOW, core, **{DEFAULT: "", INTERVAL: ""}) == "300.0 0.1 None 7.0\n"


def test_set_they_apply(core):
    assert python(SHOW, core, **{DEFAULT: "12.5", INTERVAL: "2"}) == "12.5 2.0 12.5 7.0\n"
    assert python(SHOW, core, **{DEFAULT: "inf"}) == "inf 0.1 inf 7.0\n"


def test_the_default_timeout_times_out(core):
    code = "import fastevent, time; e = fastevent.Event(); time.sleep(0.05); print(e.check_timeout(), e.wait())"
    assert python(code, core, **{DEFAULT: "0.01"}) == "True False\n"


def test_they_are_read_once_at_first_use(core):
    def program():
        import os

        import fastevent

        os.environ["WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT"] = "5"
        before = fastevent.Event()
        os.environ["WORKFLOW_CORE_EVENT_DEFAULT_TIMEOUT"] = "6"
        print(before._timeout, fastevent.Event()._timeout, fastevent.default_timeout())

    assert python(program, core) == "5.0 5.0 5.0\n"


@pytest.mark.parametrize("value", [" ", "soon", "5m", "nan", "0", "-1", "1,5", "0x10"])
@pytest.mark.parametrize("variable", [DEFAULT, INTERVAL])
def test_a_bad_value_raises_at_use(core, variable, value):
    def program():
        import sys

        import fastevent

        uses = [fastevent.default_timeout, fastevent.Event] if "TIMEOUT" in sys.argv[1] else [fastevent.check_interval]
        for use in uses * 2:
            try:
                use()
            except ValueError as error:
                print(error)
        print(fastevent.Event(timeout=3)._timeout)

    uses = 4 if variable == DEFAULT else 2
    expected = f"{variable} must be a number of seconds above zero, not {value!r}\n" * uses + "3.0\n"
    assert python(program, core, variable, **{variable: value}) == expected


def test_the_check_interval_bounds_waits_on_windows(core):
    def program():
        import sys
        import threading
        import time

        sys.platform = "win32"  # for us alone, as the standard library has been imported
        from fastevent import Event, _time

        print(_time.begin_wait())
        start = time.monotonic_ns()
        assert Event().wait(0.1) is False
        assert time.monotonic_ns() - start >= 0.1e9
        event = Event()
        threading.Timer(0.1, event.set).start()
        assert event.wait() is True

    assert python(program, core, **{INTERVAL: "0.04"}) == "40000000\n"
    assert python(program, core, **{INTERVAL: "inf"}) == f"{3600 * 10**9}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there it does not")
def test_a_native_wait_is_long(core):
    """A thread that waits for long does not poll."""
    code = "from fastevent import _time; print(_time.begin_wait() >= 60 * 10**9)"
    assert python(code, core, **{INTERVAL: "0.04"}) == "True\n"


@pytest.mark.skipif("t" not in getattr(sys, "abiflags", ""), reason="locks that do not spin miss no signal")
def test_a_lock_that_spins_is_left_to_look_for_signals(core):
    """In the main thread alone."""

    def program():
        import threading

        from fastevent import _process

        print(_process.begin_rest(), _process.begin_wait() >= 60 * 10**9)
        thread = threading.Thread(target=lambda: print(_process.begin_rest() >= 60 * 10**9))
        thread.start()
        thread.join()

    assert python(program, core, **{INTERVAL: "0.04"}) == "40000000 True\nTrue\n"


# Which core


def test_implementation(fastevent, core):
    assert fastevent.IMPLEMENTATION == {"c": "c", "py": "python"}[core]


@needs_c
@pytest.mark.parametrize(
    ("value", "implementation"), [("1", "python"), ("true", "python"), ("no", "python"), ("0", "c"), ("", "c")]
)
def test_the_switch_takes_any_value_but_0(value, implementation):
    code = "import fastevent; print(fastevent.IMPLEMENTATION)"
    assert python(code, FASTEVENT_PURE_PYTHON=value) == f"{implementation}\n"


@needs_c
def test_only_a_missing_core_falls_back():
    hide = "import sys; sys.modules['fastevent._core_c'] = None; import fastevent; print(fastevent.IMPLEMENTATION)"
    assert python(hide, "c") == "python\n"


@needs_c
def test_a_broken_core_is_an_error():
    def program():
        import importlib.abc
        import importlib.machinery
        import sys

        class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
            def find_spec(self, name, path=None, target=None):
                return importlib.machinery.ModuleSpec(name, self) if name == "fastevent._core_c" else None

            def exec_module(self, module):
                raise error

        sys.meta_path.insert(0, Broken())
        for error in (
            ImportError("undefined symbol"),
            ImportError("undefined symbol", name="fastevent._core_c"),  # as the loader of extensions says it
            ModuleNotFoundError("undefined symbol", name="another"),
        ):
            try:
                import fastevent

                print(fastevent.IMPLEMENTATION)
            except ImportError as caught:
                print(caught is error)
            for name in [name for name in sys.modules if name.startswith("fastevent")]:
                del sys.modules[name]

    assert python(program, "c") == "True\n" * 3


def test_the_gil_stays_off(core):
    if not hasattr(sys, "_is_gil_enabled"):
        pytest.skip("this Python has no word for it")
    code = "import sys; before = sys._is_gil_enabled(); import fastevent; print(before is sys._is_gil_enabled())"
    assert python(code, core) == "True\n"


# python -m fastevent and the version


def test_the_version_is_that_of_the_distribution(fastevent):
    assert fastevent.__version__ == version("fastevent")


def main():
    """`python -m fastevent`, except that each operation is measured once: what is shown is tested here, not how fast it is."""
    import runpy

    from fastevent import _bench

    _bench.ROUNDS = _bench.HANDOVER_ROUNDS = 1
    runpy.run_module("fastevent", run_name="__main__", alter_sys=True)


def run(core, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", *command(main), *arguments],
        env={**os.environ, **CORE_SWITCH[core], **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_main_shows_what_is_active_and_a_table(core):
    done = run(core)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("compiled core" if core == "c" else "Python core") in done.stdout
    for word in (
        "threading.Event",
        "is_set()",
        "check_timeout()",
        "hand-over",
        "default timeout",
        "check interval",
        "GIL",
    ):
        assert word in done.stdout
    assert all(len(line) <= 100 and line == line.rstrip() for line in done.stdout.splitlines())


def test_main_speaks_json(core):
    done = run(core, "--json", **{DEFAULT: "9"})
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["core"] == ("c" if core == "c" else "python")
    assert facts["default_timeout"] == 9.0 and facts["default_timeout_applies"] is True
    for row in facts["measurements"]:
        assert row["unit"] in {"ns", "us", "B"} and row["fastevent"] > 0, row
        assert {"operation", "unit", "fastevent", "wrapper"} <= set(row)


def test_main_names_a_broken_variable(core):
    done = run(core, **{DEFAULT: "soon"})
    assert done.returncode == 2
    assert f"{DEFAULT} must be a number of seconds above zero, not 'soon'" in done.stderr


def test_main_shows_its_version(core, fastevent):
    done = run(core, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fastevent {fastevent.__version__}\n", "")


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--colour", "unrecognized arguments: --colour"), ("start", "argument COMMAND: invalid choice: 'start'")],
)
def test_main_names_what_it_does_not_know(core, argument, message):
    done = run(core, argument)
    assert done.returncode == 2 and f"python -m fastevent: error: {message}" in done.stderr
