"""Opens what limits and metering need: the quota store, its refill, the spool, and the work that goes on beside."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
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
from gateway.adapters.spool import DiskSpool
from gateway.adapters.sql.ledger import SqlLedger
from gateway.service.jobs import Jobs
from gateway.service.metering import Metering
from gateway.service.outage import QuotaOutage
from gateway.service.ports import Clock, LedgerUnavailable, QuotaUnavailable
from gateway.service.refill import Refill
from gateway.service.reserve import Reservations
from gateway.settings import Settings

DEADLINE, FAILOVER_DEADLINE = 0.9, 4.0  # design.md section 6, "Outages"
COLLECT_SECONDS, METER_SECONDS = 1.0, 0.5
_EXPECTED = (StoreUnavailable, QuotaUnavailable, LedgerUnavailable, OSError)


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
    scripts, topology = Scripts(redis, observer.crashed), await redis.topology()
    store = RedisQuotas(
        scripts,
        owner,
        zone,
        lease=settings.quota.lease,
        deadline=settings.redis.reserve_deadline or (FAILOVER_DEADLINE if topology.fails_over else DEADLINE),
        wait_replicas=settings.redis.wait_replicas if settings.redis.wait_replicas >= 0 else int(topology.replicated),
    )
    ledger, spool = SqlLedger(engine), DiskSpool(settings.data_dir / "spool")
    refill = Refill(store, ledger, clock, zone)
    collector = Collector(scripts, owner, lease=settings.quota.lease)
    metering = Metering(RedisUsageStream(scripts, set_aside=observer.line_set_aside), ledger, spool, store)
    errands = Jobs(observer.crashed)

    with suppress(*_EXPECTED):
        await refill.begin()

    async def collect() -> None:
        with _noted(outage):
            await refill.restore()
            await collector.collect()

    url = settings.redis.url.reveal()
    with Heartbeat(url, owner, lambda: store.shards, lease=settings.quota.lease):
        async with _every(COLLECT_SECONDS, collect, observer), _every(METER_SECONDS, metering.carry, observer):
            reservations = Reservations(store, spool, refill, errands, clock, on_outage=settings.quota.on_outage)
            reservations.watch_shadows(observer.shadowed)
            yield reservations
        await errands.drain(0)
        with suppress(*_EXPECTED):
            await metering.carry()


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


@asynccontextmanager
async def _every(
    seconds: float, work: Callable[[], Awaitable[object]], observer: MetricsAndLog
) -> AsyncGenerator[None]:
    """Repeat work beside the block; an outage or a defect is told and does not end it."""

    async def repeat() -> None:
        while True:
            try:
                await work()
            except _EXPECTED as failure:
                observer.outage(type(failure).__name__, str(failure))
            except Exception as failure:  # noqa: BLE001 - the next round may do better
                observer.crashed(failure)
            await asyncio.sleep(seconds)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
