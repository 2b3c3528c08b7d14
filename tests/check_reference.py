"""A hook of `mkdocs build`: fails when a public name has no anchor on the page of the reference."""

import os
import sys
from pathlib import Path

from mkdocs.exceptions import PluginError

SRC = Path(__file__).parent.parent / "src"


def on_post_build(config, **_):
    os.environ["FASTEVENT_PURE_PYTHON"] = "1"  # nothing has to be compiled to build the pages
    sys.path.insert(0, str(SRC))
    import fastevent

    page = Path(config["site_dir"], "reference.html").read_text(encoding="utf-8")
    names = [f"fastevent.{name}" for name in fastevent.__all__ if not name.startswith("_")]
    names += [f"fastevent.Event.{name}" for name in dir(fastevent.Event) if not name.startswith("_") and name != "isSet"]
    missing = [name for name in names if f'id="{name}"' not in page]
    if missing:
        raise PluginError(f"the reference lacks {', '.join(missing)}")
