"""The programs of the pages: each runs as written, in a process of its own, and prints what the page says.

A block of Python is followed by its output, or prints nothing, or says in its fence why it does not run:
`title="not run: …"`. A cell of a notebook is run by test_notebooks.py, and a file of `examples/` by the tests of that folder.
"""

import ast
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from typing import NamedTuple

import pytest
from helpers import CORE_SWITCH, ROOT, TIMEOUT, need

DOCS = ROOT / "docs"
REFERENCE = DOCS / "event-api.md"  # test_reference.py runs its examples
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.glob("*.md") if page != REFERENCE)]
FENCED = r"^```(?P<fence>.*)\n(?P<code>(?:.*\n)*?)```$(?:\n\n```text\n(?P<output>(?:.*\n)*?)```$)?"
BLOCK = re.compile(rf"^#{{1,4}} (?P<heading>.+)$|{FENCED}", re.M)
INCLUDED = re.compile(r'--8<-- "(examples/.+)"\n')
LANGUAGES = {"python", "sh", "text", "diff", "toml", "ini"}


class Program(NamedTuple):
    """A block of Python in a page."""

    name: str
    fence: str
    code: str
    output: str


def text(page):
    """Return a page. test_redis.py runs the programs that need a server."""
    return page.read_text(encoding="utf-8").partition("\n## Machines\n")[0]


def blocks(page):
    """Return the name of each block's section, and the block."""
    heading, found = page.stem, []
    for match in BLOCK.finditer(text(page)):
        heading = match["heading"] or heading
        if match["code"] is not None:
            found.append((f"{page.stem}-{heading}".replace(" ", "_"), match))
    return found


def programs():
    return [
        Program(name, match["fence"], match["code"], match["output"] or "")
        for page in PAGES
        for name, match in blocks(page)
        if match["fence"].startswith("python")
    ]


def runs(program):
    return program.fence == "python" and not INCLUDED.fullmatch(program.code)


def missing(code):
    """Return the packages that a program imports and this environment lacks."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    return sorted({name for name in names if importlib.util.find_spec(name.partition(".")[0]) is None})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_program_of_a_page_is_forgotten(page):
    for name, match in blocks(page):
        fence = match["fence"]
        assert fence.partition(" ")[0] in LANGUAGES, f"{name}: the language of {fence!r}"
        if fence.startswith("python"):
            assert re.fullmatch(r'python( title="(not run: .+|a cell)")?', fence), f"{name}: {fence}"
        included = INCLUDED.fullmatch(match["code"])
        assert not included or (ROOT / included[1]).exists(), name
    assert text(page).count("```") == sum(match[0].count("```") for _, match in blocks(page))


@pytest.mark.parametrize("program", [program for program in programs() if runs(program)], ids=lambda program: program.name)
def test_program(core, program, tmp_path_factory):
    """In a page, … stands for anything. A file, as the workers of a pool may import it."""
    if lacking := missing(program.code):
        pytest.skip(f"make ecosystem installs {', '.join(lacking)}")
    since = re.search(r"# from Python 3\.(\d+) on$", program.code, re.M)
    if since and sys.version_info < (3, int(since[1])):
        pytest.skip(f"for Python 3.{since[1]}")
    directory = tmp_path_factory.mktemp("e")  # a short name: there are sockets in it
    file = directory / "example.py"
    file.write_text(program.code, encoding="utf-8")
    command = [sys.executable, "-W", "error", file]
    if "tkinter" in program.code:
        pytest.importorskip("_tkinter", reason="this interpreter has tkinter's Python part alone")
    if "tkinter" in program.code and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        command = [need("xvfb"), "-a", *command]
    done = subprocess.run(
        command,
        env={**os.environ, **CORE_SWITCH[core], "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    expected = re.escape(program.output).replace("…", ".*")
    assert re.fullmatch(expected, done.stdout, re.S) and not done.stderr, done.stdout + done.stderr
    assert done.returncode == 0


#: What readers look for, in a search that finds words.
LOOKED_FOR = """
fastapi starlette flask django gunicorn backgroundtasks disconnect celery dramatiq rq dask ray joblib prefect airflow temporal
apscheduler jupyter notebook qt tkinter forkserver spawn agent fixture interpreterpoolexecutor
frozen interpreter postgresql uwsgi container nohup token pause progress retry watchdog queue socket
"""


@pytest.mark.parametrize("word", LOOKED_FOR.split())
def test_the_search_finds(word):
    site = [page.read_text(encoding="utf-8").lower() for page in PAGES if page.parent == DOCS]
    assert any(re.search(rf"\b{word}", page) for page in site)


def test_the_pictures_are_as_drawn():
    """`python docs/pictures.py` writes them."""
    for name, draw in runpy.run_path(str(DOCS / "pictures.py"))["PICTURES"].items():
        assert (DOCS / "img" / f"{name}.svg").read_text(encoding="utf-8") == draw(), name
