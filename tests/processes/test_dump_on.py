"""`fastevent.debug.dump_on()`: a program says what it waits for, wherever its main thread is."""

import signal

import pytest
from helpers import python

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no signal that others can send")


@pytest.mark.parametrize("place", ["wait", "sleep", "join", "asyncio", "trio", "acquire", "loop"])
def test_it_answers_wherever_the_main_thread_is(core, place):
    """And what the signal interrupts goes on until its own end."""
    if place == "trio":
        pytest.importorskip("trio")

    def program():
        import asyncio
        import os
        import signal
        import sys
        import threading
        import time

        from fastevent import Event
        from fastevent.debug import dump_on

        event, thread = Event(name="never set"), threading.Thread(target=time.sleep, args=(0.5,))
        dump_on(signal.SIGUSR1, sys.stdout)

        def sends():
            for _ in range(3):
                time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGUSR1)

        def run_trio():
            import trio

            trio.run(trio.sleep, 0.5)

        def acquires():
            lock = threading.Lock()
            lock.acquire()
            assert not lock.acquire(timeout=0.5)

        def loops():
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                pass

        places = {
            "wait": lambda: event.wait(0.5),
            "sleep": lambda: time.sleep(0.5),
            "join": thread.join,
            "asyncio": lambda: asyncio.run(asyncio.sleep(0.5)),
            "trio": run_trio,
            "acquire": acquires,
            "loop": loops,
        }
        sender = threading.Thread(target=sends)
        thread.start()
        sender.start()
        start = time.monotonic()
        places[sys.argv[1]]()
        assert time.monotonic() - start > 0.45
        sender.join()

    lines = python(program, core, place).splitlines()
    waiting = ", waiting: MainThread" if place == "wait" else ""
    assert lines.count(f"never set: unset{waiting}") >= 1
    assert 1 <= sum(line.startswith("fastevent in process ") for line in lines) <= 3


def test_a_storm_of_signals_loses_nothing(core):
    """A thousand events, of which a thread waits for one after the other, while signals have all of them written."""

    def program():
        import os
        import signal
        import sys
        import threading
        import time

        from helpers import TIMEOUT

        from fastevent import Event
        from fastevent.debug import dump_on

        root = Event(name="root")
        events = [root.child(name=f"event {number}") for number in range(1000)]
        answered = [Event() for _ in events]
        pause = 0.001 if sys.implementation.name == "cpython" else 0.5  # PyPy finds objects slowly
        over = threading.Event()
        with open(os.devnull, "w") as sink:
            dump_on(signal.SIGUSR1, sink)

            def answers():
                for event, answer in zip(events, answered, strict=True):
                    assert event.wait(TIMEOUT)
                    answer.set()

            def storm():
                while not over.is_set():
                    os.kill(os.getpid(), signal.SIGUSR1)
                    time.sleep(pause)

            threads = [threading.Thread(target=function) for function in (answers, storm)]
            for thread in threads:
                thread.start()
            for event, answer in zip(events, answered, strict=True):  # a dump takes longer than the pause between signals
                event.set()
                assert answer.wait(TIMEOUT)
            over.set()
            for thread in threads:
                thread.join()
            print(root.is_set())

    assert python(program, core) == "False\n"


def test_a_closed_file_ends_nothing(core):
    def program():
        import os
        import signal

        from fastevent import Event
        from fastevent.debug import dump_on

        read, write = os.pipe()
        os.close(read)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        event = Event(name="here")
        with open(write, "w") as file:
            dump_on(signal.SIGUSR1, file)
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        print(event.is_set())

    assert python(program, core) == "False\n"


def test_no_lock_of_the_file_is_taken(core):
    """The signal comes while the main thread holds the locks of `logging` and of the file's buffer."""

    def program():
        import logging
        import signal
        import sys

        from fastevent import Event
        from fastevent.debug import dump_on

        event = Event(name="here")
        dump_on(signal.SIGUSR1, sys.stdout)

        class Text:
            def __str__(self):
                signal.raise_signal(signal.SIGUSR1)
                return str(event.is_set())

        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        logging.warning("%s", Text())

    assert "here: unset\n" in python(program, core)
