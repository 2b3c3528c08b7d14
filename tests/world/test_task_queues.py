"""The programs of `examples/engines/`: a task of each engine is cancelled from outside, over a Redis server of its own."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys

import pytest
from helpers import CORE_SWITCH, ROOT, TIMEOUT
from redis_server import Server

FOLDER = ROOT / "examples/engines"

#: The package that each program needs, and the workers that it needs.
ENGINES = {
    "celery_tasks": ("celery", ["celery", "-A", "celery_tasks", "worker", "--concurrency", "2"]),
    "celery_tasks threads": ("celery", ["celery", "-A", "celery_tasks", "worker", "--pool", "threads"]),
    "rq_jobs": ("rq", ["rq.cli", "worker", "--url", "REDIS_URL"]),
    "dramatiq_actors": ("dramatiq", ["dramatiq", "dramatiq_actors", "--processes", "2", "--threads", "2"]),
    "dask_cluster": ("distributed", None),
    "joblib_loops": ("joblib", None),
    "ray_tasks": ("ray", None),
    "prefect_flow": ("prefect", None),
    "temporal_activities": ("temporalio", None),
    "apscheduler_jobs": ("apscheduler", None),
}


def test_every_program_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == {name.partition(" ")[0] for name in ENGINES}


@contextlib.contextmanager
def workers(command, options):
    """Start workers, and end them by SIGTERM: they leave with status 0."""
    if command is None:
        yield
        return
    process = subprocess.Popen([sys.executable, "-m", *command], start_new_session=True, **options)
    try:
        yield
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.end()


@pytest.mark.parametrize("name", ENGINES)
def test_a_task_of_an_engine_is_cancelled(core, name, server, tmp_path):
    package, command = ENGINES[name]
    if importlib.util.find_spec(package) is None:
        by_hand = package in {"prefect", "ray"}
        pytest.skip(f"{package} is large, and is installed by hand" if by_hand else f"make ecosystem installs {package}")
    url = f"redis://127.0.0.1:{server.port}"
    path = os.pathsep.join([str(FOLDER), *sys.path])
    own = {
        "REDIS_URL": url,
        "PYTHONPATH": path,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    }
    environment = {**os.environ, **CORE_SWITCH[core], **own}
    command = command and [url if word == "REDIS_URL" else word for word in command]
    with open(tmp_path / "log", "w") as log:
        with workers(command, {"env": environment, "cwd": tmp_path, "stdout": log, "stderr": log}):
            program = [sys.executable, FOLDER / f"{name.partition(' ')[0]}.py"]
            done = subprocess.run(program, env=environment, cwd=tmp_path, stdout=-1, stderr=log, text=True, timeout=2 * TIMEOUT)
    says = (tmp_path / "log").read_text()
    assert set(done.stdout.splitlines()) == {"stopped: cancelled by Ann"}, done.stdout + says
    assert "Traceback" not in says or package == "prefect", says  # whose own server logs some
