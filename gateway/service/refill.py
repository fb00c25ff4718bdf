"""Gives a quota store that lost its counts back what is known: the ledger, and what the replicas still hold."""

import asyncio
from collections import defaultdict
from datetime import datetime, tzinfo

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.quota import SHARDS, Counts, calendar_of, shard_of, subject_names
from gateway.domain.usage import Used
from gateway.service.ports import Clock, Ledger, LedgerUnavailable, QuotaStore

DRAIN_SECONDS = 0.5  # lines that were on their way to the ledger when the store was lost arrive within this time


class Refill:
    """Refills one shard from the ledger. `zone` is that of the calendar limits."""

    def __init__(self, store: QuotaStore, ledger: Ledger, clock: Clock, zone: tzinfo) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._zone = zone
        self._restored: dict[int, str] = {}  # the refill of each shard that this replica has taken part in

    async def begin(self) -> None:
        """Open the store of an installation that has never charged anything, without waiting for anybody."""
        if not await self._ledger.used_since(datetime.fromtimestamp(0, self._zone)):
            calendar = calendar_of(int(self._clock.now().timestamp() * 1000), self._zone)
            await asyncio.gather(*(self._store.refill(shard, calendar, {}, fresh=True) for shard in range(SHARDS)))

    async def __call__(self, shard: int) -> None:
        """Count what the ledger charged today and this month; the store takes it once, whoever comes first.

        Raises:
            QuotaUnavailable: the store did not answer.
            DatabaseUnavailable: the ledger cannot be read, and nothing may be granted without it.
        """
        await self._clock.sleep(DRAIN_SECONDS)
        calendar = calendar_of(int(self._clock.now().timestamp() * 1000), self._zone)
        try:
            today = await self._ledger.used_since(self._moment(calendar.days[0].starts))
            month = await self._ledger.used_since(self._moment(calendar.months[0].starts))
        except LedgerUnavailable as failure:
            raise DatabaseUnavailable(
                "The gateway cannot count what was used before. Nothing was charged; try again later.",
            ) from failure
        await self._store.refill(shard, calendar, _counts(shard, today, month), fresh=False)

    async def restore(self) -> None:
        """Take again what this replica holds, wherever the store is being refilled.

        Raises:
            QuotaUnavailable, LedgerUnavailable: the rest is for the next time.
        """
        for shard, epoch in await self._store.losses():
            if self._restored.get(shard) == epoch:
                continue
            claims, settled = self._store.held(shard)
            known = await self._ledger.known([settlement.event.event_id for settlement in settled])
            for settlement in settled:
                if settlement.event.event_id not in known:
                    await self._store.settle(
                        settlement.reservation, settlement.charged, settlement.event, settlement.ending
                    )
            for claim in claims:
                await self._store.take_again(claim)
            self._restored[shard] = epoch

    def _moment(self, milliseconds: int) -> datetime:
        return datetime.fromtimestamp(milliseconds / 1000, self._zone)


def _counts(shard: int, today: list[Used], month: list[Used]) -> dict[str, Counts]:
    """Sum by subject what belongs to a shard."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for used in (line for line in today if shard_of(line.project_id) == shard):
        for name in subject_names(used.key_id, used.project_id):
            sums[name][0] += used.pictures
    for used in (line for line in month if shard_of(line.project_id) == shard):
        for name in subject_names(used.key_id, used.project_id):
            sums[name][1] += used.pictures
            sums[name][2] += used.price
    return {
        name: Counts(images_today=day, images_this_month=images, spend=spend)
        for name, (day, images, spend) in sums.items()
    }
