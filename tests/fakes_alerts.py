"""In-memory webhooks and their outbox, and a receiver whose answers the test says."""

from dataclasses import replace
from datetime import timedelta

from gateway.domain.limits import Limit
from gateway.domain.webhooks import Delivery, Webhook
from gateway.service.ports_alerts import Sent, Told
from tests.fakes_administration import NOW

URL = "https://hooks.example.com/alerts"


def a_webhook(project_id="proj_design", **changes):
    ordinary = {"url": URL, "thresholds": (50, 80, 100), "secret_id": "first", "created_at": NOW}
    return Webhook(**{**ordinary, "project_id": project_id, **changes})


def a_delivery(delivery_id="msg_1", project_id="proj_design", **changes):
    ordinary = {"type": "webhook.test", "body": "{}", "created_at": NOW, "next_try_at": NOW}
    return Delivery(**{**ordinary, "id": delivery_id, "project_id": project_id, **changes})


def an_alert(delivery_id="msg_1", **changes):
    """The event of a threshold of November."""
    told = {"limit": "images_per_month", "period": "2026-11", "period_ends": NOW + timedelta(days=8)}
    return a_delivery(delivery_id, **{**told, "threshold": 80, "amount": 8, "used": 9, **changes})


class FakeWebhooks:
    """The store of webhooks; `projects` are those of the project store."""

    def __init__(self, projects):
        self.projects = projects
        self.webhooks = {}
        self.outbox = FakeAlertOutbox(self.webhooks)

    async def get(self, project_id):
        return self.webhooks.get(project_id)

    async def put(self, webhook):
        self.webhooks[webhook.project_id] = webhook

    async def remove(self, project_id):
        found = self.webhooks.pop(project_id, None)
        for row in self.outbox.rows.values():
            if row.project_id == project_id and row.state == "pending":
                self.outbox.rows[row.id] = replace(
                    row, state="failed", next_try_at=None, last_error="the webhook was removed"
                )
        return found is not None

    async def disable(self, project_id, url, at):
        known = self.webhooks.get(project_id)
        if known and known.url == url:
            self.webhooks[project_id] = replace(known, disabled_at=at)

    async def watched(self):
        found = [(webhook, await self.projects.find(name)) for name, webhook in self.webhooks.items()]
        return [(webhook, one) for webhook, one in found if webhook.disabled_at is None and one.archived_at is None]


class FakeAlertOutbox:
    """The outbox; `rows` by id."""

    def __init__(self, webhooks):
        self.webhooks = webhooks
        self.rows = {}

    async def add(self, deliveries):
        for one in deliveries:
            if one.threshold is None or _place(one) not in {_place(row) for row in self.rows.values()}:
                self.rows[one.id] = one

    async def told(self, project_ids, periods):
        return [
            Told(row.project_id, Limit(row.limit), row.period, row.threshold, row.used)
            for row in self.rows.values()
            if row.project_id in project_ids and row.period in periods
        ]

    async def claim(self, now, until, most, busy):
        rows = [row for row in self.rows.values() if row.state == "pending" and row.next_try_at <= now]
        claimed = {}
        for row in sorted(rows, key=lambda row: (row.next_try_at, row.id)):
            webhook = self.webhooks.get(row.project_id)
            if (
                row.project_id not in busy
                and webhook
                and not webhook.disabled_at
                and row.project_id not in claimed
                and len(claimed) < most
            ):
                counted = {"tries": row.tries + 1, "tries_left": row.tries_left - 1}
                self.rows[row.id] = replace(row, next_try_at=until, last_tried_at=now, **counted)
                claimed[row.project_id] = (self.rows[row.id], webhook)
        return list(claimed.values())

    async def record(self, delivery):
        known = self.rows[delivery.id]
        self.rows[delivery.id] = replace(delivery, tries=known.tries)

    async def find(self, project_id, delivery_id):
        found = self.rows.get(delivery_id)
        return found if found and found.project_id == project_id else None

    async def of_project(self, project_id):
        rows = [row for row in self.rows.values() if row.project_id == project_id]
        return sorted(rows, key=lambda row: (row.created_at, row.id))

    async def prune(self, before, now):
        for row in list(self.rows.values()):
            if row.created_at < before and (row.period_ends is None or row.period_ends <= now):
                del self.rows[row.id]


def _place(row):
    return (row.project_id, row.limit, row.period, row.threshold, row.amount)


class FakeReceivers:
    """Takes posts; `answers` are given in their turn, then 200."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.posts = []

    async def send(self, post):
        self.posts.append(post)
        status = self.answers.pop(0) if self.answers else 200
        return Sent(status) if isinstance(status, int) else Sent(None, status)


class FakeAlertObserver:
    def __init__(self):
        self.tried = []

    def alert_tried(self, delivery):
        self.tried.append(delivery)
