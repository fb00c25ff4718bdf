"""Gives a quota store that lost its counts back what is known: the ledger, and what the replicas still hold."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta, tzinfo

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.quota import SHARDS, Counts, calendar_of, shard_of, subject_names
from gateway.domain.usage import Used
from gateway.service.outbox import Outbox
from gateway.service.ports import KNOWN_SECONDS, Clock, Ledger, LedgerUnavailable, QuotaStore

LATELY = timedelta(seconds=KNOWN_SECONDS + 300)  # more than the store would know by itself; clocks differ
DRAIN_SECONDS = 0.5  # lines that were on their way to the ledger when the store was lost arrive within this time


class Refill:
    """Refills one shard from the ledger. `zone` is that of the calendar limits.

    `is_first` tells once in the life of an installation that its store was never opened before.
    """

    def __init__(
        self,
        store: QuotaStore,
        ledger: Ledger,
        outbox: Outbox,
        clock: Clock,
        zone: tzinfo,
        is_first: Callable[[], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._outbox = outbox
        self._clock = clock
        self._zone = zone
        self._is_first = is_first
        self._restored: dict[int, str] = {}  # the refill of each shard that this replica has taken part in

    async def begin(self) -> None:
        """Open the store of a new installation, without waiting for anybody.

        An empty store that was opened before may have been lost while other replicas hold something, also when nothing
        was ever charged: that is refilled when somebody asks for it.
        """
        if await self._is_first() and not await self._ledger.used_since(self._moment(0)):
            await asyncio.gather(*map(self._open, range(SHARDS)))

    async def __call__(self, shard: int) -> None:
        """Count what the ledger charged today and this month; the store takes it once, whoever comes first.

        Raises:
            QuotaUnavailable: the store did not answer.
            DatabaseUnavailable: the ledger cannot be read, and nothing may be granted without it.
        """
        await self._clock.sleep(DRAIN_SECONDS)
        now = await self._store.now(shard)
        calendar = calendar_of(now, self._zone)
        day, month = self._moment(calendar.days[0].starts), self._moment(calendar.months[0].starts)
        try:
            tally = await self._ledger.tally(day, month, self._moment(now) - LATELY)
        except LedgerUnavailable as failure:
            raise DatabaseUnavailable(
                "The gateway cannot count what was used before. Nothing was charged; try again later.",
            ) from failure
        counted = [event_id for event_id, project_id in tally.ended if shard_of(project_id) == shard]
        await self._store.refill(shard, calendar, _counts(shard, tally.today, tally.month), counted, fresh=False)

    async def restore(self) -> None:
        """Take again what this replica holds, wherever the store is being refilled.

        Raises:
            QuotaUnavailable, LedgerUnavailable: the rest is for the next time.
        """
        for shard, epoch in await self._store.losses():
            if self._restored.get(shard) == epoch:
                continue
            await self._outbox.settle_again(shard)
            for claim in self._store.held(shard):
                await self._store.take_again(claim)
            self._restored[shard] = epoch

    async def _open(self, shard: int) -> None:
        calendar = calendar_of(await self._store.now(shard), self._zone)
        await self._store.refill(shard, calendar, {}, fresh=True)

    def _moment(self, milliseconds: int) -> datetime:
        return datetime.fromtimestamp(milliseconds / 1000, self._zone)


def _counts(shard: int, today: Sequence[Used], month: Sequence[Used]) -> dict[str, Counts]:
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
