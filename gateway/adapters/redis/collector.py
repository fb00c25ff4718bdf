"""Keeps this replica's leases alive, and gives back what dead replicas held."""

import asyncio
from collections.abc import Iterable

from gateway.adapters.redis.names import Names, decode_event
from gateway.adapters.redis.quota import REMEMBERED, SETTLE_SECONDS
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.quota import SHARDS, subject_names

RUN_SECONDS = 1.0
LONGEST_GAP = 5_000  # ms: design.md section 6, "Leases"
MOST_OWNERS = 16
DEADLINE = 2.0


class Collector:
    """One per replica; several at once are harmless, since every step is idempotent."""

    def __init__(self, scripts: Scripts, owner: str, *, lease: float) -> None:
        self._scripts = scripts
        self._owner = owner
        self._lease = round(lease * 1000)

    async def renew(self, shards: Iterable[int]) -> None:
        """Lengthen this replica's lease wherever it holds something; StoreUnavailable when there is no answer."""
        runs = []
        for shard in shards:
            names = Names(shard)
            keys = [names.of("owners"), names.of("clock")]
            runs.append(self._scripts.run("renew", keys, [self._owner, self._lease], DEADLINE))
        await asyncio.gather(*runs)

    async def collect(self) -> int:
        """Give back what owners with an ended lease hold, in every shard; the number of reservations.

        Raises:
            StoreUnavailable: the store did not answer; nothing is lost, the next run goes on.
        """
        found = await asyncio.gather(*(self._collect_shard(shard) for shard in range(SHARDS)))
        return sum(found)

    async def _collect_shard(self, shard: int) -> int:
        names = Names(shard)
        keys = [names.of("owners"), names.of("collected"), names.of("clock")]
        owners = await self._scripts.run("collect", keys, [LONGEST_GAP, MOST_OWNERS], DEADLINE)
        given_back = 0
        for owner in (raw.decode() for raw in owners):
            requests = await self._scripts.call("SMEMBERS", names.of("held", owner))
            for request in requests:
                given_back += await self._abandon(names, owner, request.decode())
            if not requests:
                await self._scripts.call("ZREM", names.of("owners"), owner)
        return given_back

    async def _abandon(self, names: Names, owner: str, request_id: str) -> bool:
        """End one reservation; False when its owner came back or another collector was first."""
        reservation = names.of("reservation", request_id)
        fields = ("record", "day", "month", "second", "price")
        record, day, month, second, price = await self._scripts.call("HMGET", reservation, *fields)
        if record is None:
            await self._scripts.call("SREM", names.of("held", owner), request_id)
            return False
        event = decode_event(record)
        held = names.of("held", owner)
        keys = [reservation, names.of("owners"), held, names.of("clock"), names.of("events"), names.of("epoch")]
        for subject in subject_names(event.key_id, event.project_id):
            keys += names.windows(subject, (day.decode(),), (month.decode(),))
        arguments = (request_id, "abandoned", 0, record, price, second, owner, REMEMBERED, day, month)
        return bool(await self._scripts.run("settle", keys, arguments, SETTLE_SECONDS) == b"settled")
