"""A call of settle.lua, for the replica that ends its own reservation and for one that ends a dead replica's."""

from functools import lru_cache
from itertools import chain

from gateway.adapters.redis.names import JOBS, Names
from gateway.adapters.redis.plans import Place, Told, encode_told, place_of
from gateway.domain.quota import Claim, Reservation
from gateway.domain.records import record
from gateway.service.ports import KNOWN_SECONDS

REMEMBERED_KEYS = 1024  # API keys whose names in the store are not put together with each settlement
REMEMBERED = round(KNOWN_SECONDS * 1000)  # ms


def common_keys(claim: Claim, place: Place, owner: str) -> list[str]:
    """Name what both reserve.lua and settle.lua begin with."""
    names = place.home
    return [names.of("reservation", claim.request_id), names.of("owners"), names.of("held", owner), names.of("clock")]


@lru_cache(REMEMBERED_KEYS)
def _lasting_keys(shard: int, project_id: str, subjects: tuple[str, ...], day: str, month: str) -> tuple[str, ...]:
    """Name what all settlements of an API key have in common for a day."""
    names = Names(shard)
    windows = (names.windows(subject, (day,), (month,)) for subject in subjects)
    return (names.of("counted"), names.of("waiting", project_id), *chain(*windows))


@record(frozen=True, slots=True, kw_only=True)
class Settling:
    """What ends, under which owner's name, and what its flights are told; None for a reservation that is no job.

    With `rescuable` a dead owner's job with paid pictures is not to be abandoned.
    """

    reservation: Reservation
    owner: str
    told: Told | None
    rescuable: bool = False

    def keys(self) -> list[str]:
        """Name the keys as settle.lua wants them."""
        reservation, place = self.reservation, place_of(self.reservation.claim).at_home()
        names = place.home
        claim = reservation.claim
        subjects = tuple(subject.name for subject in claim.subjects)
        return [
            *common_keys(claim, place, self.owner),
            *(names.of("events"), names.of("epoch"), place.results, place.flights, place.index),
            *_lasting_keys(names.shard, claim.project_id, subjects, reservation.day, reservation.month),
        ]

    def arguments(self, how: str, charged: int, event: bytes) -> list[object]:
        """Give the arguments as settle.lua wants them: `how` is settled, released or abandoned."""
        reservation, claim = self.reservation, self.reservation.claim
        place = place_of(claim).at_home()
        return [
            *(claim.request_id, how, charged, event, claim.price, reservation.second),
            *(self.owner, REMEMBERED, reservation.day, reservation.month, reservation.fence),
            *(encode_told(self.told, place) if self.told else b"", JOBS, int(self.rescuable)),
        ]
