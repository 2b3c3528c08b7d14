"""Every test that takes `fastevent` or `Event` runs over both cores."""

import gc
import importlib
import os
import signal
import sys
import sysconfig

import needs
import pytest
from helpers import HAS_GIL, load

CORES = {}


def pytest_addoption(parser):
    parser.addoption("--no-c-extensions", action="store_true", help="test the Python core alone, where no compiled one can be")


def pytest_configure(config):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
    for variable in list(os.environ):
        if variable.startswith(("FASTEVENT_", "WORKFLOW_CORE_EVENT_")) and not variable.startswith("FASTEVENT_TEST_"):
            del os.environ[variable]
    CORES["py"] = load(pure=True)
    if sys.implementation.name == "cpython" and not config.getoption("--no-c-extensions"):
        CORES["c"] = importlib.import_module("fastevent")  # the one in sys.modules: it pickles by name
        importlib.import_module("fastevent.debug")
        importlib.import_module("fastevent.testing")
        if CORES["c"].IMPLEMENTATION != "c":
            pytest.exit("the compiled core is missing: install it, or say --no-c-extensions", returncode=3)
    assert CORES["py"].IMPLEMENTATION == "python"


def pytest_generate_tests(metafunc):
    if "core" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("core")
        metafunc.parametrize("core", [core for core in sorted(CORES) if not only or core in only.args])


def pytest_report_header(config):
    gil = "on" if HAS_GIL else "off"
    return [
        f"fastevent: {os.path.dirname(CORES['py'].__file__)}; cores: {', '.join(sorted(CORES))}; GIL: {gil}",
        *(f"missing: {line}" for line in needs.missing()),
    ]


def pytest_collection_finish():
    if hasattr(gc, "freeze"):  # a test that collects garbage walks through what is made from here on
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()
    if sysconfig.get_config_var("Py_GIL_DISABLED") and os.environ.get("PYTHON_GIL") != "1":
        assert not sys._is_gil_enabled(), "the GIL came back"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "tiny_switch_interval" in item.fixturenames:  # in a tracer, threads change where the compiled core relies on the GIL
            item.add_marker("not_traced")


@pytest.fixture
def fastevent(core):
    return CORES[core]


@pytest.fixture
def modules(fastevent):
    """The modules of the package over this core, as attributes: `modules._notify`, `modules.debug`."""
    return fastevent


@pytest.fixture
def Event(fastevent):
    return fastevent.Event


@pytest.fixture
def tiny_switch_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def no_timers(modules, monkeypatch):
    """No helper thread sets an event at its deadline."""
    monkeypatch.setattr(modules._notify.timers.events, "add", lambda *entry: None)
