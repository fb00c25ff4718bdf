"""Runs what becomes of settlements: the quota store, the spool, and the way into the ledger."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from gateway.adapters.observer import MetricsAndLog
from gateway.service.metering import COUNT_SECONDS, Metering
from gateway.service.outbox import Outbox
from gateway.service.rollups import Rollups
from gateway.service.settlements import Settlements
from gateway.wiring.background import EXPECTED, every

METER_SECONDS = 0.5
ROLL_SECONDS = 60.0
REVIEW_SECONDS = 1.0
LAST_SECONDS = 10.0  # for what waits when the process ends; it is safe in Redis


@asynccontextmanager
async def settling(
    settlements: Settlements, metering: Metering, rollups: Rollups, outbox: Outbox, observer: MetricsAndLog
) -> AsyncGenerator[None]:
    """Settle beside the block. What is settled is in the ledger when the block has ended, if SQL answers."""
    async with (
        every(METER_SECONDS, settlements.replay, observer),
        every(REVIEW_SECONDS, settlements.review, observer),
        every(METER_SECONDS - COUNT_SECONDS, metering.measure, observer),
        every(0, metering.drain_when_due, observer),
        every(ROLL_SECONDS, rollups.tend, observer),
    ):
        yield
    with suppress(*EXPECTED):
        await settlements.give_up()
    for last in (metering.drain, outbox.close):
        with suppress(*EXPECTED):
            async with asyncio.timeout(LAST_SECONDS):
                await last()
