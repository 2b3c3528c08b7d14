"""python ray_tasks.py"""

import time

import ray

from fastevent import SharedEvent


@ray.remote
def work(cancel):
    while not cancel.wait(0.1):
        pass  # a round of work
    return f"stopped: {cancel.reason}"


if __name__ == "__main__":
    with SharedEvent(timeout=3600, set_on_timeout=True) as cancel:
        tasks = [work.remote(cancel) for _ in range(2)]
        time.sleep(1)
        cancel.set("cancelled by Ann")
        print(*ray.get(tasks), sep="\n")
