"""Events where other libraries, and other parts of the standard one, meet them."""

import contextlib
import copy
import dataclasses
import functools
import http.client
import inspect
import os
import pydoc
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing
import weakref
import zipapp
from pathlib import Path

import pytest
from conftest import CORES
from helpers import CORE_SWITCH, ROOT, TIMEOUT, body, child_environment, python, until


def package_folder():
    return Path(CORES["py"].__file__).parent


def test_dataclasses(Event):
    @dataclasses.dataclass
    class Job:
        name: str
        cancel: Event = dataclasses.field(default_factory=Event)
        limit: threading.Event | None = None

    one, other = Job("one"), Job("other")
    assert one.cancel is not other.cancel and type(one.cancel) is Event
    one.cancel.set()
    assert not other.cancel.is_set() and one == one and one != other
    assert dataclasses.replace(one, name="renamed").cancel is one.cancel
    assert "cancel=<fastevent.Event at" in repr(one)
    # They copy every field, and an event is no value.
    for copies in dataclasses.asdict, dataclasses.astuple, copy.deepcopy:
        with pytest.raises(TypeError, match=r"cannot pickle or copy <fastevent\.Event"):
            copies(one)
    assert copy.copy(one).cancel is one.cancel

    @dataclasses.dataclass(frozen=True, slots=True)
    class Frozen:
        cancel: Event = dataclasses.field(default_factory=Event)

    frozen = Frozen()
    frozen.cancel.set()
    assert frozen.cancel.is_set() and hash(frozen) == hash(Frozen(frozen.cancel))


def test_functools(Event):
    assert functools.partial(Event, timeout=TIMEOUT)()._timeout == TIMEOUT
    event = Event()
    stop = functools.partial(event.wait, 0)
    assert stop() is False
    event.set()
    assert stop() is True

    @functools.cache
    def of(name, event):
        return name, event

    assert of("a", event) is of("a", event) and of("a", event) is not of("a", Event())

    class Service:
        @functools.cached_property
        def stopped(self):
            return Event()

    service = Service()
    assert service.stopped is service.stopped
    ended = weakref.ref(service.stopped)
    del service
    assert ended() is None or sys.implementation.name != "cpython"

    @functools.singledispatch
    def kind(thing):
        return "something"

    kind.register(threading.Event, lambda event: "an event")
    assert kind(event) == "an event"


def test_contextlib(Event):
    event = Event()
    with contextlib.ExitStack() as stack:
        stack.callback(event.set)
        assert not event.is_set()
    assert event.is_set()
    with contextlib.suppress(RuntimeError):
        try:
            raise RuntimeError
        finally:
            event.clear()
    assert not event.is_set()


def test_annotations_of_threading_event_accept_ours(Event):
    def work(event: typing.Optional[threading.Event] = None) -> bool:  # noqa: UP045  # as an engine writes it
        event = event or threading.Event()
        return event.is_set()

    event = Event()
    event.set()
    assert work(event) is True and work() is False
    hint = typing.get_type_hints(work)["event"]
    assert any(isinstance(event, kind) for kind in typing.get_args(hint))
    assert issubclass(Event, threading.Event)


def test_pydantic(Event):
    pydantic = pytest.importorskip("pydantic", reason="pydantic has no wheel here")

    class Job(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        name: str
        cancel: Event = pydantic.Field(default_factory=Event)
        parent: threading.Event | None = None

    event = Event(timeout=TIMEOUT)
    job = Job(name="job", parent=event)
    assert job.parent is event and type(job.cancel) is Event and job.cancel is not Job(name="other").cancel
    assert Job(name="job", cancel=event).cancel is event
    assert job.model_copy().parent is event
    assert job.model_dump()["parent"] is event
    event.set()
    assert job.parent.is_set()
    with pytest.raises(pydantic.ValidationError, match="instance of Event"):
        Job(name="job", cancel="now")
    with pytest.raises(pydantic.ValidationError, match="instance of Event"):
        Job(name="job", cancel=threading.Event())  # a field of our class takes no other
    with pytest.raises(TypeError, match="cannot pickle or copy"):
        job.model_copy(deep=True)

    @pydantic.validate_call(config={"arbitrary_types_allowed": True})
    def stop(event: threading.Event) -> bool:
        return event.is_set()

    assert stop(event) is True


def public_methods(cls):
    return [name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))]


def test_every_public_method_has_a_signature_and_help(Event):
    assert {"check_timeout", "clear", "is_set", "set", "wait"} <= set(public_methods(Event))
    for name in public_methods(Event):
        method = getattr(Event, name)
        assert "self" in inspect.signature(method).parameters, name
        assert "self" not in inspect.signature(getattr(Event(), name)).parameters, name
        text = pydoc.plain(pydoc.render_doc(method))
        assert f"{name}(" in text, text
        if name != "isSet":  # `threading` documents it
            summary = inspect.getdoc(method).splitlines()[0]
            assert summary.endswith((".", ":")) and summary in text, text
            assert "Thread safety:" in text, name
    text = pydoc.plain(pydoc.render_doc(Event))
    assert "class Event(" in text and "threading.Event" in text
    assert "flag" in text and "cheapest way to poll" in text
    assert str(inspect.signature(Event)).startswith("(timeout")


def test_help_of_the_package(fastevent):
    for name in fastevent.__all__:
        getattr(fastevent, name)  # one of them is imported when it is used
    text = pydoc.plain(pydoc.render_doc(fastevent))
    for name in set(fastevent.__all__) - {"SharedEvent"}:  # which is imported when it is used
        assert name in text
        if inspect.isfunction(getattr(fastevent, name)):
            assert "Thread safety:" in getattr(fastevent, name).__doc__


def test_a_tracer_sees_calls_of_events(Event):
    """Debuggers and profilers hang on these hooks; an event must neither break them nor be broken by them."""
    called = []

    def trace(frame, kind, _):
        called.append((kind, frame.f_code.co_name))
        return trace

    event = Event()

    def work():
        event.set()
        return event.wait()

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert work() is True
    finally:
        sys.settrace(before)
    assert ("call", "work") in called and ("return", "work") in called


def waits():
    import os
    import threading

    import fastevent

    event = fastevent.Event(timeout=60)
    threading.Timer(0.05, event.set).start()
    print(event.wait(), fastevent.IMPLEMENTATION, os.path.dirname(fastevent.__file__))


def test_a_zipapp_without_the_pth_file(tmp_path):
    """The Python core runs inside the archive; an extension cannot be loaded from there, and is not looked for."""
    source = tmp_path / "app"
    shutil.copytree(package_folder(), source / "fastevent", ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    (source / "__main__.py").write_text(body(waits))
    archive = tmp_path / "app.pyz"
    zipapp.create_archive(source, archive, compressed=True)
    done = subprocess.run([sys.executable, "-I", "-S", archive], capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.stdout, done.stderr, done.returncode) == (f"True python {archive / 'fastevent'}\n", "", 0)


def test_pyinstaller(tmp_path):
    pytest.importorskip("PyInstaller", reason="make ecosystem installs it")
    program = tmp_path / "program.py"
    program.write_text(body(waits))
    build = [sys.executable, "-m", "PyInstaller", "--log-level=ERROR", "--distpath", tmp_path, "--specpath", tmp_path]
    subprocess.run([*build, "--workpath", tmp_path / "work", program], check=True, timeout=600, cwd=tmp_path)
    for core in CORES:
        environment = {**os.environ, **CORE_SWITCH[core]}
        done = subprocess.run([tmp_path / "program/program"], capture_output=True, text=True, timeout=TIMEOUT, env=environment)
        assert (done.stdout.split()[:2], done.stderr) == (["True", "c" if core == "c" else "python"], "")


def imports(monkey_first):
    """Return the imports that come before a program under gevent."""
    lines = ["from gevent import monkey; monkey.patch_all()\n", "import fastevent\n"]
    return "".join(lines if monkey_first else reversed(lines)) + "import gevent\n"


@pytest.mark.parametrize("monkey_first", [True, False])
def test_gevent(core, monkey_first):
    """Polling works. Whether `wait()` lets the other greenlets run depends on the core and on which import came first."""
    pytest.importorskip("gevent", reason="make ecosystem installs it")

    def program(fastevent, gevent):
        polled, event = [], fastevent.Event()

        def polls():
            while not event.is_set():
                polled.append(1)
                gevent.sleep(0.005)

        greenlet = gevent.spawn(polls)
        gevent.spawn_later(0.1, event.set)
        greenlet.join()
        assert len(polled) > 1 and event.wait() and not fastevent.Event().wait(0.01)

        ticks, done = [], fastevent.Event()
        ticker = gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.01)) for _ in range(10)])
        gevent.sleep(0)
        before = len(ticks)
        assert done.wait(0.3) is False
        print("others ran" if len(ticks) > before + 1 else "others stood still")
        ticker.join()

    cooperates = core == "py" and monkey_first
    assert python(program, core, before=imports(monkey_first)) == ("others ran\n" if cooperates else "others stood still\n")


@pytest.mark.parametrize("monkey_first", [True, False])
def test_self_setting_events_under_gevent(core, monkey_first):
    """Native threads keep its deadline and call its callbacks; wait() returns at the deadline in any greenlet."""
    pytest.importorskip("gevent", reason="make ecosystem installs it")

    def program(fastevent, gevent):
        import time

        calls, event = [], fastevent.Event(0.05, set_on_timeout=True)
        child = event.child()
        child.add_callback(lambda event: calls.append(gevent.monkey.get_original("_thread", "get_ident")()))
        waits = [gevent.spawn(event.wait), gevent.spawn(child.wait, 60), gevent.spawn(fastevent.wait_any, [child])]
        gevent.joinall(waits, timeout=60)
        assert [greenlet.value for greenlet in waits] == [True, True, [child]], waits
        assert time.monotonic_ns() >= event._fe_period().deadline and event.check_timeout()
        end = time.monotonic() + 60
        while not calls and time.monotonic() < end:
            gevent.sleep(0.001)
        assert calls and calls[0] != gevent.monkey.get_original("_thread", "get_ident")()
        event.clear()
        while not event.is_set() and time.monotonic() < end:
            gevent.sleep(0.001)  # polling works, too
        assert event.is_set()

    python(program, core, before=imports(monkey_first))


@pytest.mark.parametrize("caller", ["greenlet", "helper"])
def test_a_block_under_gevent_waits_for_the_call(core, caller):
    pytest.importorskip("gevent", reason="make ecosystem installs it")

    def program(fastevent, gevent):
        import sys

        calls, caller = [], sys.argv[1]
        event = fastevent.Event(0.01, set_on_timeout=caller == "helper")
        with event.callback(lambda: (calls.append("begins"), gevent.sleep(0.2), calls.append("ends"))):
            _greenlet = gevent.spawn(event.set) if caller == "greenlet" else None
            while not calls:
                gevent.sleep(0.001)
        assert calls == ["begins", "ends"], calls

    python(program, core, caller, before=imports(monkey_first=True))


def served():
    """What servers serve: their class of events, once one was waited for."""
    import asyncio
    import threading

    try:
        import celery
    except ImportError:
        celery = None

    def answer():
        event = threading.Event()
        threading.Timer(0.01, event.set).start()
        return f"{event.wait(60)} {type(event).__module__}"

    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return [answer().encode()]

    async def asgi(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": (await asyncio.to_thread(answer)).encode()})

    if celery:
        tasks = celery.Celery("served", broker="filesystem://", backend="file://.")
        tasks.conf.broker_transport_options = dict.fromkeys(["data_folder_in", "data_folder_out", "control_folder"], ".")
        task = tasks.task(answer)
        assert task


SERVERS = {
    "celery": ["-A", "served", "worker", "--concurrency", "2"],
    "gunicorn": ["--bind", "127.0.0.1:0", "--workers", "2", "--threads", "2", "served:wsgi"],
    "uvicorn": ["--port", "0", "served:asgi"],
}


def used(name, folder, *run, **switch):
    """Start a server, use it, and end it by SIGTERM. Return its answer and its exit code."""

    def port():
        return re.search(r"http://127\.0\.0\.1:(\d+)", (folder / "log").read_text())

    inherited = {key: value for key, value in os.environ.items() if not key.startswith("FASTEVENT_")}
    options = {"cwd": folder, "env": {**inherited, **switch}}
    with open(folder / "log", "w") as log:
        command = [sys.executable, *run, "-m", name, *SERVERS[name]]
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)
    try:
        if name == "celery":
            code = f"import served; print(served.task.delay().get(timeout={TIMEOUT}), end='')"
            client = [sys.executable, *run, "-c", code]
            answer = subprocess.run(client, stdout=-1, timeout=2 * TIMEOUT, text=True, check=True, **options).stdout
        else:
            connection = http.client.HTTPConnection("127.0.0.1", int(until(port)[1]), timeout=TIMEOUT)
            with contextlib.closing(connection):
                connection.request("GET", "/")
                answer = connection.getresponse().read().decode()
        server.terminate()
        return answer, server.wait(TIMEOUT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        assert "Traceback" not in (folder / "log").read_text()


@pytest.mark.skipif(os.name == "nt", reason="gunicorn is not for Windows")
@pytest.mark.parametrize("threads", [1, 2])
def test_gunicorn_with_the_configuration_of_the_page(core, tmp_path, threads):
    """SIGTERM ends a request in progress, and then the server, which would have waited for 30 seconds."""
    pytest.importorskip("gunicorn", reason="make ecosystem installs it")

    def app():
        import fastevent

        shutdown = fastevent.Event()

        def wsgi(environ, start_response):
            with shutdown.child(60) as cancel:
                open("begun", "w").close()
                cancel.wait()
                start_response("200 OK", [])
                return [str(cancel.reason).encode()]

    page = (ROOT / "docs/web.md").read_text(encoding="utf-8")
    configuration = re.search(r'^```python title="not run: gunicorn reads it"\n(.*?)^```', page, re.M | re.S)[1]
    (tmp_path / "gunicorn.conf.py").write_text(configuration)
    (tmp_path / "app.py").write_text(body(app))
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", threads, "app:wsgi"]
    with open(tmp_path / "log", "w") as log:
        options = {"stdout": log, "stderr": log, "cwd": tmp_path, "env": child_environment(core)}
        server = subprocess.Popen([*map(str, command)], start_new_session=True, **options)
    try:
        port = until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text()))[1]
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            until((tmp_path / "begun").exists)
            start = time.monotonic()
            server.terminate()
            assert connection.getresponse().read() == b"SIGTERM"
        assert server.wait(TIMEOUT) == 0 and time.monotonic() - start < 25
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("name", SERVERS)
def test_servers_under_the_patch(core, name, tmp_path):
    """They start, serve, and end as without it."""
    pytest.importorskip(name, reason="make ecosystem installs it")
    (tmp_path / "served.py").write_text(body(served))
    answer, code = used(name, tmp_path)
    assert answer == "True threading"
    assert used(name, tmp_path, "-m", "fastevent", "run", **CORE_SWITCH[core]) == ("True fastevent", code)
