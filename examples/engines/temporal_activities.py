"""python temporal_activities.py"""

import threading
from contextvars import copy_context

from temporalio import activity
from temporalio.testing import ActivityEnvironment

from fastevent import Event


@activity.defn(no_thread_cancel_exception=True)  # otherwise, the worker raises an exception anywhere in the thread
def work():
    with Event(timeout=3600, set_on_timeout=True) as cancel:
        threading.Thread(target=copy_context().run, args=(watch, cancel)).start()
        while not cancel.wait(0.1):  # a round of work
            activity.heartbeat()  # Temporal answers it by the cancellation
        return f"stopped: {cancel.reason}"


def watch(cancel):
    for _ in cancel.ticks(0.1):
        if activity.is_cancelled():
            cancel.set("cancelled by Ann")


if __name__ == "__main__":
    environment = ActivityEnvironment()  # stands for a worker
    threading.Timer(1, environment.cancel).start()
    print(environment.run(work))
