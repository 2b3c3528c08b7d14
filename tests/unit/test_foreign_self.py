"""No method trusts its `self`: each refuses what is no event."""

import functools
import operator
import sys
import threading

import pytest

FOREIGN = [object(), None, 5, threading.Event(), threading.Event, Exception()]
ARGUMENTS = [(), (0,), (None,), (0, 0), ("_fe_wakers", object(), None), (0, [], False)]


def entries(cls):
    """Return each callable by which a class may be entered: methods, and what an attribute does."""
    for name, member in vars(cls).items():
        if name in {"__new__", "__init_subclass__", "__class_getitem__", "__doc__", "__module__", "__weakref__", "__dict__"}:
            continue
        if callable(member):
            yield name, member
        if type(member).__name__ in {"getset_descriptor", "member_descriptor", "property"}:
            yield f"{name} (read)", member.__get__
            yield f"{name} (written)", lambda self, *value, member=member: member.__set__(self, *(value or (1,)))


@pytest.mark.parametrize("of", ["core", "event"])
@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: type(foreign).__name__)
def test_every_entry_refuses_a_foreign_self(modules, Event, of, foreign):
    cls = modules._core.EventCore if of == "core" else Event
    for name, entry in entries(cls):
        if name in {"__repr__", "__enter__", "__aenter__", "__reduce_ex__", "__hash__"} or name.startswith("_fe_state"):
            continue  # in Python, and touch nothing
        if name == "child" and isinstance(foreign, threading.Event):
            continue  # which may be a parent
        for arguments in ARGUMENTS:
            if name == "__exit__" or name == "__aexit__":
                arguments = (None, None, None)
            if "(read)" in name and foreign is None:
                continue  # an attribute that is read from the class
            try:
                result = entry(foreign, *arguments)
                if hasattr(result, "close"):  # a coroutine, which has not begun
                    result.close()
                    continue
            except (TypeError, AttributeError):
                continue
            except ValueError as error:
                assert "seconds" in str(error)  # an argument was looked at first
                continue
            pytest.fail(f"{name} takes {foreign!r}{arguments} for an event and returns {result!r}")


@pytest.mark.parametrize("name", ["set", "clear", "wait", "is_set", "check", "check_timeout"])
@pytest.mark.parametrize("foreign", [object(), threading.Event()], ids=["object", "threading.Event"])
def test_no_road_to_a_method_avoids_it(Event, name, foreign):
    method = getattr(Event, name)
    roads = [
        lambda: method(foreign),
        lambda: functools.partial(method, foreign)(),
        lambda: list(map(method, [foreign])),
        lambda: operator.methodcaller("__call__", foreign)(method),
        lambda: method.__get__(foreign)(),
        lambda: getattr(Event(), name).__func__(foreign) if hasattr(getattr(Event(), name), "__func__") else method(foreign),
        lambda: type("Other", (threading.Event,), {name: method})().__getattribute__(name)(),
    ]
    for road in roads:
        with pytest.raises((TypeError, AttributeError)):
            road()


@pytest.mark.parametrize("name", ["set", "clear", "wait", "is_set"])
def test_it_refuses_an_event_of_another_copy(name):
    cores = sys.modules["conftest"].CORES
    if "c" not in cores:
        pytest.skip("there is no compiled core")
    with pytest.raises(TypeError, match=rf"^descriptor '{name}' .* doesn't apply to a 'Event' object"):
        getattr(cores["c"].Event, name)(cores["py"].Event())


def test_an_event_half_made_works(Event):
    event = Event.__new__(Event)
    assert not event.is_set() and event.wait(0) is False and not event.check_timeout() and event.timeout is None
    event.set("why")
    assert event.is_set() and event.reason == "why"
    event.clear()
    event.__init__(5)
    assert event.timeout == 5
