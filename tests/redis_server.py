"""A real Redis or Valkey server for the tests of RedisEvents, and what they share."""

import gc
import importlib
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress

import pytest
from helpers import COMPLETE, TIMEOUT, import_over, need, until

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


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.end()


@pytest.fixture
def own_server():
    servers = []

    def make(*options, settings=None):
        servers.append(Server(*options, settings=settings))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@pytest.fixture
def module(fastevent):
    """`fastevent.redis` of that core."""
    return import_over(fastevent, "fastevent.redis")


@pytest.fixture
def bridge_module(module, fastevent):
    """`fastevent._bridge` of that core."""
    return fastevent._bridge


numbers = itertools.count()


@pytest.fixture
def prefix():
    return f"test{next(numbers)}:"


@pytest.fixture
def bridge(module, server, prefix):
    """Make a RedisEvents; without arguments, all have the same server and prefix."""
    made = []

    def make(client=None, **options):
        made.append(module.RedisEvents(client or server.client(), **{"prefix": prefix, **options}))
        return made[-1]

    yield make
    for events in made:
        events._link.unsent.clear()  # the server may be gone
        events.close()


def until_collected(condition):
    def is_true_now():
        gc.collect()
        return condition()

    until(is_true_now)
