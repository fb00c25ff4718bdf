"""Usage events -> ledger, exactly once in effect: written first, forgotten after."""

import asyncio
from collections.abc import Sequence

from gateway.domain.quota import SHARDS, shard_of
from gateway.domain.usage import UsageEvent
from gateway.service.ports import (
    Ledger,
    LedgerUnavailable,
    LinesRefused,
    QuotaStore,
    QuotaUnavailable,
    Spool,
    UsageStream,
)


class Metering:
    """Carries lines from the streams and the spool into the ledger. Two replicas at once are harmless."""

    def __init__(self, stream: UsageStream, ledger: Ledger, spool: Spool, store: QuotaStore) -> None:
        self._stream = stream
        self._ledger = ledger
        self._spool = spool
        self._store = store

    async def carry(self) -> None:
        """Make the settlements that wait on disk, then carry over every line; what cannot be carried now stays."""
        await self.replay()
        await self.drain()

    async def drain(self) -> int:
        """Carry over what waits in every shard; what cannot be carried now stays where it is."""
        return sum(await asyncio.gather(*map(self._drain_shard, range(SHARDS))))

    async def replay(self) -> None:
        """Make the settlements that wait on disk; what cannot be made now holds up its own shard only."""
        blocked: set[int] = set()
        for settlement in await self._spool.waiting():
            shard = shard_of(settlement.event.project_id)
            if shard in blocked:
                continue
            try:
                await self._store.settle(settlement.reservation, settlement.charged, settlement.event)
            except QuotaUnavailable:
                blocked.add(shard)
            else:
                await self._spool.remove(settlement)

    async def _drain_shard(self, shard: int) -> int:
        carried = 0
        try:
            while lines := await self._stream.pending(shard):
                refused = await self._write(lines)
                await self._stream.put_aside(shard, refused)
                await self._stream.remove(shard, [position for position, _ in lines if position not in refused])
                carried += len(lines)
        except (QuotaUnavailable, LedgerUnavailable):
            return carried
        return carried

    async def _write(self, lines: Sequence[tuple[str, UsageEvent]]) -> dict[str, str]:
        """Write lines; give the positions of those that the ledger can never hold, with the reasons."""
        try:
            await self._ledger.write([event for _, event in lines])
        except LinesRefused as refused:
            reasons = refused.reasons
            return {position: reasons[event.event_id] for position, event in lines if event.event_id in reasons}
        return {}
