"""Makes and keeps the sums of hours and days, and sums up what is not kept line by line."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.adapters.sql.engine import READING, SUM_SECONDS, ledger_reached, reaching, summing
from gateway.adapters.sql.stale import hold_alone, mark, mark_alone, stale_within, unmark
from gateway.adapters.sql.sums import ARCHIVE, CURRENCIES, DAYS, HOURS, LINES, NAMES, Source, total
from gateway.adapters.sql.tables import AMOUNTS, usage_events
from gateway.domain.reports import Group, period
from gateway.domain.rollups import LENGTHS, Span, Stale

_INSTANT = timedelta(microseconds=1)  # the finest that both databases keep


class SqlRollups:
    """The roll-ups port over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})

    async def stale(self) -> Stale:
        """Name the hours and days to be summed up; LedgerUnavailable while SQL is away."""
        with ledger_reached():
            async with summing(self._reading) as connection:
                return await stale_within(connection)

    async def roll_up(self, group: Group, start: datetime) -> None:
        """Sum up an hour or a day anew, if nobody else is at it; LedgerUnavailable while SQL is away."""
        span = start, start + LENGTHS[group]
        async with self._writing() as connection:
            if not await hold_alone(connection, group, start):
                return
            if group is Group.HOUR:
                await mark(connection, Group.DAY, [period(Group.DAY, start)])
                for source in HOURS:
                    await _replace(connection, source, [LINES, ARCHIVE], span)
            elif (await stale_within(connection, span)).hours:
                return
            else:
                for source, hours in zip(DAYS, HOURS, strict=True):
                    await _replace(connection, source, [hours], span)
            await unmark(connection, group, start)

    async def archive(self, before: datetime, most: int) -> int:
        """Put sums in the place of about so many of the oldest lines, of one hour that ended before a moment.

        Gives how many; none when there are none, or the oldest hour is stale. LedgerUnavailable while SQL is away.
        """
        async with self._writing() as connection:
            oldest = await connection.scalar(sa.select(sa.func.min(LINES.time)))
            if oldest is None or (hour := period(Group.HOUR, oldest)) + LENGTHS[Group.HOUR] > before:
                return 0
            if not await mark_alone(connection, Group.HOUR, hour):
                return 0
            span = hour, await _end_of_batch(connection, (oldest, hour + LENGTHS[Group.HOUR]), most)
            await _add(connection, ARCHIVE, [LINES], span, hour)
            removed = (await connection.execute(sa.delete(usage_events).where(LINES.within(span)))).rowcount
            await unmark(connection, Group.HOUR, hour)
            return removed

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        with ledger_reached():
            async with reaching(SUM_SECONDS), self._engine.begin() as connection:
                yield connection


async def _end_of_batch(connection: AsyncConnection, span: Span, most: int) -> datetime:
    """Say until when a span has about so many lines; what began at one instant stays together."""
    query = sa.select(LINES.time).where(LINES.within(span)).order_by(LINES.time).offset(most).limit(1)
    following = await connection.scalar(query)
    return span[1] if following is None else max(following, span[0] + _INSTANT)


async def _replace(connection: AsyncConnection, target: Source, sources: Sequence[Source], span: Span) -> None:
    await connection.execute(sa.delete(target.table).where(target.within(span)))
    await _add(connection, target, sources, span, span[0])


async def _add(
    connection: AsyncConnection, target: Source, sources: Sequence[Source], span: Span, start: datetime
) -> None:
    """Add the sums of a span, as those of the period that begins with `start`."""
    words = [*(NAMES[group] for group in target.columns), *CURRENCIES]
    rows = sa.union_all(*(_rows(source, words, span) for source in sources)).subquery()
    sums = sa.select(
        sa.literal(start, target.table.c.time.type).label("time"),
        *(rows.c[word] for word in words),
        *(total(rows.c[amount]).label(amount) for amount in AMOUNTS),
    ).group_by(*(rows.c[word] for word in words))
    await connection.execute(sa.insert(target.table).from_select(["time", *words, *AMOUNTS], sums))


def _rows(source: Source, words: Sequence[str], span: Span) -> sa.Select[tuple[object, ...]]:
    amounts = (amount.label(name) for name, amount in zip(AMOUNTS, source.amounts, strict=True))
    return sa.select(*(source.table.c[word] for word in words), *amounts).where(source.within(span))
