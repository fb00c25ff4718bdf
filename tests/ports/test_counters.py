"""Reading and correcting counters while they are used, on every server that the quota store may run on."""

import time
from datetime import UTC, datetime

import pytest

from gateway.adapters.redis.counters import RedisCounters
from gateway.domain.quota import calendar_of
from gateway.domain.reconciliation import CountDifference, Window
from gateway.service.ports_reconciliation import CalendarEnded
from tests.ports.quota_shop import PRICE, real_shop

pytestmark = pytest.mark.anyio
TODAY = Window.IMAGES_TODAY


def now():
    return calendar_of(time.time_ns() // 1_000_000, UTC)


@pytest.fixture
async def at(server):
    async with real_shop(server) as opened:
        yield opened


@pytest.fixture
def counters(at):
    return RedisCounters(at.store.scripts)


def lacking(at, images):
    """The project's counter of the day lacks so many pictures."""
    return [CountDifference(subject=at.subjects[1], window=TODAY, counted=0, ledger=images)]


async def test_what_is_counted_runs_and_waits_is_read_at_once(at, counters):
    done, running = await at.reserve(2), await at.reserve(3)
    await at.settle(done, 1)
    read = await counters.look(at.shard, now(), at.subjects, "token")
    expected = {TODAY: 4, Window.IMAGES_THIS_MONTH: 4, Window.SPEND_THIS_MONTH: 4 * PRICE}
    assert read.counts == dict.fromkeys(at.subjects, expected)
    [held] = [one for one in read.open if one.project_id == at.project]
    assert (held.event_id, held.pictures, held.price) == (running.claim.request_id, 3, 3 * PRICE)
    assert (held.today, held.this_month, read.emptied) == (True, True, False)
    [line] = [one for one in read.waiting if one.project_id == at.project]
    assert (line.event_id, line.time) == (done.claim.request_id, done.time)
    later = await at.reserve()
    assert done.time <= read.moment < later.time


async def test_a_correction_adds_once_and_only_to_what_was_looked_at_last(at, counters):
    calendar = now()
    reservation = await at.reserve(3)
    await counters.look(at.shard, calendar, at.subjects, "first")
    await at.settle(reservation, 1)
    assert await counters.correct(at.shard, calendar, lacking(at, 5), "first")
    assert not await counters.correct(at.shard, calendar, lacking(at, 5), "first"), "used up"
    await counters.look(at.shard, calendar, at.subjects, "second")
    await counters.look(at.shard, calendar, at.subjects, "third")
    assert not await counters.correct(at.shard, calendar, lacking(at, 5), "second"), "others have looked since"
    await at.store.lose()
    assert not await counters.correct(at.shard, calendar, lacking(at, 5), "third"), "nothing is as it was"
    read = await counters.look(at.shard, calendar, at.subjects, "fourth")
    assert read.emptied
    assert not await counters.correct(at.shard, calendar, lacking(at, 5), "fourth"), "a refill would count it twice"
    await at.open()


async def test_what_was_settled_meanwhile_stays_counted(at, counters):
    calendar = now()
    reservation = await at.reserve(3)
    await counters.look(at.shard, calendar, at.subjects, "token")
    await at.settle(reservation, 1)
    await at.reserve(2)
    assert await counters.correct(at.shard, calendar, lacking(at, 5), "token")
    read = await counters.look(at.shard, calendar, at.subjects, "again")
    assert [read.counts[name][TODAY] for name in at.subjects] == [1 + 2, 1 + 2 + 5]


@pytest.mark.parametrize("value", [("SET", "many"), ("RPUSH", "1"), ("SET", "1.5")])
async def test_what_is_no_number_is_made_anew(at, counters, value):
    calendar = now()
    await at.reserve(2)
    day, month = at.store.names.windows(at.subjects[1], [calendar.days[0].name], [calendar.months[0].name])[1:3]
    for key in (day, month):
        await at.store.client.call("DEL", key)
        await at.store.client.call(value[0], key, value[1])
    read = await counters.look(at.shard, calendar, at.subjects, "token")
    assert read.counts[at.subjects[1]] == dict.fromkeys(Window)
    due = [CountDifference(subject=at.subjects[1], window=window, counted=None, ledger=7) for window in Window]
    assert await counters.correct(at.shard, calendar, due, "token")
    read = await counters.look(at.shard, calendar, at.subjects, "again")
    assert read.counts[at.subjects[1]] == dict.fromkeys(Window, 7)


async def test_another_day_is_not_taken_for_this_one(at, counters):
    with pytest.raises(CalendarEnded):
        await counters.look(at.shard, calendar_of(round(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000), UTC),
                            at.subjects, "token")  # fmt: skip
