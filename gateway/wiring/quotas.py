"""Opens what limits need: the quota store, its refill, and the work that goes on beside."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.collector import SPREAD_SECONDS, Collector
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.flights import RedisFlights
from gateway.adapters.redis.heartbeat import Heartbeat
from gateway.adapters.redis.lease import Lease
from gateway.adapters.redis.links import Topology
from gateway.adapters.redis.names import ModelNames, Names, Tagged
from gateway.adapters.redis.quota import RedisQuotas
from gateway.adapters.redis.reserving import Rules
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.adapters.redis.slots import RedisSlots
from gateway.adapters.redis.tasks import RedisJobRecords
from gateway.adapters.spool import DiskSpool
from gateway.adapters.sql.installation import is_first_to_open
from gateway.adapters.sql.ledger import SqlLedger
from gateway.adapters.sql.rollups import SqlRollups
from gateway.adapters.tracing.off import Untraced
from gateway.service.backlog import Backlog
from gateway.service.jobs import Jobs
from gateway.service.metering import Metering
from gateway.service.outage import QuotaOutage
from gateway.service.outbox import Outbox
from gateway.service.ports import Clock, LedgerUnavailable, QuotaUnavailable
from gateway.service.ports_flights import FlightStore
from gateway.service.refill import Refill
from gateway.service.rescue import Rescue
from gateway.service.reserve import Reservations
from gateway.service.rollups import Rollups
from gateway.service.settlements import Settlements
from gateway.settings import Settings
from gateway.wiring.background import EXPECTED, every
from gateway.wiring.metering import settling

DEADLINE, FAILOVER_DEADLINE = 0.9, 4.0  # design.md section 6, "Outages"
COLLECT_SECONDS = 1.0
GIVE_BACK_SECONDS = 2.0  # for what cancelled requests have perhaps taken, and for notes, when the process ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The limits of this replica, `owner`, and what is known of the jobs of all, of whose ends `end_heard` is told."""

    owner: str
    clock: Clock
    scripts: Scripts
    store: RedisQuotas
    flights: FlightStore
    end_heard: Callable[[str], None]
    records: RedisJobRecords
    refill: Refill
    reservations: Reservations
    slots: RedisSlots


@asynccontextmanager
async def open_quotas(
    settings: Settings,
    engine: AsyncEngine,
    redis: RedisClient,
    clock: Clock,
    observer: MetricsAndLog,
    tracing: Untraced,
) -> AsyncGenerator[Quotas]:
    """Open the limits of this replica. What is settled is in the ledger when the block has ended, if SQL answers."""
    owner, zone = secrets.token_hex(8), ZoneInfo(settings.quota.timezone)
    scripts = Scripts(redis, observer.crashed, tracing.scripts)
    topology = await redis.topology()
    deadline = settings.redis.reserve_deadline or (FAILOVER_DEADLINE if topology.fails_over else DEADLINE)
    store = _quota_store(settings, scripts, owner, topology, deadline)
    _show(store, observer)
    ledger, spool = SqlLedger(engine), DiskSpool(settings.data_dir / "spool")
    stream = RedisUsageStream(scripts, owner, set_aside=observer.line_set_aside)
    outbox = Outbox(store, ledger, stream, spool, clock)
    refill = Refill(store, ledger, outbox, clock, zone, partial(is_first_to_open, engine))
    errands = Jobs(observer.crashed)
    with suppress(*EXPECTED):
        await refill.begin()
    slots, lease = _slots(settings, scripts, owner, deadline), Lease(settings.quota.lease)
    url, on_outage = settings.redis.url.reveal(), settings.quota.on_outage
    with Heartbeat(url, owner, lambda: _places(store, slots), observer.crashed, lease=lease):
        backlog = Backlog(settings.ledger.max_backlog, observer)
        settlements = Settlements(store, spool, backlog, observer, outbox, refill)
        metering = Metering(stream, ledger, backlog, observer, outbox.told)
        async with settling(settlements, metering, _rollups(settings, engine, clock), outbox, observer):
            reservations = Reservations(store, settlements, refill, errands, clock, on_outage=on_outage)
            reservations.watch_shadows(observer.shadowed)
            flights = RedisFlights(scripts, store.holdings, lease, patience=settings.queue.max_wait)
            yield Quotas(
                owner=owner,
                clock=clock,
                scripts=scripts,
                store=store,
                flights=tracing.flights(flights),
                end_heard=flights.heard,
                records=RedisJobRecords(scripts),
                refill=refill,
                reservations=reservations,
                slots=slots,
            )
            await asyncio.gather(errands.drain(GIVE_BACK_SECONDS), flights.drain(GIVE_BACK_SECONDS))


def _show(store: RedisQuotas, observer: MetricsAndLog) -> None:
    observer.follow_unconfirmed(lambda: store.unconfirmed)
    observer.follow_reserved(lambda: len(store.holdings))


def _slots(settings: Settings, scripts: Scripts, owner: str, deadline: float) -> RedisSlots:
    return RedisSlots(
        scripts,
        owner,
        lease=settings.quota.lease,
        longest=settings.queue.max_length,
        longest_call=settings.longest_call,
        deadline=deadline,
    )


def _rollups(settings: Settings, engine: AsyncEngine, clock: Clock) -> Rollups:
    return Rollups(SqlRollups(engine), clock, timedelta(seconds=settings.ledger.retention))


def _quota_store(settings: Settings, scripts: Scripts, owner: str, topology: Topology, deadline: float) -> RedisQuotas:
    rules = Rules(
        owner=owner,
        lease=settings.quota.lease,
        deadline=deadline,
        wait_replicas=settings.redis.wait_replicas if settings.redis.wait_replicas >= 0 else int(topology.replicated),
        most_waiting=settings.queue.max_length,
    )
    return RedisQuotas(scripts, ZoneInfo(settings.quota.timezone), rules)


def _places(store: RedisQuotas, slots: RedisSlots) -> list[Tagged]:
    """Say where this replica's leases are."""
    return [*map(Names, tuple(store.shards)), *map(ModelNames, tuple(slots.models))]


@asynccontextmanager
async def collecting(
    quotas: Quotas, settings: Settings, rescue: Rescue, observer: MetricsAndLog
) -> AsyncGenerator[QuotaOutage]:
    """Give back what dead replicas held while the block runs; what they had paid is handed to `rescue`.

    What it gives is told every second whether limits can be counted, also while nobody asks for anything.
    """
    outage = QuotaOutage(observer.limits_switched, allow=settings.quota.on_outage == "allow")
    collector = Collector(
        quotas.scripts, quotas.owner, lease=settings.quota.lease, rescue=rescue, shards=quotas.store.shards
    )

    async def collect() -> None:
        with _noted(outage):
            await quotas.refill.restore()
            observer.reservations_expired(await collector.collect())

    async with every(COLLECT_SECONDS - SPREAD_SECONDS, collect, observer):
        yield outage


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
