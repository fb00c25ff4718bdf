"""What the operator is told: metrics and logs, and which parts are well."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters import logs
from gateway.adapters.access import AccessLog
from gateway.adapters.metrics import Metrics
from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.sql import engine as sql
from gateway.adapters.system import SystemClock
from gateway.api.services import Readiness
from gateway.service.jobs import Jobs
from gateway.service.outage import QuotaOutage
from gateway.settings import Settings
from gateway.wiring.background import every
from gateway.wiring.upstreams import Upstreams

PROBE_SECONDS = 1.5  # for each part when a probe asks whether all are well
PARTS_SECONDS = 5.0  # between two looks at the parts for the metrics


@contextmanager
def observing(settings: Settings, clock: SystemClock) -> Generator[tuple[Metrics, MetricsAndLog]]:
    """Give what is told to the operator: metrics, on a port of their own if they have one, and the logs."""
    metrics, port = Metrics(clock.now, settings.metrics.by), settings.metrics.port
    text = logs.is_text(settings.log.format)
    access = AccessLog(sys.stderr, clock.now, text=text) if settings.log.access else None
    close = metrics.serve(settings.server.host, port) if port else None
    try:
        yield metrics, MetricsAndLog(metrics, logs.logger(), access)
    finally:
        if close:
            close()
        if access:
            access.flush()


async def readiness_of(
    redis: RedisClient, engine: AsyncEngine, upstreams: Upstreams, outage: QuotaOutage, jobs: Jobs
) -> Readiness:
    """Ask all parts at once. A Redis may answer and take no writes: the collector meets that every second."""
    answers, known = await asyncio.gather(redis.answers(PROBE_SECONDS), sql.answers(engine, PROBE_SECONDS))
    well = not outage.away and (answers or outage.allow)
    parts = {"redis": well, "sql": known, "accepting": not jobs.closing, "store": upstreams.store.usable()}
    parts["upstreams"] = any(standing.usable for standing in upstreams.slots.standings.values())
    parked = [(model, park) for model, standing in upstreams.slots.standings.items() for park in standing.parked]
    return Readiness(parts=parts, limits_off=outage.limits_off, parked=tuple(parked))


def watching(
    readiness: Callable[[], Awaitable[Readiness]], observer: MetricsAndLog
) -> AbstractAsyncContextManager[None]:
    """Show now and then which parts are well, also while nobody asks."""

    async def watch() -> None:
        observer.parts((await readiness()).parts)

    return every(PARTS_SECONDS, watch, observer)
