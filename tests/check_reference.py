"""A hook of `mkdocs build`: a public name without an anchor in the reference fails it, and so does a foreign script."""

import importlib
import os
import sys
from pathlib import Path

from mkdocs.exceptions import PluginError

SRC = Path(__file__).parent.parent / "src"


def on_post_build(config, **_):
    os.environ["FASTEVENT_PURE_PYTHON"] = "1"  # nothing has to be compiled to build the pages
    sys.path.insert(0, str(SRC))
    import fastevent

    site = Path(config["site_dir"])
    reference = (site / "reference.html").read_text(encoding="utf-8")
    public = [(module, importlib.import_module(module).__all__) for module in ("fastevent", "fastevent.debug")]
    names = [f"{module}.{name}" for module, exported in public for name in exported if not name.startswith("_")]
    names += [f"fastevent.Event.{name}" for name in dir(fastevent.Event) if not name.startswith("_") and name != "isSet"]
    missing = [name for name in [*names, "fastevent.redis.RedisEvents"] if f'id="{name}"' not in reference]
    if missing:
        raise PluginError(f"the reference lacks {', '.join(missing)}")
    foreign = [page.name for page in site.glob("*.html") if 'src="http' in page.read_text(encoding="utf-8")]
    if foreign:
        raise PluginError(f"something is loaded from elsewhere by {', '.join(foreign)}")
