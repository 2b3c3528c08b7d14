"""The examples of the pages: each runs as written, in a process of its own, and prints what the page says."""

import re
import runpy
from pathlib import Path

import pytest
from helpers import python

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ["index.md", "guide.md", "howto.md"]
EXAMPLE = r"^## ([^\n]+)$|^```python\n(.*?)^```\n\n```text\n(.*?)^```"


def examples():
    found = []
    for page in PAGES:
        heading = ""
        for title, code, output in re.findall(EXAMPLE, (DOCS / page).read_text(encoding="utf-8"), re.M | re.S):
            heading = title or heading
            if code:
                found.append(pytest.param(code, output, id=heading.replace(" ", "_")))
    return found


def test_no_example_is_forgotten():
    written = sum((DOCS / page).read_text(encoding="utf-8").count("```python\n") for page in PAGES)
    assert len(examples()) == written > 0


@pytest.mark.parametrize(("code", "output"), examples())
def test_example(core, code, output):
    """In a page, … stands for anything."""
    expected = re.escape(output).replace("…", ".*")
    printed = python(code, core)
    assert re.fullmatch(expected, printed, re.S), printed


def test_the_pictures_are_as_drawn():
    """`python docs/pictures.py` writes them."""
    for name, draw in runpy.run_path(str(DOCS / "pictures.py"))["PICTURES"].items():
        assert (DOCS / "img" / f"{name}.svg").read_text(encoding="utf-8") == draw(), name
