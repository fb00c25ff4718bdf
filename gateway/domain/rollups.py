"""Which sums answer a question: of whole days, of whole hours, or of the lines themselves. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain.reports import SECONDS, Group, period

LENGTHS = {group: timedelta(seconds=seconds) for group, seconds in SECONDS.items()}
MOST_DAYS, MOST_HOURS = 4, 8  # spans that are asked for apart; what else is rolled up is read from the lines

Span = tuple[datetime, datetime]  # from one moment until before another one


class Grain(StrEnum):
    """What is summed up, the finest first."""

    LINE = "line"
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Stale:
    """Beginnings of hours and days whose roll-ups are not what their lines come to."""

    hours: frozenset[datetime] = frozenset()
    days: frozenset[datetime] = frozenset()

    def due(self, group: Group, over: datetime) -> list[datetime]:
        """Give the stale hours, or days, that ended before a moment, newest first; no day before all its hours."""
        unready = {period(Group.DAY, hour) for hour in self.hours} if group is Group.DAY else frozenset[datetime]()
        starts = (self.days if group is Group.DAY else self.hours) - unready
        return sorted((start for start in starts if start + LENGTHS[group] <= over), reverse=True)


def spans_of(whole: Span, coarsest: Grain, stale: Stale) -> dict[Grain, list[Span]]:
    """Cut a time range into spans that whole days, whole hours and lines together answer, each moment once."""
    days: list[Span] = []
    hours: list[Span] = []
    if coarsest is Grain.DAY:
        doubtful = stale.days | {period(Group.DAY, hour) for hour in stale.hours}
        days = _longest(_without(_inner(whole, Group.DAY), _periods(doubtful, Group.DAY)), MOST_DAYS)
    if coarsest is not Grain.LINE:
        rest = _without(_inner(whole, Group.HOUR), days)
        hours = _longest(_without(rest, _periods(stale.hours, Group.HOUR)), MOST_HOURS)
    lines = _without([whole], sorted((*days, *hours)))
    return {Grain.DAY: days, Grain.HOUR: hours, Grain.LINE: lines}


def _inner(whole: Span, group: Group) -> list[Span]:
    """Give the whole periods inside a range, as one span."""
    start, end = period(group, whole[0]), period(group, whole[1])
    if start < whole[0]:
        start += LENGTHS[group]
    return [(start, end)] if start < end else []


def _periods(starts: Iterable[datetime], group: Group) -> list[Span]:
    return [(start, start + LENGTHS[group]) for start in sorted(starts)]


def _without(spans: Iterable[Span], holes: Sequence[Span]) -> list[Span]:
    """Take holes, in their order, out of spans."""
    left: list[Span] = []
    for first, end in spans:
        start = first
        for hole_start, hole_end in holes:
            if hole_end <= start or hole_start >= end:
                continue
            if start < hole_start:
                left.append((start, hole_start))
            start = hole_end
        if start < end:
            left.append((start, end))
    return left


def _longest(spans: Iterable[Span], most: int) -> list[Span]:
    return sorted(sorted(spans, key=lambda span: span[0] - span[1])[:most])
