"""What the quota store promises of reservations whose end, owner or answer was lost, in memory and on every server."""

import pytest

from gateway.domain.limits import Limit
from gateway.domain.quota import Limits, Refusal, Reservation
from gateway.domain.usage import Outcome
from gateway.service.ports import QuotaUnavailable
from tests.ports.quota_shop import MINUTE, PRICE, event
from tests.ports.quota_stores import LEASE

pytestmark = pytest.mark.anyio
MILLISECOND = 0.001
HOUR = 3600
DAY = 24 * HOUR
LASTING = set(Limit) - {Limit.REQUESTS_PER_MINUTE}  # what is given back with a reservation


async def test_a_call_that_is_made_twice_counts_once(at):
    claim = at.claim(2, key=Limits(images_per_day=2, requests_per_minute=5))
    first, again = await at.quotas.reserve(claim), await at.quotas.reserve(claim)
    assert first == again
    for _ in range(2):
        await at.settle(first, 1)
    assert await at.used(Limit.IMAGES_PER_DAY) == 1
    assert len(await at.lines()) == 1
    await at.quotas.release(claim)
    assert await at.used(Limit.IMAGES_PER_DAY) == 1


async def test_a_reserve_that_comes_after_its_release_takes_nothing(at):
    """The answer of a reserve was not seen and it was undone; the reserve itself arrives only then."""
    claim = at.claim(2)
    await at.quotas.release(claim)
    with pytest.raises(QuotaUnavailable):
        await at.quotas.reserve(claim)
    assert await at.used(Limit.IMAGES_PER_DAY) == 0


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("released_first", [True, False])
async def test_a_reserve_whose_answer_was_not_seen_can_be_settled(at, arrived, released_first):
    claim = at.claim(3)
    assumed = at.quotas.assumed(claim)
    await at.store.advance(DAY)  # what was taken counts for the day of the reserve, not for that which was assumed
    if arrived:
        await at.store.replica().reserve(claim)
    if released_first:
        await at.quotas.release(claim)
    await at.settle(assumed, 2)
    assert await at.used(Limit.IMAGES_PER_MONTH) == 2
    assert await at.used(Limit.IMAGES_PER_DAY) == (2 if arrived else 0)
    assert len(await at.lines()) == 1


async def test_a_request_is_known_until_ten_minutes_after_its_last_end(at):
    claim = at.claim(2, key=Limits(images_per_day=3))
    first = await at.quotas.reserve(claim)
    await at.store.advance(2 * HOUR)
    assert await at.quotas.reserve(claim) == first
    for _ in range(2):
        await at.settle(first, 2)
        await at.store.advance(595)
        assert await at.quotas.reserve(claim) == first
    assert await at.used(Limit.IMAGES_PER_DAY) == 2
    await at.store.advance(10)
    assert isinstance(await at.quotas.reserve(claim), Refusal)


async def test_a_release_keeps_its_reserve_from_taking_for_ten_minutes(at):
    claim = at.claim()
    await at.quotas.release(claim)
    await at.store.advance(595)
    with pytest.raises(QuotaUnavailable):
        await at.quotas.reserve(claim)
    await at.store.advance(10)
    assert isinstance(await at.quotas.reserve(claim), Reservation)


async def test_what_another_replica_ended_is_forgotten_too(at):
    """A gateway was killed, and the next one makes the settlements that wait on the disk."""
    claim = at.claim(2)
    reservation = await at.quotas.reserve(claim)
    other = at.store.replica("other")
    await other.settle(reservation, 2, event(claim.request_id, at.project))
    assert await at.live(660) == 0
    assert isinstance(await other.reserve(claim), Reservation)
    assert await at.used(Limit.IMAGES_PER_DAY) == 4


async def test_what_a_dead_owner_held_is_given_back_once_and_told(at):
    lost = await at.reserve(3, key=MINUTE)
    assert await at.live(LEASE) == 0
    assert await at.live(MILLISECOND) == 1
    assert await at.live(1) == 0
    for limit in LASTING:
        assert await at.used(limit) == 0
    assert await at.used(Limit.REQUESTS_PER_MINUTE) == 1
    assert [line.outcome for line in await at.lines()] == [Outcome.ABANDONED]

    await at.settle(lost, 2)  # the owner was only late
    assert await at.used(Limit.IMAGES_PER_MINUTE) == 2
    assert await at.used(Limit.IMAGES_PER_DAY) == 2
    assert await at.used(Limit.SPEND_PER_MONTH) == 2 * PRICE
    assert [line.outcome for line in await at.lines()] == [Outcome.ABANDONED, Outcome.DELIVERED]


async def test_a_renewed_lease_does_not_end(at):
    await at.reserve()
    for _ in range(4):
        assert await at.live(20) == 0
        await at.store.renew()
    await at.store.renew(lease=1)  # a lease is never shortened
    assert await at.live(LEASE) == 0
    assert await at.live(1) == 1


async def test_every_reserve_renews_the_lease(at):
    await at.reserve()
    await at.live(20)
    await at.reserve()
    assert await at.live(20) == 0
    assert await at.live(11) == 2


async def test_only_what_the_dead_owner_held_is_given_back(at):
    other = at.store.replica("other")
    await at.reserve(1)
    await at.live(20)
    await other.reserve(at.claim(2))
    assert await at.live(11) == 1
    assert await at.used(Limit.IMAGES_PER_DAY) == 2


async def test_a_store_that_stood_still_lengthens_every_lease(at):
    await at.live(1)
    await at.reserve()
    await at.store.advance(HOUR)
    assert await at.store.collect() == 0
    assert await at.live(LEASE) == 0
    assert await at.live(1) == 1
