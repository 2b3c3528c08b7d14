"""A subinterpreter that uses events, for programs that tests run."""

from helpers import body

try:
    import _interpreters as interpreters

    run = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters

    run = interpreters.run_string


def script(implementation):
    import threading

    import fastevent

    event = fastevent.Event(timeout=100)
    thread = threading.Thread(target=event.wait)
    thread.start()
    event.set()
    thread.join()
    assert event.flag and event.is_set() and not event.check_timeout()
    event.clear()
    assert not event.wait(0.001)
    assert fastevent.IMPLEMENTATION == implementation, fastevent.IMPLEMENTATION


def use_events(implementation, *arguments, **options):
    """Use events in a new subinterpreter, made with these arguments, whose core must be that *implementation*."""
    name = interpreters.create(*arguments, **options)
    failure = run(name, body(script, f"implementation = {implementation!r}"))
    assert failure is None, failure
    interpreters.destroy(name)
