"""What the quota store promises when it was emptied: nothing is granted twice, in memory and on every server."""

import pytest

from gateway.domain.limits import Limit
from gateway.domain.quota import Counts, Limits
from gateway.service.ports import QuotaEmptied, QuotaRestoring, Settlement
from tests.ports.quota_shop import CALENDAR, PRICE, event
from tests.ports.quota_stores import LEASE, START

pytestmark = pytest.mark.anyio
DAY = 24 * 3600


async def refill(at, *counted):
    """Give the emptied store back what the ledger knows; `counted` are in that."""
    counts = dict.fromkeys(at.subjects, Counts(images_today=5, images_this_month=7, spend=7 * PRICE))
    await at.quotas.refill(at.shard, CALENDAR, counts, counted, fresh=False)


async def test_an_emptied_store_grants_and_charges_nothing(at):
    held = await at.reserve()
    await at.store.lose()
    with pytest.raises(QuotaEmptied) as emptied:
        await at.reserve()
    assert emptied.value.shard == at.shard
    with pytest.raises(QuotaEmptied):
        await at.settle(held, 1)
    await at.quotas.take_again(held.claim)
    await at.quotas.release(at.claim())
    assert await at.quotas.losses() == []
    assert await at.lines() == []
    await at.open()
    assert await at.used(Limit.IMAGES_PER_DAY) == 0


async def test_a_refilled_store_grants_when_the_replicas_had_time_to_take_again(at):
    await at.reserve()
    await at.store.lose()
    await refill(at)
    [(shard, refilling)] = await at.quotas.losses()
    assert shard == at.shard
    for wait in (3.0, 1.5):
        with pytest.raises(QuotaRestoring) as restoring:
            await at.reserve()
        assert restoring.value.wait == wait
        assert await at.quotas.losses() == [(shard, refilling)]
        await at.store.advance(1.5)
    assert await at.used(Limit.IMAGES_PER_DAY) == 5
    assert await at.quotas.losses() == []


async def test_a_refill_counts_once_and_for_its_own_day_and_month(at):
    await at.store.lose()
    for _ in range(2):
        await refill(at)
    await at.store.advance(3)
    for subject in (0, 1):
        assert await at.used(Limit.IMAGES_PER_DAY, subject=subject) == 5
        assert await at.used(Limit.IMAGES_PER_MONTH, subject=subject) == 7
        assert await at.used(Limit.SPEND_PER_MONTH, subject=subject) == 7 * PRICE
    await at.store.advance(DAY)
    assert await at.used(Limit.IMAGES_PER_DAY) == 0
    assert await at.used(Limit.IMAGES_PER_MONTH) == 7
    await at.store.advance(7 * DAY)
    assert await at.used(Limit.IMAGES_PER_MONTH) == 0
    assert await at.used(Limit.SPEND_PER_MONTH) == 0


async def test_a_store_that_nobody_lost_anything_in_is_not_refilled(at):
    await at.reserve()
    await refill(at)
    assert await at.used(Limit.IMAGES_PER_DAY) == 1
    assert await at.quotas.losses() == []


async def test_a_replica_knows_what_it_holds(at):
    running, released, done = [await at.reserve() for _ in range(3)]
    await at.quotas.release(released.claim)
    await at.settle(done, 1)
    assert at.quotas.held(at.shard) == [running.claim]
    assert at.quotas.held(at.shard + 1) == []
    assert at.store.replica().held(at.shard) == []


async def test_a_replica_learns_which_of_its_settlements_the_store_has_lost(at):
    kept, released, given_back = [await at.reserve() for _ in range(3)]
    ends = [
        Settlement(reservation=one, charged=1, event=event(one.claim.request_id, at.project))
        for one in (kept, released, given_back)
    ]
    await at.settle(kept, 1)
    await at.quotas.release(released.claim)
    assert await at.quotas.lost(ends) == ends[1:]
    await at.settle(given_back, 1)
    await at.settle(released, 1)
    assert await at.quotas.lost(ends) == []
    await at.store.lose()
    assert await at.quotas.lost(ends) == ends


async def test_what_the_refill_has_counted_is_neither_charged_nor_taken_nor_written_again(at):
    """Its line was in the ledger when that was read; the replica that made it may not even know that it was settled."""
    counted, missing, running = [await at.reserve(2) for _ in range(3)]
    await at.settle(counted, 2)
    await at.settle(missing, 2)
    await at.store.lose()
    await refill(at, counted.claim.request_id, running.claim.request_id)
    for _ in range(2):
        await at.quotas.take_again(running.claim)
        await at.settle(counted, 2)
        await at.settle(missing, 2)
    await at.store.advance(3)
    assert await at.used(Limit.IMAGES_PER_DAY) == 5 + 2
    assert await at.used(Limit.SPEND_PER_MONTH) == 7 * PRICE + 2 * PRICE
    assert await at.used(Limit.CONCURRENT) == 0
    assert [line.event_id for line in await at.lines()] == [missing.claim.request_id]


async def test_counts_of_a_day_that_has_ended_are_not_taken(at):
    """The refill is made anew, by the calendar of the new day."""
    await at.store.lose()
    await at.store.advance(DAY / 2)
    await refill(at)
    with pytest.raises(QuotaEmptied):
        await at.reserve()


async def test_the_time_of_the_store_is_told(at):
    assert await at.quotas.now(at.shard) == round(START.timestamp() * 1000)
    await at.store.advance(1.5)
    assert await at.quotas.now(at.shard) == round(START.timestamp() * 1000) + 1500


async def test_what_was_lost_is_taken_and_settled_again_once_over_any_limit(at):
    six = Limits(images_per_day=6, concurrent=1)
    running, done = await at.reserve(4, key=six), await at.reserve(2)
    await at.settle(done, 2)
    await at.store.lose()
    await refill(at)
    for _ in range(2):
        await at.quotas.take_again(running.claim)
        await at.settle(done, 2)
    await at.store.advance(3)
    assert await at.used(Limit.IMAGES_PER_DAY) == 5 + 4 + 2
    assert await at.used(Limit.CONCURRENT) == 1
    assert len(await at.lines()) == 1
    await at.settle(running, 3)
    assert await at.used(Limit.IMAGES_PER_DAY) == 5 + 3 + 2
    assert await at.used(Limit.CONCURRENT) == 0


async def test_what_was_lost_and_never_taken_again_is_charged_when_it_is_settled(at):
    lost = await at.reserve(4)
    await at.store.lose()
    await refill(at)
    await at.store.advance(3)
    await at.settle(lost, 1)
    assert await at.used(Limit.IMAGES_PER_DAY) == 5 + 1
    assert await at.used(Limit.CONCURRENT) == 0


async def test_the_lease_of_what_was_taken_again_ends_as_any(at):
    running = await at.reserve(4)
    await at.store.lose()
    await refill(at)
    await at.quotas.take_again(running.claim)
    assert await at.live(LEASE) == 0
    assert await at.live(1) == 1
    assert await at.used(Limit.IMAGES_PER_DAY) == 5
