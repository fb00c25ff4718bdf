"""Opens what comparing needs: the database, and Redis as a replica that takes nothing."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from zoneinfo import ZoneInfo

from gateway.adapters import logs
from gateway.adapters.metrics import Metrics
from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.counters import RedisCounters
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.quota import RedisQuotas
from gateway.adapters.redis.reserving import Rules
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.spool import DiskSpool
from gateway.adapters.sql.audit_log import SqlAuditLog
from gateway.adapters.sql.installation import is_first_to_open
from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.sql.ledger import SqlLedger
from gateway.adapters.sql.projects import SqlProjects
from gateway.adapters.system import SystemClock
from gateway.domain.bill import BillTerms
from gateway.service.audit import Audit
from gateway.service.backlog import Backlog
from gateway.service.metering import Metering
from gateway.service.outbox import Outbox
from gateway.service.reconcile import Reconcile
from gateway.service.refill import Refill
from gateway.settings import Settings
from gateway.settings.models import load_catalog
from gateway.wiring import open_database
from gateway.wiring.accounts import accounts_of
from gateway.wiring.administration import commanding

DEADLINE = 5.0  # seconds


@asynccontextmanager
async def open_reconciliation(settings: Settings) -> AsyncGenerator[Reconcile]:
    """Open the comparison; `settings` are prepared, so that there is a Redis. Misconfigured without a database."""
    owner, clock, zone = secrets.token_hex(8), SystemClock(), ZoneInfo(settings.quota.timezone)
    observer = MetricsAndLog(Metrics(clock.now), logs.logger())
    async with open_database(settings) as engine, aclosing(RedisClient(settings.redis.url.reveal())) as redis:
        scripts, ledger = Scripts(redis, observer.crashed), SqlLedger(engine)
        store = RedisQuotas(scripts, zone, Rules(owner=owner, lease=settings.quota.lease, deadline=DEADLINE))
        stream = RedisUsageStream(scripts, owner, set_aside=observer.line_set_aside)
        outbox = Outbox(store, ledger, stream, DiskSpool(settings.data_dir / "spool"), clock)
        metering = Metering(stream, ledger, Backlog(settings.ledger.max_backlog, observer), observer, outbox.told)
        yield Reconcile(
            RedisCounters(scripts),
            ledger,
            SqlProjects(engine),
            SqlKeys(engine),
            clock,
            zone=zone,
            drain=metering.drain,
            refill=Refill(store, ledger, outbox, clock, zone, partial(is_first_to_open, engine)),
            token=partial(secrets.token_hex, 8),
            audit=Audit(SqlAuditLog(engine), clock, commanding()),
            terms=BillTerms(settings.billing.currency, accounts_of(settings, load_catalog(settings.models.file))),
        )
