"""python prefect_flow.py"""

import threading

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from fastevent import Event


@task(cache_policy=NO_CACHE)  # an event is no value that a cache could look up
def work(cancel):
    while not cancel.wait(0.1):
        pass  # a round of work
    return f"stopped: {cancel.reason}"


@flow
def nightly():
    with Event(timeout=3600, set_on_timeout=True) as cancel:  # Prefect's own cancel leaves the block
        threading.Timer(1, cancel.set, ["cancelled by Ann"]).start()
        futures = [work.submit(cancel) for _ in range(2)]
        print(*[future.result() for future in futures], sep="\n")


if __name__ == "__main__":
    nightly()
