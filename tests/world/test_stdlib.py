"""CPython's own tests of `threading.Event`, over both cores."""

import unittest

import pytest
from conftest import CORES

lock_tests = pytest.importorskip("test.lock_tests", reason="this interpreter comes without its test package")

#: It looks at the condition inside of `threading.Event`, which we do not have.
LEFT_OUT = {"test_at_fork_reinit"}


@pytest.mark.parametrize("name", sorted({n for n in dir(lock_tests.EventTests) if n.startswith("test")} - LEFT_OUT))
def test_lock_tests(core, name):
    tests = type("EventTests", (lock_tests.EventTests,), {"eventtype": staticmethod(CORES[core].Event)})
    result = unittest.TestResult()
    tests(name).run(result)
    assert result.testsRun == 1
    assert not result.skipped
    assert result.wasSuccessful(), result.errors + result.failures
