"""What the store answers, read into the words of the domain."""

from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec

from gateway.adapters.redis.scripts import StoreUnavailable
from gateway.domain.errors import IdempotencyKeyReused
from gateway.domain.flights import WITHDRAWN, End, Follow, Hit, Lead, Replay
from gateway.domain.limits import Limit, Room
from gateway.domain.quota import Claim, Refusal, Reservation, Subject
from gateway.service.ports import QuotaEmptied, QuotaRestoring, QuotaUnavailable
from gateway.service.ports_flights import NotLed

LIMITS = tuple(Limit)

RoomWords = tuple[int, int, str, str, int]


class Replayed(msgspec.Struct):
    """The job that a request repeats."""

    job: str
    created: int
    origin: str = ""
    ended: list[str] | None = None


class Granted(msgspec.Struct):
    """What was taken, and what was found."""

    day: str
    month: str
    moment: int
    rooms: list[RoomWords] = []
    shadowed: list[RoomWords] = []
    hits: list[tuple[str, int, str]] = []
    follows: list[tuple[str, int, int]] = []
    replay: Replayed | None = None
    settled: bool = False
    waits: bool = False


class Reply(msgspec.Struct):
    """One of these."""

    granted: Granted | None = None
    refused: RoomWords | None = None
    clock: int | None = None
    empty: bool = False
    restoring: int | None = None
    released: bool = False
    reused: bool = False
    notled: bool = False


reply_decoder = msgspec.json.Decoder(Reply)
_end_decoder = msgspec.json.Decoder(End)


async def asked(answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - what the store answers
    """Wait for the store; QuotaUnavailable when it does not answer."""
    try:
        return await answer
    except StoreUnavailable as failure:
        raise QuotaUnavailable(str(failure)) from failure


def decode_end(content: str | bytes) -> End:
    """Read an end; what cannot be read (a withdrawal, another release's words) is a withdrawal."""
    try:
        return _end_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return WITHDRAWN


def understood(claim: Claim, shard: int, reply: Reply) -> Reservation | Refusal:
    """Read the answer to a claim; see QuotaStore.reserve for what is raised."""
    if reply.granted is not None:
        return _reservation(claim, reply.granted)
    if reply.refused is not None:
        return Refusal(room=_rooms([reply.refused], claim.subjects)[0])
    if reply.empty:
        raise QuotaEmptied(shard)
    if reply.restoring is not None:
        raise QuotaRestoring(reply.restoring / 1000)
    if reply.reused:
        raise IdempotencyKeyReused(
            "This Idempotency-Key came with another request before. Use a new one for every new request.",
        )
    if reply.notled:
        raise NotLed
    raise QuotaUnavailable("the request was released before it was reserved")


def _reservation(claim: Claim, granted: Granted) -> Reservation:
    hits = [
        Hit(picture=end.picture, age=age, variant=variant)
        for variant, age, content in granted.hits
        if (end := decode_end(content)).picture is not None
    ]
    follows = [Follow(job_id=job, index=index, shard=shard) for job, index, shard in granted.follows]
    first = len(granted.hits) + len(follows)
    leads = range(first, claim.pictures) if claim.sought and granted.replay is None else ()
    return Reservation(
        claim=claim,
        day=granted.day,
        month=granted.month,
        moment=granted.moment,
        rooms=_rooms(granted.rooms, claim.subjects),
        shadowed=_rooms(granted.shadowed, claim.subjects),
        hits=tuple(hits),
        follows=tuple(follows),
        leads=tuple([Lead(index=index) for index in leads]),
        replay=_replay(granted.replay),
        settled=granted.settled,
        waits=granted.waits,
    )


def _replay(words: Replayed | None) -> Replay | None:
    if words is None:
        return None
    ended = None if words.ended is None else tuple(map(decode_end, words.ended))
    return Replay(job_id=words.job, origin=words.origin or words.job, created=words.created, ended=ended)


def _rooms(rooms: Sequence[RoomWords], subjects: Sequence[Subject]) -> tuple[Room, ...]:
    return tuple(
        [
            Room(subjects[subject - 1].name, LIMITS[limit - 1], int(value), int(used), resets_in)
            for subject, limit, value, used, resets_in in rooms
        ]
    )
