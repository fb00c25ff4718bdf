"""What was made is charged, however long that takes: at once, else from the disk, else from memory."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from gateway.domain.quota import shard_of
from gateway.service.backlog import Backlog
from gateway.service.ports import MeteringObserver, QuotaStore, QuotaUnavailable, Settlement, Spool

PART = "settlements"  # of the backlog


class Settlements:
    """The settlements of this replica. None is dropped before the process ends."""

    def __init__(self, store: QuotaStore, spool: Spool, backlog: Backlog, observer: MeteringObserver) -> None:
        self._store = store
        self._spool = spool
        self._backlog = backlog
        self._observer = observer
        self._unsaved: dict[str, Settlement] = {}  # neither made nor on disk, by the id of their event

    def refuse_when_behind(self) -> None:
        """Raise LedgerBehind when so many wait that no new ones may come into being."""
        self._backlog.refuse_when_full()

    async def settle(self, settlement: Settlement) -> None:
        """Charge what was delivered and write the ledger's line; without an answer, it is done by `replay`."""
        try:
            if not await self._make(settlement):
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
        waiting = await self._spool.waiting()
        left = await self._retry(waiting)
        self._backlog.note(PART, len(left) + len(self._unsaved))

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
        left = await asyncio.gather(*map(self._retry_shard, shards.values()))
        return [settlement for shard in left for settlement in shard]

    async def _retry_shard(self, settlements: list[Settlement]) -> list[Settlement]:
        for number, settlement in enumerate(settlements):
            if not await self._make(settlement):
                return settlements[number:]
            await self._forget(settlement)
        return []

    async def _make(self, settlement: Settlement) -> bool:
        """Tell whether the store has it."""
        try:
            await self._store.settle(settlement.reservation, settlement.charged, settlement.event, settlement.ending)
        except QuotaUnavailable:
            return False
        return True

    async def _forget(self, settlement: Settlement) -> None:
        if self._unsaved.pop(settlement.event.event_id, None):
            self._tell()
        else:
            await self._spool.remove(settlement)

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
