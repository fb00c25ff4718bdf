"""A quota store that lost its counts gets back what the ledger knows and what this replica holds, once."""

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.limits import Limit
from gateway.domain.quota import SHARDS, Counts, calendar_of, shard_of
from gateway.domain.usage import Outcome
from gateway.service.backlog import Backlog
from gateway.service.ports import LedgerUnavailable, QuotaUnavailable, Settlement
from gateway.service.refill import DRAIN_SECONDS
from tests.builders import NOW, PRICE, a_claim, a_line
from tests.fakes import FakeClock, FakeObserver
from tests.fakes_quota import Books, FakeQuotas, FakeSpool
from tests.quota_memory import Memory

pytestmark = pytest.mark.anyio

SHANGHAI = ZoneInfo("Asia/Shanghai")
SHARD = shard_of("proj_1")


def charged(name, time=NOW, pictures=1, *, project="proj_1", key="key_1"):
    """A line of the ledger."""
    words = {"project_id": project, "key_id": key, "time": time, "pictures_delivered": pictures}
    return a_line(name, price=pictures * PRICE, **words)


class Store:
    """The refill on fakes."""

    def __init__(self, *lines, zone=SHANGHAI):
        self.clock = FakeClock()
        self.quotas = FakeQuotas(Memory(self.clock, zone))
        self.zone = zone
        books = Books(self.quotas, FakeSpool(), Backlog(100, FakeObserver()), FakeObserver(), zone=zone)
        books.ledger.lines |= {line.event_id: line for line in lines}
        self.books, self.ledger, self.refill, self.outbox = books, books.ledger, books.refill, books.outbox

    async def counts(self, shard=SHARD):
        self.quotas.memory.lose(shard)
        await self.refill(shard)
        [(refilled, _, counts, fresh)] = self.quotas.refills
        assert (refilled, fresh) == (shard, False)
        return counts


def in_zone(*words):
    return datetime(*words, tzinfo=SHANGHAI)


async def test_what_was_charged_today_and_this_month_is_counted_for_key_and_project():
    counts = await Store(
        charged("1", NOW, 2),
        charged("2", NOW, 3, key="key_2"),
        charged("3", NOW - timedelta(days=2), 5),
        charged("4", NOW - timedelta(days=40), 100),
    ).counts()
    assert counts == {
        "key.key_1": Counts(images_today=2, images_this_month=7, spend=7 * PRICE),
        "key.key_2": Counts(images_today=3, images_this_month=3, spend=3 * PRICE),
        "project.proj_1": Counts(images_today=5, images_this_month=10, spend=10 * PRICE),
    }


async def test_days_and_months_are_those_of_the_zone():
    """It is 20:00 of the 23rd in Shanghai."""
    counts = await Store(
        charged("yesterday", in_zone(2026, 11, 23) - timedelta(seconds=1), 1),
        charged("today", in_zone(2026, 11, 23), 10),
        charged("last month", in_zone(2026, 11, 1) - timedelta(seconds=1), 100),
        charged("this month", in_zone(2026, 11, 1), 1000),
    ).counts()
    assert counts["project.proj_1"] == Counts(images_today=10, images_this_month=1011, spend=1011 * PRICE)


async def test_a_shard_gets_its_own_projects_only():
    others = [f"proj_{number}" for number in range(2, 200)]
    neighbour = next(project for project in others if shard_of(project) == SHARD)
    elsewhere = next(project for project in others if shard_of(project) != SHARD)
    store = Store(charged("1"), charged("2", project=neighbour, key="key_2"), charged("3", project=elsewhere))
    assert set(await store.counts()) == {"key.key_1", "project.proj_1", "key.key_2", f"project.{neighbour}"}


async def test_lines_on_their_way_are_waited_for_before_the_ledger_is_asked():
    store = Store()
    sleep = store.clock.sleep

    async def sleep_while_a_line_arrives(seconds):
        await sleep(seconds)
        await store.ledger.write([charged("late", NOW, 4)])

    store.clock.sleep = sleep_while_a_line_arrives
    counts = await store.counts()
    assert store.clock.slept == [DRAIN_SECONDS]
    assert counts["project.proj_1"].images_today == 4
    now = store.clock.now()
    assert store.quotas.refills[0][1] == calendar_of(round(now.timestamp() * 1000), SHANGHAI)


async def test_without_the_ledger_nothing_is_refilled():
    store = Store()
    store.ledger.down = True
    with pytest.raises(DatabaseUnavailable, match="try again later"):
        await store.refill(SHARD)
    assert store.quotas.refills == []


async def test_without_the_store_nothing_is_refilled():
    store = Store(charged("1"))
    store.quotas.down = True
    with pytest.raises(QuotaUnavailable):
        await store.refill(SHARD)


async def test_the_first_replica_of_an_installation_begins_at_once():
    store = Store()
    store.books.first = True
    await store.refill.begin()
    assert sorted(shard for shard, *_ in store.quotas.refills) == list(range(SHARDS))
    calendar = calendar_of(round(NOW.timestamp() * 1000), SHANGHAI)
    assert all(words[1:] == (calendar, {}, True) for words in store.quotas.refills)
    assert store.clock.slept == []


async def test_a_store_that_was_opened_before_is_not_opened_by_a_replica_that_starts():
    """Others may hold something that they began before it was lost, though nothing was charged ever."""
    store = Store()
    await store.refill.begin()
    assert store.quotas.refills == []


async def test_today_is_what_the_store_says():
    """The clock of this replica is a day behind: what it sums must be what the store's windows hold."""
    store = Store(charged("today", in_zone(2026, 11, 23), 3), charged("before", in_zone(2026, 11, 22), 5))
    store.refill._clock = FakeClock(start=NOW - timedelta(days=1))
    assert (await store.counts())["project.proj_1"].images_today == 3
    assert store.quotas.refills[0][1] == calendar_of(await store.quotas.now(SHARD), SHANGHAI)


@pytest.mark.parametrize("age", [0, 1, 400, 4000])
async def test_an_installation_that_ever_charged_anything_opens_nothing_by_itself(age):
    store = Store(charged("1", NOW - timedelta(days=age)))
    store.books.first = True
    await store.refill.begin()
    assert store.quotas.refills == []


async def test_nothing_is_begun_while_the_ledger_cannot_be_read():
    store = Store()
    store.books.first = store.ledger.down = True
    with pytest.raises(LedgerUnavailable):
        await store.refill.begin()
    assert store.quotas.refills == []


def a_settlement(name, project="proj_1"):
    claim = a_claim(name, project_id=project)
    event = a_line(name, Outcome.DELIVERED, project_id=project, pictures_delivered=1, price=PRICE)
    return Settlement(reservation=FakeQuotas().assumed(claim), charged=1, event=event)


async def lose(store, *, claims=(), settled=()):
    """Have this replica reserve and settle, and the store lose all of it and be refilled by another replica."""
    for claim in claims:
        await store.quotas.reserve(claim)
    for settlement in settled:
        await store.quotas.reserve(settlement.reservation.claim)
        await store.books.settlements.settle(settlement)
    store.quotas.memory.lose(SHARD)
    await store.refill(SHARD)
    store.quotas.asked.clear()


async def test_what_is_held_is_taken_again_and_what_the_refill_lacks_is_settled_again():
    """Whatever comes into the ledger after the refill has read it is none of what was counted."""
    store = Store(a_settlement("known").event)
    running = a_claim("running", project_id="proj_1")
    await lose(store, claims=[running], settled=[a_settlement("known"), a_settlement("new")])
    await store.ledger.write([a_settlement("new").event])
    await store.refill.restore()
    assert store.quotas.used("project.proj_1")[Limit.IMAGES_PER_DAY] == 3
    assert [line.event_id for line in store.quotas.events] == ["new"]
    assert list(store.quotas.holding) == ["running"]


async def test_what_ended_long_ago_is_settled_again_only_if_the_ledger_lacks_it():
    """What took a day to be downloaded: the refill names what ended of late, and has it in its sums all the same."""
    old = a_line("old", time=NOW - timedelta(hours=2), project_id="proj_1", pictures_delivered=1, price=PRICE)
    store = Store(old)
    await lose(store, settled=[replace(a_settlement("old"), event=old)])
    await store.refill.restore()
    assert store.quotas.events == []


async def test_a_job_that_took_long_is_among_those_that_ended_of_late():
    long = replace(a_settlement("long").event, time=NOW - timedelta(hours=2), latency_ms=7_200_000)
    store = Store(long)
    await lose(store, settled=[replace(a_settlement("long"), event=long)])
    await store.refill.restore()
    assert store.quotas.used("project.proj_1")[Limit.IMAGES_PER_DAY] == 1


async def test_a_refill_is_taken_part_in_once():
    store = Store()
    await lose(store, claims=[a_claim("one", project_id="proj_1")])
    await store.refill.restore()
    await store.refill.restore()
    assert store.quotas.asked == [("take_again", "one")]
    store.clock.seconds += 96
    await lose(store, claims=[a_claim("two", project_id="proj_1")])
    await store.refill.restore()
    assert store.quotas.asked == [("take_again", "one"), ("take_again", "two")]


async def test_nothing_is_restored_when_nothing_was_lost():
    store = Store()
    await store.quotas.reserve(a_claim("running"))
    await store.refill.restore()
    assert store.quotas.asked == [("reserve", "running")]


async def test_a_restoration_that_fails_is_made_next_time():
    store = Store()
    await lose(store, claims=[a_claim("one", project_id="proj_1")], settled=[a_settlement("new")])
    store.quotas.mute = True
    with pytest.raises(QuotaUnavailable):
        await store.refill.restore()
    store.quotas.mute = False
    await store.refill.restore()
    assert store.quotas.charged == {"new": 1}
    assert list(store.quotas.holding) == ["one"]
    assert len(store.quotas.events) == 1
