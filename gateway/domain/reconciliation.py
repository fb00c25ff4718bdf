"""Whether what the quota store counts is what the ledger says, with all that has not reached the ledger yet. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.domain.quota import shard_of, subject_names
from gateway.domain.usage import RANKS, Outcome, UsageEvent, Used


class Window(StrEnum):
    """What is compared of a key or project."""

    IMAGES_TODAY = "images_today"
    IMAGES_THIS_MONTH = "images_this_month"
    SPEND_THIS_MONTH = "spend_this_month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a line charges: pictures, and their price in millionths."""

    event_id: str
    outcome: Outcome
    time: datetime
    project_id: str
    key_id: str
    pictures: int
    price: int

    @classmethod
    def of(cls, event: UsageEvent) -> "Charge":
        """Take it from a line."""
        return cls(
            event_id=event.event_id,
            outcome=event.outcome,
            time=event.time,
            project_id=event.project_id,
            key_id=event.key_id,
            pictures=event.pictures_delivered,
            price=event.price,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReservation:
    """What a job that is not settled has taken: `price` in millionths, for all its pictures."""

    event_id: str
    project_id: str
    key_id: str
    today: bool
    this_month: bool
    pictures: int
    price: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCounts:
    """A shard of the quota store as of one instant. Whatever is reserved later has a time after `moment`.

    `counts` by subject and window, with None for what is no number; `waiting` are lines that the ledger may not have
    yet. `emptied`: the store has lost its counts, and was not refilled.
    """

    moment: datetime
    counts: Mapping[str, Mapping[Window, int | None]]
    open: Sequence[OpenReservation] = ()
    waiting: Sequence[Charge] = ()
    emptied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCounts:
    """The ledger as of one later instant: sums since the beginning of the day and of the month, and single lines.

    `lines` are those that began since the first of the shards was read, and those that were asked for.
    """

    day: datetime
    month: datetime
    today: Sequence[Used]
    this_month: Sequence[Used]
    lines: Sequence[Charge] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDifference:
    """A counter that is not what the ledger says; spend in millionths. `counted` is None for what is no number."""

    subject: str
    window: Window
    counted: int | None
    ledger: int

    @property
    def change(self) -> int:
        """What has to be added to the counter; one that is no number is made anew."""
        return self.ledger - (0 if self.counted is None else self.counted)


def count_differences(shards: Mapping[int, ShardCounts], ledger: LedgerCounts) -> list[CountDifference]:
    """Compare every subject whose counters were read, in the order of their names."""
    expected = _expected(shards, ledger)
    found = []
    for shard in shards.values():
        for subject, counts in shard.counts.items():
            said = expected.get(subject, {})
            for window in Window:
                counted, due = counts[window], said.get(window, 0)
                if counted != due:
                    found.append(CountDifference(subject=subject, window=window, counted=counted, ledger=due))
    return sorted(found, key=lambda one: (one.subject, tuple(Window).index(one.window)))


def lasting(before: Collection[CountDifference], now: Iterable[CountDifference]) -> list[CountDifference]:
    """Give the differences that were the same the time before: what is under way makes none that lasts."""
    known = {(one.subject, one.window, one.change) for one in before}
    return [one for one in now if (one.subject, one.window, one.change) in known]


Sums = dict[str, dict[Window, int]]


def _expected(shards: Mapping[int, ShardCounts], ledger: LedgerCounts) -> Sums:
    """Sum by subject what the store has to count."""
    sums: Sums = {}
    for used in ledger.today:
        _add(sums, used.key_id, used.project_id, {Window.IMAGES_TODAY: used.pictures})
    for used in ledger.this_month:
        both = {Window.IMAGES_THIS_MONTH: used.pictures, Window.SPEND_THIS_MONTH: used.price}
        _add(sums, used.key_id, used.project_id, both)
    running = {one.event_id for shard in shards.values() for one in shard.open}
    for line in ledger.lines:
        shard = shards.get(shard_of(line.project_id))
        if line.event_id in running or (shard is not None and line.time > shard.moment):
            _charge(sums, line, ledger, -1)  # the store counted it as running, or not yet
    for reservation in (one for shard in shards.values() for one in shard.open):
        _add(sums, reservation.key_id, reservation.project_id, _taken(reservation))
    for line in _missing((line for shard in shards.values() for line in shard.waiting), ledger):
        _charge(sums, line, ledger, 1)  # what it replaces has charged nothing
    return sums


def _missing(waiting: Iterable[Charge], ledger: LedgerCounts) -> Iterable[Charge]:
    """Give the lines that wait and that the ledger lacks or has not as well."""
    known = {line.event_id: line for line in ledger.lines}
    for line in _best(waiting):
        before = known.get(line.event_id)
        if before is None or RANKS[line.outcome] > RANKS[before.outcome]:
            yield line


def _best(lines: Iterable[Charge]) -> Iterable[Charge]:
    """Give one line a job: the one that the ledger will have."""
    best: dict[str, Charge] = {}
    for line in lines:
        if line.event_id not in best or RANKS[line.outcome] > RANKS[best[line.event_id].outcome]:
            best[line.event_id] = line
    return best.values()


def _charge(sums: Sums, line: Charge, ledger: LedgerCounts, sign: int) -> None:
    """Count a line in the windows that its time lies in."""
    amounts = {}
    if line.time >= ledger.day:
        amounts[Window.IMAGES_TODAY] = sign * line.pictures
    if line.time >= ledger.month:
        amounts |= {Window.IMAGES_THIS_MONTH: sign * line.pictures, Window.SPEND_THIS_MONTH: sign * line.price}
    _add(sums, line.key_id, line.project_id, amounts)


def _taken(one: OpenReservation) -> dict[Window, int]:
    today = {Window.IMAGES_TODAY: one.pictures} if one.today else {}
    month = {Window.IMAGES_THIS_MONTH: one.pictures, Window.SPEND_THIS_MONTH: one.price} if one.this_month else {}
    return today | month


def _add(sums: Sums, key_id: str, project_id: str, amounts: Mapping[Window, int]) -> None:
    for name in subject_names(key_id, project_id):
        subject = sums.setdefault(name, {})
        for window, amount in amounts.items():
            subject[window] = subject.get(window, 0) + amount
