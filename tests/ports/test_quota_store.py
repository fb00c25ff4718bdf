"""What the quota store promises, on every server that it may run on."""

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.collector import Collector
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.names import Names
from gateway.adapters.redis.quota import RedisQuotas
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.limits import Limit
from gateway.domain.quota import Claim, Limits, Refusal, Reservation, Subject, shard_of, subject_names
from gateway.domain.usage import Outcome, UsageEvent
from gateway.service.ports import QuotaEmptied, QuotaUnavailable

pytestmark = pytest.mark.anyio
PRICE = 100_000
NOTHING = Limits()


def event(request_id, project, outcome=Outcome.DELIVERED, **more):
    """A ledger line of the project's only key, which has the project's name."""
    return UsageEvent(
        event_id=request_id, request_id=request_id, outcome=outcome, time=datetime(2026, 11, 23, tzinfo=UTC),
        project_id=project, key_id=project, requested_model="glm-image", upstream_model="glm-image",
        pictures_requested=1, cost_currency="CNY", currency="CNY", **more,
    )  # fmt: skip


class Shop:
    """A store under test with one project, and one key in it."""

    def __init__(self, url, *, lease=30.0, owner="owner"):
        self.client = RedisClient(url)
        self.scripts = Scripts(self.client)
        self.owner = owner
        self.lease = lease
        self.quotas = RedisQuotas(self.scripts, owner, UTC, lease=lease, deadline=0.9)
        self.stream = RedisUsageStream(self.scripts, owner)
        self.project = f"proj_{uuid.uuid4().hex}"
        self.names = Names(shard_of(self.project))
        self.probes = 0

    def claim(self, pictures=1, *, key=NOTHING, project=NOTHING, request_id=None):
        request_id = request_id or uuid.uuid4().hex
        names = subject_names(self.project, self.project)
        return Claim(
            project_id=self.project,
            subjects=(Subject(name=names[0], limits=key), Subject(name=names[1], limits=project)),
            pictures=pictures,
            price=PRICE,
            abandoned=event(request_id, self.project, Outcome.ABANDONED),
        )

    async def reserve(self, pictures=1, **more):
        return await self.quotas.reserve(self.claim(pictures, **more))

    async def settle(self, reservation, charged):
        await self.quotas.settle(reservation, charged, event(reservation.claim.request_id, self.project))

    async def used(self, limit, *, subject=0):
        """How much of a limit a probe that takes nothing finds used."""
        limits = [NOTHING, NOTHING]
        limits[subject] = Limits(**{limit.value: 10**12})
        probe = await self.reserve(0, key=limits[0], project=limits[1])
        [room] = [room for room in probe.rooms if room.limit is limit]
        await self.quotas.release(probe.claim)
        self.probes += limit in {Limit.REQUESTS_PER_MINUTE, Limit.IMAGES_PER_MINUTE}  # only these count requests
        return room.used - {Limit.REQUESTS_PER_MINUTE: self.probes, Limit.CONCURRENT: 1}.get(limit, 0)

    async def lines(self):
        return [
            line for _, line in await self.stream.pending(shard_of(self.project)) if line.project_id == self.project
        ]


@asynccontextmanager
async def shop(url, **more):
    opened = Shop(url, **more)
    await opened.client.call("SET", opened.names.of("epoch"), "ready")
    try:
        yield opened
    finally:
        await opened.client.aclose()


ONE_EACH = {limit: Limits(**{limit.value: PRICE if limit is Limit.SPEND_PER_MONTH else 1}) for limit in Limit}


@pytest.mark.parametrize("subject", ["key", "project"])
@pytest.mark.parametrize("limit", Limit)
async def test_a_limit_lets_exactly_its_value_pass(server, limit, subject):
    async with shop(server) as at:
        ends = await asyncio.gather(*(at.reserve(**{subject: ONE_EACH[limit]}) for _ in range(20)))
        refusals = [end for end in ends if isinstance(end, Refusal)]
        assert len(refusals) == 19
        assert {refusal.room.limit for refusal in refusals} == {limit}
        assert {refusal.room.subject.partition(".")[0] for refusal in refusals} == {subject}
        assert all(refusal.room.value == refusal.room.used for refusal in refusals)
        assert all(refusal.room.resets_in > 0 for refusal in refusals)


async def test_all_pictures_or_none(server):
    async with shop(server) as at:
        five = Limits(images_per_day=5, images_per_minute=100)
        assert isinstance(await at.reserve(3, key=five), Reservation)
        refusal = await at.reserve(3, key=five)
        assert (refusal.room.limit, refusal.room.used) == (Limit.IMAGES_PER_DAY, 3)
        assert await at.used(Limit.IMAGES_PER_MONTH) == 3
        assert isinstance(await at.reserve(2, key=five), Reservation)


async def test_a_refusal_by_the_project_takes_nothing_from_the_key(server):
    async with shop(server) as at:
        await at.reserve(key=Limits(images_per_minute=9), project=Limits(images_per_day=0))
        for limit in Limit:
            assert await at.used(limit) == 0


async def test_a_zero_lets_nothing_pass(server):
    async with shop(server) as at:
        assert isinstance(await at.reserve(key=Limits(requests_per_minute=0)), Refusal)


async def test_shadow_counts_and_reports_and_refuses_nothing(server):
    async with shop(server) as at:
        shadow = Limits(images_per_day=1, shadow=True)
        first, second = await at.reserve(key=shadow), await at.reserve(key=shadow)
        assert first.shadowed == ()
        assert [room.limit for room in second.shadowed] == [Limit.IMAGES_PER_DAY]
        assert await at.used(Limit.IMAGES_PER_DAY) == 2


@pytest.mark.parametrize("charged", [0, 1, 3])
async def test_what_is_not_charged_is_given_back_and_the_request_is_not(server, charged):
    async with shop(server) as at:
        minute = Limits(requests_per_minute=100, images_per_minute=100, concurrent=100)
        reservation = await at.reserve(3, key=minute)
        await at.settle(reservation, charged)
        assert await at.used(Limit.IMAGES_PER_MINUTE) == charged
        assert await at.used(Limit.IMAGES_PER_DAY) == charged
        assert await at.used(Limit.IMAGES_PER_MONTH, subject=1) == charged
        assert await at.used(Limit.SPEND_PER_MONTH, subject=1) == charged * PRICE
        assert await at.used(Limit.CONCURRENT) == 0
        assert [line.event_id for line in await at.lines()] == [reservation.claim.request_id]


async def test_release_leaves_nothing_but_the_request(server):
    async with shop(server) as at:
        reservation = await at.reserve(3, key=Limits(requests_per_minute=9, images_per_minute=9))
        await at.quotas.release(reservation.claim)
        for limit in set(Limit) - {Limit.REQUESTS_PER_MINUTE}:
            assert await at.used(limit) == 0
        assert await at.lines() == []


async def test_a_script_that_runs_twice_counts_once(server):
    async with shop(server) as at:
        claim = at.claim(2, key=Limits(images_per_day=2, requests_per_minute=5))
        first, again = await at.quotas.reserve(claim), await at.quotas.reserve(claim)
        assert first == again
        for _ in range(2):
            await at.settle(first, 1)
        assert await at.used(Limit.IMAGES_PER_DAY) == 1
        assert len(await at.lines()) == 1
        await at.quotas.release(claim)
        assert await at.used(Limit.IMAGES_PER_DAY) == 1


async def test_a_reserve_that_comes_after_its_release_takes_nothing(server):
    """The answer of a reserve was not seen and it was undone; the reserve itself arrives only then."""
    async with shop(server) as at:
        claim = at.claim(2)
        await at.quotas.release(claim)
        with pytest.raises(QuotaUnavailable):
            await at.quotas.reserve(claim)
        assert await at.used(Limit.IMAGES_PER_DAY) == 0


async def test_an_emptied_store_grants_nothing(server):
    async with shop(server) as at:
        await at.client.call("DEL", at.names.of("epoch"))
        with pytest.raises(QuotaEmptied):
            await at.reserve()


async def test_what_a_dead_owner_held_is_given_back_once_and_told(server):
    async with shop(server, lease=0.3, owner="dead") as at, shop(server, owner="alive") as other:
        collector = Collector(other.scripts, "alive", lease=30)
        await collector.collect()
        limits = Limits(requests_per_minute=9, images_per_minute=9, images_per_day=9, concurrent=1)
        lost = await at.reserve(3, key=limits)
        assert await collector.collect() == 0
        await asyncio.sleep(0.35)
        assert await collector.collect() == 1
        assert await collector.collect() == 0
        for limit in set(Limit) - {Limit.REQUESTS_PER_MINUTE}:
            assert await at.used(limit) == 0
        assert await at.used(Limit.REQUESTS_PER_MINUTE) == 1
        assert [line.outcome for line in await at.lines()] == [Outcome.ABANDONED]

        await at.settle(lost, 2)  # the owner was only late
        assert await at.used(Limit.IMAGES_PER_DAY) == 2
        assert await at.used(Limit.SPEND_PER_MONTH) == 2 * PRICE
        assert [line.outcome for line in await at.lines()] == [Outcome.ABANDONED, Outcome.DELIVERED]


async def test_a_renewed_lease_does_not_end(server):
    async with shop(server, lease=0.3, owner="busy") as at:
        collector = Collector(at.scripts, "busy", lease=0.3)
        await collector.collect()
        await at.reserve()
        for _ in range(4):
            await asyncio.sleep(0.15)
            await collector.renew([shard_of(at.project)])
            assert await collector.collect() == 0


async def test_a_store_that_stood_still_lengthens_every_lease(server):
    async with shop(server, lease=0.2) as at:
        collector = Collector(at.scripts, "owner", lease=0.2)
        await collector.collect()
        await at.reserve()
        last = int(await at.client.call("GET", at.names.of("collected")))
        await at.client.call("SET", at.names.of("collected"), last - 6_000)
        await asyncio.sleep(0.25)
        assert await collector.collect() == 0
        assert await collector.collect() == 0


async def test_a_release_gives_back_to_the_second_that_was_charged(server):
    async with shop(server) as at:
        limits = Limits(images_per_minute=4)
        clock = time.time_ns() // 1_000_000 + 5_000  # the store's, which is ahead of ours
        await at.client.call("SET", at.names.of("clock"), clock)
        first = await at.reserve(3, key=limits)
        await at.client.call("SET", at.names.of("clock"), clock + 5_000)
        await at.reserve(1, key=limits)
        await at.quotas.release(first.claim)
        assert await at.used(Limit.IMAGES_PER_MINUTE) == 1
        await at.client.call("SET", at.names.of("clock"), clock + 63_000)  # only the second reservation counts still
        assert await at.used(Limit.IMAGES_PER_MINUTE) == 1
        await at.client.call("DEL", at.names.of("clock"))


async def test_a_request_that_no_minute_counted_is_not_given_back_to_one(server):
    """The key had no limit when this request was reserved, and has one when it is settled."""
    async with shop(server) as at:
        uncounted = await at.reserve(3)
        await at.reserve(2, key=Limits(images_per_minute=2))
        await at.settle(uncounted, 0)
        assert await at.used(Limit.IMAGES_PER_MINUTE) == 2


async def test_amounts_of_many_digits_are_exact(server):
    async with shop(server) as at:
        value = 4_503_599_627_370_497
        reservation = await at.reserve(key=Limits(spend_per_month=value))
        assert reservation.rooms[0].value == value
