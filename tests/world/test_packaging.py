"""What a user installs: the contents of the wheels and of the sdist, in fresh environments."""

import email
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import CORES
from helpers import ROOT, command

ENGINE = "ddeutil-workflow==0.0.86"

CONTENT = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/fastevent").rglob("*.py")} | {
    "fastevent.pth",
    "fastevent/_namespace/ddeutil/workflow/event.py",
    "fastevent/py.typed",
}

if "c" not in CORES:
    pytest.skip("there is no compiled core to build here", allow_module_level=True)


def run(*command, fails=False, cwd=None, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTEVENT_")}
    done = subprocess.run(
        [str(word) for word in command], env={**inherited, **environment}, cwd=cwd, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(source, target, *options, **environment):
    run(sys.executable, "-m", "build", "-o", target, *options, source, **environment)
    (result,) = Path(target).iterdir()
    return result


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "--sdist", FASTEVENT_PURE_PYTHON="1")


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="module")
def wheels(unpacked, tmp_path_factory):
    """The wheels of both kinds, built from the sdist, which was itself made in pure mode."""
    return {
        "c": build(unpacked, tmp_path_factory.mktemp("wheel-c"), "--wheel"),
        "py": build(unpacked, tmp_path_factory.mktemp("wheel-py"), "--wheel", FASTEVENT_PURE_PYTHON="yes"),
    }


@pytest.fixture
def environment(tmp_path):
    """A fresh virtual environment: a function that runs its Python, and one that installs into it."""
    home = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = next(path for path in (home / "bin/python", home / "Scripts/python.exe") if path.exists())

    def install(*what):
        run(sys.executable, "-m", "pip", "--python", python, "install", "-q", *what)

    def execute(*arguments, **settings):
        return run(python, "-W", "error::ImportWarning", *arguments, **settings)

    return install, execute


def names(wheel):
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_sdist_has_the_source_and_nothing_generated(sdist):
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"src/fastevent/_core_c.pyx", "src/ddeutil/workflow/event.py", "setup.py", "LICENSE", "CHANGELOG.md"} <= files
    assert {"tests/conftest.py", "docs/event-api.md", "Makefile"} <= files
    assert not [
        name for name in files if name.endswith((".so", ".pyd", ".pyc")) or (name.startswith("src/") and name.endswith(".c"))
    ]


def test_the_compiled_wheel_holds_no_sources(wheels):
    content = names(wheels["c"])
    extension = {name for name in content if name.startswith("fastevent/_core_c.") and name.endswith((".so", ".pyd"))}
    assert len(extension) == 1
    assert content - extension == CONTENT


def test_the_pure_wheel_is_for_every_python(wheels):
    assert wheels["py"].name.endswith("-py3-none-any.whl")
    assert names(wheels["py"]) == CONTENT


# What an index shows


LINK = re.compile(r"\]\(([^)]+)\)")


def local_files(repository, links):
    """Return the paths in the repository to which the links lead."""
    ours = [link.removeprefix(repository) for link in links if link.startswith(repository)]
    return [re.sub(r"^/(blob|raw)/[^/]+/|#.*", "", link) for link in ours]


def test_an_index_shows_no_dead_link(wheels):
    name = next(name for name in zipfile.ZipFile(wheels["py"]).namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(zipfile.ZipFile(wheels["py"]).read(name))
    description = metadata.get_payload()
    assert description.startswith("# fastevent\n") and metadata["Description-Content-Type"] == "text/markdown"
    assert "OWNER" not in str(metadata)
    links = LINK.findall(description)
    assert links and all(link.startswith("https://") for link in links)
    repository = runpy.run_path(str(ROOT / "tools/home.py"))["REPOSITORY"]
    assert bool(repository) == bool(metadata.get_all("Project-URL"))


def test_links_of_the_readme_lead_into_the_repository():
    home, repository = runpy.run_path(str(ROOT / "tools/home.py")), "https://github.com/Someone/fastevent"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = LINK.findall(home["for_an_index"](readme, "1.2", repository))
    files = local_files(repository, links)
    assert len(links) == len(LINK.findall(readme)) and len(files) > 10
    assert all((ROOT / path).exists() for path in files), files
    assert f"{repository}/raw/v1.2/docs/img/poll.svg" in links
    urls = home["urls"](repository)
    assert urls["Documentation"] == "https://someone.github.io/fastevent/"
    assert local_files(repository, [urls["Changelog"]]) == ["CHANGELOG.md"]


@pytest.mark.parametrize("kind", ["c", "py"])
def test_an_installed_wheel_works_by_both_import_paths(wheels, kind, environment):
    def program():
        import sys

        import ddeutil.workflow.event as documented
        import fastevent
        from ddeutil.workflow.event import Event, check_interval, default_timeout

        assert Event is fastevent.Event and documented.default_timeout is fastevent.default_timeout
        assert sys.path[-1].endswith("_namespace")
        print(fastevent.IMPLEMENTATION, default_timeout(), check_interval())

    install, python = environment
    install("--no-deps", wheels[kind])
    assert python(*command(program)) == f"{'c' if kind == 'c' else 'python'} 300.0 0.1\n"
    if kind == "c":
        assert python("-c", "import fastevent; print(fastevent.IMPLEMENTATION)", FASTEVENT_PURE_PYTHON="1") == "python\n"


@pytest.mark.skipif(
    sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info >= (3, 14), reason="the engine does not install"
)
def test_beside_the_engine_its_own_module_stays(wheels, environment):
    def program():
        import inspect

        import pydantic

        import ddeutil.workflow.event as theirs
        import fastevent

        print(theirs.Event is fastevent.Event, issubclass(theirs.Event, pydantic.BaseModel))
        print("_namespace" in inspect.getfile(theirs), fastevent.Event(timeout=1).is_set())

    install, python = environment
    install(ENGINE, wheels["c"])
    assert python(*command(program)) == "False True\nFalse False\n"


def test_an_editable_install_has_both_import_paths(unpacked, environment):
    install, python = environment
    install("--no-deps", "-e", unpacked)
    code = (
        "import fastevent; from ddeutil.workflow.event import Event; print(fastevent.IMPLEMENTATION, Event is fastevent.Event)"
    )
    assert python("-c", code) == "c True\n"


def test_a_build_without_a_compiler_names_a_remedy(unpacked, tmp_path):
    output = run(sys.executable, "-m", "build", "-o", tmp_path, "--wheel", unpacked, fails=True, CC="no-such-compiler")
    assert "It needs a C compiler and Python's headers. FASTEVENT_PURE_PYTHON=1 builds without it." in output


@pytest.mark.skipif(os.name != "posix", reason="the compiler is a shell script")
@pytest.mark.parametrize("flags, optimised", [("-g0", "-O3"), ("-g -O1", "-O1")])
def test_other_flags_build_no_slow_core(unpacked, tmp_path, flags, optimised):
    compiler, called = tmp_path / "compiler", tmp_path / "called"
    compiler.write_text(f'#!/bin/sh\necho "$@" >>{called}\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && : >"$2"; shift; done\n')
    compiler.chmod(0o755)
    source = shutil.copytree(unpacked, tmp_path / "source", ignore=shutil.ignore_patterns("build"))
    pip_wheel = sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", tmp_path
    run(*pip_wheel, source, CC=str(compiler), CFLAGS=flags)
    compiled = next(line for line in called.read_text().splitlines() if " -c " in f" {line} ")
    assert re.findall(r"(?<!\S)-O\S*", compiled) == [optimised]


def test_a_build_without_cython_names_a_remedy(unpacked, environment, tmp_path):
    install, python = environment
    install("setuptools>=77")
    source = shutil.copytree(unpacked, tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.c"))
    output = python("setup.py", "-q", "build_ext", cwd=source, fails=True)
    assert "It needs Cython, which is not installed. FASTEVENT_PURE_PYTHON=1 builds without it." in output
