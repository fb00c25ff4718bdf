"""Reservations in Redis: the windows of a key and its project, taken and given back by scripts."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import tzinfo

from gateway.adapters.redis.held import Held, Holdings
from gateway.adapters.redis.links import Confirmed
from gateway.adapters.redis.names import Names, decode_event, encode_event, milliseconds_of
from gateway.adapters.redis.plans import Place, SharedPlans, Told, place_of, told_of
from gateway.adapters.redis.replies import Reply, asked, reply_decoder, understood
from gateway.adapters.redis.reserving import Rules, reserve_arguments, reserve_keys
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.redis.settling import REMEMBERED, Settling
from gateway.domain.flights import Ending, Lead
from gateway.domain.quota import Calendar, Calendars, Claim, Counts, Refusal, Reservation, shard_of
from gateway.domain.usage import UsageEvent
from gateway.service.ports import QuotaEmptied, QuotaUnavailable, Settlement

# After a loss: time for every replica to notice (each looks once a second) and to take again what it holds.
RESTORE_MILLISECONDS = 3_000
LOOKED_AT = 500  # settlements that one script looks at: 0.3 ms of the server's time
SETTLE_SECONDS = 5.0  # design.md section 6, "Outages"


class RedisQuotas:
    """The quota store of one replica.

    A settlement that too few replicas of the store have fails and is to be repeated. A reservation that they do not
    have is counted in `unconfirmed` and stands: right after a failover nobody could confirm any.
    """

    def __init__(self, scripts: Scripts, zone: tzinfo, rules: Rules) -> None:
        self._scripts = scripts
        self._shared = SharedPlans(scripts)
        self._calendars = Calendars(zone)
        self._rules = rules
        self.unconfirmed = 0
        self.holdings = Holdings()  # RedisFlights notes there what becomes of them
        self._clock_ahead = 0  # ms: the store's clock minus ours, learned when the calendars disagree
        self.shards: set[int] = set()  # where this replica has taken something, so where its lease must be renewed

    async def reserve(self, claim: Claim) -> Reservation | Refusal:
        """Take everything or nothing; see the port for what is raised."""
        place = place_of(claim)
        self.shards.add(place.home.shard)
        answer: Reservation | Refusal | None = None
        found = await asked(self._shared.claim(claim, place, self._rules.deadline)) if place.shared else b""
        try:
            answer = await self._take(claim, place, found)
        finally:
            if place.shared and not (isinstance(answer, Reservation) and answer.replay is None):
                with suppress(QuotaUnavailable):  # who follows it notices by itself
                    await self._end_flights(
                        Settlement(reservation=self.assumed(claim), charged=0, event=claim.abandoned)
                    )
        return answer

    async def _take(self, claim: Claim, place: Place, found: bytes) -> Reservation | Refusal:
        began = time.monotonic()
        reply = await self._reserve(claim, place, found)
        answer = understood(claim, place.home.shard, reply)
        if isinstance(answer, Reservation) and (claim.sought is None or answer.leads):
            self.holdings.take(claim, answer.leads[0].index if answer.leads else 0, began)
        return answer

    async def settle(
        self, reservation: Reservation, charged: int, event: UsageEvent, ending: Ending | None = None
    ) -> None:
        """Charge some of the pictures, give the rest back, append the event, tell those who wait."""
        settlement = Settlement(reservation=reservation, charged=charged, event=event, ending=ending)
        await self._end("settled", settlement)
        self.holdings.drop(event.event_id)

    async def release(self, claim: Claim) -> None:
        """Give back everything but the request, or keep a reserve that is still under way from taking anything."""
        released = Settlement(reservation=self.assumed(claim), charged=0, event=claim.abandoned)
        await self._end("released", released)
        self.holdings.drop(claim.request_id)

    def assumed(self, claim: Claim) -> Reservation:
        """Say what a reserve without an answer would have taken from."""
        now = _milliseconds() + self._clock_ahead
        calendar = self._calendars.at(now)
        return Reservation(
            claim=claim,
            day=calendar.days[0].name,
            month=calendar.months[0].name,
            moment=now,
            leads=tuple(Lead(index=index) for index in range(claim.pictures)) if claim.sought else (),
        )

    async def now(self, shard: int) -> int:
        """Give the store's time in ms since 1970."""
        moment: int = await asked(self._scripts.run("moment", [Names(shard).of("clock")], (), self._rules.deadline))
        return moment

    async def refill(
        self,
        shard: int,
        calendar: Calendar,
        counts: Mapping[str, Counts],
        counted: Collection[str] = (),
        *,
        fresh: bool,
    ) -> None:
        """Give an emptied shard its counts back."""
        names, (day, month) = Names(shard), (calendar.days[0], calendar.months[0])
        keys = [names.of("epoch"), names.of("clock"), names.of("counted")]
        wait = 0 if fresh else RESTORE_MILLISECONDS
        arguments: list[object] = [wait, day.ends, month.ends, REMEMBERED, len(counted), *counted]
        for subject, count in counts.items():
            keys += names.windows(subject, (day.name,), (month.name,))[1:3]
            arguments += (count.images_today, count.images_this_month, count.spend)
        await asked(self._scripts.run("refill", keys, arguments, SETTLE_SECONDS))

    async def losses(self) -> list[tuple[int, str]]:
        """Name the shards that are being refilled, among those where this replica took something."""
        shards = sorted(self.shards)
        epochs = [self._scripts.call("GET", Names(shard).of("epoch")) for shard in shards]
        found = await asked(asyncio.gather(*epochs))
        pairs = zip(shards, found, strict=True)
        return [(shard, epoch.decode()) for shard, epoch in pairs if epoch not in {None, b"ready"}]

    def held(self, shard: int) -> list[Claim]:
        """Tell what this replica has not settled yet."""
        return self.holdings.of(shard)

    async def lost(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Give those settlements that the store does not have."""
        shards: defaultdict[int, list[Settlement]] = defaultdict(list)
        for settlement in settlements:
            shards[shard_of(settlement.event.project_id)].append(settlement)
        some = (all_[at : at + LOOKED_AT] for all_ in shards.values() for at in range(0, len(all_), LOOKED_AT))
        found = await asyncio.gather(*map(self._lost, some))
        return [settlement for lost in found for settlement in lost]

    async def take_again(self, claim: Claim) -> None:
        """Take what was lost with the store, over a limit if need be."""
        if lost := self.holdings.get(claim.request_id):
            await self._reserve(claim, place_of(claim), b"", lost)

    async def _lost(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Look at those of one shard at once: a command for each costs 0.07 ms."""
        keys = [_record(settlement.reservation) for settlement in settlements]
        settled = await asked(self._scripts.run("settled", keys, (), self._rules.deadline))
        return [settlement for settlement, there in zip(settlements, settled, strict=True) if not there]

    async def _reserve(self, claim: Claim, place: Place, found: bytes, lost: Held | None = None) -> Reply:
        """Reserve by our calendar; when the store's clock is not in it, learn how far ours is off and ask again."""
        reply = await self._reserved(claim, place, found, lost)
        if reply.clock is not None:
            self._clock_ahead = reply.clock - _milliseconds()
            reply = await self._reserved(claim, place, found, lost)
        return reply

    async def _reserved(self, claim: Claim, place: Place, found: bytes, lost: Held | None) -> Reply:
        calendar = self._calendars.at(_milliseconds() + self._clock_ahead)
        keys = reserve_keys(claim, place, self._rules.owner, calendar)
        arguments = reserve_arguments(claim, place, self._rules, calendar, found, lost)
        done = await self._run("reserve", keys, arguments, self._rules.deadline)
        reply = reply_decoder.decode(done.reply)
        self.unconfirmed += reply.granted is not None and done.replicas < self._rules.wait_replicas
        return reply

    async def _end(self, how: str, settlement: Settlement) -> None:
        """End a reservation, and its flights where they lie in another slot."""
        if (ended := await self._ended(settlement, how)) == b"moved":
            moved = await self._moved(settlement.reservation)
            ended = await self._ended(replace(settlement, reservation=moved), how)
        if ended != b"fenced":
            await self._end_flights(settlement)

    async def _end_flights(self, settlement: Settlement) -> None:
        claim = settlement.reservation.claim
        place = place_of(claim)
        if place.shared and (told := _told(settlement)) is not None:
            await asked(self._shared.land(claim.request_id, place, told))

    async def _moved(self, reservation: Reservation) -> Reservation:
        """Ask from which windows a reservation took, when not from those assumed."""
        where = await asked(self._scripts.call("HMGET", _record(reservation), "day", "month", "record"))
        moment = milliseconds_of(decode_event(where[2]).time)
        return replace(reservation, day=where[0].decode(), month=where[1].decode(), moment=moment)

    async def _ended(self, settlement: Settlement, how: str) -> bytes:
        reservation = settlement.reservation
        line = encode_event(settlement.event, reservation.time) if how == "settled" else b""
        settling = Settling(reservation=reservation, owner=self._rules.owner, told=_told(settlement))
        arguments = settling.arguments(how, settlement.charged, line)
        done = await self._run("settle", settling.keys(), arguments, SETTLE_SECONDS)
        ended: bytes = done.reply
        if ended == b"empty":
            raise QuotaEmptied(shard_of(reservation.claim.project_id))
        if ended != b"moved" and done.replicas < self._rules.wait_replicas:
            raise QuotaUnavailable(f"{how}, but only {done.replicas} replicas of the store know it yet")
        return ended

    async def _run(self, name: str, keys: Sequence[str], arguments: Sequence[object], deadline: float) -> Confirmed:
        running = self._scripts.run_confirmed(name, keys, arguments, deadline, self._rules.wait_replicas)
        confirmed: Confirmed = await asked(running)
        return confirmed


def _record(reservation: Reservation) -> str:
    return Names(shard_of(reservation.claim.project_id)).of("reservation", reservation.claim.request_id)


def _told(settlement: Settlement) -> Told | None:
    """Tell the flights of a job that none is left."""
    pictures = settlement.reservation.claim.pictures
    return told_of(settlement.reservation, settlement.ending, range(pictures))


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
