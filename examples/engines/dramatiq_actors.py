"""dramatiq dramatiq_actors, and then: python dramatiq_actors.py"""

import os
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from fastevent.redis import RedisEvents

URL = os.environ.get("REDIS_URL", "redis://localhost")
dramatiq.set_broker(broker := RedisBroker(url=URL))
broker.add_middleware(CurrentMessage())
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
events = RedisEvents(redis.Redis.from_url(URL))


@dramatiq.actor(store_results=True)
def work():
    cancel = events.event(f"message/{CurrentMessage.get_current_message().message_id}")
    while not cancel.wait(0.1):
        pass  # a round of work
    return f"stopped: {cancel.reason}"


if __name__ == "__main__":
    message = work.send()
    time.sleep(1)
    events.event(f"message/{message.message_id}").set("cancelled by Ann")
    print(message.get_result(block=True, timeout=60_000))
