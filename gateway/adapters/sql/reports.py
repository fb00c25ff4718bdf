"""Sums of the ledger by groups: exact, in whole millionths, on both databases."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from operator import add
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.adapters.sql.engine import READING, snapshot_of, summing
from gateway.adapters.sql.stale import stale_within
from gateway.adapters.sql.sums import CURRENCIES, Source, sources_of, total
from gateway.adapters.sql.tables import AMOUNTS
from gateway.domain.reports import LATEST, SECONDS, Group, Question, Sums
from gateway.domain.rollups import LENGTHS, Grain, Span, Stale, spans_of

_TO_THE_SECOND = 19  # characters of SQLite's times
_OF_COSTS, _OF_PRICES = frozenset({"paid", "uncertain", "cost", "cost_currency"}), frozenset({"price", "currency"})
_ZERO, _NONE = sa.literal_column("0", sa.Integer), sa.literal_column("''", sa.String)
_AMOUNTS = -len(AMOUNTS)  # where a row's amounts begin
_FIRST, _NO_END = datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(LATEST, UTC)


class SqlReports:
    """The reports port over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(**{READING: True})
        self._snapshot = snapshot_of(engine)

    async def sums(self, question: Question) -> list[Sums]:
        """Sum by groups and currencies; a minute is given to the database, as to all sums of the ledger.

        Of hours whose lines are not kept any more everything lies at the hour's beginning.

        Raises:
            DatabaseUnavailable: SQL is down.
        """
        added: dict[tuple[Any, ...], tuple[int, ...]] = {}
        async with summing(self._engine) as fresh:
            # What is stale and what is summed have to be of one instant.
            connection = await fresh.execution_options(**self._snapshot)
            for query in await _statements(connection, question):
                for row in await connection.execute(query):
                    names, amounts = row[:_AMOUNTS], row[_AMOUNTS:]
                    known = added.get(names)
                    added[names] = tuple(map(add, known, amounts)) if known else amounts
        beginning = cache(_beginning)
        return [_sums(question, names, amounts, beginning) for names, amounts in added.items()]


async def _statements(connection: AsyncConnection, question: Question) -> list[sa.Select[Any]]:
    span = max(question.start, _FIRST), question.end or _NO_END
    stale = await stale_within(connection, span)
    return list(statements(question, span, stale, connection.dialect.name))


def statements(question: Question, span: Span, stale: Stale, dialect: str) -> Iterator[sa.Select[Any]]:
    """Write the question in a database's words: for each span, and all that has sums of it."""
    wanted = {group for group in (*question.by, *question.only) if group not in SECONDS}
    for grain, spans in spans_of(span, _coarsest(question, wanted), stale).items():
        for part in spans:
            for source in sources_of(grain, wanted):
                yield _statement(question, source, part, dialect)


def _coarsest(question: Question, wanted: set[Group]) -> Grain:
    """Say which sums may answer a question at most."""
    if Group.MINUTE in question.by or not sources_of(Grain.DAY, wanted):
        return Grain.LINE
    return Grain.HOUR if Group.HOUR in question.by else Grain.DAY


def _statement(question: Question, source: Source, span: Span, dialect: str) -> sa.Select[Any]:
    groups = [_column(group, source, dialect) for group in question.by]
    unasked = (frozenset() if question.costs else _OF_COSTS) | (frozenset() if question.prices else _OF_PRICES)
    groups += [_NONE if name in unasked else source.table.c[name] for name in CURRENCIES]
    wanted = [source.columns[group].in_(values) for group, values in question.only.items()]
    # Grouped by position: an expression with parameters would be another one for PostgreSQL each time it stands there.
    positions: list[sa.ColumnElement[Any]] = [sa.literal_column(str(number)) for number in range(1, len(groups) + 1)]
    amounts = [
        _ZERO if name in unasked else total(amount) for name, amount in zip(AMOUNTS, source.amounts, strict=True)
    ]
    query = sa.select(*groups, *amounts).where(source.within(span), *wanted)
    return query.group_by(*positions)


def _column(group: Group, source: Source, dialect: str) -> sa.ColumnElement[Any]:
    """Give what rows are told apart by; for a period its beginning, or its number since 1970."""
    if group not in SECONDS:
        return source.columns[group]
    if dialect == "postgresql":
        return sa.func.date_bin(LENGTHS[group], source.time, _FIRST)
    # SQLite rounds to milliseconds, so that the end of a day would belong to the next one.
    whole = sa.func.substr(sa.type_coerce(source.time, sa.String), 1, _TO_THE_SECOND)
    return sa.cast(sa.func.strftime("%s", whole), sa.Integer).op("/")(sa.literal(SECONDS[group]))


def _sums(
    question: Question,
    names: tuple[Any, ...],
    amounts: tuple[int, ...],
    beginning: Callable[[Group, datetime | int], datetime],
) -> Sums:
    group = dict(zip(question.by, names, strict=False))
    for name in group.keys() & SECONDS.keys():
        group[name] = beginning(name, group[name])
    requests, delivered, paid, uncertain, cost, price = amounts
    cost_currency, currency = names[-2:]
    return Sums(group, requests, delivered, paid, uncertain, cost, cost_currency, price, currency)


def _beginning(group: Group, at: datetime | int) -> datetime:
    """Give the beginning of a period, which SQLite numbers."""
    return at if isinstance(at, datetime) else datetime.fromtimestamp(at * SECONDS[group], UTC)
