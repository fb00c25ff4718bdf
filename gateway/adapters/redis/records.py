"""A job's record, read by who has not made it."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gateway.adapters.redis.names import decode_event, milliseconds_of
from gateway.adapters.redis.plans import decode_sought
from gateway.adapters.redis.replies import decode_end
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.flights import Lead, Receipt, Task
from gateway.domain.quota import Claim, Limits, Reservation, Subject, subject_names
from gateway.service.ports_flights import Orphan

FIELDS = ("record", "day", "month", "price", "sought", "n", "first", "fence")


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a job; the limits of its subjects are not."""

    reservation: Reservation
    line: bytes


async def read_record(scripts: Scripts, key: str) -> Record | None:
    """Read a record; None when there is none, or only the mark of a release. StoreUnavailable without an answer."""
    fields: Sequence[bytes | None] = await scripts.call("HMGET", key, *FIELDS)
    line, day, month, price, *job = fields
    if line is None or day is None or month is None:
        return None
    event = decode_event(line)
    sought, n, first, fence = job
    claim = Claim(
        project_id=event.project_id,
        subjects=tuple(Subject(name=name, limits=Limits()) for name in subject_names(event.key_id, event.project_id)),
        pictures=int(n or event.pictures_requested),
        price=int(price or 0),
        abandoned=event,
        sought=decode_sought(sought) if sought else None,
    )
    reservation = Reservation(
        claim=claim,
        day=day.decode(),
        month=month.decode(),
        moment=milliseconds_of(event.time),
        leads=tuple(Lead(index=index) for index in range(int(first or 0), int(n or 0))),
        fence=int(fence or 1),
    )
    return Record(reservation, line)


async def read_orphan(scripts: Scripts, key: str, reservation: Reservation) -> Orphan:
    """Read what the owner of a job had done of what it leads. StoreUnavailable without an answer."""
    positions = [lead.index for lead in reservation.leads]
    kinds = ("sent", "task", "paid", "end")
    sent, tasks, paid, ends = [await numbered(scripts, key, kind, positions) for kind in kinds]
    return Orphan(
        reservation=reservation,
        receipts={index: msgspec.json.decode(value, type=Receipt) for index, value in paid.items()},
        ends={index: decode_end(value) for index, value in ends.items()},
        sent=frozenset(sent),
        tasks={index: msgspec.json.decode(value, type=Task) for index, value in tasks.items()},
    )


async def numbered(scripts: Scripts, key: str, kind: str, positions: Sequence[int]) -> dict[int, bytes]:
    """Read the fields of one kind that are there, by their positions."""
    if not positions:
        return {}
    fields = await scripts.call("HMGET", key, *(f"{kind}:{index}" for index in positions))
    return {index: value for index, value in zip(positions, fields, strict=True) if value is not None}
