"""Memory."""

import gc

from faults.common import FLAT, check_it_works, fault, join_all, resident, start_all


@fault
def a_million_events(Event, scale):
    """1,000,000 events made, set and dropped: memory stays flat"""

    def make(count):
        for _ in range(count):
            event = Event()
            event.set()

    make(10_000)
    before = resident()
    make(int(1_000_000 * scale))
    gc.collect()
    assert resident() - before < FLAT, resident() - before


@fault
def timed_out_waits(Event, scale):
    """50,000 waits that time out, in four threads: memory stays flat"""
    event = Event()

    def waits(count):
        for _ in range(count):
            assert event.wait(1e-6) is False

    waits(2_000)
    before = resident()
    join_all(start_all(*[lambda: waits(int(12_500 * scale))] * 4), 300 * scale)
    gc.collect()
    assert resident() - before < FLAT, resident() - before
    check_it_works(event)
