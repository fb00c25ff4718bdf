"""The names of the keys and channels in Redis, and the form of what lies in the usage streams."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Literal, Protocol

import msgspec

from gateway.domain.usage import UsageEvent

VERSION = "g1"  # two releases side by side do not share keys whose form has changed
CHANGES = f"{VERSION}:changes"  # ids of keys and projects that have changed
JOBS = f"{VERSION}:jobs"  # ids of jobs some of whose pictures have ended
CANCELS = f"{VERSION}:cancels"  # ids of jobs that an operator cancels
RELOADS = f"{VERSION}:reloads"  # names of calls on all replicas to read their settings anew
GRANTS = f"{VERSION}:grants:"  # with an owner's name: its tickets that were given a slot
PARKS = f"{VERSION}:parks"  # models one of whose accounts was parked, or is not any more


_events = msgspec.json.Decoder(UsageEvent, strict=False)


class Tagged(Protocol):
    """Keys that lie in one slot of a cluster."""

    def of(self, *words: str) -> str:
        """Put a key's name together."""


@cache
def _tagged(kind: str, shard: int) -> str:
    return f"{VERSION}:{{{kind}{shard}}}:"


@dataclass(frozen=True, slots=True)
class Names:
    """The keys of one shard; their tag puts them into one slot of a cluster.

    `kind` is p for what belongs to projects, and c for the plans that all projects share.
    """

    shard: int
    kind: Literal["p", "c"] = "p"

    def of(self, *words: str) -> str:
        """Put a key's name together."""
        return _tagged(self.kind, self.shard) + ":".join(words)

    def windows(self, subject: str, days: Iterable[str], months: Iterable[str]) -> list[str]:
        """Name the windows of a subject: minute, days, months, running."""
        return [
            self.of("minute", subject),
            *(self.of("day", subject, day) for day in days),
            *(self.of("month", subject, month) for month in months),
            self.of("running", subject),
        ]


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The keys of a model's queue; their tag puts them into one slot of a cluster."""

    model: str

    def of(self, *words: str) -> str:
        """Put a key's name together."""
        return ":".join((VERSION, f"{{up:{self.model}}}", *words))


# C copies a line of this form in 2 us, dataclasses.replace takes 4 to 8.
_Line = msgspec.defstruct("Line", [(field.name, field.type) for field in fields(UsageEvent)])


def encode_event(event: UsageEvent, time: datetime) -> bytes:
    """Write a ledger line as JSON, with another time than its own."""
    line = msgspec.convert(event, _Line, from_attributes=True)
    line.time = time  # type: ignore[attr-defined]  # a form made of UsageEvent's fields
    return msgspec.json.encode(line)


def decode_event(content: bytes) -> UsageEvent:
    """Read a ledger line; msgspec.DecodeError or ValidationError when it is none.

    Scripts write times as numbers, in seconds: they know no calendar.
    """
    return _events.decode(content)


def milliseconds_of(moment: datetime) -> int:
    """Give a moment in ms since 1970."""
    return round(moment.timestamp() * 1000)
