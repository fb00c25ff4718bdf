"""What was made is charged, however long that takes: at once, else from the disk, else from memory."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.quota import shard_of
from gateway.service.backlog import Backlog
from gateway.service.outbox import Outbox
from gateway.service.ports import MeteringObserver, QuotaEmptied, QuotaStore, QuotaUnavailable, Settlement, Spool

PART = "settlements"  # of the backlog
# Of those on disk that wait for the ledger only: with 4 KB each, 20,000 at once took 100 MB and a core (measured).
MOST_AT_ONCE = 100


class Settlements:
    """The settlements of this replica. None is dropped before the process ends.

    `refill` gives an emptied shard its counts back: there may be nobody else who asks for that of an idle project.
    """

    def __init__(
        self,
        store: QuotaStore,
        spool: Spool,
        backlog: Backlog,
        observer: MeteringObserver,
        outbox: Outbox,
        refill: Callable[[int], Awaitable[None]],
    ) -> None:
        self._store = store
        self._spool = spool
        self._backlog = backlog
        self._observer = observer
        self._outbox = outbox
        self._refill = refill
        self._unsaved: dict[str, Settlement] = {}  # neither made nor on disk, by the id of their event
        self._stuck: set[str] = set()  # made, and the disk does not let go of them

    def refuse_when_behind(self) -> None:
        """Raise LedgerBehind when so many wait that no new ones may come into being."""
        self._backlog.refuse_when_full()

    async def settle(self, settlement: Settlement) -> None:
        """Charge what was delivered and write the ledger's line; without an answer, it is done by `replay`."""
        try:
            if not await self._make_at_once(settlement):
                await self._spool.put(settlement)
        except OSError as failure:
            self._keep(settlement, str(failure))
        except asyncio.CancelledError:
            self._keep(settlement, "the gateway is stopping")
            raise

    async def replay(self) -> None:
        """Make what waits in memory and on disk; what cannot be made now holds up its own shard only.

        Raises:
            OSError: the disk cannot be read; what is in memory was tried all the same.
        """
        await self._save(await self._retry(list(self._unsaved.values())))
        waiting = [*await self._spool.waiting(), *await self._spool.confirmed(MOST_AT_ONCE)]
        left = await self._retry(waiting)
        unmade = sum(not settlement.confirmed for settlement in left)  # the others' lines wait in the streams
        self._backlog.note(PART, unmade + len(self._unsaved))

    async def review(self) -> None:
        """Make again what the store took and has lost since.

        Raises:
            QuotaUnavailable, LedgerUnavailable: the rest is for the next time.
        """
        for settlement in await self._outbox.review():
            await self._make_refilling(settlement)

    async def give_up(self) -> None:
        """Try a last time, and tell what is lost."""
        try:
            await self.replay()
        finally:
            for settlement in self._unsaved.values():
                self._observer.settlement_lost(settlement)

    async def _retry(self, settlements: Iterable[Settlement]) -> list[Settlement]:
        """Make settlements, all shards at once; give those that could not be made."""
        shards: defaultdict[int, list[Settlement]] = defaultdict(list)
        for settlement in settlements:
            shards[shard_of(settlement.event.project_id)].append(settlement)
        left = await asyncio.gather(*(self._retry_shard(*shard) for shard in shards.items()))
        return [settlement for shard in left for settlement in shard]

    async def _retry_shard(self, shard: int, settlements: list[Settlement]) -> list[Settlement]:
        """Make those of a shard that were not made before; give what is left, also when that cannot be told."""
        doubtful = [settlement for settlement in settlements if self._outbox.doubts(settlement)]
        made = await self._outbox.made(shard, doubtful)
        left = doubtful if made is None else []
        done = {*self._stuck, *(made or ())}
        for number, settlement in enumerate(settlements):
            if settlement in left:
                continue
            if settlement.event.event_id not in done and not await self._make_refilling(settlement):
                return [*left, *(one for one in settlements[number:] if one not in left)]
            await self._forget(settlement)
        return left

    async def _make_refilling(self, settlement: Settlement) -> bool:
        """Tell whether the store has it; when it was emptied, refill it first."""
        try:
            return await self._make(settlement)
        except QuotaEmptied as emptied:
            with suppress(QuotaUnavailable, DatabaseUnavailable):
                await self._refill(emptied.shard)
                return await self._make(settlement)
            return False

    async def _make_at_once(self, settlement: Settlement) -> bool:
        """Tell whether the store has it: nobody who waits for an answer waits for a refill."""
        try:
            return await self._make(settlement)
        except QuotaEmptied:
            return False

    async def _make(self, settlement: Settlement) -> bool:
        """Tell whether the store has it; QuotaEmptied when it has to be refilled first."""
        try:
            await self._store.settle(settlement.reservation, settlement.charged, settlement.event, settlement.ending)
        except QuotaEmptied:
            raise
        except QuotaUnavailable:
            return False
        await self._outbox.keep(settlement)
        return True

    async def _forget(self, settlement: Settlement) -> None:
        """Let go of what was made: also what the disk does not let go of is never made again."""
        event_id = settlement.event.event_id
        if self._unsaved.pop(event_id, None):
            self._tell()
            return
        try:
            await self._spool.remove(settlement)
            self._stuck.discard(event_id)
        except OSError as failure:
            if event_id not in self._stuck:
                self._observer.settlement_stuck(settlement, str(failure))
            self._stuck.add(event_id)

    async def _save(self, settlements: Iterable[Settlement]) -> None:
        """Move what is in memory to the disk, as far as the disk takes it."""
        for settlement in settlements:
            try:
                await self._spool.put(settlement)
            except OSError:
                return
            del self._unsaved[settlement.event.event_id]
            self._tell()

    def _keep(self, settlement: Settlement, reason: str) -> None:
        self._unsaved[settlement.event.event_id] = settlement
        self._observer.settlement_unsaved(settlement, reason)
        self._tell()

    def _tell(self) -> None:
        self._observer.settlements_unsaved(len(self._unsaved))
