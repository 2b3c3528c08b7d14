"""`python -m fastevent run`: a program, run as `python` would."""

from __future__ import annotations

import os
import pkgutil
import sys
from importlib.machinery import BuiltinImporter, ModuleSpec, SourceFileLoader, SourcelessFileLoader
from importlib.util import find_spec
from textwrap import dedent
from types import ModuleType
from typing import Any


def run(program: str, *arguments: str, kind: str | None = None) -> None:
    """Run *program* as `__main__`: a path, or by *kind* the name of a "module" or "code". Raises whatever it raises."""
    sys.argv[:] = [{"module": "-m", "code": "-c"}.get(kind or "", program), *arguments]
    # This module outlives the last line of the program: its threads, exit handlers and pickles still need it.
    main = sys.modules["__main__"] = ModuleType("__main__")
    if kind == "module":
        _run_module(main, program)
        return
    safe_path = getattr(sys.flags, "safe_path", sys.flags.isolated)
    if not safe_path:
        del sys.path[0]  # the folder that `python -m fastevent` was called in
    if kind is None and pkgutil.get_importer(program) is not None:  # a folder or an archive
        sys.path.insert(0, os.path.abspath(program))
        del sys.modules["__main__"]  # so that the one in there is found
        try:
            spec = find_spec("__main__")
        finally:
            sys.modules["__main__"] = main
        _run_spec(main, spec, program)
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


def _run_module(main: ModuleType, name: str) -> None:
    """Do what `python -m` does."""
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        sys.exit(f"{sys.executable}: Error while finding module specification for {name!r} ({type(error).__name__}: {error})")
    _run_spec(main, spec, name)


def _run_spec(main: ModuleType, spec: ModuleSpec | None, name: str) -> None:
    if spec is None:
        sys.exit(f"{sys.executable}: No module named {name}")
    loader: Any = spec.loader
    code = loader and loader.get_code(spec.name)
    if code is None:
        sys.exit(f"{sys.executable}: there is no code in {name}")
    if sys.argv[0] == "-m":
        sys.argv[0] = str(spec.origin)
    main.__file__, main.__loader__, main.__package__, main.__spec__ = spec.origin, loader, spec.parent, spec
    exec(code, main.__dict__)
