"""Sums of the ledger's lines by groups: exact, in whole millionths, on both databases."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING, summing
from gateway.adapters.sql.tables import usage_events
from gateway.domain.reports import SECONDS, Group, Question, Sums
from gateway.domain.usage import RANKS, Outcome

_LINE = usage_events.c
_COLUMNS: dict[Group, sa.ColumnElement[str]] = {
    Group.PROJECT: _LINE.project_id,
    Group.KEY: _LINE.key_id,
    Group.MODEL: _LINE.upstream_model,
    Group.SIZE: _LINE.size,
    Group.SOURCE: _LINE.source,
    Group.OUTCOME: _LINE.outcome,
    Group.USER: _LINE.end_user_hash,
}
_UNCERTAIN = [outcome.value for outcome, rank in RANKS.items() if rank < RANKS[Outcome.DELIVERED]]
_TO_THE_SECOND = 19  # characters of SQLite's times


class SqlReports:
    """The reports port over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(**{READING: True})

    async def sums(self, question: Question) -> list[Sums]:
        """Sum lines by groups and currencies; a minute is given to the database, as to all sums of the ledger.

        Raises:
            DatabaseUnavailable: SQL is down.
        """
        query = statement(question, self._engine.dialect.name)
        async with summing(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        return [_sums(question, row) for row in rows]


def statement(question: Question, dialect: str) -> sa.Select[Any]:
    """Write the question in a database's words."""
    groups = [_column(group, dialect) for group in question.by]
    groups += [_LINE.cost_currency, _LINE.currency]
    wanted: list[sa.ColumnElement[bool]] = [_COLUMNS[group].in_(values) for group, values in question.only.items()]
    if question.end is not None:
        wanted.append(_LINE.time < question.end)
    # Grouped by position: an expression with parameters would be another one for PostgreSQL each time it stands there.
    positions: list[sa.ColumnElement[Any]] = [sa.literal_column(str(number)) for number in range(1, len(groups) + 1)]
    return sa.select(*groups, *_amounts()).where(_LINE.time >= question.start, *wanted).group_by(*positions)


def _amounts() -> list[sa.ColumnElement[int]]:
    """Sum in the order of Sums. A job that attached anew has a line of its own, and was no request."""
    requests = sa.case((_LINE.event_id.contains("~"), 0), else_=1)
    doubtful = _LINE.pictures_requested - _LINE.pictures_paid
    uncertain = sa.case((_LINE.outcome.in_(_UNCERTAIN), doubtful), else_=0)
    summed = (requests, _LINE.pictures_delivered, _LINE.pictures_paid, uncertain, _LINE.cost, _LINE.price)
    # PostgreSQL's sum of bigint is a numeric, which would come as a Decimal.
    return [sa.cast(sa.func.sum(amount), sa.BigInteger) for amount in summed]


def _column(group: Group, dialect: str) -> sa.ColumnElement[Any]:
    """Give what lines are told apart by; for a period its number since 1970."""
    if group not in SECONDS:
        return _COLUMNS[group]
    return moment_in_seconds(dialect).op("/")(sa.literal(SECONDS[group]))


def moment_in_seconds(dialect: str) -> sa.ColumnElement[int]:
    """Give a line's time in whole seconds since 1970."""
    if dialect == "postgresql":
        return sa.cast(sa.func.floor(sa.extract("epoch", _LINE.time)), sa.BigInteger)
    # SQLite rounds to milliseconds, so that the end of a day would belong to the next one.
    whole = sa.func.substr(sa.type_coerce(_LINE.time, sa.String), 1, _TO_THE_SECOND)
    return sa.cast(sa.func.strftime("%s", whole), sa.Integer)


def _sums(question: Question, row: sa.Row[Any]) -> Sums:
    count = len(question.by)
    cost_currency, currency, requests, delivered, paid, uncertain, cost, price = row[count:]
    return Sums(
        group={group: _value(group, value) for group, value in zip(question.by, row[:count], strict=True)},
        requests=requests,
        delivered=delivered,
        paid=paid,
        uncertain=uncertain,
        cost=cost,
        cost_currency=cost_currency,
        price=price,
        currency=currency,
    )


def _value(group: Group, value: Any) -> str | datetime:  # noqa: ANN401 - a text, or the number of a period
    return datetime.fromtimestamp(value * SECONDS[group], UTC) if group in SECONDS else value
