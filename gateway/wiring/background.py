"""Work that goes on beside a block of code, round after round."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.scripts import StoreUnavailable
from gateway.domain.errors import DatabaseUnavailable
from gateway.service.jobs import end
from gateway.service.ports import LedgerUnavailable, QuotaUnavailable
from gateway.service.ports_slots import SlotsUnavailable

EXPECTED = (StoreUnavailable, QuotaUnavailable, SlotsUnavailable, LedgerUnavailable, DatabaseUnavailable, OSError)


@asynccontextmanager
async def every(seconds: float, work: Callable[[], Awaitable[object]], observer: MetricsAndLog) -> AsyncGenerator[None]:
    """Repeat work beside the block; an outage or a defect is told and does not end it."""

    async def repeat() -> None:
        while True:
            try:
                await work()
            except EXPECTED as failure:
                observer.outage(type(failure).__name__, str(failure))
            except Exception as failure:  # noqa: BLE001 - the next round may do better
                observer.crashed(failure)
            await asyncio.sleep(seconds)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        await end(task)
