"""Hooks of `mkdocs build`: a public name without an anchor in the reference fails it, and so does a foreign script."""

import importlib
import os
import re
import sys
from pathlib import Path

import griffe
from mkdocs.exceptions import PluginError

SRC = Path(__file__).parent.parent / "src"


class Attributes(griffe.Extension):
    """Shows what `_Attribute` decorates as the attribute that it is."""

    def on_class_members(self, *, cls, **_):
        for name, member in list(cls.members.items()):
            if member.is_function and any(str(decorator.value) == "_Attribute" for decorator in member.decorators):
                attribute = griffe.Attribute(name, annotation=member.returns, docstring=member.docstring)
                attribute.labels = {"property"}
                cls.set_member(name, attribute)


def on_post_page(output, **_):
    """In signatures, write `Event` for the private names of its base class and of its type variable."""
    return re.sub(r'<span title="fastevent[\w.]*">(EventCore|_E)</span>', "Event", output)


def on_post_build(config, **_):
    os.environ["FASTEVENT_PURE_PYTHON"] = "1"  # nothing has to be compiled to build the pages
    sys.path.insert(0, str(SRC))
    import fastevent

    site = Path(config["site_dir"])
    reference = (site / "reference.html").read_text(encoding="utf-8")
    public = [
        (module, importlib.import_module(module).__all__) for module in ("fastevent", "fastevent.debug", "fastevent.testing")
    ]
    names = [f"{module}.{name}" for module, exported in public for name in exported if not name.startswith("_")]
    names += [f"fastevent.Event.{name}" for name in dir(fastevent.Event) if not name.startswith("_") and name != "isSet"]
    for bridge in "fastevent.redis.RedisEvents", "fastevent.postgres.PostgresEvents":
        names += [bridge, f"{bridge}.event", f"{bridge}.close"]
    missing = [name for name in names if f'id="{name}"' not in reference]
    if missing:
        raise PluginError(f"the reference lacks {', '.join(missing)}")
    foreign = [page.name for page in site.glob("*.html") if 'src="http' in page.read_text(encoding="utf-8")]
    if foreign:
        raise PluginError(f"something is loaded from elsewhere by {', '.join(foreign)}")
