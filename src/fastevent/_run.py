"""`python -m fastevent run`: a program, run as `python` would."""

from __future__ import annotations

import os
import pkgutil
import runpy
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import ModuleType


def run(program: str, *arguments: str, as_module: bool) -> None:
    """Run *program*, the name of a module or a path, as `__main__`. Raises whatever it raises."""
    sys.argv[:] = ["-m" if as_module else program, *arguments]
    # It stays when the program has come to its end: its threads and exit handlers, and pickle, look there still.
    main = sys.modules["__main__"] = ModuleType("__main__")
    if as_module:
        runpy._run_module_as_main(program)  # type: ignore[attr-defined]  # what `python -m` calls
        return
    safe_path = getattr(sys.flags, "safe_path", sys.flags.isolated)
    if not safe_path:
        del sys.path[0]  # the folder that `python -m fastevent` was called in
    if pkgutil.get_importer(program) is not None:  # a folder or an archive
        sys.path.insert(0, os.path.abspath(program))
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    if not safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(program)))
    path = main.__file__ = os.path.abspath(program)
    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", path)
        main.__loader__, code = compiled, compiled.get_code("__main__")
    else:
        source = SourceFileLoader("__main__", path)
        main.__loader__, code = source, source.source_to_code(source.get_data(path), path)
    exec(code, main.__dict__)  # type: ignore[arg-type]
