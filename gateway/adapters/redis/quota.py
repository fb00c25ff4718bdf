"""Reservations in Redis: the windows of a key and its project, taken and given back by scripts."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Any

import msgspec

from gateway.adapters.redis.links import Confirmed
from gateway.adapters.redis.names import Names, encode_event
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.domain.flights import Ending
from gateway.domain.limits import Limit, Room
from gateway.domain.quota import Calendar, Claim, Counts, Refusal, Reservation, Subject, calendar_of, shard_of
from gateway.domain.usage import UsageEvent
from gateway.service.ports import QuotaEmptied, QuotaRestoring, QuotaUnavailable, Settlement

REMEMBERED = 600_000  # ms: how long a request id is known after its end
# After a loss: time for every replica to notice (each looks once a second) and to take again what it holds.
RESTORE_MILLISECONDS = 3_000
# The drain carries lines to the ledger within a second; what was settled longer ago is there, unless SQL is down.
RECENT_SECONDS, MOST_RECENT = 300.0, 20_000
SETTLE_SECONDS = 5.0  # design.md section 6, "Outages"
LIMITS = tuple(Limit)

RoomWords = tuple[int, int, str, str, int]


class _Granted(msgspec.Struct):
    day: str
    month: str
    second: int
    rooms: list[RoomWords] = []
    shadowed: list[RoomWords] = []


class _Reply(msgspec.Struct):
    """reserve.lua's answer: one of these."""

    granted: _Granted | None = None
    refused: RoomWords | None = None
    clock: int | None = None
    empty: bool = False
    restoring: int | None = None
    released: bool = False


_decoder = msgspec.json.Decoder(_Reply)


class RedisQuotas:
    """The quota store of one replica, `owner`. Leases are in seconds; so is the reserve deadline.

    `wait_replicas` of the store have to have a settlement, else it fails and is to be repeated. A reservation that
    they do not have is counted in `unconfirmed` and stands: right after a failover nobody could confirm any.
    """

    def __init__(
        self,
        scripts: Scripts,
        owner: str,
        zone: tzinfo,
        *,
        lease: float,
        deadline: float,
        wait_replicas: int = 0,
    ) -> None:
        self._scripts = scripts
        self._owner = owner
        self._zone = zone
        self._lease = lease
        self._deadline = deadline
        self._wait_replicas = wait_replicas
        self.unconfirmed = 0
        self._open: dict[str, Claim] = {}
        self._recent: deque[tuple[float, Settlement]] = deque(maxlen=MOST_RECENT)
        self._clock_ahead = 0  # ms: the store's clock minus ours, learned when the calendars disagree
        self.shards: set[int] = set()  # where this replica has taken something, so where its lease must be renewed

    async def reserve(self, claim: Claim) -> Reservation | Refusal:
        """Take everything or nothing; see the port for what is raised."""
        shard = shard_of(claim.project_id)
        self.shards.add(shard)
        reply = await self._reserve(claim, Names(shard))
        if reply.empty:
            raise QuotaEmptied(shard)
        if reply.restoring is not None:
            raise QuotaRestoring(reply.restoring / 1000)
        if reply.refused is not None:
            return Refusal(room=_room(reply.refused, claim.subjects))
        if reply.granted is None:
            raise QuotaUnavailable("the request was released before it was reserved")
        self._open[claim.request_id] = claim
        return _reservation(claim, reply.granted)

    async def settle(
        self, reservation: Reservation, charged: int, event: UsageEvent, ending: Ending | None = None
    ) -> None:
        """Charge some of the pictures, give the rest back, append the event."""
        await self._end(reservation, "settled", charged, encode_event(event))
        self._open.pop(event.event_id, None)
        self._recent.append((time.monotonic(), Settlement(reservation=reservation, charged=charged, event=event)))

    async def release(self, claim: Claim) -> None:
        """Give back everything but the request, or keep a reserve that is still under way from taking anything."""
        await self._end(self.assumed(claim), "released", 0, b"")
        self._open.pop(claim.request_id, None)

    def assumed(self, claim: Claim) -> Reservation:
        """Say what a reserve without an answer would have taken from."""
        now = _milliseconds() + self._clock_ahead
        calendar = calendar_of(now, self._zone)
        return Reservation(claim=claim, day=calendar.days[0].name, month=calendar.months[0].name, second=now // 1000)

    async def refill(self, shard: int, calendar: Calendar, counts: Mapping[str, Counts], *, fresh: bool) -> None:
        """Give an emptied shard its counts back."""
        names, (day, month) = Names(shard), (calendar.days[0], calendar.months[0])
        keys = [names.of("epoch"), names.of("clock")]
        arguments: list[object] = [0 if fresh else RESTORE_MILLISECONDS, day.ends, month.ends]
        for subject, count in counts.items():
            keys += names.windows(subject, (day.name,), (month.name,))[1:3]
            arguments += (count.images_today, count.images_this_month, count.spend)
        await _asked(self._scripts.run("refill", keys, arguments, SETTLE_SECONDS))

    async def losses(self) -> list[tuple[int, str]]:
        """Name the shards that are being refilled, among those where this replica took something."""
        shards = sorted(self.shards)
        epochs = [self._scripts.call("GET", Names(shard).of("epoch")) for shard in shards]
        found = await _asked(asyncio.gather(*epochs))
        pairs = zip(shards, found, strict=True)
        return [(shard, epoch.decode()) for shard, epoch in pairs if epoch not in {None, b"ready"}]

    def held(self, shard: int) -> tuple[list[Claim], list[Settlement]]:
        """Tell what this replica has not settled yet, and what it settled so lately that the ledger may lack it."""
        while self._recent and time.monotonic() - self._recent[0][0] > RECENT_SECONDS:
            self._recent.popleft()
        claims = [claim for claim in self._open.values() if shard_of(claim.project_id) == shard]
        recent = [settled for _, settled in self._recent if shard_of(settled.event.project_id) == shard]
        return claims, recent

    async def take_again(self, claim: Claim) -> None:
        """Take what was lost with the store, over a limit if need be."""
        await self._reserve(claim, Names(shard_of(claim.project_id)), again=True)

    async def _reserve(self, claim: Claim, names: Names, *, again: bool = False) -> _Reply:
        """Reserve by our calendar; when the store's clock is not in it, learn how far ours is off and ask again."""
        reply = await self._reserved(claim, names, again=again)
        if reply.clock is not None:
            self._clock_ahead = reply.clock - _milliseconds()
            reply = await self._reserved(claim, names, again=again)
        return reply

    async def _reserved(self, claim: Claim, names: Names, *, again: bool) -> _Reply:
        calendar = calendar_of(_milliseconds() + self._clock_ahead, self._zone)
        keys = [*self._common_keys(claim, names), names.of("epoch")]
        for subject in claim.subjects:
            keys += names.windows(
                subject.name,
                (day.name for day in calendar.days),
                (month.name for month in calendar.months),
            )
        arguments = self._arguments(claim, calendar, again=again)
        done = await self._run("reserve", keys, arguments, self._deadline)
        reply = _decoder.decode(done.reply)
        self.unconfirmed += reply.granted is not None and done.replicas < self._wait_replicas
        return reply

    def _common_keys(self, claim: Claim, names: Names) -> list[str]:
        """Name what both reserve.lua and settle.lua begin with."""
        return [
            names.of("reservation", claim.request_id),
            names.of("owners"),
            names.of("held", self._owner),
            names.of("clock"),
        ]

    def _arguments(self, claim: Claim, calendar: Calendar, *, again: bool) -> list[object]:
        days, months = calendar.days, calendar.months
        arguments: list[object] = [
            *(
                claim.request_id,
                self._owner,
                round(self._lease * 1000),
                claim.pictures,
                claim.price,
                encode_event(claim.abandoned),
            ),
            *(days[0].starts, days[0].ends, days[1].ends, months[0].starts, months[0].ends, months[1].ends),
            *(days[0].name, days[1].name, months[0].name, months[1].name, int(again)),
        ]
        for subject in claim.subjects:
            values = (subject.limits.value(limit) for limit in LIMITS)
            arguments += (-1 if value is None else value for value in values)
            arguments.append(int(subject.limits.shadow))
        return arguments

    async def _end(self, reservation: Reservation, ending: str, charged: int, event: bytes) -> None:
        """End a reservation; when it took from other windows than assumed, ask which and end it there."""
        if await self._ended(reservation, ending, charged, event) == b"moved":
            names = Names(shard_of(reservation.claim.project_id))
            reading = self._scripts.call(
                "HMGET", names.of("reservation", reservation.claim.request_id), "day", "month", "second"
            )
            where = await _asked(reading)
            moved = replace(reservation, day=where[0].decode(), month=where[1].decode(), second=int(where[2]))
            await self._ended(moved, ending, charged, event)

    async def _ended(self, reservation: Reservation, ending: str, charged: int, event: bytes) -> bytes:
        claim = reservation.claim
        names = Names(shard_of(claim.project_id))
        keys = [*self._common_keys(claim, names), names.of("events"), names.of("epoch")]
        for subject in claim.subjects:
            keys += names.windows(subject.name, (reservation.day,), (reservation.month,))
        arguments = (
            *(claim.request_id, ending, charged, event, claim.price, reservation.second),
            *(self._owner, REMEMBERED, reservation.day, reservation.month),
        )
        done = await self._run("settle", keys, arguments, SETTLE_SECONDS)
        ended: bytes = done.reply
        if ended == b"empty":
            raise QuotaUnavailable("the store was emptied and is not refilled yet")
        if ended != b"moved" and done.replicas < self._wait_replicas:
            raise QuotaUnavailable(f"{ending}, but only {done.replicas} replicas of the store know it yet")
        return ended

    async def _run(self, name: str, keys: Sequence[str], arguments: Sequence[object], deadline: float) -> Confirmed:
        running = self._scripts.run_confirmed(name, keys, arguments, deadline, self._wait_replicas)
        confirmed: Confirmed = await _asked(running)
        return confirmed


async def _asked(answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - what the store answers
    """Wait for the store; QuotaUnavailable when it does not answer."""
    try:
        return await answer
    except StoreUnavailable as failure:
        raise QuotaUnavailable(str(failure)) from failure


def _reservation(claim: Claim, granted: _Granted) -> Reservation:
    return Reservation(
        claim=claim,
        day=granted.day,
        month=granted.month,
        second=granted.second,
        rooms=tuple(_room(words, claim.subjects) for words in granted.rooms),
        shadowed=tuple(_room(words, claim.subjects) for words in granted.shadowed),
    )


def _room(words: RoomWords, subjects: Sequence[Subject]) -> Room:
    subject, limit, value, used, resets_in = words
    return Room(
        subject=subjects[subject - 1].name,
        limit=LIMITS[limit - 1],
        value=int(value),
        used=int(used),
        resets_in=resets_in,
    )


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
