"""The engine `ddeutil-workflow`, executed in a thread with our event: `make engine` installs it and runs this."""

import importlib
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from helpers import CORE_SWITCH, ROOT, TIMEOUT

engine = pytest.importorskip("ddeutil.workflow.workflow", reason="the engine is not installed: make engine does it")
from ddeutil.workflow import CANCEL, SUCCESS, Workflow  # noqa: E402

#: Jobs that need each other, shell and Python stages, a called function, branches and a loop. Left alone, it runs some seconds.
WORKFLOW = """
nightly:
  type: Workflow
  params: {rows: int}
  jobs:
    extract:
      stages:
        - name: shell
          id: shell
          bash: echo "$GREETING"
          env: {GREETING: extracted}
        - name: python
          id: python
          run: "total = sum(range(${{ params.rows }}))"
        - name: branches
          id: branches
          max-workers: 3
          parallel:
            left:
              - {name: left shell, bash: sleep 0.1}
              - {name: left echo, echo: done, sleep: 0.1}
            right:
              - {name: right python, run: "import time; time.sleep(0.1)"}
    check:
      stages:
        - {name: looked at, echo: beside the others}
    load:
      needs: [extract]
      stages:
        - name: items
          id: items
          foreach: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
          stages:
            - name: call
              id: call
              uses: warehouse/load@v1
              with: {item: "${{ item }}"}
    report:
      needs: [load]
      stages:
        - {name: last, bash: echo loaded}
"""

TASKS = """
import threading
import time

from ddeutil.workflow import tag

loaded = []
two_are_loaded = threading.Event()


@tag("v1", alias="load")
def load(item: int) -> dict[str, int]:
    time.sleep(0.1)
    loaded.append(item)
    if len(loaded) == 2:
        two_are_loaded.set()
    return {"square": item * item}
"""


class Run:
    """An execution of the workflow in a thread of its own."""

    def __init__(self, workflow, event):
        self.thread = threading.Thread(target=self.execute, args=(workflow, event))
        self.thread.start()

    def execute(self, workflow, event):
        self.result = workflow.execute({"rows": 100}, event=event)
        self.ended = time.monotonic()

    def outcome(self):
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive(), "the workflow does not end"
        return self.result


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "tasks_of_the_test").mkdir()
    (tmp_path / "tasks_of_the_test/warehouse.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # shell stages write their script here
    for name in "tasks_of_the_test", "tasks_of_the_test.warehouse":
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("tasks_of_the_test.warehouse")


@pytest.fixture
def workflow(tmp_path, tasks):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/nightly.yml").write_text(textwrap.dedent(WORKFLOW))
    extras = {"conf_path": tmp_path / "conf", "registry_caller": ["tasks_of_the_test"]}
    return Workflow.from_conf("nightly", extras=extras)


def test_left_alone_it_succeeds(workflow, tasks, Event):
    event = Event(timeout=TIMEOUT)
    result = Run(workflow, event).outcome()
    assert result.status == SUCCESS, result.context
    assert tasks.loaded == list(range(1, 21))
    extract = result.context["jobs"]["extract"]["stages"]
    assert extract["shell"]["outputs"]["stdout"] == "extracted"
    assert extract["python"]["outputs"]["total"] == 4950
    items = result.context["jobs"]["load"]["stages"]["items"]["outputs"]["foreach"]
    assert items[20]["stages"]["call"]["outputs"] == {"square": 400}
    assert not event.is_set() and not event.check_timeout()


def test_cancelled_by_hand_it_stops_in_the_middle(workflow, tasks, Event):
    event = Event(timeout=TIMEOUT)
    run = Run(workflow, event)
    assert tasks.two_are_loaded.wait(TIMEOUT)
    event.set()
    start = time.monotonic()
    result = run.outcome()
    print(f"{run.ended - start:.3f} s from set() to the end")
    assert result.status == CANCEL, result.context
    assert "canceled" in result.context["errors"]["message"]
    assert 2 <= len(tasks.loaded) < 20
    assert result.context["jobs"]["extract"]["status"] == SUCCESS
    assert result.context["jobs"]["load"]["status"] == CANCEL


def test_cancelled_before_it_starts(workflow, tasks, Event):
    event = Event()
    event.set()
    result = Run(workflow, event).outcome()
    assert result.status == CANCEL, result.context
    assert tasks.loaded == [] and result.context["jobs"] == {}


def test_cancelled_by_hand_for_a_reason(workflow, tasks, Event):
    event = Event()
    run = Run(workflow, event)
    assert tasks.two_are_loaded.wait(TIMEOUT)
    event.set(reason="the user pressed stop")
    assert run.outcome().status == CANCEL
    assert event.reason == "the user pressed stop"


def test_cancelled_by_its_own_timeout(workflow, tasks, Event, fastevent):
    """The engine only asks `is_set()`: with `set_on_timeout` that is enough."""
    event = Event(timeout=1.5, set_on_timeout=True)
    start = time.monotonic()
    run = Run(workflow, event)
    result = run.outcome()
    print(f"{run.ended - start - 1.5:.3f} s from the deadline to the end")
    assert result.status == CANCEL, result.context
    assert run.ended - start >= 1.5
    assert len(tasks.loaded) < 20
    assert event.is_set() and event.check_timeout()
    assert isinstance(event.reason, fastevent.EventTimeout)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "CANCEL: the user pressed stop\n"),
        (["--timeout", "1"], "CANCEL: timed out after 1 s\n"),
        (["--leave-alone"], "SUCCESS: None\n"),
    ],
)
def test_the_example(core, arguments, expected):
    example = ROOT / "examples/engine.py"
    environment = {**os.environ, **CORE_SWITCH[core]}
    done = subprocess.run(
        [sys.executable, example, *arguments], env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0 and done.stdout.endswith(expected), (done.stdout, done.stderr)
