"""Runs alerts beside the requests: the look at how far limits are used, and the posts to webhooks."""

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport import HttpTransport, PublicResolver
from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.sql.alert_outbox import SqlAlertOutbox
from gateway.adapters.sql.reports import SqlReports
from gateway.adapters.sql.webhooks import SqlWebhooks
from gateway.adapters.system import SystemClock, random_text
from gateway.adapters.webhooks import HttpWebhookSender
from gateway.service.alert_deliveries import DeliverAlerts, Way
from gateway.service.alerts import Facts, WatchThresholds
from gateway.service.ports_alerts import SecretsOf
from gateway.settings import Settings, environment
from gateway.wiring.background import every

WATCH_SECONDS, DELIVER_SECONDS, PRUNE_SECONDS = 2.0, 1.0, 3600.0


@asynccontextmanager
async def alerting(
    settings: Settings, engine: AsyncEngine, secrets_of: SecretsOf, observer: MetricsAndLog
) -> AsyncGenerator[None]:
    """Watch and deliver while the block runs. What a stop interrupts is delivered by another replica, or later."""
    allow, webhooks, outbox = settings.webhooks.allow_private_hosts, SqlWebhooks(engine), SqlAlertOutbox(engine)
    resolver = None if allow else PublicResolver()
    async with aclosing(HttpTransport(resolver=resolver, proxies=Proxies(environment()))) as transport:
        facts = Facts(
            webhooks=webhooks,
            outbox=outbox,
            reports=SqlReports(engine),
            zone=ZoneInfo(settings.quota.timezone),
            currency=settings.billing.currency,
        )
        way = Way(
            webhooks=webhooks,
            outbox=outbox,
            sender=HttpWebhookSender(transport, allow_private=allow),
            secrets_of=secrets_of,
            chance=random.random,
        )
        watch, deliver = WatchThresholds(facts, SystemClock(), random_text), DeliverAlerts(way, SystemClock(), observer)
        async with (
            every(WATCH_SECONDS, watch.look, observer),
            every(DELIVER_SECONDS, deliver.deliver_due, observer),
            every(PRUNE_SECONDS, deliver.prune, observer),
        ):
            yield
        await deliver.close()
