"""The examples of the pages: each runs as written, in a process of its own, and prints what the page says."""

import os
import re
import runpy
import subprocess
import sys

import pytest
from helpers import CORE_SWITCH, ROOT, TIMEOUT

DOCS = ROOT / "docs"
PAGES = ["../README.md", "index.md", "guide.md", "howto.md", "async.md", "borders.md"]
EXAMPLE = r"^###? ([^\n]+)$|^```python\n(.*?)^```\n\n```text\n(.*?)^```"


def text(page):
    """Return a page. test_redis.py runs the examples that need a server."""
    return (DOCS / page).read_text(encoding="utf-8").partition("\n## Machines\n")[0]


def examples():
    found = []
    for page in PAGES:
        heading = ""
        for title, code, output in re.findall(EXAMPLE, text(page), re.M | re.S):
            heading = title or heading
            if code:
                found.append(pytest.param(code, output, id=heading.replace(" ", "_")))
    return found


def test_no_example_is_forgotten():
    written = sum(text(page).count("```python\n") for page in PAGES)
    assert len(examples()) == written > 0


@pytest.mark.parametrize(("code", "output"), examples())
def test_example(core, code, output, tmp_path_factory):
    """In a page, … stands for anything. A file, as the workers of a pool may import it."""
    directory = tmp_path_factory.mktemp("e")  # a short name: there are sockets in it
    program = directory / "example.py"
    program.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        env={**os.environ, **CORE_SWITCH[core], "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    expected = re.escape(output).replace("…", ".*")
    assert re.fullmatch(expected, done.stdout, re.S) and not done.stderr, done.stdout + done.stderr


def test_the_pictures_are_as_drawn():
    """`python docs/pictures.py` writes them."""
    for name, draw in runpy.run_path(str(DOCS / "pictures.py"))["PICTURES"].items():
        assert (DOCS / "img" / f"{name}.svg").read_text(encoding="utf-8") == draw(), name
