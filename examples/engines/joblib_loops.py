"""python joblib_loops.py"""

import threading

from joblib import Parallel, delayed

from fastevent import SharedEvent


def work(cancel):
    while not cancel.wait(0.1):
        pass  # a round of work
    return f"stopped: {cancel.reason}"


if __name__ == "__main__":
    with SharedEvent(timeout=3600, set_on_timeout=True) as cancel:
        threading.Timer(1, cancel.set, ["cancelled by Ann"]).start()
        print(*Parallel(n_jobs=2)(delayed(work)(cancel) for _ in range(2)), sep="\n")
