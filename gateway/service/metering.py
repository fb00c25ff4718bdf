"""Usage events -> ledger, exactly once in effect: written first, forgotten after."""

import asyncio
from collections.abc import Callable, Sequence

from gateway.domain.quota import SHARDS
from gateway.domain.usage import UsageEvent
from gateway.service.backlog import Backlog
from gateway.service.errands import spread
from gateway.service.ports import (
    Ledger,
    LedgerUnavailable,
    MeteringObserver,
    QuotaUnavailable,
    UsageStream,
)
from gateway.service.shared_writes import SharedWrites

COUNT_SECONDS = 0.1  # over which the shards are counted


class Metering:
    """Carries lines from the streams into the ledger: one replica a shard at a time, and two would be harmless.

    `told` hears which lines the ledger has from now on.
    """

    def __init__(
        self,
        stream: UsageStream,
        ledger: Ledger,
        backlog: Backlog,
        observer: MeteringObserver,
        told: Callable[[Sequence[UsageEvent]], None],
    ) -> None:
        self._stream = stream
        self._writes = SharedWrites(ledger)
        self._backlog = backlog
        self._observer = observer
        self._told = told
        self._due = asyncio.Event()

    async def measure(self) -> None:
        """Count what waits in every shard, however long a drain takes; wake `drain_when_due` if there is anything."""
        await spread(COUNT_SECONDS, self._count, range(SHARDS))
        if self._waiting():
            self._due.set()

    async def drain_when_due(self) -> None:
        """Carry over what `measure` finds, as soon as it finds something."""
        await self._due.wait()
        self._due.clear()
        await self._carry()

    async def drain(self) -> int:
        """Carry over what waits in every shard; what cannot be carried now stays where it is."""
        await self.measure()
        return await self._carry()

    async def _carry(self) -> int:
        return sum(await asyncio.gather(*map(self._drain_shard, self._waiting())))

    def _waiting(self) -> list[int]:
        return [shard for shard in range(SHARDS) if self._backlog.of(shard)]

    async def _count(self, shard: int) -> None:
        """Measure one shard; without an answer the last count stands."""
        try:
            waiting = await self._stream.backlog(shard)
        except QuotaUnavailable:
            return
        self._backlog.note(shard, waiting)
        if not waiting:
            self._observer.ledger_reached(shard, None)

    async def _drain_shard(self, shard: int) -> int:
        carried = 0
        try:
            async with self._stream.turn(shard) as turn:
                # Looked at only now: what waited before may be what the last holder of the turn has just written.
                while turn.ours and self._backlog.of(shard):
                    lines = await self._stream.pending(shard)
                    await self._carry_over(shard, lines)
                    carried += len(lines)
                    self._backlog.note(shard, max(0, self._backlog.of(shard) - len(lines)) if lines else 0)
        except (QuotaUnavailable, LedgerUnavailable) as failure:
            self._observer.outage(type(failure).__name__, str(failure))
            return carried
        self._observer.ledger_reached(shard, None)
        return carried

    async def _carry_over(self, shard: int, lines: Sequence[tuple[str, UsageEvent]]) -> None:
        """Write lines and forget them; those that the ledger can never hold are put aside."""
        if not lines:
            return
        self._observer.ledger_reached(shard, lines[0][1].ended)
        reasons = await self._writes.write([event for _, event in lines])
        self._told([event for _, event in lines if event.event_id not in reasons])
        refused = {position: reasons[event.event_id] for position, event in lines if event.event_id in reasons}
        await self._stream.put_aside(shard, refused)
        await self._stream.remove(shard, [position for position, _ in lines if position not in refused])
