"""What the ledger is asked: sums of its lines by groups, over a time range. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from gateway.domain.errors import InvalidValue
from gateway.domain.terms import parse_lifetime


class Group(StrEnum):
    """What lines are told apart by; the last three are calendar periods in UTC. `model` is the upstream's."""

    PROJECT = "project"
    KEY = "key"
    MODEL = "model"
    SIZE = "size"
    SOURCE = "source"
    OUTCOME = "outcome"
    USER = "user"
    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"


SECONDS = {Group.DAY: 86400, Group.HOUR: 3600, Group.MINUTE: 60}  # each divides the day, so that all begin at midnight
LATEST = 253_370_764_800  # the year 9999, in Unix seconds; no database and no calendar goes beyond it
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PAGE = re.compile(r"page_([0-9]{1,12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which lines are summed: from `start` until before `end` (None: no end), with one of the values of each `only`.

    Without `costs` the answer says nothing of what upstreams take: `paid`, `uncertain` and `cost` are 0, and groups are
    not told apart by the currency of costs. Without `prices` it says nothing of these, nor of their currency.
    """

    start: datetime
    end: datetime | None = None
    by: tuple[Group, ...] = ()
    only: Mapping[Group, Sequence[str]] = field(default_factory=dict)
    costs: bool = True
    prices: bool = True


class Sums(NamedTuple):  # a report may have tens of thousands, and a frozen dataclass takes four times as long to make
    """What the lines of one group come to; money in millionths, never of two currencies in one sum.

    `group` has a value for each group that was asked by: an id or word, for a period its beginning. `paid` and
    `delivered` are pictures, `uncertain` those of `unknown` and `abandoned` lines that may have been paid besides.
    """

    group: Mapping[Group, str | datetime]
    requests: int
    delivered: int
    paid: int
    uncertain: int
    cost: int
    cost_currency: str
    price: int
    currency: str


def period(group: Group, at: datetime) -> datetime:
    """Give the beginning of the day, hour or minute that a moment lies in."""
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % SECONDS[group], UTC)


def parse_since(word: str, now: datetime) -> datetime:
    """Read `7d`, `12h` or `30m`, counted back from now, or a date: its midnight in UTC. InvalidValue for the rest."""
    try:
        if _DATE.fullmatch(word):
            return datetime.fromisoformat(word).replace(tzinfo=UTC)
        return now - parse_lifetime(word)
    except (ValueError, InvalidValue):
        raise InvalidValue(
            f"'{word[:100]}' is no time like 7d, 12h or 30m, and no date like 2026-11-01.", param="since"
        ) from None


def parse_groups(word: str) -> tuple[Group, ...]:
    """Read a comma list of groups, in its order. InvalidValue for a name that is none."""
    try:
        return tuple(dict.fromkeys(Group(name.strip()) for name in word.split(",")))
    except ValueError:
        raise InvalidValue(
            f"'{word[:100]}' is no list of groups: use some of {', '.join(Group)}.", param="group_by"
        ) from None


@dataclass(frozen=True, slots=True)
class Buckets:
    """A page of consecutive periods, each from its beginning until the next one's; `following`: of the next page."""

    bounds: Sequence[tuple[int, int]]
    following: str | None


def page_of_buckets(start: int, end: int, width: Group, limit: int, page: str = "") -> Buckets:
    """Cut a time range, in Unix seconds, at the calendar's bounds, and give at most `limit` parts from a page on.

    The first and the last part are cut off where the range is, so that all parts together are the range.

    Raises:
        InvalidValue: the range is empty or no time, or the page is not one of it.
    """
    if not 0 <= start < end <= LATEST:
        raise InvalidValue(
            "'start_time' and 'end_time' are Unix seconds, and the end is after the start.",
            param="end_time" if 0 <= start < LATEST else "start_time",
        )
    at = _place_of(page, start, end, SECONDS[width]) if page else start
    bounds: list[tuple[int, int]] = []
    while at < end and len(bounds) < limit:
        bounds.append((at, min(_after(at, SECONDS[width]), end)))
        at = bounds[-1][1]
    return Buckets(bounds, f"page_{at}" if at < end else None)


def end_of(now: datetime, width: Group) -> int:
    """Give the end of the present period, in Unix seconds."""
    return _after(int(now.timestamp()), SECONDS[width])


def _after(at: int, seconds: int) -> int:
    return at - at % seconds + seconds


def _place_of(page: str, start: int, end: int, seconds: int) -> int:
    match = _PAGE.fullmatch(page)
    at = int(match[1]) if match else start
    if not start < at < end or at % seconds:
        raise InvalidValue("'page' is not the 'next_page' of such a request.", param="page")
    return at
