"""What the store took is not lost with it: a replica keeps its settlements until the ledger has their lines."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.domain.quota import shard_of
from gateway.domain.usage import UsageEvent
from gateway.service.ports import (
    KNOWN_SECONDS,
    Clock,
    Ledger,
    LedgerUnavailable,
    QuotaStore,
    QuotaUnavailable,
    Settlement,
    Spool,
    UsageStream,
)

# A single server with `appendfsync everysec` loses what is younger than this when it dies; a failover loses less.
SURE_SECONDS = 2.0
AGAIN_SECONDS = 60.0  # between two looks at what the ledger still lacks
DOUBT = timedelta(seconds=KNOWN_SECONDS - 60)  # after it the store is not relied upon to know a request
MOST = 8_000  # in memory, some 30 MB; further ones wait on disk


@dataclass(slots=True)
class _Kept:
    """A settlement that the store took; at `look`, by the monotonic clock, it is asked whether it has it still.

    `told`: the ledger has its line, or a better one.
    """

    settlement: Settlement
    look: float
    sure: bool = False
    told: bool = False


class Outbox:
    """The settlements of this replica that the store took, as long as the ledger is not known to have their lines."""

    def __init__(
        self, store: QuotaStore, ledger: Ledger, stream: UsageStream, spool: Spool, clock: Clock, *, most: int = MOST
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._stream = stream
        self._spool = spool
        self._clock = clock
        self._most = most
        self._kept: dict[str, _Kept] = {}

    async def keep(self, settlement: Settlement) -> None:
        """Keep what the store took now; when that are too many, the oldest goes to disk if there is room."""
        taken = replace(settlement, since=self._clock.now(), confirmed=True)
        self._kept.pop(taken.event.event_id, None)
        self._kept[taken.event.event_id] = _Kept(taken, self._clock.monotonic() + SURE_SECONDS)
        if len(self._kept) > self._most:
            oldest = next(iter(self._kept.values())).settlement
            with suppress(OSError):  # no more can wait than ledger.max_backlog says
                await self._spool.put(oldest)
                self._kept.pop(oldest.event.event_id, None)

    async def review(self) -> list[Settlement]:
        """Forget what the store has for good and the ledger too; give what the store has lost.

        Raises:
            QuotaUnavailable, LedgerUnavailable: the rest is for the next time.
        """
        lost = await self._look(self._clock.monotonic())
        sure = [kept for kept in self._kept.values() if kept.sure]
        for kept in sure:
            if kept.told:
                del self._kept[kept.settlement.event.event_id]
        await self._forget_told([kept.settlement for kept in sure if not kept.told])
        return lost

    def told(self, lines: Iterable[UsageEvent]) -> None:
        """Note that the ledger has these lines: it need not be asked for them."""
        for line in lines:
            kept = self._kept.get(line.event_id)
            if kept is not None:
                kept.told = kept.settlement.event.is_told_by(line.outcome)

    async def settle_again(self, shard: int) -> None:
        """Settle what is kept of a shard that was emptied and refilled: the refill names what it counted of late.

        Raises:
            QuotaUnavailable, LedgerUnavailable: the rest is for the next time.
        """
        all_kept = [kept.settlement for kept in self._kept.values()]
        kept = [settlement for settlement in all_kept if shard_of(settlement.event.project_id) == shard]
        told = await self._told([settlement for settlement in kept if self._is_old(settlement.event.ended)])
        for settlement in kept:
            if settlement.event.event_id not in told:
                await self._store.settle(
                    settlement.reservation, settlement.charged, settlement.event, settlement.ending
                )

    def doubts(self, settlement: Settlement) -> bool:
        """Tell whether to settle this again could charge it twice: the store knows by itself what it settled lately."""
        return settlement.confirmed or settlement.since is None or self._is_old(settlement.since)

    async def made(self, shard: int, doubtful: Sequence[Settlement]) -> Collection[str] | None:
        """Name those of a shard that were made before, by their events; None when that cannot be told now.

        The ledger has the lines of all that were made, once those are there that wait in the stream.
        """
        try:
            if doubtful and await self._stream.backlog(shard):
                return None
            return await self._told(doubtful)
        except (QuotaUnavailable, LedgerUnavailable):
            return None

    async def close(self) -> None:
        """Put to disk what the ledger is not known to have.

        Raises:
            OSError: the disk refuses.
        """
        try:
            await self._forget_told([kept.settlement for kept in self._kept.values()])
        finally:
            for kept in tuple(self._kept.values()):
                await self._spool.put(kept.settlement)

    async def _look(self, now: float) -> list[Settlement]:
        """Ask the store for what it is time to ask for, unless it may have forgotten that in due course."""
        due = [kept for kept in self._kept.values() if kept.look <= now]
        asked = [kept.settlement for kept in due if not self._is_old(kept.settlement.since)]
        lost = await self._store.lost(asked) if asked else []
        names = {settlement.event.event_id for settlement in lost}
        for kept in due:
            kept.sure = kept.settlement.event.event_id not in names
            kept.look = now + (AGAIN_SECONDS if kept.sure else 0)
        return lost

    async def _forget_told(self, settlements: Sequence[Settlement]) -> None:
        for find in (self._written, self._refused):
            kept = [one for one in settlements if one.event.event_id in self._kept]
            for event_id in await find(kept):
                self._kept.pop(event_id, None)

    async def _told(self, settlements: Sequence[Settlement]) -> set[str]:
        """Name those that need not be told to the ledger any more."""
        written = await self._written(settlements)
        return written | await self._refused([one for one in settlements if one.event.event_id not in written])

    async def _written(self, settlements: Sequence[Settlement]) -> set[str]:
        """Name those whose lines the ledger has, or better ones."""
        if not settlements:
            return set()
        known = await self._ledger.known([settlement.event.event_id for settlement in settlements])
        events = (settlement.event for settlement in settlements)
        return {event.event_id for event in events if event.is_told_by(known.get(event.event_id))}

    async def _refused(self, settlements: Sequence[Settlement]) -> set[str]:
        """Name those whose lines were put aside: the ledger never has them, and they would be charged anew."""
        shards: defaultdict[int, list[str]] = defaultdict(list)
        for event in (settlement.event for settlement in settlements):
            shards[shard_of(event.project_id)].append(event.event_id)
        return {name for shard, names in shards.items() for name in await self._stream.refused(shard, names)}

    def _is_old(self, moment: datetime | None) -> bool:
        return moment is None or self._clock.now() - moment >= DOUBT
