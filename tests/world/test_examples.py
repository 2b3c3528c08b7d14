"""The programs of `examples/`: each runs as a person would run it, over both cores."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import CORE_SWITCH, ROOT, TIMEOUT

EXAMPLES = ROOT / "examples"


def start(core, name, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, EXAMPLES / name, *arguments],
        env={**os.environ, **CORE_SWITCH[core]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def end(process):
    out, error = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, error) == (0, ""), (process.returncode, out, error)
    return out


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "board.py",
        "crawler.py",
        "engine.py",
        "machines.py",
        "pool.py",
        "server.py",
        "service.py",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_service_stops_on_sigterm(core):
    process = start(core, "service.py")
    assert "takes jobs" in process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out = end(process)
    assert "stopping: SIGTERM" in out and "left for the next start" in out


def test_the_crawler_keeps_its_deadlines(core):
    out = end(start(core, "crawler.py"))
    assert "pages of quick.example: fetched" in out and "stuck.example: timed out after" in out and "all in" in out


def test_the_server_cancels_work_when_its_client_leaves(core):
    assert end(start(core, "server.py")) == "answer: 5\nwork for 1000000 cancelled: the client left\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_ctrl_c_stops_every_kind_of_pool(core, method):
    """As a terminal sends it: to all processes of the group."""
    process = start(core, "pool.py", method, start_new_session=True)
    for done in range(1, 11):  # by then, the second worker has begun to ignore the signal, too
        assert process.stdout.readline() == f"{done} of 200\n"
    os.killpg(process.pid, signal.SIGINT)
    assert end(process).endswith("stopped: SIGINT\n")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_the_first_error_stops_the_pool(core, method):
    assert end(start(core, "pool.py", method, "broken")).endswith("stopped: ValueError('item 3 is broken')\n")


def test_the_board_shows_its_groups(core):
    out = end(start(core, "board.py", "1"))
    assert "10 groups" in out and "group 9" in out and "timed out" in out
