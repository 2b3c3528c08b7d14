"""The choice between the two cores. Nothing else asks which one is in use, but for `__main__`, to show it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["IMPLEMENTATION", "EventCore", "attach", "attach_polls", "core", "freeze", "unfreeze"]

if TYPE_CHECKING:
    from fastevent import _core_py as core
elif os.environ.get("FASTEVENT_PURE_PYTHON", "") not in ("", "0"):
    from fastevent import _core_py as core
else:
    try:
        import fastevent._core_c as core
    except ImportError as error:
        # A pure wheel has none, and a second interpreter of the process cannot load it. A core that is broken must be noticed.
        missing = isinstance(error, ModuleNotFoundError) and error.name == "fastevent._core_c"
        if not missing and "interpreter" not in str(error):
            raise
        from fastevent import _core_py as core

IMPLEMENTATION = "python" if core.__name__.endswith("_py") else "c"
"""Which core runs: `"c"`, the compiled one, or `"python"`."""

if TYPE_CHECKING:
    from fastevent._core_py import EventCore
else:
    EventCore = core.EventCore

attach = core.attach
attach_polls = core.attach_polls
freeze = core.freeze
unfreeze = core.unfreeze
