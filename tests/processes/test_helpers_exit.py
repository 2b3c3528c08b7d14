"""Helper threads and the end of an interpreter: callbacks are waited for, and every thread ends with its interpreter."""

import sys

import pytest
from helpers import HAS_GIL, python

#: `interp->finalizing` is set before the functions of `atexit` are called, and the page says what follows.
starts_at_exit = pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="3.12 starts no thread in a function of atexit")
on_cpython = pytest.mark.skipif(sys.implementation.name != "cpython", reason="calls no finalizers at exit")

#: Free-threaded 3.13 keeps every module for ever once there was a second thread, and empties them all at exit.
keeps_modules = pytest.mark.skipif(
    sys.version_info[:2] == (3, 13) and not HAS_GIL,
    reason="empties all modules at exit",
)


def test_the_helpers_end_before_the_interpreter(core):
    def program():
        import _thread
        import atexit

        atexit.register(lambda: print(_thread._count()))  # after our handler: handlers run in the reverse order
        from helpers import self_setting, until

        from fastevent import Event

        calls = []
        _events = [Event(3600, set_on_timeout=True), self_setting(Event, 0.01, calls.append)]
        until(lambda: calls)
        assert _thread._count() == 2

    assert python(program, core) == "0\n"


def test_exit_waits_for_callbacks(core, tmp_path):
    """Those of a timeout, in progress and pending; those of an event that has time are not called."""

    def program():
        import sys
        import threading
        import time

        from fastevent import Event

        def saves(text):
            time.sleep(0.05)
            with open(sys.argv[1], "a") as file:
                file.write(text)

        begun, event, other = threading.Event(), Event(3600, set_on_timeout=True), Event(3600, set_on_timeout=True)
        event.add_callback(lambda event: begun.set())
        for text in "abc":
            event.add_callback(lambda event, text=text: saves(text))
        other.add_callback(lambda event: saves("x"))
        event.restart_timeout(0.01)
        begun.wait()

    python(program, core, str(tmp_path / "state"))
    assert (tmp_path / "state").read_text() == "abc"


def test_exit_waits_for_a_set_in_progress(core):
    """A wait() may return, and the program end, before the thread of the timers has got to the callbacks."""

    def program():
        import threading
        import time

        from helpers import self_setting

        from fastevent import Event

        class Slow(Event):
            def _fe_try_set(self, *arguments):
                super()._fe_try_set(*arguments)
                begun.set()
                time.sleep(0.05)

        begun = threading.Event()
        _event = self_setting(Slow, 0.01, lambda event: print(threading.current_thread().name))
        begun.wait()

    # The main thread calls them where no thread can be started any more, as in early releases of 3.12.
    assert python(program, core) in {"fastevent callbacks\n", "MainThread\n"}


def test_exit_waits_so_long_and_no_longer(core):
    def program():
        import atexit
        import threading
        import time

        atexit.register(lambda: print(time.monotonic() - start >= 0.3))
        from helpers import self_setting

        from fastevent import Event, _callbacks

        _callbacks.CALLBACKS_TIMEOUT = 300_000_000
        begun = threading.Event()
        _event = self_setting(Event, 0.01, lambda event: (begun.set(), time.sleep(1000)))
        begun.wait()
        start = time.monotonic()

    assert python(program, core) == "True\n"
    assert python("from fastevent import _callbacks; print(_callbacks.CALLBACKS_TIMEOUT)", core) == f"{10 * 10**9}\n"


def test_a_callback_may_cause_others_at_exit(core):
    def program():
        import threading
        import time

        from helpers import self_setting

        from fastevent import Event

        begun = threading.Event()

        def callback(event):
            begun.set()
            time.sleep(0.05)  # the interpreter is on its way out
            inner = self_setting(Event, 0.01, lambda inner: print("inner"))
            inner.wait()

        _event = self_setting(Event, 0.01, callback)
        begun.wait()

    assert python(program, core) == "inner\n"


def test_exit_calls_what_no_thread_has(core):
    def program():
        from helpers import until

        from fastevent import Event, _process

        def fails(*_):
            raise RuntimeError("can't start new thread")

        event = Event(3600, set_on_timeout=True)
        event.add_callback(lambda event: print("called"))
        _process.native.start_new_thread = fails
        event.restart_timeout(0)
        until(event.is_set)

    assert python(program, core) == "called\n"


def test_no_new_one_is_made_at_exit(core):
    def program():
        import atexit

        def late():
            calls = []
            event = Event(parents=[parent])
            event.add_callback(calls.append)
            parent.set()
            assert calls == [event]
            try:
                parent.child(5)
            except RuntimeError as error:
                print(error)
            assert armed.restart_timeout(0.01) and armed.wait() and armed.is_set()  # what exists, works
            armed.clear()

        atexit.register(late)
        from fastevent import Event

        parent = Event()
        armed = Event(3600, set_on_timeout=True)

    assert "no thread can be started while the interpreter exits\n" in python(program, core)


@starts_at_exit
def test_a_first_one_may_be_made_at_exit(core):
    def program():
        import atexit

        from fastevent import Event

        def late():
            print(Event(0.01, set_on_timeout=True).wait())

        atexit.register(late)

    assert python(program, core) == "True\n"


def test_after_the_helpers_callbacks_are_called_at_once(core):
    """A set() with callbacks that a timeout has caused calls them at once when the helpers have ended."""

    def program():
        import atexit

        def late():
            calls = []
            armed.add_callback(calls.append)
            armed.restart_timeout(0.01)
            assert armed.wait() and calls == [armed]
            print("called")

        atexit.register(late)
        from fastevent import Event

        armed = Event(3600, set_on_timeout=True)

    assert python(program, core) == "called\n"


def finalized(printed, expected):
    """An object need not be finalized at exit. Where it is not, nothing was tested."""
    if not printed:
        pytest.skip("this interpreter does not finalize the object")
    assert printed == expected


@on_cpython
@keeps_modules
@pytest.mark.parametrize("place", ["main thread", "root logger", "threading"])
def test_the_last_finalizers_may_set(core, place):
    def program():
        import logging
        import os
        import sys
        import threading

        from fastevent import Event

        class Service:
            def __init__(self):
                self.stop = Event()
                self.job = Event(parents=[self.stop])
                self.limit = Event(300, set_on_timeout=True)

            def __del__(self, write=os.write, str=str):
                for event in self.stop, self.limit:
                    event.set()
                self.stop.clear()
                write(1, (str(self.job.is_set()) + str(self.limit.is_set())).encode())

        places = {"main thread": threading.main_thread(), "root logger": logging.root, "threading": threading}
        places.pop(sys.argv[1]).service = Service()

    finalized(python(program, core, place), "TrueTrue")


@on_cpython
@keeps_modules
@pytest.mark.parametrize("call", ["clear", "restart_timeout", "wait", "child", "remaining"])
def test_the_last_finalizers_may_do_more(core, call):
    def program():
        import os
        import sys
        import threading

        from fastevent import Event

        class Service:
            def __init__(self):
                self.limit = Event(0.01, set_on_timeout=True)
                self.call = getattr(Event, sys.argv[1])

            def __del__(self, write=os.write):
                self.call(self.limit)
                write(1, b"done")

        threading.main_thread().service = Service()

    finalized(python(program, core, call), "done")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="no interpreters that may end with a thread of this kind")
def test_the_helpers_end_with_their_subinterpreter(core):
    def program():
        import _interpreters as interpreters
        from helpers import body

        def script():
            import time

            from fastevent import Event

            calls, events = [], [Event(timeout, set_on_timeout=True) for timeout in (0.01, 0.01, 300)]
            for event in events:
                event.add_callback(calls.append)
            while len(calls) < 2:
                time.sleep(0.001)

        for kind in ["isolated", "legacy"] * 5:
            name = interpreters.create(kind)
            failure = interpreters.exec(name, body(script))
            assert failure is None, failure
            interpreters.destroy(name)

    python(program, core)
    python(program, core, before="from fastevent import Event\nevent = Event(3600, set_on_timeout=True)\n")


@starts_at_exit
def test_a_helper_that_starts_at_exit_ends(core):
    """`atexit` calls no function that was registered while it calls them."""

    def program():
        import atexit
        import time

        from fastevent import Event

        def leave():
            event = Event(0.01, set_on_timeout=True)
            event.add_callback(lambda event: (time.sleep(0.2), print("saved")))
            event.wait()

        atexit.register(leave)

    assert python(program, core) == "saved\n"
