"""What the quota store promises when it was emptied: nothing is granted twice, in memory and on every server."""

import pytest

from gateway.domain.limits import Limit
from gateway.domain.quota import Counts, Limits
from gateway.service.ports import QuotaEmptied, QuotaRestoring, QuotaUnavailable
from tests.ports.quota_shop import CALENDAR, PRICE
from tests.ports.quota_stores import LEASE

pytestmark = pytest.mark.anyio
DAY = 24 * 3600


async def refill(at):
    """Give the emptied store back what the ledger knows."""
    counts = dict.fromkeys(at.subjects, Counts(images_today=5, images_this_month=7, spend=7 * PRICE))
    await at.quotas.refill(at.shard, CALENDAR, counts, fresh=False)


async def test_an_emptied_store_grants_and_charges_nothing(at):
    held = await at.reserve()
    await at.store.lose()
    with pytest.raises(QuotaEmptied) as emptied:
        await at.reserve()
    assert emptied.value.shard == at.shard
    with pytest.raises(QuotaUnavailable):
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


async def test_a_replica_knows_what_it_holds_and_what_it_settled_lately(at):
    running, released, done = [await at.reserve() for _ in range(3)]
    await at.quotas.release(released.claim)
    await at.settle(done, 1)
    [claim], [settlement] = at.quotas.held(at.shard)
    assert claim == running.claim
    assert (settlement.reservation, settlement.charged) == (done, 1)
    assert at.quotas.held(at.shard + 1) == ([], [])
    assert at.store.replica().held(at.shard) == ([], [])
    await at.store.advance(299)
    assert at.quotas.held(at.shard) == ([claim], [settlement])
    await at.store.advance(2)
    assert at.quotas.held(at.shard) == ([claim], [])


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
