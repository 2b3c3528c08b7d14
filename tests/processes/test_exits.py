"""The table of docs/guarantees.md: what each kind of exit does with what is pending."""

import os
import subprocess
import sys

import pytest
from helpers import TIMEOUT, child_environment, command

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def output(function, core, kind=""):
    """Return what was done of what a program of `exits.py` had left."""
    program = [sys.executable, *command(f"import exits; exits.{function}()"), kind]
    done = subprocess.run(program, env=child_environment(core), capture_output=True, text=True, timeout=TIMEOUT)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("kind", ["return", "sys.exit", "an exception"])
def test_the_main_program_ends(core, kind):
    assert sorted(output("ends", core, kind)) == ["callback", "exit"]


@pytest.mark.skipif(sys.platform == "win32", reason="no default action that is a signal here")
@pytest.mark.parametrize("kind", ["SIGTERM", "os._exit"])
def test_the_main_program_is_ended(core, kind):
    assert output("ends", core, kind) == []


def test_threads_outlive_the_main_thread(core):
    assert sorted(output("outlived", core)) == ["callback", "deadline", "exit"]


@forks
@pytest.mark.parametrize("kind", ["sys.exit", "multiprocessing", "multiprocess", "billiard"])
def test_a_child_ends(core, kind):
    if kind != "sys.exit":
        pytest.importorskip(kind)
    assert sorted(output("forked", core, kind)) == ["callback", "exit"]


@forks
@pytest.mark.parametrize("kind", ["SIGTERM", "os._exit"])
def test_a_child_is_ended(core, kind):
    assert output("forked", core, kind) == []
