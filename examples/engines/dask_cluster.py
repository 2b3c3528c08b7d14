"""python dask_cluster.py"""

import time

from dask.distributed import Client

from fastevent import SharedEvent


def work(cancel):
    while not cancel.wait(0.1):
        pass  # a round of work
    return f"stopped: {cancel.reason}"


if __name__ == "__main__":
    with Client(n_workers=2, dashboard_address=None) as client, SharedEvent(timeout=3600, set_on_timeout=True) as cancel:
        futures = [client.submit(work, cancel, pure=False) for _ in range(2)]
        time.sleep(1)
        cancel.set("cancelled by Ann")
        print(*client.gather(futures), sep="\n")
