"""What the JSON says about the run besides its times."""

import os
import platform
import sys
from importlib.metadata import version

from subjects import FREE_THREADED, HERE, MISSING


def pytest_benchmark_update_machine_info(config, machine_info):
    del machine_info["node"]
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert gil != FREE_THREADED, "one of the subjects brought the GIL back"
    machine_info.update(
        python=platform.python_version() + ("t" if FREE_THREADED else ""),
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        versions={one.name: version(one.distribution) for one in HERE if one.distribution}
        | {"fastevent": version("fastevent")},
        missing=MISSING,
    )
