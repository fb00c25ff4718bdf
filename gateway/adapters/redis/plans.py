"""Where the flights and remembered pictures of a plan lie, and what they are told of a job's end."""

from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache

import msgspec

from gateway.adapters.redis.names import Names
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.caching import Scope, Sought
from gateway.domain.flights import Ending
from gateway.domain.quota import Claim, Reservation, shard_of
from gateway.domain.records import record

REMEMBERED_PLACES = 4096  # a job asks eight times for its own; 2 us each
LAND_SECONDS = 5.0


@record(frozen=True, slots=True)
class Place:
    """A plan in its scope: `member` is its name there, empty when nothing is looked for.

    `home` is the slot of the project's windows and records, `names` that of the plan, which may be shared by all.
    """

    home: Names
    names: Names
    member: str

    @property
    def shared(self) -> bool:
        """Tell whether the plan lies in another slot than the job."""
        return self.names != self.home

    def at_home(self) -> "Place":
        """Give what a script in the job's own slot is told of the plan: nothing when it lies elsewhere."""
        return Place(self.home, self.home, "") if self.shared else self

    @property
    def results(self) -> str:
        """The key of what is remembered."""
        return self.names.of("results", self.member)

    @property
    def flights(self) -> str:
        """The key of what is in flight."""
        return self.names.of("flights", self.member)

    @property
    def index(self) -> str:
        """The key of all plans of the slot of which something is remembered."""
        return self.names.of("results")

    def handed(self, key_id: str) -> str:
        """Name the key of what an API key was given of the plan lately."""
        return self.names.of("handed", key_id, self.member)


class Told(msgspec.Struct):
    """What lib/land.lua and settle.lua are told of a job's end; `member` is the plan's in the slot that is told."""

    clear: list[int]
    ends: list[tuple[int, str, bool]]
    lifetime: int
    most: int
    replayable: bool
    member: str = ""


def place_of(claim: Claim) -> Place:
    """Find where the plan of a claim lies."""
    sought = claim.sought
    if sought is None or not sought.plan or sought.scope == "off":
        return _place(claim.project_id, "", "", "off")
    key_id = claim.abandoned.key_id if sought.scope == "key" else ""
    return _place(claim.project_id, key_id, sought.plan, sought.scope)


@lru_cache(REMEMBERED_PLACES)
def _place(project_id: str, key_id: str, plan: str, scope: Scope) -> Place:
    home = Names(shard_of(project_id))
    match scope:
        case "off":
            return Place(home, home, "")
        case "shared":
            return Place(home, Names(shard_of(plan), "c"), f"//{plan}")
        case _:
            return Place(home, home, f"{project_id}/{key_id}/{plan}")


def encode_sought(claim: Claim, place: Place) -> bytes:
    """Write down what is looked for; nothing when the claim looks for nothing."""
    if claim.sought is None:
        return b""
    return msgspec.json.encode(claim.sought if place.member else replace(claim.sought, plan=""))


def decode_sought(content: bytes) -> Sought:
    """Read what encode_sought wrote."""
    return msgspec.json.decode(content, type=Sought)


def encode_told(told: Told, place: Place) -> bytes:
    """Write down what a script in the slot of `place` is told."""
    return msgspec.json.encode(msgspec.structs.replace(told, member=place.member))


def told_of(reservation: Reservation, ending: Ending | None, clear: Collection[int]) -> Told | None:
    """Say how a job ended, and which of its flights end with that; None for a reservation that is no job."""
    sought, leads = reservation.claim.sought, {lead.index for lead in reservation.leads}
    if sought is None:
        return None
    ends = ending.ends if ending else {}
    keeps = leads if sought.remember and place_of(reservation.claim).member else set[int]()
    return Told(
        clear=sorted(clear),
        ends=[
            (
                index,
                "" if end.withdrawn else msgspec.json.encode(end).decode(),
                index in keeps and end.picture is not None,
            )
            for index, end in sorted(ends.items())
        ],
        lifetime=round(sought.lifetime * 1000),
        most=sought.max_entries,
        replayable=ending is not None and ending.replayable,
    )


class SharedPlans:
    """The plans of scope `shared`, which lie in other slots than the jobs that make them."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def claim(self, claim: Claim, place: Place, deadline: float) -> bytes:
        """Look for pictures, and lead what is not there; gives what was found, for reserve.lua."""
        keys = [place.results, place.flights, place.handed(claim.abandoned.key_id), place.names.of("clock")]
        arguments = (
            *(claim.request_id, claim.pictures, encode_sought(claim, place)),
            *(claim.abandoned.key_id, place.home.shard),
        )
        found: bytes = await self._scripts.run("claim", keys, arguments, deadline)
        return found

    async def land(self, job_id: str, place: Place, told: Told) -> None:
        """End flights of a job."""
        keys = [place.results, place.flights, place.index, place.names.of("clock")]
        await self._scripts.run("land", keys, [job_id, encode_told(told, place)], LAND_SECONDS)
