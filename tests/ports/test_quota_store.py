"""What the quota store promises of limits: the fake in memory keeps it as every server that the gateway may run on."""

import asyncio
from datetime import timedelta

import pytest

from gateway.domain.limits import Limit
from gateway.domain.quota import Limits, Refusal, Reservation
from tests.ports.quota_shop import CALENDAR, MINUTE, ONE_EACH, PRICE
from tests.ports.quota_stores import LEASE, START

pytestmark = pytest.mark.anyio
MILLISECOND = 0.001
DAY = 24 * 3600


@pytest.mark.parametrize("subject", ["key", "project"])
@pytest.mark.parametrize("limit", Limit)
async def test_a_limit_lets_exactly_its_value_pass(at, limit, subject):
    at.quotas = at.store.replica(most_waiting=0)  # nobody waits for a place
    ends = await asyncio.gather(*(at.reserve(**{subject: ONE_EACH[limit]}) for _ in range(20)))
    refusals = [end for end in ends if isinstance(end, Refusal)]
    assert len(refusals) == 19
    assert {refusal.room.limit for refusal in refusals} == {limit}
    assert {refusal.room.subject.partition(".")[0] for refusal in refusals} == {subject}
    assert all(refusal.room.value == refusal.room.used for refusal in refusals)
    assert all(refusal.room.resets_in > 0 for refusal in refusals)


async def test_all_pictures_or_none(at):
    five = Limits(images_per_day=5, images_per_minute=100)
    assert isinstance(await at.reserve(3, key=five), Reservation)
    refusal = await at.reserve(3, key=five)
    assert (refusal.room.limit, refusal.room.used) == (Limit.IMAGES_PER_DAY, 3)
    assert await at.used(Limit.IMAGES_PER_MONTH) == 3
    assert isinstance(await at.reserve(2, key=five), Reservation)


async def test_a_refusal_by_the_project_takes_nothing_from_the_key(at):
    await at.reserve(key=Limits(images_per_minute=9), project=Limits(images_per_day=0))
    for limit in Limit:
        assert await at.used(limit) == 0


async def test_a_zero_lets_nothing_pass(at):
    assert isinstance(await at.reserve(key=Limits(requests_per_minute=0)), Refusal)


async def test_a_grant_says_how_far_every_limit_is_used_with_it(at):
    await at.reserve(2, key=MINUTE)
    await at.store.advance(20)
    taken = await at.reserve(3, key=MINUTE, project=Limits(images_per_month=9, spend_per_month=9 * PRICE, concurrent=9))
    told = [(room.subject.partition(".")[0], room.limit, room.used, room.resets_in) for room in taken.rooms]
    month_ends = CALENDAR.months[0].ends - CALENDAR.days[0].starts - (DAY // 2 + 20) * 1000
    assert told == [
        ("key", Limit.REQUESTS_PER_MINUTE, 2, 41_000),
        ("key", Limit.IMAGES_PER_MINUTE, 5, 41_000),
        ("project", Limit.IMAGES_PER_MONTH, 5, month_ends),
        ("project", Limit.CONCURRENT, 2, 1_000),
        ("project", Limit.SPEND_PER_MONTH, 5 * PRICE, month_ends),
    ]
    assert (taken.day, taken.month) == ("2096-11-23", "2096-11")


async def test_shadow_counts_and_reports_and_refuses_nothing(at):
    shadow = Limits(images_per_day=1, shadow=True)
    first, second = await at.reserve(key=shadow), await at.reserve(key=shadow)
    assert first.shadowed == ()
    assert [(room.limit, room.used) for room in second.shadowed] == [(Limit.IMAGES_PER_DAY, 2)]
    assert await at.used(Limit.IMAGES_PER_DAY) == 2


@pytest.mark.parametrize("limit", sorted(set(Limit) - {Limit.CONCURRENT}))
async def test_a_limit_is_free_again_when_its_refusal_says_and_no_millisecond_earlier(at, limit):
    await at.store.advance(0.75)
    at_first = await at.reserve(key=ONE_EACH[limit])
    await at.settle(at_first, 1)
    await at.store.advance(30)
    wait = (await at.reserve(key=ONE_EACH[limit])).room.resets_in / 1000
    await at.store.advance(wait - MILLISECOND)
    assert isinstance(await at.reserve(key=ONE_EACH[limit]), Refusal)
    await at.store.advance(MILLISECOND)
    assert isinstance(await at.reserve(key=ONE_EACH[limit]), Reservation)


async def test_a_refusal_says_when_as_many_as_were_asked_for_fit(at):
    for pictures in (1, 2, 4):
        await at.reserve(pictures, key=Limits(images_per_minute=7))
        await at.store.advance(10)
    refusal = await at.reserve(3, key=Limits(images_per_minute=7))
    assert (refusal.room.used, refusal.room.resets_in) == (7, 41_000)


async def test_what_was_given_back_is_not_waited_for(at):
    given_back = await at.reserve(3, key=MINUTE)
    await at.quotas.release(given_back.claim)
    await at.store.advance(10)
    await at.reserve(1, key=MINUTE)
    [_, images] = (await at.reserve(1, key=MINUTE)).rooms
    assert (images.used, images.resets_in) == (2, 61_000)


@pytest.mark.parametrize("charged", [0, 1, 3])
async def test_what_costs_nothing_is_given_back_once_like_everything_else(at, charged):
    reservation = await at.reserve(3, key=Limits(concurrent=100), price=0)
    await at.settle(reservation, charged)
    used = [await at.used(limit) for limit in (Limit.IMAGES_PER_DAY, Limit.IMAGES_PER_MONTH, Limit.CONCURRENT)]
    assert used == [charged, charged, 0]
    assert [line.event_id for line in await at.lines()] == [reservation.claim.request_id]


@pytest.mark.parametrize("charged", [0, 1, 3])
async def test_what_is_not_charged_is_given_back_and_the_request_is_not(at, charged):
    reservation = await at.reserve(3, key=Limits(requests_per_minute=100, concurrent=100))
    await at.settle(reservation, charged)
    assert await at.used(Limit.REQUESTS_PER_MINUTE) == 1
    assert await at.used(Limit.IMAGES_PER_MINUTE) == charged
    assert await at.used(Limit.IMAGES_PER_DAY) == charged
    assert await at.used(Limit.IMAGES_PER_MONTH, subject=1) == charged
    assert await at.used(Limit.SPEND_PER_MONTH, subject=1) == charged * PRICE
    assert await at.used(Limit.CONCURRENT) == 0
    assert [line.event_id for line in await at.lines()] == [reservation.claim.request_id]


async def test_release_leaves_nothing_but_the_request(at):
    reservation = await at.reserve(3, key=MINUTE)
    await at.quotas.release(reservation.claim)
    for limit in Limit:
        assert await at.used(limit) == (limit is Limit.REQUESTS_PER_MINUTE)
    assert await at.lines() == []


async def test_a_release_gives_back_to_the_second_that_was_charged(at):
    four = Limits(images_per_minute=4)
    first = await at.reserve(3, key=four)
    await at.store.advance(5)
    await at.reserve(1, key=four)
    await at.quotas.release(first.claim)
    assert await at.used(Limit.IMAGES_PER_MINUTE) == 1
    await at.store.advance(58)  # only the second reservation counts still
    assert await at.used(Limit.IMAGES_PER_MINUTE) == 1


async def test_what_left_the_minute_is_given_back_to_none(at):
    gone = await at.reserve(3, key=MINUTE)
    await at.store.advance(61)
    await at.reserve(2, key=MINUTE)
    await at.quotas.release(gone.claim)
    assert await at.used(Limit.IMAGES_PER_MINUTE) == 2


@pytest.mark.parametrize("days", [1, 8])
async def test_what_is_given_back_after_midnight_goes_to_the_day_and_month_of_the_reserve(at, days):
    before = await at.reserve(3)
    await at.store.advance(days * DAY)
    await at.reserve(1)
    await at.settle(before, 0)
    assert await at.used(Limit.IMAGES_PER_DAY) == 1
    assert await at.used(Limit.IMAGES_PER_MONTH) == 1
    assert await at.used(Limit.SPEND_PER_MONTH) == PRICE


async def test_a_request_that_no_minute_counted_is_not_given_back_to_one(at):
    """The key had no limit when this request was reserved, and has one when it is settled."""
    uncounted = await at.reserve(3)
    await at.reserve(2, key=Limits(images_per_minute=2))
    await at.settle(uncounted, 0)
    assert await at.used(Limit.IMAGES_PER_MINUTE) == 2


async def test_amounts_of_many_digits_are_exact(at):
    value = 4_503_599_627_370_497
    reservation = await at.reserve(key=Limits(spend_per_month=value))
    assert reservation.rooms[0].value == value


async def test_the_first_request_of_a_minute_says_when_it_leaves_the_minute(at):
    await at.store.advance(0.75)
    first = await at.reserve(2, key=MINUTE)
    assert [(room.used, room.resets_in) for room in first.rooms] == [(1, 60_250), (2, 60_250)]
    await at.store.advance(10)
    second = await at.reserve(key=MINUTE)
    assert {room.resets_in for room in second.rooms} == {50_250}


async def test_a_line_has_the_time_by_which_its_windows_were_chosen(at):
    """The ledger sums by it: after a loss of the store it must give what was counted in that day."""
    delivered, given_back = await at.reserve(), await at.reserve()
    taken = START + timedelta(milliseconds=1500)
    await at.store.advance(1.5)
    later = await at.reserve()
    await at.store.advance(DAY)
    await at.settle(delivered, 1)
    await at.settle(later, 1)
    assert [line.time for line in await at.lines()] == [START, taken]
    await at.live(LEASE + 1)
    abandoned = (await at.lines())[2]
    assert (abandoned.event_id, abandoned.time) == (given_back.claim.request_id, START)
