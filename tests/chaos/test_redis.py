"""Redis is stopped or killed under whole gateways that serve a load: grants stay within the limit, none is lost."""

import asyncio
import logging
import os
import time

import pytest

from gateway.adapters.redis.names import Names
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import shard_of
from tests import redis_servers
from tests.chaos.load import Load, check_account, exhausted, let_pass, share_granted, until
from tests.fleet import fleet_on

pytestmark = pytest.mark.anyio
log = logging.getLogger(__name__)
# More kills than ten take longer than the suite may.
KILLS = int(os.environ.get("GLM_TEST_KILLS", "10"))
STOPPED = 2.0
RESERVE_SECONDS = 0.9  # design.md section 6, "Outages"
RETRY_SECONDS = 0.4  # the longest pause between two tries to reach Redis
DOWN = (0, 1.5, 6)  # seconds: a restart, more than a reserve waits, more than a settlement waits
ANSWER_SECONDS = 5.0
PICTURE_SECONDS = 0.1
ROUND = 120  # pictures that a round lets pass
PLENTY = 10**6


@pytest.fixture(scope="module")
def single(tmp_path_factory, shared_simulator):
    """Two gateways on one server that forgets nothing; the server's Node is its `redis`."""
    folder = tmp_path_factory.mktemp("single")
    with (
        redis_servers.redis_alone(folder / "redis", appendonly="yes", appendfsync="always") as (url, node),
        fleet_on(url, node, folder, shared_simulator, 2) as running,
    ):
        yield running


async def test_a_redis_that_stops_for_two_seconds(single, simulator):
    key_id, secret = single.key("--images-per-day", str(PLENTY))
    load = Load(single, secret)
    async with load.running():
        start, stop, resume, end = await stopped_for_a_while(single.redis)
    await last_round(load, key_id)
    before, after = load.begun(start, stop - RESERVE_SECONDS), load.begun(resume + RETRY_SECONDS, end)
    shares = share_granted(before), share_granted(after)
    log.info("%s, granted before and after: %s of %d and %d", load, shares, len(before), len(after))
    assert min(shares) >= 0.9
    assert load.slowest < ANSWER_SECONDS
    refused = [call for call in load.begun(stop, resume) if call.answer == "quota_store_unavailable"]
    assert any(call.ended < resume for call in refused)
    check_account(load, key_id, simulator)


async def stopped_for_a_while(node):
    """Give the moments at which the load had begun, the server was stopped, went on, and all was over."""
    await asyncio.sleep(0.5)
    start = time.monotonic()
    await asyncio.sleep(2)
    node.send(redis_servers.STOP)
    stop = time.monotonic()
    try:
        await asyncio.sleep(STOPPED)
    finally:
        node.send(redis_servers.CONTINUE)
    resume = time.monotonic()
    await asyncio.sleep(2)
    return start, stop, resume, time.monotonic()


async def last_round(load, key_id):
    """Let a few more pictures pass than were answered, and see the limit reached exactly."""
    limit = load.pictures + ROUND
    await let_pass(load, key_id, limit)
    async with load.running():
        await exhausted(load, limit)


async def test_a_redis_that_is_killed_again_and_again(single, simulator):
    key_id, secret = single.key("--images-per-day", str(PLENTY))
    load = Load(single, secret)
    async with load.running():
        for seconds in DOWN:
            await asyncio.sleep(1)
            single.redis.kill()
            await asyncio.sleep(seconds)
            single.redis.start()
            await checked_again(load, time.monotonic())
        await asyncio.sleep(1)
    await last_round(load, key_id)
    log.info("%s", load)
    assert load.slowest < ANSWER_SECONDS
    check_account(load, key_id, simulator)


@pytest.mark.timeout(60 + 15 * KILLS)
async def test_masters_of_a_cluster_that_are_killed(tmp_path, simulator):
    """Every round lets some more pictures pass; the master is killed while they do, and starts again as a replica."""
    with (
        redis_servers.redis_cluster(tmp_path / "redis") as cluster,
        fleet_on(cluster.url, cluster, tmp_path, simulator, 2) as running,
    ):
        key_id, secret = running.key("--images-per-day", "0")
        load, failovers = Load(running, secret), []
        async with load.running():
            for limit in range(ROUND, KILLS * ROUND + 1, ROUND):
                failovers.append(await killed_in_a_round(load, cluster, key_id, limit))
                await exhausted(load, limit)
        log.info("%s, failovers %s s", load, failovers)
        assert load.slowest < ANSWER_SECONDS + PICTURE_SECONDS
        check_account(load, key_id, simulator)


async def killed_in_a_round(load, cluster, key_id, limit):
    """Raise the limit, kill the master while more passes, start it again; give the seconds that limits were away."""
    master = await asyncio.to_thread(cluster.master_of, Names(shard_of(DEFAULT_ID)).of("epoch"))
    await let_pass(load, key_id, limit)
    await until(lambda: load.pictures >= limit - ROUND * 2 / 3)
    master.kill()
    killed = time.monotonic()
    await checked_again(load, killed)
    seconds = round(time.monotonic() - killed, 2)
    master.start()
    await asyncio.to_thread(cluster.wait_healthy)
    return seconds


async def checked_again(load, moment):
    await until(lambda: any(call.answer != "quota_store_unavailable" for call in load.begun(moment)))
