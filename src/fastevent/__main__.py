"""`python -m fastevent`: what is active here, and how fast it is here; `run`: a program under the patch."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from typing import Any

from fastevent import IMPLEMENTATION, __version__, _config, check_interval, default_timeout, patch_threading
from fastevent._bench import measure, show_measured
from fastevent._run import run

CLOCK_MONOTONIC_COARSE = 6  # Linux's number; the time module does not name it


def active() -> dict[str, Any]:
    """Return what runs here and with which settings. Raises `ValueError` if an environment variable is broken."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    clock = time.get_clock_info("monotonic")
    coarse = IMPLEMENTATION == "c" and sys.platform == "linux"
    return {
        "fastevent": __version__,
        "core": IMPLEMENTATION,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": gil,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "clock": clock.implementation,
        "clock_resolution": clock.resolution,
        "coarse_clock_resolution": time.clock_getres(CLOCK_MONOTONIC_COARSE) if coarse else None,
        "default_timeout": default_timeout(),
        "default_timeout_applies": _config.implicit_timeout() is not None,
        "check_interval": check_interval(),
    }


def show_active(facts: dict[str, Any]) -> None:
    core = {"c": "compiled core", "python": "Python core"}[facts["core"]]
    coarse = facts["coarse_clock_resolution"]
    applies = (
        "for every Event()" if facts["default_timeout_applies"] else f"not for Event(): {_config.DEFAULT_TIMEOUT} is unset"
    )
    lines = (
        ("Python", f"{facts['python']}, GIL {'on' if facts['gil'] else 'off'}, {facts['machine']}"),
        ("clock", f"{facts['clock']}, {facts['clock_resolution'] * 1e9:g} ns"),
        ("coarse clock", f"{coarse * 1e3:g} ms, for polls that are far from the deadline" if coarse else "not used"),
        ("default timeout", f"{facts['default_timeout']:g} s ({applies})"),
        ("check interval", f"{facts['check_interval']:g} s"),
    )
    print(f"fastevent {facts['fastevent']}, {core}\n")
    for name, text in lines:
        print(f"  {name:<17}{text}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m fastevent", description="Show what is active here, and how fast it is here.")
    parser.add_argument("--version", action="version", version=f"fastevent {__version__}")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    runner = parser.add_subparsers(title="commands", metavar="COMMAND").add_parser(
        "run",
        help="run a program with threading.Event replaced by fastevent.Event",
        usage="%(prog)s [-m | -c] PROGRAM [ARGUMENTS]",
    )
    kinds = runner.add_mutually_exclusive_group()
    kinds.add_argument("-m", dest="kind", action="store_const", const="module", help="PROGRAM is the name of a module")
    kinds.add_argument("-c", dest="kind", action="store_const", const="code", help="PROGRAM is Python code")
    runner.add_argument("program", nargs=argparse.PARSER, help="the path of a file, a folder or an archive")
    options, unknown = parser.parse_known_args(arguments)
    to_run = getattr(options, "program", None)
    chosen = runner if to_run else parser
    if unknown:
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}")
    facts: dict[str, Any] = {}
    try:
        if to_run:
            if options.kind is None and not os.path.exists(to_run[0]):
                runner.error(f"there is no file {to_run[0]!r}")
            patch_threading()
        else:
            facts = active()
    except ValueError as error:
        chosen.error(str(error))
    if to_run:
        run(*to_run, kind=options.kind)
    elif options.json:
        print(json.dumps({**facts, **measure()}, indent=2))
    else:
        show_active(facts)
        sys.stdout.flush()
        show_measured(measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())
