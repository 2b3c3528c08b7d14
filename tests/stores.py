"""Both stores of a bridge: the fixtures of their tests, which take a real server of each."""

import gc
import importlib
import itertools

import pytest
from helpers import import_over, until


@pytest.fixture(scope="module", params=["redis", "postgres"])
def store(request):
    """The module with the server of a store."""
    return importlib.import_module(f"{request.param}_server")


@pytest.fixture(scope="module")
def server(store):
    server = store.Server()
    yield server
    server.end()


@pytest.fixture
def own_server(store):
    servers = []

    def make(*options, **more):
        servers.append(store.Server(*options, **more))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@pytest.fixture
def module(store, fastevent):
    """`fastevent.redis` or `fastevent.postgres` of that core."""
    return import_over(fastevent, store.MODULE)


@pytest.fixture
def Events(store, module):
    return getattr(module, store.EVENTS)


@pytest.fixture
def bridge_module(module, fastevent):
    """`fastevent._bridge` of that core."""
    return fastevent._bridge


numbers = itertools.count()


@pytest.fixture
def prefix():
    return f"test{next(numbers)}:"


@pytest.fixture
def bridge(Events, server, prefix):
    """Make a bridge; without arguments, all have the same server and prefix."""
    made = []

    def make(client=None, **options):
        made.append(Events(client or server.client(), **{"prefix": prefix, **options}))
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
