"""What a Python object can do, an event can: subclasses, weak references, attributes, signatures, doubles, `repr()`."""

import abc
import copy
import dataclasses
import functools
import gc
import inspect
import math
import pickle
import pydoc
import sys
import threading
import typing
import weakref
from unittest import mock

import pytest
from helpers import HAS_GIL, python

import fastevent


def test_it_is_a_threading_event(Event):
    assert issubclass(Event, threading.Event)
    assert isinstance(Event(), threading.Event)


def test_it_takes_attributes_and_weak_references(Event):
    event = Event()
    event.owner = "me"
    assert event.owner == "me"
    gone = []
    reference = weakref.ref(event, gone.append)
    assert reference() is event
    del event
    gc.collect()
    assert gone == [reference]


def test_cycles_are_collected(Event):
    event = Event()
    event.me = event
    reference = weakref.ref(event)
    del event
    gc.collect()
    assert reference() is None


def test_a_subclass_may_take_other_arguments(Event):
    class Named(Event):
        def __init__(self, name, *, timeout=None):
            super().__init__(timeout)
            self.name = name

    event = Named("a", timeout=0)
    assert event.name == "a" and event.check_timeout()


def test_a_subclass_may_forget_super_init(Event):
    class Forgetful(Event):
        def __init__(self, *args, **kwargs):
            pass

    event = Forgetful(1, 2, x=3)
    assert not event.is_set() and not event.check_timeout() and not event.wait(0)
    assert event._timeout is None
    event.set()
    assert event.wait()
    event.clear()
    assert not event.flag


def test_new_without_init_works(Event):
    event = Event.__new__(Event)
    event.set()
    assert event.is_set()


@pytest.mark.parametrize("order", ["mixin first", "event first"])
def test_mixins(Event, order):
    class Mixin:
        def hello(self):
            return "hello"

    class Mixed(*((Mixin, Event) if order == "mixin first" else (Event, Mixin))):
        pass

    event = Mixed(timeout=0)
    assert event.hello() == "hello" and event.check_timeout()


def test_an_abstract_mixin(Event):
    class Interface(abc.ABC):
        @abc.abstractmethod
        def go(self): ...

    class Abstract(Event, Interface):
        pass

    class Concrete(Abstract):
        def go(self):
            return self.wait(0)

    assert Concrete().go() is False
    with pytest.raises(TypeError):
        Abstract()


def test_overridden_methods_are_called(Event):
    class Loud(Event):
        def is_set(self):
            return "overridden"

        def set(self):
            self.seen = True
            super().set()

    event = Loud()
    assert event.is_set() == "overridden"
    event.set()
    assert event.seen and event.flag and super(Loud, event).is_set() is True


def test_a_second_init_makes_it_new(Event):
    event = Event(timeout=0)
    event.set()
    event.__init__()
    assert not event.is_set() and not event.check_timeout() and event._timeout is None
    event.__init__(timeout=0)
    assert event.check_timeout()


def test_slots_and_class_attributes(Event):
    class Slotted(Event):
        __slots__ = ("extra",)
        kind = "slotted"

    event = Slotted()
    event.extra = 1
    assert event.extra == 1 and event.kind == "slotted"


@pytest.mark.parametrize(
    "refused", [copy.copy, copy.deepcopy, pickle.dumps, lambda e: pickle.dumps(e, 0), lambda e: [e.__reduce_ex__(2)]]
)
def test_an_instance_refuses_copy_and_pickle(Event, refused):
    event = Event()
    with pytest.raises(TypeError) as caught:
        refused(event)
    assert str(caught.value) == (
        f"cannot pickle or copy {event!r}: threads of this process wait for this very object; "
        "a fastevent.SharedEvent can be sent to other processes"
    )


@pytest.mark.parametrize("name", ["set", "clear", "wait"])
def test_a_bound_method_can_be_held_weakly(Event, name):
    event = Event()
    reference = weakref.WeakMethod(getattr(event, name))
    assert reference() == getattr(event, name) and inspect.ismethod(reference())
    del event
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("name", ["set", "clear", "wait"])
def test_methods_are_like_functions(Event, name):
    method, bound = getattr(Event, name), getattr(Event(), name)
    assert bound.__func__ is method and method.__get__(None, Event) is method and method.__get__(5).__self__ == 5
    assert method.__name__ == bound.__name__ == name and method.__doc__ == bound.__doc__
    assert method.__qualname__ == bound.__qualname__ == f"EventCore.{name}" and method.__module__ == bound.__module__
    assert inspect.isroutine(method) and inspect.ismethod(bound) and callable(method) and name in repr(method)
    assert copy.copy(method) is method and copy.deepcopy(method) is method and weakref.ref(method)() is method
    if Event is fastevent.Event:  # the copy with the other core is not where its name says
        assert pickle.loads(pickle.dumps(method)) is method
    assert pydoc.render_doc(method) and inspect.getdoc(method).split()[0] in {"Set", "Wait"}
    with pytest.raises(TypeError):
        type(method)()

    class Sub(Event):
        pass

    setattr(Sub, name, functools.wraps(method)(lambda self, *arguments: "patched"))
    assert getattr(Sub(), name)() == "patched" and inspect.signature(getattr(Sub, name)) == inspect.signature(method)


@pytest.mark.skipif(HAS_GIL or sys.version_info < (3, 14), reason="with the GIL, nothing competes")
@pytest.mark.parametrize("name", ["set", "clear", "wait", "is_set"])
def test_threads_compete_for_no_reference_count(Event, name):
    internals = pytest.importorskip("_testinternalcapi")
    assert internals.has_deferred_refcount(getattr(Event, name))


def test_arguments_of_methods_are_read_as_pythons(Event):
    event = Event()
    event.set(**{"".join(["rea", "son"]): 1})  # a name that is not interned
    assert event.reason == 1 and event.wait(**{"".join(["time", "out"]): 0}) and Event.wait(event, timeout=None)
    Event.clear(event, **{})
    for wrong in (
        lambda: event.set(1, 2),
        lambda: event.set(1, reason=2),
        lambda: event.set(cause=1),
        lambda: event.clear(1),
        lambda: event.clear(reason=1),
        lambda: event.wait(1, 2),
        lambda: event.wait(1, timeout=2),
        lambda: event.wait(seconds=1),
        lambda: Event.set(),
        lambda: Event.clear(),
        lambda: Event.wait(timeout=1),
    ):
        with pytest.raises(TypeError):
            wrong()
    assert not event.is_set()


def test_annotations_can_be_resolved(Event):
    class Job(Event):
        label: str = "job"

    @dataclasses.dataclass(eq=False)
    class Record(Event):
        label: "str" = "job"
        parent: typing.Optional[threading.Event] = None  # noqa: UP045  # as old code writes it

        def __post_init__(self):
            super().__init__()

    assert "label" not in typing.get_type_hints(Event)
    for cls in Job, Record:
        assert typing.get_type_hints(cls)["label"] is inspect.get_annotations(cls, eval_str=True)["label"] is str
    assert list(inspect.signature(Record, eval_str=True).parameters) == ["label", "parent"]
    methods = [getattr(thing, name) for thing in (Event, Event(), Record()) for name in dir(Event) if not name.startswith("_")]
    for thing in Event, Event.__init__, *filter(callable, methods):
        typing.get_type_hints(thing)
        inspect.get_annotations(thing, eval_str=True)
        inspect.signature(thing, eval_str=True)


def test_a_subclass_may_say_how_it_is_pickled(core):
    def program():
        import copy
        import pickle

        from named import Named

        event = Named("a name")
        event.set()
        others = pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event)
        event.clear()
        print([(other.label, other.is_set()) for other in others])

    assert python(program, core) == "[('a name', True), ('a name', True), ('a name', True)]\n"


def test_the_class_says_where_it_is(Event):
    assert (Event.__module__, Event.__qualname__) == ("fastevent", "Event")


def test_all_that_is_exported_says_where(fastevent):
    assert {getattr(fastevent, name).__module__ for name in fastevent.__all__ if name != "IMPLEMENTATION"} == {"fastevent"}


def test_the_class_pickles_by_name():
    assert pickle.loads(pickle.dumps(fastevent.Event)) is fastevent.Event
    assert copy.deepcopy(fastevent.Event) is fastevent.Event


def test_isset_warns_at_the_callers_line(Event):
    event = Event()
    with pytest.warns(DeprecationWarning, match="is_set") as caught:
        assert event.isSet() is False
    assert caught[0].filename == __file__


def test_signatures(Event):
    assert str(inspect.signature(Event).replace(return_annotation=inspect.Signature.empty)) in {
        "(timeout=None, *, parents=(), set_on_timeout=False, name=None)",
        "(timeout: 'float | None' = None, *, parents: 'Iterable[Any]' = (), set_on_timeout: 'bool' = False,"
        " name: 'str | None' = None)",
    }
    for name, parameters in {
        "set": ["reason"],
        "check": [],
        "clear": [],
        "is_set": [],
        "check_timeout": [],
        "wait": ["timeout"],
    }.items():
        assert list(inspect.signature(getattr(Event(), name)).parameters) == parameters


def test_a_subclass_shows_its_own_signature(Event):
    class Named(Event):
        def __init__(self, name):
            super().__init__()

    assert str(inspect.signature(Named)) == "(name)"


def test_autospec(Event):
    for double in mock.create_autospec(Event, instance=True), mock.create_autospec(Event)(), mock.create_autospec(Event()):
        double.wait.return_value = True
        assert double.wait(timeout=1) is True
        double.wait.assert_called_once_with(timeout=1)
        double.set(), double.set("reason"), double.set(reason="reason"), double.clear()
        with pytest.raises(TypeError):
            double.wait(1, 2, 3)
        with pytest.raises(AttributeError):
            double.cancel()
        assert isinstance(double, Event) and isinstance(double, threading.Event)
    for method, arguments in (double.wait, (1, 2)), (double.set, (1, 2)), (double.clear, (1,)), (double.child, (1, 2)):
        with pytest.raises(TypeError):  # the last double, of an event, knows how many there are
            method(*arguments)


@pytest.mark.parametrize("name", ["is_set", "clear", "check_timeout", "wait", "set"])
def test_methods_can_be_patched_on_the_class(Event, name):
    event = Event(0)
    with mock.patch.object(Event, name, lambda self: "patched"):
        assert getattr(event, name)() == "patched"
    answers = {"is_set": False, "clear": None, "check_timeout": True, "wait": False, "set": None}
    assert getattr(event, name)() is answers[name]


def test_init_and_new_can_be_replaced(core):
    # In a process of its own, because a class does not forget that it had a __new__.

    def program():
        from unittest import mock

        from fastevent import Event

        seen, new = [], Event.__new__
        with mock.patch.object(Event, "__init__", lambda self, *arguments: seen.append(arguments)):
            Event(), Event(5)
        Event(6)
        Event.__new__ = lambda cls, *arguments: seen.append("new") or new(cls)
        print(Event(7).is_set(), seen)

    assert python(program, core) == "False [(), (5,), 'new']\n"


def test_repr_without_a_timeout_is_that_of_threading(Event):
    event = Event()
    assert repr(event) == f"<fastevent.Event at {id(event):#x}: unset>"
    event.set()
    assert repr(event) == f"<fastevent.Event at {id(event):#x}: set>"


@pytest.mark.parametrize(
    ("timeout", "ends"),
    [(5, "unset, 5 s of 5 s left>"), (0, "unset, timed out after 0 s>"), (math.inf, "unset, inf s of inf s left>"),
     (0.75, "s of 0.75 s left>"), (1e300, "unset, 1e+300 s of 1e+300 s left>")],
)  # fmt: skip
def test_repr_with_a_timeout_says_what_is_left(Event, timeout, ends):
    assert repr(Event(timeout)).endswith(ends)


def test_repr_reads_the_name_once(Event):
    """Another thread may call `__init__()` again in between."""

    class Renamed(Event):
        names = [None, "name"]  # noqa: RUF012
        _fe_name = property(lambda self: self.names.pop())

    assert " 'name' at " in repr(Renamed())


def test_repr_names_the_subclass(Event):
    class Sub(Event):
        pass

    assert repr(Sub()).startswith(f"<{__name__}.test_repr_names_the_subclass.<locals>.Sub at 0x")


def test_threading_event_is_looked_up_at_import(Event):
    with mock.patch.object(threading, "Event", Event):
        event = threading.Event()
        event.set()
        assert repr(event).endswith("set>") and isinstance(event, threading.Event)
        thread = threading.Thread(target=event.wait)
        thread.start()
        thread.join()


def test_a_thread_lives_on_our_events(Event):
    """`threading` makes an event for every thread, sets it, waits for it, and reinitialises it after a fork."""
    with mock.patch.object(threading, "Event", Event):
        threads = [threading.Thread(target=lambda: None) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(type(thread._started) is Event for thread in threads)


@pytest.mark.core("c")
def test_memory_of_an_event(Event):
    assert sys.getsizeof(Event()) <= 128 and not getattr(Event, "__static_attributes__", ())


# Classes that people have derived from threading.Event: what they call their own things


@pytest.mark.parametrize("name", ["timeout", "reason", "_timeout", "_start_time", "_event"])
def test_a_subclass_may_have_that_attribute(Event, name):
    class Theirs(Event):
        def __init__(self, value):
            setattr(self, name, value)
            super().__init__(0.25)

    event = Theirs("mine")
    assert getattr(event, name) == "mine"
    event.set("why")
    status = event.status()
    assert (status.reason, status.timeout) == ("why", 0.25)
    assert "set: why" in repr(event) and "0.25 s" in repr(event)
    with pytest.raises(Exception, match=r"^cancelled: why$"):
        event.check()
    delattr(event, name)
    assert getattr(event, name) == getattr(super(Theirs, event), name) != "mine"
    with pytest.raises(AttributeError):
        delattr(event, name)


@pytest.mark.parametrize("name", ["name", "timeout", "reason"])
def test_an_attribute_has_its_own_docstring(Event, name):
    attribute = inspect.getattr_static(Event, name)
    assert inspect.getdoc(attribute) not in {None, inspect.getdoc(type(attribute))}


def test_a_subclass_may_use_any_name(Event):
    """Its attributes never meet those by which an event works."""
    ours = {name for cls in Event.__mro__ for name in vars(cls) if not name.startswith("__")}
    of_threading = {name for name in dir(threading.Event) if not name.startswith("__")}
    documented = {"_event", "_timeout", "_start_time"}
    assert {name for name in ours - of_threading - documented if name.startswith("_") and not name.startswith("_fe_")} == set()

    class Theirs(Event):
        def __init__(self):
            self._callbacks, self._children, self._parents, self._state, self._timer = [print], 1, 2, 3, 4
            self.status, self.elapsed, self.remaining, self.ticks, self.check = "idle", 5, 6, 7, 8
            super().__init__(300, set_on_timeout=True)

    parent, called = Theirs(), []
    child = Event(parents=[parent])
    parent.add_callback(called.append)
    parent.set()
    assert called == [parent] and child.is_set() and parent.wait() and repr(parent)
    assert (parent._callbacks, parent.status) == ([print], "idle")


@pytest.mark.parametrize("name", ["Event", "SharedEvent"])
def test_help_shows_what_a_default_means(fastevent, name):
    signature = inspect.signature(getattr(fastevent, name).restart_timeout)
    assert str(signature.parameters["timeout"]).endswith(" = <the same>")
