"""What can be summed up, and how: lines, and the sums that are kept of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.adapters.sql.tables import (
    AMOUNTS,
    usage_archive,
    usage_days,
    usage_days_by_size,
    usage_events,
    usage_hours,
    usage_hours_by_size,
)
from gateway.domain.reports import Group
from gateway.domain.rollups import Grain, Span
from gateway.domain.usage import RANKS, Outcome

NAMES = {
    Group.PROJECT: "project_id",
    Group.KEY: "key_id",
    Group.MODEL: "upstream_model",
    Group.SIZE: "size",
    Group.SOURCE: "source",
    Group.OUTCOME: "outcome",
    Group.USER: "end_user_hash",
}
CURRENCIES = ("cost_currency", "currency")
UNCERTAIN = [outcome.value for outcome, rank in RANKS.items() if rank < RANKS[Outcome.DELIVERED]]
_LINE = usage_events.c


@dataclass(frozen=True, slots=True)
class Source:
    """A table of lines or of their sums; `amounts` in the order of AMOUNTS."""

    table: sa.Table
    amounts: Sequence[sa.ColumnElement[int]]

    @property
    def time(self) -> sa.ColumnElement[Any]:
        """When a line began, or the beginning of what is summed up."""
        return self.table.c.time

    @property
    def columns(self) -> Mapping[Group, sa.ColumnElement[str]]:
        """What its rows can be told apart by, besides periods."""
        return {group: self.table.c[name] for group, name in NAMES.items() if name in self.table.c}

    def within(self, span: Span) -> sa.ColumnElement[bool]:
        """Choose the rows of a time range."""
        return sa.and_(self.time >= span[0], self.time < span[1])


def _amounts_of_lines() -> Sequence[sa.ColumnElement[int]]:
    """Say what a line adds. A job that attached anew has a line of its own, and was no request."""
    requests = sa.case((_LINE.event_id.contains("~"), 0), else_=1)
    doubtful = _LINE.pictures_requested - _LINE.pictures_paid
    uncertain = sa.case((_LINE.outcome.in_(UNCERTAIN), doubtful), else_=0)
    return requests, _LINE.pictures_delivered, _LINE.pictures_paid, uncertain, _LINE.cost, _LINE.price


def _kept(table: sa.Table) -> Source:
    return Source(table, [table.c[name] for name in AMOUNTS])


LINES, ARCHIVE = Source(usage_events, _amounts_of_lines()), _kept(usage_archive)
# The first that tells apart all that is asked for is read: the one with fewer rows stands first.
HOURS = (_kept(usage_hours_by_size), _kept(usage_hours))
DAYS = (_kept(usage_days_by_size), _kept(usage_days))


def total(amount: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Sum as an integer: PostgreSQL's sum of bigint is a numeric, which would come as a Decimal."""
    return sa.cast(sa.func.sum(amount), sa.BigInteger)


def sources_of(grain: Grain, wanted: set[Group]) -> Sequence[Source]:
    """Give what has a range's sums at a grain; nothing where they do not tell apart what is wanted."""
    if grain is Grain.LINE:
        return LINES, ARCHIVE
    rolled = DAYS if grain is Grain.DAY else HOURS
    return [source for source in rolled if wanted <= source.columns.keys()][:1]
