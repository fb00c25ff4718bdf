"""Webhooks and their outbox: one suite for the fakes and for SQL on SQLite and PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway.adapters.sql.alert_outbox import SqlAlertOutbox
from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.projects import SqlProjects
from gateway.adapters.sql.tables import projects, webhook_deliveries, webhooks
from gateway.adapters.sql.webhooks import SqlWebhooks
from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.limits import Limit
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import Limits
from gateway.service.ports_alerts import Told
from tests.fakes_administration import NOW, FakeProjects, a_project
from tests.fakes_alerts import FakeWebhooks, a_delivery, a_webhook, an_alert

pytestmark = pytest.mark.anyio

SOON, LATER = NOW + timedelta(seconds=30), NOW + timedelta(hours=1)
DESIGN, SALES = a_project(limits=Limits(images_per_month=10)), a_project("sales")


class Stores:
    """Both stores on the same rows, with two projects."""

    def __init__(self, projects, webhooks, outbox):
        self.projects, self.webhooks, self.outbox = projects, webhooks, outbox

    async def claimed(self, now=NOW, until=SOON, most=10, busy=()):
        claimed = await self.outbox.claim(now, until, most, busy)
        return [(delivery.id, webhook.url) for delivery, webhook in claimed]


def fakes():
    projects = FakeProjects()
    webhooks = FakeWebhooks(projects)
    return Stores(projects, webhooks, webhooks.outbox)


@asynccontextmanager
async def sql_stores(url):
    engine = open_engine(url)
    try:
        await migrate(engine)
        async with engine.begin() as connection:
            for table in (webhook_deliveries, webhooks):
                await connection.execute(sa.delete(table))
            await connection.execute(sa.delete(projects).where(projects.c.id != DEFAULT_ID))
        yield Stores(SqlProjects(engine), SqlWebhooks(engine), SqlAlertOutbox(engine))
    finally:
        await engine.dispose()


@asynccontextmanager
async def opened(request, tmp_path):
    if request.param == "fake":
        yield fakes()
        return
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with sql_stores(url) as found:
        yield found


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def stores(request, tmp_path):
    async with opened(request, tmp_path) as found:
        await found.projects.add(DESIGN)
        await found.projects.add(SALES)
        yield found


async def test_a_webhook_comes_back_and_is_replaced(stores):
    full = a_webhook(previous_secret_id="old", previous_until=LATER, disabled_at=NOW)
    await stores.webhooks.put(full)
    assert await stores.webhooks.get(DESIGN.id) == full
    await stores.webhooks.put(a_webhook(thresholds=(90,)))
    assert await stores.webhooks.get(DESIGN.id) == a_webhook(thresholds=(90,))
    assert await stores.webhooks.get(SALES.id) is None


async def test_those_are_watched_that_want_something(stores):
    await stores.webhooks.put(a_webhook())
    await stores.webhooks.put(a_webhook(SALES.id))
    await stores.projects.archive(SALES.id, NOW)
    assert await stores.webhooks.watched() == [(a_webhook(), DESIGN)]
    await stores.webhooks.disable(DESIGN.id, "https://elsewhere.example.com/", NOW)
    assert await stores.webhooks.watched() == [(a_webhook(), DESIGN)]
    await stores.webhooks.disable(DESIGN.id, a_webhook().url, NOW)
    assert await stores.webhooks.watched() == []
    assert (await stores.webhooks.get(DESIGN.id)).disabled_at == NOW


async def test_an_event_comes_back_whole(stores):
    test = a_delivery("msg_2", created_at=NOW + timedelta(seconds=1))
    await stores.outbox.add([an_alert(), test])
    await stores.outbox.add([])
    assert await stores.outbox.of_project(DESIGN.id) == [an_alert(), test]
    assert await stores.outbox.find(DESIGN.id, "msg_1") == an_alert()
    assert (await stores.outbox.find(SALES.id, "msg_1"), await stores.outbox.of_project(SALES.id)) == (None, [])


async def test_of_many_that_tell_the_same_one_does(stores):
    await asyncio.gather(*(stores.outbox.add([an_alert(f"msg_{n}")]) for n in range(8)))
    assert len(await stores.outbox.of_project(DESIGN.id)) == 1
    others = ({"threshold": 100}, {"amount": 9}, {"period": "2026-12"}, {"limit": "images_per_day"})
    await stores.outbox.add([an_alert(f"msg_o{n}", **other) for n, other in enumerate(others)])
    assert len(await stores.outbox.of_project(DESIGN.id)) == 5


async def test_tests_are_never_the_same(stores):
    await stores.outbox.add([a_delivery("msg_1"), a_delivery("msg_2")])
    assert len(await stores.outbox.of_project(DESIGN.id)) == 2


async def test_it_is_known_what_was_told(stores):
    await stores.outbox.add([an_alert(), an_alert("msg_2", period="2026-10"), a_delivery("msg_3")])
    await stores.outbox.add([an_alert("msg_4", project_id=SALES.id)])
    told = await stores.outbox.told([DESIGN.id], ["2026-11", "2026-11-23"])
    assert told == [Told(DESIGN.id, Limit.IMAGES_PER_MONTH, "2026-11", 80, 9)]


async def test_of_many_that_claim_an_event_one_gets_it(stores):
    await stores.webhooks.put(a_webhook())
    await stores.outbox.add([a_delivery()])
    found = await asyncio.gather(*(stores.outbox.claim(NOW, SOON, 10, ()) for _ in range(8)))
    [(claimed, webhook)] = [one for some in found for one in some]
    assert (claimed.tries, claimed.tries_left, claimed.last_tried_at, claimed.next_try_at) == (1, 7, NOW, SOON)
    assert webhook == a_webhook()
    assert await stores.claimed(now=SOON - timedelta(seconds=1)) == []
    assert await stores.claimed(now=SOON) == [("msg_1", a_webhook().url)]


async def test_of_each_project_the_longest_due_comes(stores):
    for project in (DESIGN, SALES):
        await stores.webhooks.put(a_webhook(project.id))
    before, after = NOW - timedelta(minutes=1), NOW + timedelta(seconds=1)
    await stores.outbox.add([a_delivery(), a_delivery("msg_2", next_try_at=before), a_delivery("msg_3", SALES.id)])
    await stores.outbox.add([a_delivery("msg_4", SALES.id, next_try_at=after)])
    assert [delivery for delivery, _ in await stores.claimed(most=1)] == ["msg_2"]
    assert await stores.claimed(busy={DESIGN.id, SALES.id}) == []
    assert {delivery for delivery, _ in await stores.claimed()} == {"msg_1", "msg_3"}
    assert await stores.claimed() == []


async def test_nothing_is_due_without_a_webhook_that_takes_it(stores):
    await stores.outbox.add([a_delivery()])
    assert await stores.claimed() == []
    await stores.webhooks.put(a_webhook(disabled_at=NOW))
    assert await stores.claimed() == []
    await stores.webhooks.put(a_webhook())
    assert [delivery for delivery, _ in await stores.claimed()] == ["msg_1"]


async def test_what_became_of_a_try_is_noted(stores):
    await stores.webhooks.put(a_webhook())
    await stores.outbox.add([a_delivery()])
    [(claimed, _)] = await stores.outbox.claim(NOW, SOON, 1, ())
    again = replace(claimed, next_try_at=LATER, last_status=500, last_error="status 500")
    await stores.outbox.record(again)
    assert await stores.outbox.find(DESIGN.id, "msg_1") == again
    assert await stores.claimed(now=SOON) == []
    done = replace(again, state="delivered", next_try_at=None, delivered_at=LATER, last_status=200, last_error=None)
    await stores.outbox.record(done)
    assert await stores.outbox.find(DESIGN.id, "msg_1") == done
    assert await stores.claimed(now=LATER) == []


async def test_removing_a_webhook_gives_up_what_waits(stores):
    await stores.webhooks.put(a_webhook())
    await stores.outbox.add([a_delivery(), a_delivery("msg_2", state="delivered", next_try_at=None)])
    assert await stores.webhooks.remove(DESIGN.id)
    assert not await stores.webhooks.remove(DESIGN.id)
    await stores.webhooks.put(a_webhook())
    assert await stores.claimed() == []
    states = [(one.state, one.last_error) for one in await stores.outbox.of_project(DESIGN.id)]
    assert states == [("failed", "the webhook was removed"), ("delivered", None)]


async def test_history_is_forgotten_but_not_what_was_told_in_a_period_that_lasts(stores):
    now = NOW + timedelta(days=30)
    lasts = an_alert("msg_2", period="2026-12", period_ends=now + timedelta(seconds=1))
    young = a_delivery("msg_4", created_at=NOW + timedelta(seconds=1))
    await stores.outbox.add([an_alert(), lasts, a_delivery("msg_3"), young])
    await stores.outbox.prune(NOW + timedelta(seconds=1), now)
    assert await stores.outbox.of_project(DESIGN.id) == [lasts, young]


async def test_a_database_that_is_away_is_told():
    engine = open_engine("postgresql://postgres@127.0.0.1:1/none")
    for question in (SqlWebhooks(engine).watched(), SqlAlertOutbox(engine).claim(NOW, SOON, 1, ())):
        with pytest.raises(DatabaseUnavailable):
            await question
    await engine.dispose()
