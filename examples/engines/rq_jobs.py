"""rq worker, and then: python rq_jobs.py"""

import os
import time

import redis
import rq

from fastevent.redis import RedisEvents

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost"))


def work():
    cancel = RedisEvents(client).event(f"job/{rq.get_current_job().id}")  # in the job: it is a process of its own
    while not cancel.wait(0.1):
        pass  # a round of work
    return f"stopped: {cancel.reason}"


if __name__ == "__main__":
    job = rq.Queue(connection=client).enqueue("rq_jobs.work")
    time.sleep(1)
    RedisEvents(client).event(f"job/{job.id}").set("cancelled by Ann")
    while not job.is_finished:
        time.sleep(0.1)
    print(job.return_value())
