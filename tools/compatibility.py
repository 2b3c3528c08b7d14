"""Other people's test suites under the patch: what fails with it and not without?

    python tools/compatibility.py stdlib-tests [MODULE ...]   CPython's own, of the interpreter that runs this
    python tools/compatibility.py third-party [PACKAGE ...]   those of packages that live on events
    python tools/compatibility.py engine                      that of the workflow engine, and our tests of it
    python tools/compatibility.py thread-cost                 what it costs to start and join a thread

Each suite runs in a virtual environment of its own, without the patch and with it over either core. There the patch comes from
a `.pth` file: it reaches every Python process that a test starts. A suite with a new failure runs again, both ways, up to three
times: counted is what fails every time with the patch and never without. The rows go to
`docs/compatibility.md`; a new failure is exit code 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import signal
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build/compatibility" / f"{sys.implementation.cache_tag}{sys.abiflags}"
PAGE = ROOT / "docs/compatibility.md"
LIMIT = 1_500.0  # seconds, for one run of a suite
AGAIN = 3  # how often a suite with a new failure runs again

SWITCH = "FASTEVENT_UNDER_TEST"
PTH = f"import os; {SWITCH!r} in os.environ and __import__('fastevent').patch_threading()\n"
MODES = {"without": {}, "c": {SWITCH: "1"}, "py": {SWITCH: "1", "FASTEVENT_PURE_PYTHON": "1"}}

#: The modules of CPython's test package whose subject, or whose tests, live on threads and events.
STDLIB = """
    test_asynchat test_asyncio test_asyncore test_concurrent_futures test_contextlib test_decimal test_faulthandler test_fork1
    test_free_threading test_ftplib test_functools test_httpservers test_imaplib test_importlib test_itertools test_logging
    test_multiprocessing_fork test_multiprocessing_forkserver test_multiprocessing_main_handling test_multiprocessing_spawn
    test_poplib test_queue test_sched test_signal test_smtplib test_socket test_socketserver test_ssl test_subprocess
    test_syslog test_telnetlib test_thread test_threadedtempfile test_threading test_threading_local test_threadsignals
    test_urllib2_localnet test_weakref test_wsgiref test_xmlrpc
""".split()

#: Tests that do not end on a virtual machine without the other side of its sockets.
HANG = "*VSOCK*"

#: What the patch changes by its nature, and which tests ask for that.
BY_NATURE = {
    "test.test_faulthandler.FaultHandlerTests.test_dump_ext_modules": "wants no extension modules, on 3.15",
    "test.test_faulthandler.FaultHandlerTests.test_dump_traceback_threads": "wants a waiting thread in `threading.py`",
    "test.test_faulthandler.FaultHandlerTests.test_dump_traceback_threads_file": "the same",
    "test.test_threading.EventTests.test_at_fork_reinit": "looks at the condition inside of `threading.Event`",
    "test.test_threading.MiscTestCase.test__all__": "wants every class in `threading` to be defined there",
    "test.test_threading.ThreadTests.test_import_from_another_thread": "wants `threading` not to be imported at startup",
}


@dataclass
class Suite:
    """A test suite: where it comes from, what it needs, how it is called in the folder that it is unpacked into."""

    requirement: str  # name and version of the sdist
    needs: list[str]  # what its tests import
    arguments: list[str]  # for pytest
    files: dict[str, str] = field(default_factory=dict)  # what the sdist lacks
    settings: dict[str, str] = field(default_factory=dict)


THIRD_PARTY = [
    Suite(
        "apscheduler==3.11.0",
        ["anyio", "pytz", "sqlalchemy<2.1", "tornado"],
        ["-k", "not (etcd or mongodb or redis or rethinkdb or zookeeper)"],
    ),
    Suite("fasteners==0.20", ["diskcache", "eventlet", "more-itertools"], ["tests"]),
    Suite("opentelemetry-sdk==1.36.0", ["flaky", "opentelemetry-test-utils==0.57b0"], ["tests"]),
    Suite("paho-mqtt==2.1.0", [], ["tests"]),
    Suite("paramiko==5.1.0", ["icecream", "pytest-relaxed"], ["tests"]),
    Suite("prometheus-client==0.22.1", ["asgiref", "twisted"], ["tests"]),
    Suite(
        "python-engineio==4.15.1",
        ["aiohttp", "pytest-asyncio", "requests", "tornado", "websocket-client"],
        ["tests/async", "tests/common"],
    ),
    Suite("s3transfer==0.19.3", ["awscrt"], ["tests/functional", "tests/unit"]),
    Suite("tenacity==9.1.2", ["tornado", "typeguard"], ["tests"]),
    Suite("tqdm==4.67.1", ["pytest-asyncio", "pytest-timeout", "rich"], ["tests"]),
    Suite("watchdog==6.0.0", ["flaky", "pytest-timeout", "PyYAML"], ["-o", "addopts=", "tests"]),
]

#: The sdist of the engine has its tests without what they import: this is written after what they ask of it.
ENGINE = Suite(
    "ddeutil-workflow==0.0.86",
    ["aiofiles", "fastapi", "freezegun", "httpx", "pytest-asyncio", "redis>=5", "requests"],
    ["-o", "log_cli=false", "-o", "asyncio_default_fixture_loop_scope=function", "tests"],
    files={
        "tests/__init__.py": "",
        "tests/conftest.py": """
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root_path():
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def test_path():
    return Path(__file__).parent
""",
        "tests/utils.py": """
import contextlib
import textwrap
import threading
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml


class MockEvent(threading.Event):
    \"\"\"It looks set from the question number n on.\"\"\"

    def __init__(self, n):
        super().__init__()
        self.left = n

    def is_set(self):
        self.left -= 1
        return self.left < 0


def exclude_info(context):
    if not isinstance(context, dict):
        return context
    return {key: exclude_info(value) for key, value in context.items() if key != "info"}


def exclude_created_and_updated(data):
    return {key: value for key, value in data.items() if key not in {"created_at", "updated_at"}}


def str2dt(text, tz=None):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz or "Asia/Bangkok"))


def dump_yaml(path, data):
    text = textwrap.dedent(data) if isinstance(data, str) else yaml.safe_dump(data)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


@contextlib.contextmanager
def dump_yaml_context(path, data):
    dump_yaml(path, data)
    yield Path(path)
    Path(path).unlink()
""",
    },
    settings={
        "WORKFLOW_CORE_CONF_PATH": "tests/conf",
        "WORKFLOW_CORE_GENERATE_ID_SIMPLE_MODE": "true",
        "WORKFLOW_CORE_REGISTRY_CALLER": "tests",
        "WORKFLOW_CORE_REGISTRY_FILTER": "ddeutil.workflow.reusables,ddeutil.workflow.utils",
        "WORKFLOW_CORE_STAGE_DEFAULT_ID": "true",
        "WORKFLOW_LOG_TRACE_HANDLERS": '[{"type": "console"}]',
    },
)

#: Prints the microseconds of a `Thread` that is started and joined, without and with the patch: the best of rounds that take
#: turns, on one processor.
THREADS = """
import os, threading, time, fastevent

def round(count=300):
    start = time.perf_counter()
    for _ in range(count):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    return (time.perf_counter() - start) / count * 1e6

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
without, patched = [], []
for _ in range(60):
    without.append(round())
    fastevent.patch_threading()
    patched.append(round())
    fastevent.unpatch_threading()
print(min(without), min(patched))
"""


@dataclass
class Outcome:
    """What one run, or several, gave."""

    tests: int = 0
    failed: set[str] = field(default_factory=set)


def call(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def environment(name: str, *needs: str) -> Path:
    """Make a virtual environment with the wheel of this tree, the switch of the patch, and *needs*; return its interpreter."""
    home = WORK / name / "venv"
    call(sys.executable, "-m", "venv", "--clear", "--without-pip", home)
    python = home / "bin/python"
    (wheel,) = (WORK / "wheel").glob("*.whl")
    call(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel, *needs)
    where = "import sysconfig; print(sysconfig.get_path('purelib'), end='')"
    folder = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout
    Path(folder, "patch.pth").write_text(PTH)
    code = (
        "import sys, threading; print(threading.Event.__module__, getattr(sys.modules.get('fastevent'), 'IMPLEMENTATION', 0))"
    )
    for mode, expected in ("without", "threading 0"), ("c", "fastevent._event c"), ("py", "fastevent._event python"):
        found = subprocess.run([python, "-c", code], env=inherited(mode), capture_output=True, text=True, check=True).stdout
        if found.strip() != expected:
            raise SystemExit(f"{name}: the mode {mode!r} is not what it says: {found}")
    return python


def inherited(mode: str, settings: dict[str, str] | None = None) -> dict[str, str]:
    ours = ("FASTEVENT_", "WORKFLOW_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) or name == "PYTHON_GIL"}
    return {**kept, **MODES[mode], **(settings or {})}


def run(name: str, mode: str, folder: Path, command: list[object], settings: dict[str, str], kept: bool = False) -> Outcome:
    """Run a suite in one mode, unless its report is *kept*; *command* writes one to the path that is appended to it."""
    report, log = (WORK / f"logs/{name}-{mode}{suffix}" for suffix in (".xml", ".log"))
    log.parent.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    code: int | None = 0
    if not (kept and report.exists()):
        report.unlink(missing_ok=True)
        with log.open("w") as output:
            words = [str(word) for word in (*command[:-1], f"{command[-1]}{report}")]
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=inherited(mode, settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                code = process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            outcome.tests += 1
            if case.find("failure") is not None or case.find("error") is not None:
                outcome.failed.add(" ".join(filter(None, (case.get("classname"), case.get("name")))))
    if code is None:
        outcome.failed.add("(the run does not end)")
    elif code and not (report.exists() and outcome.failed):
        outcome.failed.add(f"(the run ends with exit code {code})")
    return outcome


def compare(
    name: str, folder: Path, command: list[object], settings: dict[str, str], kept: bool
) -> tuple[Outcome, dict[str, Outcome]]:
    """Run a suite in every mode. Return what it gives without the patch, and what fails with it only."""
    without = run(name, "without", folder, command, settings, kept)
    new = {mode: run(name, mode, folder, command, settings, kept) for mode in ("c", "py")}
    for outcome in new.values():
        outcome.failed -= BY_NATURE.keys()
    for mode, outcome in new.items():
        for _ in range(AGAIN):
            if outcome.failed <= without.failed:
                break
            without.failed |= run(name, "without", folder, command, settings).failed
            outcome.failed &= run(name, mode, folder, command, settings).failed
    for outcome in new.values():
        outcome.failed -= without.failed
    print(f"{name}: {without.tests} tests, {len(without.failed)} fail without the patch", flush=True)
    for mode, outcome in new.items():
        if outcome.tests != without.tests:
            print(f"  {mode}: {outcome.tests} tests")
        for test in sorted(outcome.failed):
            print(f"  {mode}: new: {test}")
    return without, new


def cells(without: Outcome, new: dict[str, Outcome]) -> list[str]:
    numbers = (without.tests, len(without.failed), len(new["c"].failed), len(new["py"].failed))
    return [f"{number:,}" for number in numbers]


def write_row(section: str, label: str, *cells: str) -> None:
    """Put a row into a table of the page, for the one with the same first cell or at the end."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = (text.index(f"<!-- {section}{mark} -->") for mark in ("", " end"))
    head, *rows = re.findall(r"^\|.*$", text[begin:end], re.M)
    ruler, *rows = rows
    kept = {row.split("|")[1].strip(): row for row in rows}
    kept[label] = f"| {' | '.join((label, *cells))} |"
    table = "\n".join([head, ruler, *(kept[key] for key in sorted(kept, key=str.lower))])
    PAGE.write_text(f"{text[:begin]}<!-- {section} -->\n\n{table}\n\n{text[end:]}", encoding="utf-8")


def interpreter() -> str:
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"
    return f"{platform.python_implementation()} {platform.python_version()}{gil}"


def stdlib_tests(names: list[str], kept: bool) -> bool:
    modules = [name for name in names or STDLIB if importlib.util.find_spec(f"test.{name}")]
    if not modules:
        raise SystemExit(f"{interpreter()} comes without its tests")
    python = environment("stdlib")
    (WORK / "cwd").mkdir(exist_ok=True)
    total, totals = Outcome(), {"c": Outcome(), "py": Outcome()}
    for module in modules:
        command = [python, "-m", "test", "-v", "-u", "network", "-i", HANG, module, "--junit-xml="]
        without, new = compare(module, WORK / "cwd", command, {}, kept)
        total.tests += without.tests
        total.failed |= without.failed
        for mode, outcome in new.items():
            totals[mode].failed |= outcome.failed
    if not names:
        write_row("stdlib", interpreter(), str(len(modules)), *cells(total, totals))
    return not any(outcome.failed for outcome in totals.values())


def third_party(names: list[str], kept: bool) -> bool:
    chosen = [suite for suite in THIRD_PARTY if not names or suite.requirement.partition("==")[0] in names]
    return all([package(suite, "third-party", kept) for suite in chosen])


def engine(names: list[str], kept: bool) -> bool:
    good = package(ENGINE, "engine", kept)
    python = WORK / ENGINE.requirement.partition("==")[0] / "venv/bin/python"
    tests = [ROOT / "tests/world/test_workflow_engine.py", ROOT / "tests/world/test_redis.py", "-k", "engine"]
    ours = [python, "-m", "pytest", "-p", "no:asyncio", "-rPs", "--show-capture=stdout", *tests]
    return subprocess.run(ours, cwd=ROOT, env=inherited("without")).returncode == 0 and good


def thread_cost(names: list[str], kept: bool) -> bool:
    """Measure what a thread costs. The figures are for the reader: no machine here is quiet enough to judge by them."""
    python = environment("thread-cost")
    row = []
    for settings in {}, {"FASTEVENT_PURE_PYTHON": "1"}:
        printed = subprocess.run([python, "-c", THREADS], env=inherited("without", settings), stdout=-1, text=True, check=True)
        without, patched = map(float, printed.stdout.split())
        row += [f"{without:.1f}", f"{patched:.1f} ({patched / without:.2f} x)"]
    print(*row, sep="\n")
    write_row("thread-cost", interpreter(), *row)
    return True


def package(suite: Suite, section: str, kept: bool) -> bool:
    name, _, version = suite.requirement.partition("==")
    python = environment(name, suite.requirement, "pytest", *suite.needs)
    folder = WORK / name
    call(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "-d", folder, suite.requirement
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = (path.parent for path in folder.glob("*/PKG-INFO"))
    for path, text in suite.files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *suite.arguments, "--junitxml="]
    without, new = compare(name, source, command, suite.settings, kept)
    write_row(section, f"{name} {version}", interpreter(), *cells(without, new))
    return not any(outcome.failed for outcome in new.values())


def main() -> int:
    commands = {"stdlib-tests": stdlib_tests, "third-party": third_party, "engine": engine, "thread-cost": thread_cost}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=commands)
    parser.add_argument("names", nargs="*", help="of the modules or packages; all of them without")
    parser.add_argument("--resume", action="store_true", help="go on after a run that was interrupted: keep its reports")
    options = parser.parse_args()
    # In the background of a shell SIGINT is ignored, the suites inherit that, and a test of theirs then waits for it for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for old in (WORK / "wheel").glob("*.whl"):
        old.unlink()
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "pytest.ini").write_text("")  # a suite without a configuration shall not find ours
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", WORK / "wheel", ROOT)
    return 0 if commands[options.command](options.names, options.resume) else 1


if __name__ == "__main__":
    sys.exit(main())
