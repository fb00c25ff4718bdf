"""What the use cases need from where slots are counted and waited for; part of gateway.service.ports."""

from collections.abc import Sequence
from typing import Protocol

from gateway.domain.slots import Gone, Park, Seat, Seen, Standing, Tended, Ticket


class SlotsUnavailable(Exception):
    """The store of slots did not answer. What was asked may have been done all the same, and may be asked again."""


class SlotStore(Protocol):
    """The slots of each model: never more calls of an account in flight than its limit, over all replicas.

    Turns go to projects in proportion to their weights, and within a project by arrival. Every method is told the seats
    that serve the model, and may raise SlotsUnavailable.
    """

    async def enter(self, model: str, seats: Sequence[Seat], tickets: Sequence[Ticket]) -> Standing:
        """Let pictures wait, or give them slots at once. Idempotent per ticket.

        When no seat is usable, nothing is let in.
        """

    async def foresee(self, model: str, seats: Sequence[Seat], ticket: Ticket) -> float | None:
        """Say how many seconds a picture like this would wait if it came now; None where that is not known.

        It is what `enter` goes by. The ticket itself, if it still waits, is not before it.
        """

    async def leave(self, model: str, seats: Sequence[Seat], gone: Sequence[Gone]) -> Standing:
        """Give slots back, or leave the queue; `granted` are this replica's. Idempotent per ticket."""

    async def tend(self, model: str, seats: Sequence[Seat], waiting: Sequence[str], *, names: bool = False) -> Tended:
        """Hand out what has come free by time, and tell how this replica's tickets stand."""

    async def park(self, model: str, seat: Seat, park: Park) -> None:
        """Leave a key or an account alone; all replicas are told."""

    async def unpark(self, model: str, seat: Seat) -> bool:
        """Use a key and its account again; False when neither was parked."""

    async def unlearn(self, model: str, account: str) -> None:
        """Believe the limit of an account again that its seats say, whatever its calls taught."""

    async def look(self, model: str, seats: Sequence[Seat]) -> Sequence[Seen]:
        """Tell how the seats stand, without doing anything."""

    async def bury(self, model: str, seats: Sequence[Seat]) -> None:
        """Free what replicas held that died; their calls may still run upstream for a while."""
