"""A workflow on one machine, cancelled from another; its stages run in a pool of processes.

It needs `pip install fastevent[redis]` and a Redis or Valkey server: on this machine, or where REDIS_URL says.

python examples/machines.py run 42                          # on one machine
python examples/machines.py cancel 42 "the data is wrong"   # on another
"""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import redis

from fastevent import EventCancelled, SharedEvent
from fastevent.redis import RedisEvents


def part(cancel, rows):
    """The innermost loop, in a thread of a process of the pool: it polls an event of its own, for some nanoseconds."""
    while rows and not cancel.wait(0.01):
        rows -= 1
    cancel.check()
    return "done"


def stage(cancel, number):
    with ThreadPoolExecutor(2) as threads, cancel.child(timeout=30) as both:
        try:
            parts = [threads.submit(part, both, 3_000) for _ in range(2)]
            return f"stage {number}: {', '.join(each.result() for each in parts)}"
        except EventCancelled as error:
            return f"stage {number} {error}"


def run(cancel):
    print("running", flush=True)
    with (
        ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool,
        SharedEvent(parents=[cancel]) as shared,
    ):
        for outcome in pool.map(stage, [shared] * 3, range(3)):
            print(outcome)


def main():
    command, number, *reason = sys.argv[1:]
    with RedisEvents(redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost"))) as events:
        cancel = events.event(f"run/{number}")
        if command == "cancel":
            cancel.set(*reason)
        else:
            run(cancel)


if __name__ == "__main__":
    main()
