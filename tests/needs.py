"""What tests need beside Python's packages.

    python tests/needs.py

says what is missing on this machine. A test whose need is missing is skipped, unless FASTEVENT_TEST_COMPLETE=1 is set: then it
fails.
"""

import glob
import os
import shutil
import sys
import sysconfig

#: need -> the programs that fulfil it, of which one is enough, and what is not tested without it
NEEDS = {
    "redis": (["redis-server", "valkey-server"], "RedisEvents"),
    "postgres": (["postgres"], "PostgresEvents"),
    "pgbouncer": (["pgbouncer"], "PostgresEvents behind a pooler"),
    "spin": (["spin"], "the models in proofs/"),
    "xvfb": (["xvfb-run"], "the window of tkinter on the page Windows and notebooks"),
    "faketime": (["faketime"], "a clock that jumps"),
}


def find(need):
    """Return the path of a program that fulfils *need*, or None."""
    elsewhere = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)  # Debian keeps its servers off the PATH
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *elsewhere])
    return next(filter(None, (shutil.which(program, path=path) for program in NEEDS[need][0])), None)


def missing():
    """Return a line for each need that is missing here."""
    lines = [f"{' or '.join(NEEDS[need][0])}: without it, {NEEDS[need][1]} is not tested" for need in NEEDS if not find(need)]
    if sys.implementation.name == "cpython":
        headers = os.path.join(sysconfig.get_path("include"), "Python.h")
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
        if not os.path.exists(headers):
            lines.append(f"{headers}: without Python's headers, the compiled core does not build")
        if os.name == "posix" and not shutil.which(compiler):
            lines.append(f"{compiler}: without a C compiler, the compiled core does not build")
    return lines


if __name__ == "__main__":
    print("Missing on this machine:", *(missing() or ["nothing"]), sep="\n  ")
