"""The examples of the guide: each runs as written, in a process of its own, and prints what the page says."""

import re
from pathlib import Path

import pytest
from helpers import python

GUIDE = Path(__file__).parent.parent / "docs" / "guide.md"
EXAMPLE = r"^## ([^\n]+)$|^```python\n(.*?)^```\n\n```text\n(.*?)^```"


def examples():
    heading, found = "", []
    for title, code, output in re.findall(EXAMPLE, GUIDE.read_text(encoding="utf-8"), re.M | re.S):
        heading = title or heading
        if code:
            found.append(pytest.param(code, output, id=heading.replace(" ", "_")))
    return found


def test_no_example_is_forgotten():
    assert len(examples()) == GUIDE.read_text(encoding="utf-8").count("```python\n") > 0


@pytest.mark.parametrize(("code", "output"), examples())
def test_example(core, code, output):
    """In the page, … stands for anything."""
    expected = re.escape(output).replace("…", ".*")
    printed = python(code, core)
    assert re.fullmatch(expected, printed, re.S), printed
