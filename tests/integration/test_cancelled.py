"""A request that is cancelled while its limits are asked holds nothing afterwards, over a real Redis."""

import asyncio
import time

import pytest

from gateway.domain.limits import Limit
from gateway.domain.quota import Limits, Reservation
from gateway.service.backlog import Backlog
from gateway.service.jobs import Jobs
from gateway.service.reserve import Reservations
from tests import redis_servers
from tests.fakes import FakeClock, FakeObserver
from tests.fakes_quota import FakeSpool, settlements_on
from tests.ports.quota_shop import real_shop

pytestmark = pytest.mark.anyio
LIMITS = Limits(images_per_minute=9, images_per_day=9, concurrent=1, spend_per_month=10**9)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_servers.redis_alone(tmp_path_factory.mktemp("valkey")) as running:
        yield running


class Desk:
    """Reservations over the real store of a shop."""

    def __init__(self, at):
        self.at, self.crashes = at, []
        self.jobs = Jobs(self.crashes.append)
        settlements = settlements_on(at.quotas, FakeSpool(), Backlog(10, FakeObserver()), FakeObserver())
        self.reservations = Reservations(
            at.quotas, settlements, self.refill, self.jobs, FakeClock(), on_outage="refuse"
        )

    async def refill(self, shard):
        raise AssertionError(shard)

    def take(self):
        return asyncio.create_task(self.reservations.take(self.at.claim(3, key=LIMITS)))

    async def holds_nothing(self):
        assert await self.jobs.drain(20) == 0
        assert self.crashes == []
        for limit in (Limit.IMAGES_PER_MINUTE, Limit.IMAGES_PER_DAY, Limit.CONCURRENT, Limit.SPEND_PER_MONTH):
            assert await self.at.used(limit) == 0
        assert self.at.quotas.held(self.at.shard) == []


async def test_whenever_it_is_cancelled(server):
    """After every number of turns of the loop that a reserve takes: before it is sent, under way, just answered."""
    async with real_shop(server[0]) as at:
        desk, granted, ticks = Desk(at), False, 0
        while not granted:
            taking = desk.take()
            for _ in range(ticks):
                await asyncio.sleep(0.0002 if ticks % 2 else 0)
            taking.cancel()
            [end] = await asyncio.gather(taking, return_exceptions=True)
            if granted := isinstance(end, Reservation):
                await at.quotas.release(end.claim)
            else:
                assert isinstance(end, asyncio.CancelledError)
            await desk.holds_nothing()
            ticks += 1
        assert ticks > 3


async def test_while_the_server_stands_still(server):
    """What was sent is done when the server goes on, long after its client has gone."""
    url, node = server
    async with real_shop(url) as at:
        desk = Desk(at)
        await at.store.client.ping()
        node.send(redis_servers.STOP)
        try:
            taking = desk.take()
            await asyncio.sleep(0.3)
            taking.cancel()
            started = time.monotonic()
            [end] = await asyncio.gather(taking, return_exceptions=True)
            assert isinstance(end, asyncio.CancelledError)
            assert time.monotonic() - started < 0.5, "who leaves is not kept waiting"
        finally:
            node.send(redis_servers.CONTINUE)
        await desk.holds_nothing()
