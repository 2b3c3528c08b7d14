"""celery -A celery_tasks worker, and then: python celery_tasks.py"""

import os
import time

import celery
import redis

from fastevent.redis import RedisEvents

URL = os.environ.get("REDIS_URL", "redis://localhost")
app = celery.Celery("celery_tasks", broker=URL, backend=URL)
events = RedisEvents(redis.Redis.from_url(URL))  # at import: each worker process has connections of its own


@app.task(bind=True, name="work")
def work(self):
    cancel = events.event(f"task/{self.request.id}")
    while not cancel.wait(0.1):
        pass  # a round of work
    return f"stopped: {cancel.reason}"


if __name__ == "__main__":
    task = work.delay()
    time.sleep(1)
    events.event(f"task/{task.id}").set("cancelled by Ann")
    print(task.get(timeout=60))
