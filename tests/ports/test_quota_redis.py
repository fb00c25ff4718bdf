"""What is Redis's own in the quota store: its clock is what counts, whatever the gateways' clocks say."""

import asyncio
import time
from functools import partial

import pytest
import redis.asyncio

from gateway.domain.limits import Limit
from tests.ports.quota_shop import CALENDAR, real_shop, shop
from tests.ports.quota_stores import moved_redis_store

pytestmark = pytest.mark.anyio
HOUR = 3600
DAY = 24 * HOUR
SKEWS = [HOUR, -HOUR, DAY, -DAY, 40 * DAY, -40 * DAY]


@pytest.fixture
async def at(server):
    async with shop(partial(moved_redis_store, server)) as opened:
        yield opened


@pytest.mark.parametrize("skew", SKEWS)
async def test_a_gateway_whose_clock_is_wrong_counts_in_the_stores_day(at, skew):
    await at.reserve(2)
    at.store.skew = skew
    stranger = at.store.replica("stranger")  # has not learned yet how far its clock is off
    reservation = await stranger.reserve(at.claim(3))
    assert (reservation.day, reservation.month) == ("2096-11-23", "2096-11")
    assert await at.used(Limit.IMAGES_PER_DAY) == 5
    await stranger.release(reservation.claim)
    assert await at.used(Limit.IMAGES_PER_DAY) == 2


@pytest.mark.parametrize("skew", SKEWS)
async def test_a_gateway_whose_clock_is_wrong_takes_again_what_was_lost(at, skew):
    held = await at.reserve(3)
    at.store.skew = skew
    await at.store.lose()
    await at.quotas.refill(at.shard, CALENDAR, {}, fresh=False)
    await at.quotas.take_again(held.claim)
    await at.store.advance(3)
    assert await at.used(Limit.IMAGES_PER_DAY) == 3
    assert await at.used(Limit.CONCURRENT) == 1


async def test_a_lease_ends_in_real_time_when_nobody_renews_it(server):
    async with real_shop(server) as at:
        await at.store.collect()
        started = time.monotonic()
        await at.store.replica("busy", lease=60).reserve(at.claim(1))
        await at.store.replica("dead", lease=0.5).reserve(at.claim(2))
        while not await at.store.collect():  # noqa: ASYNC110 - nobody tells when a lease ends
            await asyncio.sleep(0.05)
        assert time.monotonic() - started > 0.45
        assert await at.used(Limit.IMAGES_PER_DAY) == 1


async def test_the_suite_runs_on_both_forks(valkey, real_redis):
    versions = []
    for url, field in ((valkey, "valkey_version"), (real_redis, "redis_version")):
        async with redis.asyncio.Redis.from_url(url) as client:
            versions.append(int((await client.info("server"))[field].partition(".")[0]))
    assert versions[0] >= 9
    assert versions[1] >= 7
