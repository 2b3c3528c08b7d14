"""What pyproject.toml cannot say: the extension, its switch, and where the wheel carries the documented import path."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError, ExecError, PlatformError

PURE = os.environ.get("FASTEVENT_PURE_PYTHON") == "1" or sys.implementation.name != "cpython"


class BuildPy(build_py):
    """Put `ddeutil.workflow.event` inside the package and on the path: in `ddeutil/` it would break who lives there."""

    def run(self):
        super().run()
        if not self.editable_mode:  # an editable install finds it in src
            portion = Path(self.build_lib, "fastevent/_namespace/ddeutil/workflow")
            self.mkpath(str(portion))
            self.copy_file("src/ddeutil/workflow/event.py", str(portion))
            Path(self.build_lib, "fastevent.pth").write_text("fastevent/_namespace\n", encoding="ascii")


class BuildExt(build_ext):
    def run(self):
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError) as error:
            raise SystemExit(
                f"fastevent: the compiled core does not build: {error}\n"
                "It needs a C compiler and Python's headers. FASTEVENT_PURE_PYTHON=1 builds without it."
            ) from error


setup(
    cmdclass={"build_py": BuildPy, "build_ext": BuildExt},
    ext_modules=[] if PURE else [Extension("fastevent._core_c", ["src/fastevent/_core_c.pyx"])],
)
