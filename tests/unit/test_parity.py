"""The two cores are the same class but for speed: names, signatures, docstrings, refusals."""

import inspect
import re

import pytest
from conftest import CORES
from helpers import ROOT

if "c" not in CORES:
    pytest.skip("the Python core is alone here", allow_module_level=True)

#: What both classes have, beside what Python has for every class; and of that, the methods.
NAMES = [name for name in dir(CORES["c"].Event) if not name.startswith("__") and hasattr(CORES["py"].Event, name)]
METHODS = [name for name in NAMES if callable(getattr(CORES["c"].Event(), name))]


@pytest.fixture
def pair():
    return CORES["c"].Event, CORES["py"].Event


def test_the_cores_are_two(pair):
    assert pair[0] is not pair[1]
    assert [CORES[core].IMPLEMENTATION for core in ("c", "py")] == ["c", "python"]


def test_no_public_name_is_missing(pair):
    c, py = ({name for name in dir(cls) if not name.startswith("_")} for cls in pair)
    assert c == py >= {"check", "check_timeout", "clear", "flag", "isSet", "is_set", "reason", "set", "wait", "wait_async"}


def test_no_module_uses_one_cores_private_names(pair):
    """No other module of the package uses what only one core has."""
    c, py = ({name for name in dir(cls) if name.startswith("_fe_")} for cls in pair)
    for alone, file in (c - py, "_core_c.pyx"), (py - c, "_core_py.py"):
        used = re.compile(rf"\b({'|'.join(sorted(alone))})\b")
        for path in (ROOT / "src/fastevent").rglob("*.py*"):
            if alone and path.suffix in {".py", ".pyx"} and path.name != file:
                assert not used.findall(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", METHODS)
def test_docstrings_are_the_same(pair, name):
    c, py = (inspect.getdoc(getattr(cls, name)) for cls in pair)
    assert c == py and (c or name.startswith("_") or name == "isSet")


def test_the_class_docstring_is_the_same(pair):
    assert inspect.getdoc(pair[0]) == inspect.getdoc(pair[1])
    assert inspect.getdoc(pair[0].__mro__[1]) == inspect.getdoc(pair[1].__mro__[1])


@pytest.mark.parametrize("name", METHODS)
def test_signatures_are_the_same(pair, name):
    def parameters(cls):
        return [(p.name, p.kind, repr(p.default)) for p in inspect.signature(getattr(cls(), name)).parameters.values()]

    assert parameters(pair[0]) == parameters(pair[1])


def test_the_constructors_have_the_same_signature(pair):
    c, py = ([(p.name, p.kind, p.default) for p in inspect.signature(cls).parameters.values()] for cls in pair)
    assert c == py


def refusal(function):
    with pytest.raises(Exception) as caught:
        function()
    return type(caught.value), re.sub("0x[0-9a-f]+", "0x", str(caught.value))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda e: e.wait("1"),
        lambda e: e.wait(object),
        lambda e: type(e)(timeout="5"),
        lambda e: type(e)(timeout=True),
        lambda e: type(e)(timeout=-1),
        lambda e: type(e)(timeout=float("nan")),
        lambda e: setattr(e, "flag", 1),
        lambda e: delattr(e, "flag"),
        lambda e: e.restart_timeout(),
        lambda e: e.restart_timeout(None),
        lambda e: e.restart_timeout("5"),
        lambda e: e.restart_timeout(-1),
        lambda e: type(e)(name=5),
        lambda e: e.callback(5),
    ],
)
def test_refusals_are_the_same(pair, attempt):
    assert refusal(lambda: attempt(pair[0]())) == refusal(lambda: attempt(pair[1]()))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda e: e.set(1, 2),
        lambda e: e.is_set(x=1),
        lambda e: e.wait(1, 2),
        lambda e: e.wait(seconds=1),
        lambda e: type(e)(1, 2),
    ],
)
def test_wrong_calls_are_refused_by_both(pair, attempt):
    """The words are the interpreter's for one and Cython's for the other."""
    assert refusal(lambda: attempt(pair[0]()))[0] is refusal(lambda: attempt(pair[1]()))[0] is TypeError


@pytest.mark.parametrize("timeout", [None, 5, 0, 1e9, float("inf")])
def test_reprs_are_the_same(pair, timeout):
    def texts(cls):
        event = cls(timeout)
        unset = repr(event)
        event.set()
        return [text.replace(f"{id(event):#x}", "") for text in (unset, repr(event))]

    assert texts(pair[0]) == texts(pair[1])


def test_periods_are_the_same(pair):
    # 9.2233720368e9: less than 2**63 nanoseconds, but not from now on
    for timeout in (None, 0, 1, 1.5, 0.1, 1e9, 9.2e9, 9.2233720368e9, 9.3e9, 1e300, float("inf"), 10**400, 1e-10, 3.3333333333):
        (c_seconds, c_start, c_deadline), (py_seconds, py_start, py_deadline) = (cls(timeout)._fe_period() for cls in pair)
        assert c_seconds == py_seconds
        never = (1 << 63) - 1
        if never in (c_deadline, py_deadline):
            assert c_deadline == py_deadline
        else:
            assert c_deadline - c_start == py_deadline - py_start
