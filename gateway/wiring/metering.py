"""Opens what becomes of settlements: the quota store, the spool, and the way into the ledger."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.spool import DiskSpool
from gateway.service.backlog import Backlog
from gateway.service.metering import Metering
from gateway.service.ports import Ledger, QuotaStore
from gateway.service.settlements import Settlements
from gateway.settings import Settings
from gateway.wiring.background import EXPECTED, every

METER_SECONDS = 0.5
LAST_SECONDS = 10.0  # for what waits when the process ends; it is safe in Redis


@asynccontextmanager
async def open_settlements(
    settings: Settings, store: QuotaStore, stream: RedisUsageStream, ledger: Ledger, observer: MetricsAndLog
) -> AsyncGenerator[Settlements]:
    """Open them. What is settled is in the ledger when the block has ended, if SQL answers."""
    backlog = Backlog(settings.ledger.max_backlog, observer)
    settlements = Settlements(store, DiskSpool(settings.data_dir / "spool"), backlog, observer)
    metering = Metering(stream, ledger, backlog)
    async with (
        every(METER_SECONDS, settlements.replay, observer),
        every(METER_SECONDS, metering.measure, observer),
        every(0, metering.drain_when_due, observer),
    ):
        yield settlements
    with suppress(*EXPECTED):
        await settlements.give_up()
    with suppress(*EXPECTED):
        async with asyncio.timeout(LAST_SECONDS):
            await metering.drain()
