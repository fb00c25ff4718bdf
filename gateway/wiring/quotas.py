"""Opens what limits need: the quota store, its refill, and the work that goes on beside."""

import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.collector import Collector
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.heartbeat import Heartbeat
from gateway.adapters.redis.quota import RedisQuotas
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.adapters.sql.ledger import SqlLedger
from gateway.service.jobs import Jobs
from gateway.service.outage import QuotaOutage
from gateway.service.ports import Clock, LedgerUnavailable, QuotaUnavailable
from gateway.service.refill import Refill
from gateway.service.reserve import Reservations
from gateway.settings import Settings
from gateway.wiring.background import EXPECTED, every
from gateway.wiring.metering import open_settlements

DEADLINE, FAILOVER_DEADLINE = 0.9, 4.0  # design.md section 6, "Outages"
COLLECT_SECONDS = 1.0
GIVE_BACK_SECONDS = 2.0  # for what requests that were cancelled have perhaps taken, when the process ends


@asynccontextmanager
async def open_reservations(
    settings: Settings,
    engine: AsyncEngine,
    redis: RedisClient,
    clock: Clock,
    observer: MetricsAndLog,
    outage: QuotaOutage,
) -> AsyncGenerator[Reservations]:
    """Open the limits of this replica. What is settled is in the ledger when the block has ended, if SQL answers.

    `outage` is told every few seconds whether limits can be counted, also while nobody asks for anything.
    """
    owner, zone = secrets.token_hex(8), ZoneInfo(settings.quota.timezone)
    scripts, topology = Scripts(redis), await redis.topology()
    store = RedisQuotas(
        scripts,
        owner,
        zone,
        lease=settings.quota.lease,
        deadline=settings.redis.reserve_deadline or (FAILOVER_DEADLINE if topology.fails_over else DEADLINE),
        wait_replicas=settings.redis.wait_replicas if settings.redis.wait_replicas >= 0 else int(topology.replicated),
    )
    observer.follow_unconfirmed(lambda: store.unconfirmed)
    ledger, stream = SqlLedger(engine), RedisUsageStream(scripts, owner)
    refill = Refill(store, ledger, clock, zone)
    collector = Collector(scripts, owner, lease=settings.quota.lease)
    errands = Jobs(observer.crashed)

    with suppress(*EXPECTED):
        await refill.begin()

    async def collect() -> None:
        with _noted(outage):
            await refill.restore()
            await collector.collect()

    url = settings.redis.url.reveal()
    with Heartbeat(url, owner, lambda: store.shards, lease=settings.quota.lease):
        async with (
            open_settlements(settings, store, stream, ledger, observer) as settlements,
            every(COLLECT_SECONDS, collect, observer),
        ):
            yield Reservations(store, settlements, refill, errands, clock, on_outage=settings.quota.on_outage)
            await errands.drain(GIVE_BACK_SECONDS)


@contextmanager
def _noted(outage: QuotaOutage) -> Generator[None]:
    """Take note of whether the store answers what the block asks of it; a silent ledger is no outage of the store."""
    try:
        yield
    except (StoreUnavailable, QuotaUnavailable):
        outage.note(away=True)
        raise
    except LedgerUnavailable:
        outage.note(away=False)
        raise
    else:
        outage.note(away=False)
