"""Limits are asked before anything is made; what was perhaps taken is given back as soon as that is possible."""

import asyncio
from datetime import UTC, timedelta

import pytest

from gateway.domain import errors
from gateway.domain.limits import SHORT, Limit
from gateway.domain.quota import Reservation, calendar_of, shard_of
from gateway.domain.usage import Outcome
from gateway.service.backlog import Backlog
from gateway.service.jobs import Jobs
from gateway.service.ports import QuotaEmptied, QuotaRestoring
from gateway.service.reserve import RELEASE_PAUSE, Reservations
from tests.builders import NOW, PRICE, a_claim, a_line
from tests.fakes import FakeClock, FakeObserver, settle
from tests.fakes_quota import FakeQuotas, FakeSpool, settlements_on
from tests.quota_memory import Memory

pytestmark = pytest.mark.anyio


class Desk:
    """The reservations on fakes."""

    def __init__(self, on_outage="refuse", refill=None):
        self.clock, self.spool, self.crashes = FakeClock(), FakeSpool(), []
        self.store = FakeQuotas(Memory(self.clock))
        self.backlog = Backlog(10, FakeObserver())
        settlements = settlements_on(self.store, self.spool, self.backlog, FakeObserver())
        self.jobs = Jobs(self.crashes.append)
        self.refilled, self.shadowed = [], []
        self.reservations = Reservations(
            self.store, settlements, refill or self.refill, self.jobs, self.clock, on_outage=on_outage
        )
        self.reservations.watch_shadows(self.shadowed.append)

    async def refill(self, shard):
        self.refilled.append(shard)
        await self.store.refill(shard, calendar_of(0, UTC), {}, fresh=True)

    async def take(self, *words, **more):
        return await self.reservations.take(a_claim(*words, **more))


async def test_a_grant_is_given_as_it_is():
    desk = Desk()
    taken = await desk.take(pictures=2, key={"images_per_day": 5})
    assert taken.claim == a_claim(pictures=2, key={"images_per_day": 5})
    assert [(room.limit, room.value, room.used) for room in taken.rooms] == [(Limit.IMAGES_PER_DAY, 5, 2)]
    assert desk.store.asked == [("reserve", "request-1")]


@pytest.mark.parametrize("whose", ["key", "project"])
@pytest.mark.parametrize("limit", Limit)
async def test_a_refusal_names_the_limit_and_whose_it_is(limit, whose):
    desk = Desk()
    desk.store.most_waiting = 0  # for a place; a longer line takes the request on
    value = PRICE if limit is Limit.SPEND_PER_MONTH else 1
    await desk.take(**{whose: {limit.value: value}})
    with pytest.raises(errors.LimitReached) as failure:
        await desk.take("request-2", **{whose: {limit.value: value}})
    said, room = failure.value.message, failure.value.room
    assert isinstance(failure.value, errors.RateLimitReached if limit in SHORT else errors.QuotaExhausted)
    assert f"{limit.value} of this {whose}" in said
    assert ("limit 0.10 CNY, used 0.10 CNY" if limit is Limit.SPEND_PER_MONTH else "limit 1, used 1") in said
    assert (room.limit, room.value, room.used) == (limit, value, value)
    assert desk.store.states == {"request-1": "held"}


async def test_a_short_limit_says_how_long_to_wait_and_a_long_one_when_it_is_over():
    with pytest.raises(errors.RateLimitReached, match=r"Please try again in 61\.0s\.$"):
        await taken_up(key={"requests_per_minute": 1})
    tomorrow = NOW + timedelta(days=1)
    with pytest.raises(errors.QuotaExhausted, match=f"It resets at {tomorrow:%Y-%m-%d} 00:00 UTC"):
        await taken_up(key={"images_per_day": 1})


async def taken_up(**limits):
    """Ask for one picture more than the limits let pass."""
    desk = Desk()
    await desk.take(**limits)
    await desk.take("request-2", **limits)


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("limit", Limit)
async def test_a_limit_that_lets_nothing_pass_does_not_say_when_to_come_again(limit, pictures):
    value, said = (PRICE - 1, "limit 0.099999 CNY") if limit is Limit.SPEND_PER_MONTH else (0, "limit 0")
    with pytest.raises(errors.QuotaExhausted) as failure:
        await Desk().take(pictures=pictures, key={limit.value: value})
    assert f"{limit.value} of this key: {said} lets no picture pass" in failure.value.message
    assert "again" not in failure.value.message
    assert "resets" not in failure.value.message


async def test_money_is_said_exactly_and_with_its_currency():
    with pytest.raises(errors.QuotaExhausted, match=r"limit 0\.105 CNY, used 0\.10 CNY\."):
        await taken_up(key={"spend_per_month": 105_000})


async def test_who_is_only_watched_is_not_refused_but_told_of():
    desk, shadow = Desk(), {"images_per_minute": 2, "shadow": True}
    taken = await desk.take(pictures=3, key=shadow, project={"images_per_day": 9})
    assert [(room.subject, room.limit, room.value) for room in desk.shadowed] == [
        ("key.abcDEF012345", Limit.IMAGES_PER_MINUTE, 2)
    ]
    assert [room.limit for room in taken.rooms] == [Limit.IMAGES_PER_DAY]  # what the client is told of


@pytest.mark.parametrize("whose", ["key", "project"])
async def test_what_no_empty_window_could_hold_is_for_the_client_to_change(whose):
    desk = Desk()
    with pytest.raises(errors.InvalidValue, match="images_per_day"):
        await desk.take(pictures=3, **{whose: {"images_per_day": 2}})
    assert isinstance(await desk.take("request-2", pictures=2, **{whose: {"images_per_day": 2}}), Reservation)


@pytest.mark.parametrize("trouble", ["down", "mute"])
async def test_without_an_answer_the_request_is_refused_and_given_back_later(trouble):
    desk = Desk()
    setattr(desk.store, trouble, True)
    with pytest.raises(errors.QuotaStoreDown):
        await desk.take(pictures=3)
    await settle(7)
    assert desk.clock.slept
    assert set(desk.clock.slept) == {RELEASE_PAUSE}
    setattr(desk.store, trouble, False)
    assert await desk.jobs.drain(5) == 0
    assert desk.store.states == {"request-1": "released"}
    assert desk.store.holding == {}
    assert desk.store.used("project.proj_default")[Limit.IMAGES_PER_DAY] == 0
    asked = len(desk.store.asked)
    await settle()
    assert len(desk.store.asked) == asked
    assert desk.crashes == []


async def test_a_reserve_that_arrives_after_its_release_takes_nothing():
    desk = Desk()
    desk.store.down = True
    with pytest.raises(errors.QuotaStoreDown):
        await desk.take()
    desk.store.down = False
    assert await desk.jobs.drain(5) == 0
    with pytest.raises(errors.QuotaStoreDown):
        await desk.take()
    assert desk.store.holding == {}
    assert await desk.jobs.drain(5) == 0


@pytest.mark.parametrize("trouble", ["down", "mute"])
async def test_an_installation_may_let_pass_what_cannot_be_checked(trouble):
    desk = Desk("allow")
    setattr(desk.store, trouble, True)
    taken = await desk.take(pictures=3, key={"images_per_day": 4})
    assert (taken, taken.rooms) == (desk.store.assumed(taken.claim), ())
    setattr(desk.store, trouble, False)
    await desk.reservations.settle(taken, 2, a_line())
    assert await desk.jobs.drain(5) == 0
    assert desk.store.charged == {"request-1": 2}
    assert desk.store.states == {"request-1": "settled"}
    assert desk.store.used("key.abcDEF012345")[Limit.IMAGES_PER_DAY] == 2


async def test_letting_pass_in_an_outage_forgives_no_limit_that_can_be_checked():
    with pytest.raises(errors.QuotaExhausted):
        await Desk("allow").take(key={"images_per_day": 0})


async def test_who_is_cancelled_while_it_waits_takes_nothing():
    desk = Desk()
    desk.store.gate.clear()
    taking = asyncio.create_task(desk.take(pictures=3))
    await settle()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert await desk.jobs.drain(5) == 0
    assert desk.store.holding == {}
    assert desk.store.states == {"request-1": "released"}


@pytest.mark.parametrize("on_outage", ["refuse", "allow"])
async def test_while_the_ledger_is_too_far_behind_nothing_is_asked_for(on_outage):
    desk = Desk(on_outage)
    desk.backlog.note("elsewhere", 11)
    with pytest.raises(errors.LedgerBehind):
        await desk.take()
    assert desk.store.asked == []
    desk.backlog.note("elsewhere", 10)
    await desk.take()


async def test_an_emptied_store_is_refilled_before_anything_is_granted():
    desk = Desk()
    shard = shard_of("proj_default")
    desk.store.memory.lose(shard)
    taken = await desk.take()
    assert desk.refilled == [shard]
    assert desk.store.asked == [("reserve", "request-1")] * 2
    assert desk.store.holding == {"request-1": taken.claim}


async def test_a_store_that_is_being_refilled_is_waited_for():
    desk = Desk()
    desk.store.troubles = [QuotaEmptied(7), QuotaRestoring(2.5), QuotaRestoring(0.25)]
    await desk.take()
    assert desk.refilled == [7]
    assert desk.clock.slept == [2.5, 0.25]
    assert len(desk.store.asked) == 4


async def test_a_refill_that_is_not_possible_refuses_the_request():
    async def refill(_):
        raise errors.DatabaseUnavailable("the ledger cannot be read")

    desk = Desk("allow", refill)
    desk.store.memory.lose(shard_of("proj_default"))
    with pytest.raises(errors.DatabaseUnavailable):
        await desk.take()
    assert desk.store.holding == {}


async def test_a_settlement_charges_what_it_says_and_gives_back_the_rest():
    desk = Desk()
    taken = await desk.take(pictures=5)
    line = a_line(outcome=Outcome.PARTIAL)
    await desk.reservations.settle(taken, 2, line)
    assert desk.store.events == [line]
    assert desk.store.used("key.abcDEF012345")[Limit.SPEND_PER_MONTH] == 2 * PRICE
    assert desk.spool.settlements == []


async def test_many_at_once_never_take_more_than_there_is():
    desk = Desk()
    takes = (desk.take(f"request-{number}", key={"images_per_day": 7}) for number in range(20))
    ends = await asyncio.gather(*takes, return_exceptions=True)
    assert sum(isinstance(end, errors.QuotaExhausted) for end in ends) == 13
    assert len(desk.store.holding) == 7
