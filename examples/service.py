"""A service that takes jobs from a queue and stops on SIGTERM or Ctrl-C: no job is lost, and it is gone within a second.

    python examples/service.py
    kill -TERM <the process id that it prints>

Idle workers stop at once. A worker with a job may end it within a grace period, after which `check()` raises.
"""

import os
import queue
import threading
import time

from fastevent import Event, EventCancelled

GRACE = 0.8  # seconds


class Service:
    def __init__(self, workers=4):
        self.stopping = Event()  # no new jobs
        self.aborting = Event()  # and leave the jobs in hand
        self.jobs = queue.Queue()
        self.done, self.left = [], []
        self.threads = [threading.Thread(target=self.work, name=f"worker {number}") for number in range(workers)]

    def dismiss(self):
        for _ in self.threads:
            self.jobs.put(None)  # behind the jobs that wait

    def work(self):
        while (job := self.jobs.get()) is not None:
            if self.stopping.is_set():
                self.left.append(job)
            else:
                self.run(job)

    def run(self, job):
        try:
            for _ in range(job):  # a job is a number of steps
                self.aborting.check()
                time.sleep(0.01)
            self.done.append(job)
        except EventCancelled:
            self.left.append(job)

    def serve(self):
        for thread in self.threads:
            thread.start()
        with self.stopping.set_on_signals(), self.stopping.callback(self.dismiss):
            print(f"process {os.getpid()} takes jobs; stop it by SIGTERM or Ctrl-C", flush=True)
            for tick in self.stopping.ticks(0.02):
                self.jobs.put(tick % 20)
            print(f"stopping: {self.stopping.reason}", flush=True)
            deadline = Event(GRACE)
            for thread in self.threads:
                thread.join(deadline.remaining())
            self.aborting.set("the grace period is over")
            for thread in self.threads:
                thread.join()
        print(f"{len(self.done)} jobs done, {len(self.left)} left for the next start")


if __name__ == "__main__":
    Service().serve()
