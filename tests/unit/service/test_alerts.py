"""Which events a look writes, and that no second look writes them again."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.quota import Limits
from gateway.service.alerts import REST, Facts, WatchThresholds
from tests.builders import a_line
from tests.fakes_administration import NOW, Clock, FakeProjects, a_project
from tests.fakes_alerts import FakeWebhooks, a_webhook
from tests.fakes_reports import FakeReports

pytestmark = pytest.mark.anyio

PRICE = 100_000


class Desk:
    """A look at a project with limits, and the ledger's lines."""

    def __init__(self, **limits):
        self.projects = FakeProjects(a_project(limits=Limits(**limits)))
        self.webhooks = FakeWebhooks(self.projects)
        self.webhooks.webhooks["proj_design"] = a_webhook(created_at=NOW - timedelta(days=365))
        self.clock, self.reports, self.drawn = Clock(), FakeReports(), 0
        self.watches = [self.watch(), self.watch()]

    def watch(self):
        stores = {"webhooks": self.webhooks, "outbox": self.webhooks.outbox, "reports": self.reports}
        return WatchThresholds(Facts(**stores, zone=UTC, currency="CNY"), self.clock, self.draw)

    def draw(self, length):
        self.drawn += 1
        return f"{self.drawn:0{length}}"

    def use(self, pictures, at=NOW, project_id="proj_design"):
        name = f"line {len(self.reports.lines)}"
        made = {"pictures_requested": pictures, "pictures_delivered": pictures, "price": pictures * PRICE}
        self.reports.lines.append(a_line(name, time=at, project_id=project_id, **made))

    async def looked(self):
        """All replicas look; what is new is given."""
        before = set(self.webhooks.outbox.rows)
        for watch in self.watches:
            await watch.look()
        rows = [row for name, row in self.webhooks.outbox.rows.items() if name not in before]
        return [(row.limit, row.period, row.threshold) for row in rows]


async def test_each_threshold_is_told_once_whoever_looks():
    desk = Desk(images_per_month=10)
    assert await desk.looked() == []
    desk.use(8)
    assert await desk.looked() == [("images_per_month", "2026-11", 50), ("images_per_month", "2026-11", 80)]
    assert await desk.looked() == []
    desk.watches = [desk.watch()]  # a restart
    assert await desk.looked() == []
    desk.use(3)
    assert await desk.looked() == [("images_per_month", "2026-11", 100)]


async def test_spend_and_days_are_told_as_well():
    desk = Desk(images_per_day=4, spend_per_month=10 * PRICE)
    desk.use(3, at=NOW - timedelta(days=1))
    desk.use(2)
    assert await desk.looked() == [("images_per_day", "2026-11-23", 50), ("spend_per_month", "2026-11", 50)]


async def test_a_new_period_begins_anew():
    desk = Desk(images_per_day=4)
    desk.use(4)
    assert len(await desk.looked()) == 3
    desk.clock.seconds = 86_400
    assert await desk.looked() == []
    desk.use(2, at=desk.clock.now())
    assert await desk.looked() == [("images_per_day", "2026-11-24", 50)]


async def test_a_line_that_comes_late_is_told_for_its_own_day():
    desk = Desk(images_per_day=4)
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    desk.use(4, at=midnight - timedelta(seconds=1))
    desk.clock.seconds = (midnight + timedelta(minutes=1) - NOW).total_seconds()
    assert {period for _, period, _ in await desk.looked()} == {"2026-11-23"}


async def test_a_period_that_was_over_before_there_was_a_webhook_is_not_told():
    desk = Desk(images_per_day=4)
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    desk.use(4, at=midnight - timedelta(seconds=1))
    desk.webhooks.webhooks["proj_design"] = a_webhook(created_at=midnight)
    desk.clock.seconds = (midnight + timedelta(minutes=1) - NOW).total_seconds()
    assert await desk.looked() == []


async def test_others_use_is_not_counted():
    desk = Desk(images_per_month=10)
    desk.use(10, project_id="proj_other")
    assert await desk.looked() == []


async def test_a_raised_limit_is_told_of_again():
    desk = Desk(images_per_month=10)
    desk.use(10)
    assert len(await desk.looked()) == 3
    await desk.projects.change("proj_design", {"images_per_month": 20})
    assert await desk.looked() == []
    desk.use(6)
    assert await desk.looked() == [("images_per_month", "2026-11", 80)]


async def test_after_a_long_look_there_is_a_rest():
    desk = Desk(images_per_month=10)
    desk.watches = [desk.watch()]
    real = desk.webhooks.watched

    async def slow():
        desk.clock.seconds += 2
        return await real()

    desk.webhooks.watched = slow
    await desk.looked()
    desk.use(10)
    desk.clock.seconds += 2 * REST - 1
    assert await desk.looked() == []
    desk.clock.seconds += 1
    assert len(await desk.looked()) == 3


async def test_no_rest_is_longer_than_five_minutes():
    desk = Desk(images_per_month=10)
    desk.watches = [desk.watch()]
    real = desk.webhooks.watched

    async def slow():
        desk.clock.seconds += 60
        return await real()

    desk.webhooks.watched = slow
    await desk.looked()
    desk.use(10)
    desk.clock.seconds += 300
    assert len(await desk.looked()) == 3


async def test_what_nobody_limits_is_not_summed():
    desk = Desk(images_per_day=10, requests_per_minute=10)
    asked = []
    real = desk.reports.sums

    async def sums(question):
        asked.append(question.end - question.start)
        return await real(question)

    desk.reports.sums = sums
    await desk.looked()
    assert set(asked) == {timedelta(days=1)}
    await desk.projects.change("proj_design", {"images_per_day": None})
    asked.clear()
    await desk.looked()
    assert asked == []


async def test_after_an_outage_a_look_finds_what_was_missed():
    desk = Desk(images_per_month=10)
    desk.use(10)
    real = desk.webhooks.outbox.add

    async def down(_):
        raise DatabaseUnavailable("down")

    desk.webhooks.outbox.add = down
    with pytest.raises(DatabaseUnavailable):
        await desk.looked()
    desk.webhooks.outbox.add = real
    assert len(await desk.looked()) == 3
