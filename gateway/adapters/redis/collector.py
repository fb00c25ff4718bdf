"""Keeps this replica's leases alive, and gives back what dead replicas held."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.adapters.redis.names import Names, Tagged
from gateway.adapters.redis.plans import SharedPlans, place_of, told_of
from gateway.adapters.redis.quota import SETTLE_SECONDS
from gateway.adapters.redis.records import read_orphan, read_record
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.redis.settling import Settling
from gateway.domain.quota import SHARDS, Reservation
from gateway.service.errands import spread
from gateway.service.ports_flights import Orphan

LONGEST_GAP = 5_000  # ms: design.md section 6, "Leases"
MOST_OWNERS = 16
SPREAD_SECONDS = 0.3  # over which the shards are looked at
DEADLINE = 2.0


Rescue = Callable[[Orphan], object]


class Collector:
    """One per replica; several at once are harmless, since every step is idempotent.

    `rescue` is handed the jobs of dead owners that have paid something; without it they are abandoned like all others.
    `shards` is told where this replica's lease has to be renewed from then on.
    """

    def __init__(
        self,
        scripts: Scripts,
        owner: str,
        *,
        lease: float,
        rescue: Rescue | None = None,
        shards: set[int] | None = None,
    ) -> None:
        self._scripts = scripts
        self._owner = owner
        self._lease = round(lease * 1000)
        self._rescue = rescue
        self._shards = set() if shards is None else shards
        self._shared = SharedPlans(scripts)
        self._rescuing: dict[
            str, tuple[Reservation, str]
        ] = {}  # with the dead owner: to be asked again without an answer

    async def renew(self, places: Iterable[Tagged]) -> None:
        """Lengthen this replica's lease wherever it holds something; StoreUnavailable when there is no answer."""
        runs = []
        for names in places:
            keys = [names.of("owners"), names.of("clock")]
            runs.append(self._scripts.run("renew", keys, [self._owner, self._lease], DEADLINE))
        await asyncio.gather(*runs)

    async def collect(self) -> int:
        """Give back what owners with an ended lease hold, in every shard; the number of reservations.

        Raises:
            StoreUnavailable: the store did not answer; nothing is lost, the next run goes on.
        """
        for reservation, owner in tuple(self._rescuing.values()):
            await self._take_over(reservation, owner)
        return sum(await spread(SPREAD_SECONDS, self._collect_shard, range(SHARDS)))

    async def _collect_shard(self, shard: int) -> int:
        names = Names(shard)
        keys = [names.of("owners"), names.of("collected"), names.of("clock")]
        owners = await self._scripts.run("collect", keys, [LONGEST_GAP, MOST_OWNERS], DEADLINE)
        given_back = 0
        for owner in (raw.decode() for raw in owners):
            if owner == self._owner:
                continue  # it runs, so it lives; its heartbeat renews the lease
            requests = await self._scripts.call("SMEMBERS", names.of("held", owner))
            for request in requests:
                given_back += await self._abandon(names, owner, request.decode())
            if not requests:
                await self._scripts.call("ZREM", names.of("owners"), owner)
        return given_back

    async def _abandon(self, names: Names, owner: str, request_id: str) -> bool:
        """End one reservation; False when its owner came back, another collector was first, or it was rescued."""
        key = names.of("reservation", request_id)
        record = await read_record(self._scripts, key)
        if record is None:
            await self._scripts.call("SREM", names.of("held", owner), request_id)
            return False
        told = told_of(record.reservation, None, range(record.reservation.claim.pictures))
        settling = Settling(reservation=record.reservation, owner=owner, told=told, rescuable=self._rescue is not None)
        arguments = settling.arguments("abandoned", 0, record.line)
        ended = await self._scripts.run("settle", settling.keys(), arguments, SETTLE_SECONDS)
        if ended == b"paid":
            self._rescuing[request_id] = (record.reservation, owner)
            await self._take_over(record.reservation, owner)
        place = place_of(record.reservation.claim)
        if ended == b"settled" and told is not None and place.shared:
            await self._shared.land(request_id, place, told)
        return bool(ended == b"settled")

    async def _take_over(self, reservation: Reservation, owner: str) -> None:
        """Make a dead owner's job this replica's, and hand it on to be accounted for."""
        request_id, names = reservation.claim.request_id, place_of(reservation.claim).home
        record = names.of("reservation", request_id)
        held = (names.of("held", owner), names.of("held", self._owner))
        keys = [record, names.of("owners"), *held, names.of("clock")]
        arguments = (request_id, owner, self._owner, self._lease, reservation.fence)
        self._shards.add(names.shard)
        fence = await self._scripts.run("rescue", keys, arguments, DEADLINE)
        if fence and self._rescue is not None:
            self._rescue(await read_orphan(self._scripts, record, replace(reservation, fence=fence)))
        del self._rescuing[request_id]
