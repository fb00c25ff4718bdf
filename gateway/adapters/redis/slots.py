"""Slots in Redis: one queue for each model, over all replicas, kept by scripts."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.adapters.redis.collector import LONGEST_GAP, MOST_OWNERS
from gateway.adapters.redis.names import GRANTS, PARKS, ModelNames
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.domain.slots import Gone, Granted, Park, Seat, Seen, Standing, Tended, Ticket
from gateway.service.ports_slots import SlotsUnavailable

SECONDS = 5.0  # how long an answer is waited for beside the way of a request
# As lua/lib/slots.lua lists them.
KEYS = ("clock", "owners", "turns", "past", "weights", "tickets", "parked", "accounts", "rota", "state")


class Reply(msgspec.Struct):
    """What the scripts answer: times in ms, places as texts."""

    granted: list[tuple[str, str, str, str]] = []
    waiting: list[tuple[str, str]] = []
    refused: dict[str, int] = {}
    parked: list[Park] = []
    usable: bool = True
    pause: float | None = None


class TendReply(Reply):
    """What tend.lua answers."""

    length: int = 0
    missing: list[str] = []
    names: list[str] = []
    held: int = 0


_reply = msgspec.json.Decoder(Reply)
_tended = msgspec.json.Decoder(TendReply)
_seen = msgspec.json.Decoder(list[Seen])


class RedisSlots:
    """The slot store port of one replica, `owner`. Its lease is in seconds; `longest` is how many may wait at once.

    `longest_call`: seconds that a call of a dead replica may still run upstream; `deadline`: that a picture waits to be
    let in.
    """

    def __init__(
        self, scripts: Scripts, owner: str, *, lease: float, longest: int, longest_call: float, deadline: float
    ) -> None:
        self._scripts = scripts
        self._owner = owner
        self._lease = round(lease * 1000)
        self._longest = longest
        self._longest_call = round(longest_call * 1000)
        self._deadline = deadline
        self.models: set[str] = set()  # where this replica holds something, so where its lease must be renewed
        self.channel = GRANTS + owner

    def lengthen_calls(self, seconds: float) -> None:
        """Say that calls may run so long upstream; those that began before may still run as long as was said then."""
        self._longest_call = max(self._longest_call, round(seconds * 1000))

    async def enter(self, model: str, seats: Sequence[Seat], tickets: Sequence[Ticket]) -> Standing:
        """Let pictures wait, or give them slots at once."""
        self.models.add(model)
        wanted = _json([_wish(ticket) for ticket in tickets])
        arguments = (self._owner, self._lease, _json(seats), self._longest, GRANTS, wanted)
        return _standing(_reply.decode(await self._run("enter", model, arguments, self._deadline)))

    async def foresee(self, model: str, seats: Sequence[Seat], ticket: Ticket) -> float | None:
        """Say how long a picture like this would wait if it came now."""
        arguments = (_json(seats), ticket.id, ticket.project, ticket.weight)
        return _seconds(await self._run("foresee", model, arguments, self._deadline))

    async def leave(self, model: str, seats: Sequence[Seat], gone: Sequence[Gone]) -> Standing:
        """Give slots back, or leave the queue."""
        left = [(one.ticket, one.how, round(one.seconds * 1000)) for one in gone]
        return _standing(
            _reply.decode(await self._run("leave", model, (self._owner, _json(seats), GRANTS, _json(left))))
        )

    async def tend(self, model: str, seats: Sequence[Seat], waiting: Sequence[str], *, names: bool = False) -> Tended:
        """Hand out what has come free by time, and tell how this replica's tickets stand."""
        arguments = (self._owner, _json(seats), GRANTS, _json(waiting), int(names))
        reply = _tended.decode(await self._run("tend", model, arguments))
        return Tended(
            granted=_grants(reply.granted),
            parked=tuple(reply.parked),
            usable=reply.usable,
            pause=_seconds(reply.pause),
            missing=tuple(reply.missing),
            names=tuple(reply.names),
            held=reply.held,
            length=reply.length,
        )

    async def park(self, model: str, seat: Seat, park: Park) -> None:
        """Leave a key or an account alone."""
        await self._park(model, _name(seat, whole=park.whole), _json(park))

    async def unpark(self, model: str, seat: Seat) -> bool:
        """Use a key and its account again."""
        changed = [await self._park(model, _name(seat, whole=whole), b"") for whole in (True, False)]
        return any(changed)

    async def unlearn(self, model: str, account: str) -> None:
        """Believe the configured limit of an account again."""
        try:
            await self._scripts.call("HDEL", ModelNames(model).of("accounts"), f"learned:{account}")
        except StoreUnavailable as failure:
            raise SlotsUnavailable(str(failure)) from failure

    async def look(self, model: str, seats: Sequence[Seat]) -> Sequence[Seen]:
        """Tell how the seats stand."""
        return _seen.decode(await self._run("seen", model, (_json(seats),)))

    async def bury(self, model: str, seats: Sequence[Seat]) -> None:
        """Free what replicas held whose lease has ended."""
        names = ModelNames(model)
        keys = [names.of("owners"), names.of("collected"), names.of("clock")]
        for owner in await self._call("collect", keys, (LONGEST_GAP, MOST_OWNERS)):
            if owner.decode() != self._owner:
                await self._run("bury", model, (self._owner, _json(seats), GRANTS, owner, self._longest_call))

    async def _park(self, model: str, name: str, park: bytes) -> bool:
        keys = [ModelNames(model).of("parked")]
        return bool(await self._call("park", keys, (name, park, PARKS, model)))

    async def _run(self, name: str, model: str, arguments: Sequence[object], deadline: float = SECONDS) -> Any:  # noqa: ANN401 - a reply
        names = ModelNames(model)
        return await self._call(name, [names.of(word) for word in KEYS], arguments, deadline)

    async def _call(
        self, name: str, keys: Sequence[str], arguments: Sequence[object], deadline: float = SECONDS
    ) -> Any:  # noqa: ANN401 - a reply
        try:
            return await self._scripts.run(name, keys, arguments, deadline)
        except StoreUnavailable as failure:
            raise SlotsUnavailable(str(failure)) from failure


def heard_grants(message: str) -> dict[str, Granted]:
    """Read what a script says on an owner's channel."""
    return _grants([msgspec.json.decode(message, type=tuple[str, str, str, str])])


def _json(words: object) -> bytes:
    return msgspec.json.encode(words)


def _name(seat: Seat, *, whole: bool) -> str:
    return f"account:{seat.account}" if whole else f"key:{seat.fingerprint}"


def _wish(ticket: Ticket) -> tuple[object, ...]:
    """Say what enter.lua reads of a ticket."""
    words = (ticket.id, ticket.project, ticket.weight, ticket.group, ticket.place, round(ticket.patience * 1000))
    return (*words, *_held(ticket.seat))


def _held(seat: Seat | None) -> tuple[str, str, str]:
    return (seat.name, seat.account, seat.fingerprint) if seat else ("", "", "")


def _grants(words: Sequence[tuple[str, str, str, str]]) -> dict[str, Granted]:
    return {ticket: Granted(seat=seat, place=int(place), fingerprint=key) for ticket, seat, place, key in words}


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _standing(reply: Reply) -> Standing:
    return Standing(
        granted=_grants(reply.granted),
        waiting={ticket: int(place) for ticket, place in reply.waiting},
        refused={group: wait / 1000 for group, wait in reply.refused.items()},
        parked=tuple(reply.parked),
        usable=reply.usable,
        pause=_seconds(reply.pause),
    )
