"""`python -m fastevent run`: a program, run as `python` would."""

from __future__ import annotations

import os
import pkgutil
import runpy
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from textwrap import dedent
from types import ModuleType
from typing import Any


def run(program: str, *arguments: str, kind: str | None = None) -> None:
    """Run *program* as `__main__`: a path, or by *kind* the name of a "module" or "code". Raises whatever it raises."""
    sys.argv[:] = [{"module": "-m", "code": "-c"}.get(kind or "", program), *arguments]
    # This module outlives the last line of the program: its threads, exit handlers and pickles still need it.
    main = sys.modules["__main__"] = ModuleType("__main__")
    if kind == "module":
        runpy._run_module_as_main(program)  # type: ignore[attr-defined]  # what `python -m` calls
        return
    safe_path = getattr(sys.flags, "safe_path", sys.flags.isolated)
    if not safe_path:
        del sys.path[0]  # the folder that `python -m fastevent` was called in
    if kind is None and pkgutil.get_importer(program) is not None:  # a folder or an archive
        sys.path.insert(0, os.path.abspath(program))
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    if not safe_path:
        sys.path.insert(0, "" if kind == "code" else os.path.dirname(os.path.realpath(program)))
    loader: Any
    code: Any
    if kind == "code":
        loader, code = BuiltinImporter, compile(dedent(program), "<string>", "exec", dont_inherit=True)
    else:
        path = main.__file__ = os.path.abspath(program)
        if path.endswith(".pyc"):
            loader = SourcelessFileLoader("__main__", path)
            code = loader.get_code("__main__")
        else:
            loader = SourceFileLoader("__main__", path)
            code = loader.source_to_code(loader.get_data(path), path)
    main.__loader__ = loader
    exec(code, main.__dict__)
