"""A real Redis or Valkey server for tests."""

import importlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress

import pytest
from helpers import COMPLETE, TIMEOUT, need

MODULE, EVENTS = "fastevent.redis", "RedisEvents"
BINARY = need("redis")
redis = importlib.import_module("redis") if COMPLETE else pytest.importorskip("redis", reason="redis-py is not installed")


def free_port():
    while True:
        port = random.randrange(20_000, 30_000)  # below those of outgoing connections, which come and go
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A server on a free port of 127.0.0.1, with a directory of its own."""

    durable = "--appendonly", "yes"  # options: it keeps its data when it is killed

    def __init__(self, *options, settings=None):
        self.settings = [] if settings is None else [str(settings)]  # a file
        self.folder = tempfile.mkdtemp(prefix="redis-")
        self.options = [str(option).replace("FOLDER", self.folder) for option in options]
        self.port = free_port()
        self.admin = self.client(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))
        self.start()

    def start(self):
        always = f"--bind 127.0.0.1 --port {self.port} --dir {self.folder} --save".split()
        self.process = subprocess.Popen([BINARY, *self.settings, *always, "", *self.options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                self.admin.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the server does not start"
                time.sleep(0.01)

    def client(self, **options):
        """A client for a RedisEvents, which connects by itself; `admin` is the one that connects."""
        return redis.Redis(host="127.0.0.1", **{"port": self.port, **options})

    def program(self):
        """Return what comes before a program, for its parameter `events`; its argument is the prefix."""
        beginning = "import sys\nimport redis\nfrom fastevent.redis import RedisEvents\n"
        return beginning + f"events = RedisEvents(redis.Redis(port={self.port}), prefix=sys.argv[1])\n"

    def put(self, prefix, name, state):
        """Store a state without a message."""
        self.admin.set(prefix + name, state)

    def get(self, prefix, name):
        return self.admin.get(prefix + name)

    def forget(self, prefix, name):
        self.admin.delete(prefix + name)

    def seconds_left(self, prefix, name):
        return self.admin.ttl(prefix + name)

    def publish(self, prefix, name):
        self.admin.publish(prefix, name)

    def count_connections(self):
        return self.admin.info("clients")["connected_clients"]

    def break_connections(self, *kinds):
        for kind in kinds or ("pubsub", "normal"):
            self.admin.client_kill_filter(_type=kind)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self, keep_data=True):
        self.process.kill()
        self.process.wait(TIMEOUT)
        if not keep_data:
            shutil.rmtree(self.folder)
            os.mkdir(self.folder)

    def end(self):
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.admin.connection_pool.disconnect()
        shutil.rmtree(self.folder, ignore_errors=True)
