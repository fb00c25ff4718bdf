"""The calls that the upstream's accounts let be in flight: who may make one, and who waits for one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime

from gateway.domain.errors import QueueTimedOut
from gateway.domain.records import record


@record(frozen=True, slots=True, kw_only=True)
class Seat:
    """A key of an upstream account, as one model's queue sees it.

    `limit` is the number of calls that the account lets be in flight for the model, over all its keys. `fingerprint`
    names the key: what is known of a key ends when it changes. `weight`: its share of the pictures.
    """

    name: str
    account: str
    limit: int
    weight: int
    fingerprint: str


@record(frozen=True, slots=True, kw_only=True)
class Park:
    """A key (`whole` false) or a whole account that is left alone. `until` in ms since 1970; 0: until it is changed.

    `lenient`: it is used all the same where every other one is left alone too.
    """

    seat: str
    code: str
    until: int
    whole: bool
    lenient: bool = False

    @property
    def everywhere(self) -> bool:
        """Tell whether it is so for all models: a key that is refused until it is changed opens none of them."""
        return self.until == 0


@record(frozen=True, slots=True, kw_only=True)
class Seen:
    """How a seat stands. `limit` is what its account lets be in flight now: learned, or as configured."""

    seat: str
    limit: int
    in_flight: int
    park: Park | None = None


@record(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A picture that wants a slot. `group` is its request, which is let into the queue as a whole, or not.

    `patience`: seconds that the first picture of a group may be expected to wait; 0 for any time. `place` is where it
    stood before, when it comes back. `seat` is what it holds, when the store has lost that.
    """

    id: str
    project: str
    weight: int
    group: str
    patience: float = 0.0
    place: int = 0
    seat: Seat | None = None


@record(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a ticket was given, and the place to which it may come back.

    `fingerprint` names the key that was meant: replicas with other settings may know another one by the seat's name.
    """

    seat: str
    place: int
    fingerprint: str


@record(frozen=True, slots=True, kw_only=True)
class Gone:
    """A ticket that is given back, and how its call went.

    `made`: in `seconds`. `none`: nothing is learned. `rate`: the upstream said that the account has too many calls.
    `cut`: its end was not seen, and it may go on upstream for `seconds`.
    """

    ticket: str
    how: str = "none"
    seconds: float = 0.0


@record(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the slots' store says. `granted` and `waiting` (places) are by ticket.

    `refused`: seconds until it is worth another try, by group; 0 when that is not known. `parked`: the parks that hold;
    with `usable` false they leave no seat. `pause`: seconds until an account that is left alone may be asked again.
    """

    granted: Mapping[str, Granted] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, float] = field(default_factory=dict)
    parked: tuple[Park, ...] = ()
    usable: bool = True
    pause: float | None = None


@record(frozen=True, slots=True, kw_only=True)
class Tended(Standing):
    """How a model stands: `length` pictures wait, of all replicas; `held` tickets are this replica's.

    `missing` are tickets that the store does not know (any more), `names` all that it holds for this replica, if asked.
    """

    missing: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    held: int = 0
    length: int = 0


def spread(park: Park, seats: Sequence[Seat]) -> list[Park]:
    """Name every seat that a park keeps from being used: those of its account, or of its key alone."""
    accounts = {seat.account for seat in seats if park.whole and seat.name == park.seat}
    return [replace(park, seat=seat.name) for seat in seats if seat.name == park.seat or seat.account in accounts]


def unparked(seats: Iterable[Seat], parks: Iterable[Park], now: datetime) -> list[Seat]:
    """Give the seats that none of these parks names any more."""
    holding = {park.seat for park in parks if park.everywhere or park.until > now.timestamp() * 1000}
    return [seat for seat in seats if seat.name not in holding]


def usable(seats: Sequence[Seat], parks: Sequence[Park], now: datetime) -> list[Seat]:
    """Give the seats that may be used: where all are parked, those of lenient parks alone."""
    return unparked(seats, parks, now) or unparked(seats, [park for park in parks if not park.lenient], now)


def with_room(seats: Iterable[Seat], held: Iterable[Ticket]) -> Seat | None:
    """Give a seat whose account lets one more call be in flight than those that are held, if there is any."""
    calls = Counter(ticket.seat.account for ticket in held if ticket.seat is not None)
    return next((seat for seat in seats if calls[seat.account] < seat.limit), None)


def late(expected: float | None, patience: float) -> QueueTimedOut:
    """Say that the wait was in vain, and when another try would be served within `patience` seconds.

    `expected`: the seconds that it would wait if it came now; None where that is not known.
    """
    return QueueTimedOut(
        "No upstream slot came free in time. Nothing was charged; try again later.",
        retry_after=None if expected is None else max(expected - patience, 0.0),
    )


def crowded(seconds: float) -> QueueTimedOut:
    """Say that a wait would be in vain; it is worth another try after so many seconds, 0 when that is not known."""
    return QueueTimedOut(
        "So many pictures wait for the upstream that yours would not be made in time. Nothing was charged; "
        "try again later.",
        retry_after=seconds or None,
    )
