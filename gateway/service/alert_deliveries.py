"""The way of alerts from the outbox to their receivers: at least once, until taken or given up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.domain.webhooks import KEPT, TRIES, Delivery, Webhook, wait_before
from gateway.service.jobs import end
from gateway.service.ports import Clock
from gateway.service.ports_alerts import (
    AlertObserver,
    AlertOutbox,
    Post,
    SecretsOf,
    Sent,
    WebhookSender,
    WebhookStore,
)

AT_ONCE = 20
ROUND_SECONDS = 1.0  # then others are looked for, whoever hangs
LEASE = timedelta(seconds=30)  # a try takes 15 at most; one whose process died comes again after so long
_WELL, _GONE = range(200, 300), 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What deliveries need; `chance` draws a number from 0 to 1."""

    webhooks: WebhookStore
    outbox: AlertOutbox
    sender: WebhookSender
    secrets_of: SecretsOf
    chance: Callable[[], float]


class DeliverAlerts:
    """Posts what is due, one event of each project at a time, and forgets the history when it is old."""

    def __init__(self, way: Way, clock: Clock, observer: AlertObserver) -> None:
        self._way = way
        self._clock = clock
        self._observer = observer
        self._posting: dict[str, asyncio.Task[None]] = {}  # by project

    async def deliver_due(self) -> None:
        """Post what is due, beside what hangs; wait for its end a second at most.

        Raises:
            DatabaseUnavailable: SQL is away, or was; what was posted meanwhile is posted again later.
        """
        now = self._clock.now()
        claimed = await self._way.outbox.claim(now, now + LEASE, AT_ONCE - len(self._posting), self._posting.keys())
        for delivery, webhook in claimed:
            self._posting[delivery.project_id] = asyncio.create_task(self._deliver(delivery, webhook))
        if self._posting:
            ended, _ = await asyncio.wait(self._posting.values(), timeout=ROUND_SECONDS)
            self._posting = {project: task for project, task in self._posting.items() if task not in ended}
            await asyncio.gather(*ended)

    async def close(self) -> None:
        """Let go of what hangs; it is due again when its claim ends."""
        await end(*self._posting.values())

    async def prune(self) -> None:
        """Forget what is old; DatabaseUnavailable when SQL is away."""
        now = self._clock.now()
        await self._way.outbox.prune(now - KEPT, now)

    async def _deliver(self, delivery: Delivery, webhook: Webhook) -> None:
        at = self._clock.now()
        ids = webhook.secret_ids(at)
        secrets = [secret for name in ids for secret in self._way.secrets_of(webhook.project_id, name)]
        post = Post(url=webhook.url, id=delivery.id, at=at, body=delivery.body, secrets=secrets)
        sent = await self._way.sender.send(post)
        ended = self._after(delivery, sent, self._clock.now())
        if sent.status == _GONE:
            await self._way.webhooks.disable(webhook.project_id, webhook.url, ended.last_tried_at or at)
        await self._way.outbox.record(ended)
        self._observer.alert_tried(ended)

    def _after(self, delivery: Delivery, sent: Sent, now: datetime) -> Delivery:
        """Say what a try has made of an event."""
        told = replace(delivery, last_status=sent.status, last_error=sent.error, next_try_at=None)
        if sent.status in _WELL:
            return replace(told, state="delivered", delivered_at=now, last_error=None)
        if sent.status == _GONE or not delivery.tries_left:
            return replace(told, state="failed")
        wait = wait_before(TRIES - delivery.tries_left + 1, self._way.chance())
        return replace(told, next_try_at=now + wait)
