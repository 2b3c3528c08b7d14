"""What pyproject.toml cannot say: the extension and its switch, the links, and where the documented import path goes."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError, ExecError, PlatformError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "tools"))
import home  # noqa: E402

PURE = os.environ.get("FASTEVENT_PURE_PYTHON", "") not in ("", "0") or sys.implementation.name != "cpython"
# What Cython 3.3.1 makes of __init__ otherwise drops references that it does not have, where memory is short.
MACROS = [("CYTHON_VECTORCALL_TPNEW", "0")]
if sys.version_info >= (3, 12):  # the core in each interpreter of a process: a state and a type of its own
    MACROS += [("CYTHON_USE_MODULE_STATE", "1"), ("CYTHON_USE_TYPE_SPECS", "1")]
CORE = Extension(
    "fastevent._core_c",
    ["src/fastevent/_core_c.pyx"],
    depends=["src/fastevent/_core_c.h", "src/fastevent/_core_c_objects.h"],
    define_macros=MACROS,
)

if "-O" not in os.environ.get("CFLAGS", "-O"):
    CORE.extra_compile_args.append("-O3")  # which CFLAGS have taken away: they replace the flags of the interpreter


class BuildPy(build_py):
    """Put `ddeutil.workflow.event` inside the package: in `ddeutil/` it would break the engine that is installed there."""

    def run(self):
        super().run()
        if not self.editable_mode:  # an editable install finds it in src
            portion = Path(self.build_lib, "fastevent/_namespace/ddeutil/workflow")
            self.mkpath(str(portion))
            self.copy_file("src/ddeutil/workflow/event.py", str(portion))
            Path(self.build_lib, "fastevent.pth").write_text("fastevent/_namespace\n", encoding="ascii")


class BuildExt(build_ext):
    """Say what the compiled core needs, and how to build without it."""

    def run(self):
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError) as error:
            needs = "a C compiler and Python's headers" if find_spec("Cython") else "Cython, which is not installed"
            raise SystemExit(
                f"fastevent: the compiled core does not build: {error}\n"
                f"It needs {needs}. FASTEVENT_PURE_PYTHON=1 builds without it."
            ) from error


version = re.search('__version__ = "(.+)"', (HERE / "src/fastevent/__init__.py").read_text(encoding="utf-8"))[1]
setup(
    cmdclass={"build_py": BuildPy, "build_ext": BuildExt},
    ext_modules=[] if PURE else [CORE],
    long_description=home.for_an_index((HERE / "README.md").read_text(encoding="utf-8"), version),
    long_description_content_type="text/markdown",
    project_urls=home.urls(),
)
