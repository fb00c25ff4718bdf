"""Limits of keys and projects, the windows that they are counted in, and what a reservation takes. Pure."""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from gateway.domain.caching import Sought
from gateway.domain.errors import InvalidValue
from gateway.domain.flights import Follow, Hit, Lead, Part, Replay
from gateway.domain.limits import Limit, Room
from gateway.domain.records import record
from gateway.domain.usage import UsageEvent

REMEMBERED_SHARDS = 4096  # projects whose slot is not computed anew, which takes 2 us
SHARDS = 64  # design.md section 3: a project's state lives in one of 64 slots
MICROS = 1_000_000  # money is counted in millionths


@record(frozen=True, slots=True, kw_only=True)
class Limits:
    """All optional: None is unlimited, 0 is nothing. Spend in millionths; `shadow` counts and reports only."""

    requests_per_minute: int | None = None
    images_per_minute: int | None = None
    images_per_day: int | None = None
    images_per_month: int | None = None
    concurrent: int | None = None
    spend_per_month: int | None = None
    shadow: bool = False

    def value(self, limit: Limit) -> int | None:
        """Give one limit by its name."""
        value: int | None = getattr(self, limit.value)
        return value

    def refuse_too_many(self, pictures: int, price: int) -> None:
        """Refuse a request that no empty window could hold (design.md section 6, "Limits").

        Raises:
            InvalidValue: names the limit; with a smaller n the request can pass.
        """
        if self.shadow:
            return
        for limit in (Limit.IMAGES_PER_MINUTE, Limit.IMAGES_PER_DAY, Limit.IMAGES_PER_MONTH, Limit.SPEND_PER_MONTH):
            value, cost = self.value(limit), cost_of_one(limit, price)
            if value is not None and cost <= value < pictures * cost:
                raise InvalidValue(
                    f"'n' is {pictures}, and {limit.value} lets {value // cost} pass. Ask for fewer pictures.",
                    param="n",
                )


def cost_of_one(limit: Limit, price: int) -> int:
    """Say how much of a limit a request for one picture takes; a limit below that lets nothing pass."""
    return price if limit is Limit.SPEND_PER_MONTH else 1


@record(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose limits: a key or its project. `name` is unique among all subjects."""

    name: str
    limits: Limits


def subject_names(key_id: str, project_id: str) -> tuple[str, str]:
    """Name a key and its project as subjects; the names of the two kinds cannot meet."""
    return f"key.{key_id}", f"project.{project_id}"


@record(frozen=True, slots=True, kw_only=True)
class Period:
    """A calendar day or month in the configured zone; its bounds are milliseconds since 1970."""

    name: str
    starts: int
    ends: int


@record(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The day and the month of a moment, each with the one that follows."""

    days: tuple[Period, Period]
    months: tuple[Period, Period]


def calendar_of(milliseconds: int, zone: tzinfo) -> Calendar:
    """Find the calendar of a moment; days may have 23 or 25 hours."""
    today = datetime.fromtimestamp(milliseconds / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    tomorrow, after = _later(today, 1), _later(today, 2)
    month = today.replace(day=1)
    next_month = _later(month, 31).replace(day=1)
    month_after = _later(next_month, 31).replace(day=1)
    return Calendar(
        days=(_period("%Y-%m-%d", today, tomorrow), _period("%Y-%m-%d", tomorrow, after)),
        months=(_period("%Y-%m", month, next_month), _period("%Y-%m", next_month, month_after)),
    )


class Calendars:
    """The calendars of a zone; the last one is kept for as long as its day lasts, since making one costs 15 us."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._last: Calendar | None = None

    def at(self, milliseconds: int) -> Calendar:
        """Find the calendar of a moment."""
        last = self._last
        if last is None or not last.days[0].starts <= milliseconds < last.days[0].ends:
            last = self._last = calendar_of(milliseconds, self._zone)
        return last


@lru_cache(REMEMBERED_SHARDS)
def shard_of(project_id: str) -> int:
    """Give the slot of a project: FNV-1a, since Python's own hash differs from process to process."""
    number = 0xCBF29CE484222325
    for byte in project_id.encode():
        number = (number ^ byte) * 0x100000001B3 % 2**64
    return number % SHARDS


@record(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a subject has used of its calendar windows; spend in millionths."""

    images_today: int
    images_this_month: int
    spend: int


@record(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a request wants to take: `pictures` at `price` millionths each, for a key and its project, all or none.

    `abandoned` is the ledger's line if the request's owner dies before it settles. With `sought`, only those of the
    pictures are taken that are neither remembered nor in flight, and the line is changed to say so.
    """

    project_id: str
    subjects: tuple[Subject, ...]
    pictures: int
    price: int
    abandoned: UsageEvent
    sought: Sought | None = None

    @property
    def request_id(self) -> str:
        """The id under which the reservation is known."""
        return self.abandoned.event_id


@record(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What was taken, and from which windows: refunds go back there. `moment`: ms since 1970 by the store's clock.

    With `claim.sought`, `parts` says where each picture comes from; only what leads was taken from the limits. With
    `replay` the request repeats another job, and nothing leads: `follows` are the pictures of that job while it runs.
    `settled`: all is there already, and the ledger has its line. `fence` grows when another replica takes the job over.
    `waits`: everything is taken but a place under a `concurrent` limit, for which the job stands in line.
    """

    claim: Claim
    day: str
    month: str
    moment: int
    rooms: tuple[Room, ...] = ()
    shadowed: tuple[Room, ...] = ()
    hits: tuple[Hit, ...] = ()
    follows: tuple[Follow, ...] = ()
    leads: tuple[Lead, ...] = ()
    replay: Replay | None = None
    settled: bool = False
    waits: bool = False
    fence: int = 1

    @property
    def second(self) -> int:
        """The second that it counts in, since 1970."""
        return self.moment // 1000

    @property
    def time(self) -> datetime:
        """The time of its line in the ledger: what is summed by it must be what was counted by the store's clock."""
        return datetime.fromtimestamp(self.moment / 1000, UTC)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Give where each picture comes from, in the order of their positions."""
        return (*self.hits, *self.follows, *self.leads)

    @property
    def variants(self) -> frozenset[str]:
        """Name the pictures that others have made or make for it."""
        repeated = (f"{self.replay.job_id}.{index}" for index in range(self.claim.pictures)) if self.replay else ()
        followed = (part.variant for part in self.follows)
        return frozenset((*(hit.variant for hit in self.hits), *followed, *repeated))

    @property
    def enforced(self) -> tuple[Room, ...]:
        """The rooms of limits that do more than to count and report."""
        shadows = {subject.name for subject in self.claim.subjects if subject.limits.shadow}
        return tuple(room for room in self.rooms if room.subject not in shadows)


@record(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The limit that stood in the way; nothing was taken."""

    room: Room


def _later(moment: datetime, days: int) -> datetime:
    """Move to midnight some days later by the calendar, not by hours."""
    naive = moment.replace(tzinfo=None) + timedelta(days=days)
    return naive.replace(tzinfo=moment.tzinfo)


def _period(form: str, start: datetime, end: datetime) -> Period:
    return Period(name=start.strftime(form), starts=round(start.timestamp() * 1000), ends=round(end.timestamp() * 1000))
