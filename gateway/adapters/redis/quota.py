"""Reservations in Redis: the windows of a key and its project, taken and given back by scripts."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo

import msgspec

from gateway.adapters.redis.names import Names, encode_event
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.domain.quota import Calendar, Claim, Limit, Refusal, Reservation, Room, Subject, calendar_of, shard_of
from gateway.domain.usage import UsageEvent
from gateway.service.ports import QuotaEmptied, QuotaUnavailable

REMEMBERED = 600_000  # ms: how long a request id is known after its end
SETTLE_SECONDS = 5.0  # design.md section 6, "Outages"
LIMITS = tuple(Limit)

RoomWords = tuple[int, int, int, str, int]


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
    released: bool = False


_decoder = msgspec.json.Decoder(_Reply)


class RedisQuotas:
    """The quota store of one replica, `owner`. Leases are in seconds; so is the reserve deadline."""

    def __init__(self, scripts: Scripts, owner: str, zone: tzinfo, *, lease: float, deadline: float) -> None:
        self._scripts = scripts
        self._owner = owner
        self._zone = zone
        self._lease = lease
        self._deadline = deadline
        self._clock_ahead = 0  # ms: the store's clock minus ours, learned when the calendars disagree
        self.shards: set[int] = set()  # where this replica has taken something, so where its lease must be renewed

    async def reserve(self, claim: Claim) -> Reservation | Refusal:
        """Take everything or nothing; see the port for what is raised."""
        shard = shard_of(claim.project_id)
        self.shards.add(shard)
        reply = await self._reserve(claim, Names(shard))
        if reply.clock is not None:
            self._clock_ahead = reply.clock - _milliseconds()
            reply = await self._reserve(claim, Names(shard))
        if reply.empty:
            raise QuotaEmptied(shard)
        if reply.refused is not None:
            return Refusal(room=_room(reply.refused, claim.subjects))
        if reply.granted is None:
            raise QuotaUnavailable("the request was released before it was reserved")
        granted = reply.granted
        return Reservation(
            claim=claim,
            day=granted.day,
            month=granted.month,
            second=granted.second,
            rooms=tuple(_room(words, claim.subjects) for words in granted.rooms),
            shadowed=tuple(_room(words, claim.subjects) for words in granted.shadowed),
        )

    async def settle(self, reservation: Reservation, charged: int, event: UsageEvent) -> None:
        """Charge some of the pictures, give the rest back, append the event."""
        await self._end(reservation, "settled", charged, encode_event(event))

    async def release(self, claim: Claim) -> None:
        """Give back everything but the request, or keep a reserve that is still under way from taking anything."""
        await self._end(self.assumed(claim), "released", 0, b"")

    def assumed(self, claim: Claim) -> Reservation:
        """Say what a reserve without an answer would have taken from."""
        now = _milliseconds() + self._clock_ahead
        calendar = calendar_of(now, self._zone)
        return Reservation(claim=claim, day=calendar.days[0].name, month=calendar.months[0].name, second=now // 1000)

    async def _reserve(self, claim: Claim, names: Names) -> _Reply:
        calendar = calendar_of(_milliseconds() + self._clock_ahead, self._zone)
        keys = [
            names.of("reservation", claim.request_id),
            names.of("owners"),
            names.of("held", self._owner),
            names.of("clock"),
            names.of("epoch"),
        ]
        for subject in claim.subjects:
            keys += names.windows(
                subject.name,
                (day.name for day in calendar.days),
                (month.name for month in calendar.months),
            )
        try:
            reply = await self._scripts.run("reserve", keys, self._arguments(claim, calendar), self._deadline)
        except StoreUnavailable as failure:
            raise QuotaUnavailable(str(failure)) from failure
        return _decoder.decode(reply)

    def _arguments(self, claim: Claim, calendar: Calendar) -> list[object]:
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
            *(days[0].name, days[1].name, months[0].name, months[1].name),
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
            where = await self._read(names.of("reservation", reservation.claim.request_id))
            moved = replace(reservation, day=where[0].decode(), month=where[1].decode(), second=int(where[2]))
            await self._ended(moved, ending, charged, event)

    async def _ended(self, reservation: Reservation, ending: str, charged: int, event: bytes) -> bytes:
        claim = reservation.claim
        names = Names(shard_of(claim.project_id))
        keys = [
            names.of("reservation", claim.request_id),
            names.of("owners"),
            names.of("held", self._owner),
            names.of("clock"),
            names.of("events"),
        ]
        for subject in claim.subjects:
            keys += names.windows(subject.name, (reservation.day,), (reservation.month,))
        arguments = (
            *(claim.request_id, ending, charged, event, claim.price, reservation.second),
            *(self._owner, REMEMBERED, reservation.day, reservation.month),
        )
        try:
            ended: bytes = await self._scripts.run("settle", keys, arguments, SETTLE_SECONDS)
        except StoreUnavailable as failure:
            raise QuotaUnavailable(str(failure)) from failure
        return ended

    async def _read(self, reservation: str) -> list[bytes]:
        try:
            found: list[bytes] = await self._scripts.call("HMGET", reservation, "day", "month", "second")
        except StoreUnavailable as failure:
            raise QuotaUnavailable(str(failure)) from failure
        return found


def _room(words: RoomWords, subjects: Sequence[Subject]) -> Room:
    subject, limit, value, used, resets_in = words
    return Room(
        subject=subjects[subject - 1].name,
        limit=LIMITS[limit - 1],
        value=value,
        used=int(used),
        resets_in=resets_in,
    )


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
