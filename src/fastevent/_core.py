"""The choice between the two cores. Nothing else asks which one is in use, but for `__main__`, to show it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["IMPLEMENTATION", "Call", "EventCore", "attach", "attach_polls", "core", "freeze", "in_callback", "unfreeze"]

if TYPE_CHECKING:
    from fastevent import _core_py as core
elif os.environ.get("FASTEVENT_PURE_PYTHON", "") not in ("", "0"):
    from fastevent import _core_py as core
else:
    try:
        import fastevent._core_c as core
    except ImportError as error:
        if "already been imported" in str(error):
            raise ImportError(
                "this interpreter has loaded fastevent before, and something has removed it from sys.modules: "
                "leave 'fastevent' and 'fastevent._core_c' there, since events made before live on with the first one"
            ) from error
        # A pure wheel has none, and up to Python 3.11 one interpreter of the process can load it. A core that is broken must be
        # noticed.
        missing = isinstance(error, ModuleNotFoundError) and error.name == "fastevent._core_c"
        if not missing and not str(error).startswith("Interpreter change detected"):
            raise
        from fastevent import _core_py as core

IMPLEMENTATION = "python" if core.__name__.endswith("_py") else "c"
"""Which core runs: `"c"`, the compiled one, or `"python"`."""

if TYPE_CHECKING:
    from fastevent._core_py import Call, EventCore
else:
    Call = core.Call
    EventCore = core.EventCore

attach = core.attach
attach_polls = core.attach_polls
freeze = core.freeze
in_callback = core.in_callback
unfreeze = core.unfreeze

if not TYPE_CHECKING and IMPLEMENTATION == "c":
    # `unittest.mock.create_autospec()` asks a callable that is no Python function for the signature of its `__call__`, now as
    # that of a function, now as that of a bound method.
    _set, _clear, _wait = EventCore.set, EventCore.clear, EventCore.wait
    _set.__call__ = lambda self=None, reason=None: _set(self, reason)
    _clear.__call__ = lambda self=None: _clear(self)
    _wait.__call__ = lambda self=None, timeout=None: _wait(self, timeout)
