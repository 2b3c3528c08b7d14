"""Packages that freeze clocks, read annotations, hold listeners weakly, copy objects or make threads green."""

import dataclasses
import gc
import sys
import threading
import typing

import attrs
import beartype
import blinker
import dacite
import injector
import pytest
import typeguard
from helpers import body, python
from pubsub import pub

for_cpython = pytest.mark.skipif(sys.implementation.name != "cpython", reason="the package is for CPython alone")

# Clocks. They run in a new interpreter, because freezegun looks for what it replaces in `sys.modules`.


def freezegun():
    import freezegun

    jump = freezegun.freeze_time("2024-01-01", real_asyncio=True).start().tick
    assert jump


def time_machine():
    import time_machine

    jump = time_machine.travel("2024-01-01", tick=False).start().shift
    assert jump


def mock():
    from unittest import mock

    seconds = mock.patch("time.monotonic", return_value=100.0).start()
    nanoseconds = mock.patch("time.monotonic_ns", return_value=100 * 10**9).start()

    def jump(by):
        seconds.return_value += by
        nanoseconds.return_value += by * 10**9


@pytest.mark.parametrize(
    ("tool", "imported"),
    [
        (freezegun, "before"),
        (freezegun, "within"),
        pytest.param(time_machine, "before", marks=for_cpython),
        (mock, "within"),
    ],
)
def test_frozen_clocks_change_no_wait(core, tool, imported):
    def program(Event, jump, old, real):
        import asyncio

        from fastevent import wait_all, wait_any

        def takes(seconds, answer, call):
            start = real()
            assert call() == answer, call
            took = (real() - start) / 1e9
            assert seconds <= took < seconds + 30, (call, took)

        new = Event(3600)
        jump(7200)
        for event in new, old:
            assert not event.check_timeout() and event.status().elapsed < 1000 and event.remaining() > 2600, event
        takes(0.02, False, lambda: Event().wait(0.02))
        takes(0.02, False, lambda: Event(0.02).wait())
        takes(0.02, True, lambda: Event(0.02, set_on_timeout=True).wait())
        takes(
            0.02, True, lambda: Event(parents=[Event(0.02, set_on_timeout=True)]).wait()
        )  # by the thread that keeps deadlines
        takes(0.02, [], lambda: wait_any([Event()], 0.02))
        takes(0.02, False, lambda: wait_all([Event()], 0.02))
        takes(0.04, [(0, 0), (1, 1), (2, 2)], lambda: list(zip(range(3), Event().ticks(0.02), strict=False)))
        if jump.__module__ != "__main__":  # asyncio itself stands still where time.monotonic() is mocked
            takes(0.02, False, lambda: asyncio.run(Event().wait_async(0.02)))
            takes(0.02, True, lambda: asyncio.run(Event(0.02, set_on_timeout=True).wait_async()))
        print("done")

    use = "from fastevent import Event; old = Event(3600)\n"
    lines = [
        "import asyncio, functools, time\n",
        "real = functools.partial(time.monotonic_ns)\n",  # no tool knows this object
        *((use, body(tool)) if imported == "before" else (body(tool), use)),
    ]
    assert python(program, core, before="".join(lines)) == "done\n"


# Annotations


def test_attrs(Event):
    for slots in False, True:

        @attrs.define(slots=slots, eq=False)
        class Job(Event):
            name: str
            limit: "int" = 3

            def __attrs_post_init__(self):
                Event.__init__(self, self.limit)

        assert attrs.fields(attrs.resolve_types(Job)).limit.type is int
        job = Job("nightly")
        job.set()
        assert (job.name, job.is_set(), job._timeout) == ("nightly", True, 3)


def test_dacite(Event):
    @dataclasses.dataclass(eq=False)
    class Job(Event):
        name: str
        parent: typing.Optional[threading.Event] = None  # noqa: UP045  # as old code writes it

        def __post_init__(self):
            super().__init__()

    event = Event()
    job = dacite.from_dict(Job, {"name": "nightly", "parent": event})
    assert (job.name, job.parent, job.wait(0)) == ("nightly", event, False)
    with pytest.raises(dacite.WrongTypeError):
        dacite.from_dict(Job, {"name": "nightly", "parent": "now"})


def test_injector(Event):
    class Service:
        @injector.inject
        def __init__(self, stop: Event, shutdown: threading.Event):
            self.stop, self.shutdown = stop, shutdown

    event = Event()
    container = injector.Injector(lambda binder: binder.bind(threading.Event, to=event))
    service = container.get(Service)
    assert type(service.stop) is Event and service.stop is not event and service.shutdown is event
    assert not container.get(Event).is_set()


@pytest.mark.parametrize(
    ("checked", "violation"),
    [(beartype.beartype, beartype.roar.BeartypeCallHintViolation), (typeguard.typechecked, typeguard.TypeCheckError)],
    ids=["beartype", "typeguard"],
)
def test_types_checked_at_run_time(Event, checked, violation):
    class Job(Event):
        @checked
        def stop(self, by: threading.Event, also: list[threading.Event]) -> bool:
            self.set(by)
            return self.wait(0)

    event = Event()
    assert Job().stop(event, [event]) is True
    for wrong in [lambda: Job().stop("now", []), lambda: Job().stop(event, ["now"])]:
        with pytest.raises(violation):
            wrong()


# Listeners that are held weakly


def test_pypubsub_keeps_a_listener(Event):
    event = Event()
    manager = pub.getDefaultTopicMgr()
    try:
        pub.subscribe(event.set, "shutdown")
        pub.sendMessage("shutdown", reason="it was late")
        assert event.is_set() and event.reason == "it was late"
        del event
        gc.collect()
        assert not manager.getTopic("shutdown").hasListeners()
    finally:
        manager.delTopic("shutdown")


def test_blinker_keeps_a_receiver(Event):
    event, signal = Event(), blinker.Signal()
    signal.connect(event.set)
    signal.send("it was late")
    assert event.is_set() and event.reason == "it was late"
    del event
    gc.collect()
    assert not signal.receivers


# Copies


def test_dill(core):
    """It refuses a plain event. It copies events that say how, and classes of the main module, which it pickles by value."""

    def program():
        import sys
        import threading
        import types

        import dill
        from named import Named

        import fastevent
        from fastevent import Event

        class OfTheProgram(Named):
            pass

        event = OfTheProgram("nightly")
        event.set()
        if sys.version_info < (3, 15):  # there dill cannot pickle code
            for other in dill.loads(dill.dumps(event)), dill.copy(event):
                assert other is not event and (other.label, other.is_set()) == ("nightly", True)
        assert dill.loads(dill.dumps(Event)) is Event
        shared = fastevent.SharedEvent()
        dill.loads(dill.dumps(shared)).set()
        assert shared.wait(60)

        fastevent.patch_threading()
        for thing in Event(), types.SimpleNamespace(stop=threading.Event()):
            try:
                dill.dumps(thing)
            except TypeError as error:
                print(str(error)[:40])

    assert python(program, core) == "cannot pickle or copy <fastevent.Event a\n" * 2


# Green threads, in a new interpreter, because nothing takes eventlet's monkey patching back.


def under_eventlet(core, before, program):
    lines = [
        "import contextlib, io, threading, warnings",
        "warnings.simplefilter('ignore')  # eventlet announces its end",
        before,
        "import eventlet",
        "with contextlib.redirect_stderr(io.StringIO()):  # and names locks that were made before",
        "    eventlet.monkey_patch()",
        "import fastevent",
        "",
    ]
    return python(program, core, before="\n".join(lines))


@for_cpython
@pytest.mark.parametrize("before", ["", "import fastevent"])
def test_eventlet(core, before):
    """Polls and deadlines work. Waits of green threads, and so the patch, need the Python core, imported afterwards."""

    def program(eventlet, fastevent, threading):
        polled, calls, event = [], [], fastevent.Event()

        def polls():
            while not event.is_set():
                polled.append(1)
                eventlet.sleep(0.001)

        thread = eventlet.spawn(polls)
        eventlet.spawn_after(0.02, event.set)
        thread.wait()
        assert len(polled) > 1 and event.wait()

        event = fastevent.Event(0.02, set_on_timeout=True)
        part = fastevent.Event(parents=[event])
        part.add_callback(calls.append)
        assert event.wait()
        while not calls:
            eventlet.sleep(0.001)
        assert calls == [part] and part.is_set()

        eventlet.spawn(calls.clear)
        assert not fastevent.Event().wait(0.1)
        print("others stood still" if calls else "others ran")

        try:
            fastevent.patch_threading()
        except RuntimeError as error:
            print("refused" if "green threads" in str(error) else error)
        event, answers = threading.Event(), []
        threads = [threading.Thread(target=lambda: answers.append(event.wait(10))), threading.Timer(0.02, event.set)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(answers, isinstance(event, fastevent.Event))

    works = core == "py" and not before
    expected = "others ran\n[True] True\n" if works else "others stood still\nrefused\n[True] False\n"
    assert under_eventlet(core, before, program) == expected


@for_cpython
def test_eventlet_after_the_patch(core):
    """The first wait that would stop all green threads is refused: that of a thread which starts another one."""

    def program(fastevent, threading):
        started = []
        try:
            threading.Thread(target=started.append, args=[1]).start()
        except RuntimeError as error:
            print("refused" if "green threads" in str(error) else error)
        fastevent.unpatch_threading()
        thread = threading.Thread(target=started.append, args=[2])
        thread.start()
        thread.join()
        print(started, fastevent.Event().wait(0.001))

    before = "import fastevent; fastevent.patch_threading()"
    assert under_eventlet(core, before, program) == "refused\n[1, 2] False\n"
