"""A pool of processes that stops on Ctrl-C, at the first error and at a deadline.

    python examples/pool.py                 # press Ctrl-C
    python examples/pool.py spawn           # with another start method: fork, forkserver or spawn
    python examples/pool.py fork broken     # one item raises an exception

It prints how far it is, and at the end why it stopped.
"""

import multiprocessing
import signal
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

from fastevent import EventCancelled, SharedEvent

ITEMS = 200


def ignore_ctrl_c():
    """A terminal sends Ctrl-C to the workers, too. The event stops them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def work(item, broken, cancel):
    for _ in range(20):
        cancel.check()
        cancel.wait(0.01)
    if item == broken:
        raise ValueError(f"item {item} is broken")
    return item


def main(method=None, broken=None):
    context = multiprocessing.get_context(method)
    with (
        ProcessPoolExecutor(2, mp_context=context, initializer=ignore_ctrl_c) as pool,
        SharedEvent(timeout=60, set_on_timeout=True) as cancel,
        cancel.set_on_signals(),
    ):
        jobs = [pool.submit(work, item, broken and 3, cancel) for item in range(ITEMS)]
        done = 0
        with cancel.callback(lambda: [job.cancel() for job in jobs]):  # those that have not begun
            for job in as_completed(jobs):  # tqdm(as_completed(jobs), total=len(jobs)) draws a bar
                if job.cancelled() or isinstance(job.exception(), EventCancelled):
                    continue
                if job.exception():
                    cancel.set(repr(job.exception()))  # the first error stops the rest; str() of some says little
                    continue
                done += 1
                print(f"{done} of {len(jobs)}", flush=True)
        print("stopped:" if cancel.is_set() else "complete", cancel.reason or "")


if __name__ == "__main__":
    main(*sys.argv[1:])
