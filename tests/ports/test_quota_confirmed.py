"""What a confirmation by replicas is worth: a replica that is stopped has nothing, whoever asks and however often."""

from contextlib import aclosing, asynccontextmanager

import pytest

from gateway.adapters.redis.client import RedisClient
from gateway.domain.limits import Limit
from gateway.domain.quota import Refusal
from gateway.service.ports import QuotaUnavailable
from tests import redis_servers
from tests.ports.quota_shop import ONE_EACH, event, real_shop

pytestmark = pytest.mark.anyio
SET = "redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with redis_servers.redis_replicated(tmp_path_factory.mktemp("pair")) as running:
        yield running


@asynccontextmanager
async def stopped(node):
    node.send(redis_servers.STOP)
    try:
        yield
    finally:
        node.send(redis_servers.CONTINUE)


def client(url):
    return aclosing(RedisClient(url))


async def in_step(*shops):
    """Wait until the replica has what every connection wrote: only later writes can then be unconfirmed."""
    for at in shops:
        while not (await at.store.client.confirmed(1, "EVAL", SET, 1, "step", "x")).replicas:
            pass


def sure_quotas(at):
    return at.store.replica(deadline=2, wait_replicas=1)


async def test_a_replica_confirms_what_it_has(pair):
    async with client(pair.url) as at, client(pair.url) as other:
        assert (await at.topology()).replicated
        confirmed = await at.confirmed(1, "EVAL", SET, 1, "a", "x")
        assert (confirmed.reply, confirmed.replicas) == (b"x", 1)
        await other.call("GET", "a")
        async with stopped(pair.nodes[1]):
            confirmed = await at.confirmed(1, "EVAL", SET, 1, "a", "y")
            assert (confirmed.reply, confirmed.replicas) == (b"y", 0)
            # Why it has to be the same connection: on another one WAIT confirms what the replica does not have.
            assert await other.call("WAIT", 1, 100) == 1


async def test_a_node_of_a_cluster_waits_on_the_connection_that_wrote(cluster_servers):
    [replica] = cluster_servers.replicas_of("{p1}")
    async with client(cluster_servers.url) as at:
        assert (await at.confirmed(1, "EVAL", SET, 1, "{p1}", "x")).replicas == 1
        async with stopped(replica):
            confirmed = await at.confirmed(1, "EVAL", SET, 1, "{p1}", "y")
            assert (confirmed.reply, confirmed.replicas) == (b"y", 0)
    cluster_servers.wait_healthy()


async def test_a_reservation_that_no_replica_has_stands_and_is_counted_however_often_it_is_asked(pair):
    async with real_shop(pair.url) as at, real_shop(pair.url) as again:
        first, second = sure_quotas(at), sure_quotas(again)
        claim = at.claim(key=ONE_EACH[Limit.IMAGES_PER_DAY])
        await in_step(at, again)
        async with stopped(pair.nodes[1]):
            reservation = await first.reserve(claim)
            assert await second.reserve(claim) == reservation
            assert (first.unconfirmed, second.unconfirmed) == (1, 1)
        await in_step(at)
        assert await first.reserve(claim) == reservation
        assert isinstance(await first.reserve(at.claim(key=ONE_EACH[Limit.IMAGES_PER_DAY])), Refusal)
        assert first.unconfirmed == 1


@pytest.mark.parametrize("charged", [None, 2])
async def test_an_end_that_no_replica_has_is_to_be_repeated_until_one_has(pair, charged):
    async with real_shop(pair.url) as at, real_shop(pair.url) as again:
        reservation = await at.reserve(3)
        await in_step(at, again)

        async def end(shop):
            if charged is None:
                await sure_quotas(shop).release(reservation.claim)
            else:
                line = event(reservation.claim.request_id, at.project)
                await sure_quotas(shop).settle(reservation, charged, line)

        async with stopped(pair.nodes[1]):
            for shop in (at, again):
                with pytest.raises(QuotaUnavailable, match="replicas"):
                    await end(shop)
        await in_step(at)
        await end(again)
        assert await at.used(Limit.IMAGES_PER_DAY) == (charged or 0)
        assert len(await at.lines()) == (charged is not None)
