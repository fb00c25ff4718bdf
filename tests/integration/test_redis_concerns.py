"""A Redis that may lose or drop counts is told of when the gateway starts, and used all the same."""

import pytest

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.concerns import concerns
from tests import servers
from tests.redis_servers import redis_alone, redis_cluster

pytestmark = pytest.mark.anyio


async def found(url):
    client = RedisClient(url)
    try:
        return await concerns(client)
    finally:
        await client.aclose()


async def test_one_that_writes_every_change_and_drops_nothing_is_fine(tmp_path):
    with redis_alone(tmp_path, appendonly="yes") as (url, _):
        assert await found(url) == []


async def test_snapshots_alone_and_eviction_are_concerns(tmp_path):
    with redis_alone(tmp_path, maxmemory_policy="allkeys-lru") as (url, _):
        log, policy = await found(url)
    assert "appendonly" in log
    assert "allkeys-lru" in policy


async def test_one_that_does_not_tell_is_no_concern(tmp_path):
    with redis_alone(tmp_path, rename_command='CONFIG ""') as (url, _):
        assert await found(url) == []


async def test_a_cluster_is_asked_too(tmp_path):
    with redis_cluster(tmp_path) as cluster:
        assert await found(cluster.url) == []
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
        [policy] = await found(cluster.url)
    assert "volatile-ttl" in policy


def test_the_log_says_it_once(tmp_path, simulator):
    with redis_alone(tmp_path / "redis") as (url, _), servers.gateway(tmp_path, simulator, REDIS_URL=url) as running:
        assert running.process.output().count("redis_may_lose_counts") == 1


@pytest.fixture
def simulator(tmp_path):
    with servers.simulator(tmp_path) as running:
        yield running
