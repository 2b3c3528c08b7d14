"""The reason of a set(), and check(), which raises it."""

import gc
import pickle
import sys
import threading
import weakref

import pytest
from helpers import Threads, until_deadline


def test_the_first_reason_stays_until_clear(Event):
    event = Event()
    assert event.reason is None
    event.set("first")
    event.set("second")
    assert event.reason == "first"
    event.clear()
    assert event.reason is None
    event.set(reason="third")
    assert event.reason == "third"
    event.clear()
    event.set()
    event.set("too late")
    assert event.reason is None


@pytest.mark.parametrize("reason", [lambda event: event, lambda event: [event]])
def test_a_reason_with_its_event_is_collected(Event, reason):
    class Local(Event):
        pass

    event = Local()
    event.set(reason(event))
    reference = weakref.ref(event)
    del event
    gc.collect()
    gc.collect()
    assert reference() is None
    # A weak reference dies before what it refers to, which may stay.
    assert not any(type(thing) is Local for thing in gc.get_objects())


def test_clear_init_and_the_end_drop_the_reason(Event):
    class Reason:
        pass

    def reason():
        reason = Reason()
        references.append(weakref.ref(reason))
        return reason

    references = []
    event = Event()
    event.set(reason())
    event.clear()
    event.set(reason())
    event.__init__()
    event.set(reason())
    del event
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_of_many_reasons_one_stays(Event, tiny_switch_interval):
    for _ in range(200):
        event, seen = Event(), []

        def sets(name, event=event, seen=seen):
            event.set(name)
            seen.append(event.reason)

        with Threads(*[lambda name=name: sets(name) for name in "abcd"]):
            pass
        assert len(set(seen)) == 1 and seen[0] in set("abcd")


def test_reasons_are_seen_in_their_order(Event, tiny_switch_interval):
    event, wrong = Event(), []
    stop = threading.Event()

    def sets():
        for number in range(20_000):
            event.set(number)
            event.clear()
        stop.set()

    def looks():
        last = -1
        while not stop.is_set():
            reason = event.reason
            if reason is not None:
                if reason < last:
                    wrong.append((reason, last))
                last = reason

    with Threads(sets, looks):
        pass
    assert not wrong


# check()


def test_check_raises_the_reason(fastevent):
    event = fastevent.Event()
    assert event.check() is None
    event.set()
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled$") as caught:
        event.check()
    assert caught.value.reason is None and not isinstance(caught.value, TimeoutError)
    event.clear()
    event.set("disk full")
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled: disk full$"):
        event.check()
    event.clear()
    error = OSError(5, "gone")
    event.set(error)
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled: \[Errno 5\] gone$") as caught:
        event.check()
    assert caught.value.reason is error and caught.value.__cause__ is error


def test_check_raises_a_timeout(fastevent):
    event = fastevent.Event(0)
    for _ in range(2):
        with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0 s$") as caught:
            event.check()
        assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, fastevent.EventCancelled)
    assert not event.is_set()
    event.set("by hand")
    with pytest.raises(fastevent.EventCancelled, match="by hand") as caught:
        event.check()
    assert not isinstance(caught.value, fastevent.EventTimeout)


def test_check_raises_the_timeout_of_a_parent(fastevent):
    parent = fastevent.Event(0, set_on_timeout=True)
    child = parent.child()
    with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0 s$") as caught:
        child.check()
    assert caught.value.reason is parent.reason is child.reason


def test_check_names_the_event(fastevent):
    event = fastevent.Event(0, name="crawl")
    with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0 s: crawl$"):
        event.check()
    event.set("disk full")
    with pytest.raises(fastevent.EventCancelled, match=r"^cancelled: disk full \(crawl\)$"):
        event.check()
    child = fastevent.Event(0, set_on_timeout=True, name="crawl").child(name="page")
    with pytest.raises(fastevent.EventTimeout, match=r"^timed out after 0 s: crawl$"):
        child.check()


def test_a_timeout_after_set_is_not_the_reason(fastevent):
    event = fastevent.Event(0.02)
    event.set("before")
    until_deadline(event)
    assert event.check_timeout()
    with pytest.raises(fastevent.EventCancelled, match="before") as caught:
        event.check()
    assert not isinstance(caught.value, TimeoutError)


def test_what_check_raises_can_be_pickled(fastevent):
    event = fastevent.Event()
    event.set(("why", 1))
    with pytest.raises(fastevent.EventCancelled) as caught:
        event.check()
    again = pickle.loads(pickle.dumps(caught.value)) if fastevent is sys.modules["fastevent"] else caught.value
    assert str(again) == "cancelled: ('why', 1)" and again.reason == ("why", 1)


def test_a_clear_during_check_raises_nothing(Event):
    class Cleared(Event):
        def _fe_read(self):
            self.clear()  # after the core has seen the flag
            return super()._fe_read()

    event = Cleared()
    event.set()
    assert event.check() is None


def test_check_sees_flag_and_reason_together(Event, tiny_switch_interval):
    event, ended = Event(), Event()

    def pulses():
        for _ in range(20_000):
            event.set("why")
            event.clear()
        ended.set()

    with Threads(pulses):
        while not ended.is_set():
            try:
                event.check()
            except Exception as error:
                assert error.reason == "why"


def test_a_reason_without_a_text_raises_nothing(Event):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    event = Event()
    event.set(Mute())
    with pytest.raises(Exception, match=r"^cancelled: <.*Mute object at 0x"):
        event.check()
    assert "set: <" in repr(event)


def test_a_dead_proxy_is_a_reason(Event):
    class Cause:
        pass

    cause, event = Cause(), Event()
    event.set(weakref.proxy(cause))
    del cause
    gc.collect()
    with pytest.raises(Exception, match=r"^cancelled: <") as caught:
        event.check()
    assert type(caught.value).__name__ == "EventCancelled"
    assert "set: <" in repr(event)


def test_a_text_that_cannot_be_formatted_raises_nothing(Event):
    class Odd(str):
        def __format__(self, spec):
            raise RuntimeError

    event = Event()
    event.set(Odd("why"))
    with pytest.raises(Exception, match=r"^cancelled: <.*Odd object at 0x"):
        event.check()
    assert "set: <" in repr(event)
