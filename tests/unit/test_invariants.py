"""The invariants of the cores name the tests that fail if one does not hold: those tests are there."""

import re

import pytest
from faults import FAULTS
from helpers import ROOT, TESTS

SOURCES = ROOT / "src" / "fastevent"


@pytest.mark.parametrize("name", ["_core_c.pyx", "_core_py.py"])
def test_cited_tests_are_there(name):
    docstring = (SOURCES / name).read_text(encoding="utf-8").split('"""')[1]
    cited = re.findall(r"(test_\w+): ([\w, \n]+)", docstring)
    assert cited
    for module, tests in cited:
        source = next(TESTS.glob(f"*/{module}.py")).read_text(encoding="utf-8")
        for test in re.findall(r"\w+", tests):
            assert f"def test_{test}(" in source or (module == "test_faults" and test in FAULTS), f"{module}: {test}"
