"""The ledger: one row per job, written in batches, changed only by better knowledge of the same job."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, time, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.adapters.sql import bills
from gateway.adapters.sql.engine import READING, ledger_reached, reaching, reason_of, refuses_data, snapshot_of, summing
from gateway.adapters.sql.lines import NAMED, Lines
from gateway.adapters.sql.stale import mark
from gateway.adapters.sql.sums import UNCERTAIN, total
from gateway.adapters.sql.tables import usage_events
from gateway.domain.bill import PaidSum
from gateway.domain.reconciliation import Charge, LedgerCounts
from gateway.domain.reports import Group, period
from gateway.domain.upstream import CHINA
from gateway.domain.usage import RANKS, Outcome, Tally, UsageEvent, Used
from gateway.service.ports import LinesRefused

DAY = timedelta(days=1)
LONG, LONGEST = timedelta(minutes=30), timedelta(hours=25)  # jobs that take long; paid pictures are tried for a day


class SqlLedger:
    """The ledger port over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})
        self._snapshot = snapshot_of(engine)
        self._lines = Lines(engine.dialect)

    async def write(self, events: Sequence[UsageEvent]) -> None:
        """Add or improve lines; writing the same events again changes nothing.

        Raises:
            LedgerUnavailable: SQL is down.
            LinesRefused: SQL can never hold some of them; the others are written.
        """
        best: dict[str, UsageEvent] = {}
        for event in events:
            if event.event_id not in best or RANKS[event.outcome] > RANKS[best[event.event_id].outcome]:
                best[event.event_id] = event
        # In one order: of two who write the same lines at once, one waits for the other, and PostgreSQL ends neither.
        refused = await self._write([best[event_id] for event_id in sorted(best)])
        if refused:
            raise LinesRefused(refused)

    async def used_since(self, start: datetime) -> list[Used]:
        """Sum what each key was charged for since a moment, for refilling counters; LedgerUnavailable as above."""
        async with self._summing() as connection:
            return await _used_since(connection, start)

    async def tally(self, day: datetime, month: datetime, ended: datetime) -> Tally:
        """Sum, and name what ended lately with a known outcome, as of one instant; LedgerUnavailable as above."""
        async with self._summing() as fresh:
            connection = await fresh.execution_options(**self._snapshot)
            return Tally(
                today=await _used_since(connection, day),
                month=await _used_since(connection, month),
                ended=await _ended_since(connection, ended),
            )

    async def counts(self, day: datetime, month: datetime, since: datetime, event_ids: Collection[str]) -> LedgerCounts:
        """Sum, and give lines since a moment and those that are named, as of one instant; raises as above."""
        async with self._summing() as fresh:
            connection = await fresh.execution_options(**self._snapshot)
            lines = await _lines(connection, usage_events.c.time >= since)
            lines |= await _lines(connection, self._lines.named, {NAMED: [*event_ids]})
            return LedgerCounts(
                day=day,
                month=month,
                today=await _used_since(connection, day),
                this_month=await _used_since(connection, month),
                lines=list(lines.values()),
            )

    async def paid(self, first: date, last: date) -> list[PaidSum]:
        """Sum what accounts took on days of China, and the day before; LedgerUnavailable as above.

        Raises:
            InvalidValue: of some of these days sums only are kept, which know no accounts.
        """
        start, end = (datetime.combine(day, time.min, CHINA) for day in (first - DAY, last + DAY))
        query = bills.statement(start, end, self._engine.dialect.name)
        async with self._summing() as connection:
            bills.refuse_before(start, await connection.scalar(bills.LAST_ARCHIVED))
            return [bills.paid_sum(row) for row in await connection.execute(query)]

    async def known(self, event_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """Tell which lines are there, and their outcomes; LedgerUnavailable as above."""
        async with self._summing() as connection:
            rows = await connection.execute(self._lines.outcomes, {NAMED: [*event_ids]})
            return {name: Outcome(outcome) for name, outcome in rows}

    @asynccontextmanager
    async def _summing(self) -> AsyncGenerator[AsyncConnection]:
        """Give a connection for a question that may take its time once the database answers."""
        with ledger_reached():
            async with summing(self._reading) as connection:
                yield connection

    async def _write(self, events: Sequence[UsageEvent]) -> dict[str, str]:
        """Write lines and give those that are refused: a batch that is refused for its data is halved to find them."""
        if not events:
            return {}
        try:
            with ledger_reached():
                async with reaching(), self._engine.begin() as connection:
                    await mark(connection, Group.HOUR, await self._hours_of(connection, events))
                    await connection.exec_driver_sql(self._lines.upsert, [self._lines.row(event) for event in events])
        except Exception as failure:
            if not refuses_data(failure):
                raise
            if len(events) == 1:
                return {events[0].event_id: reason_of(failure)}
        else:
            return {}
        half = len(events) // 2
        return await self._write(events[:half]) | await self._write(events[half:])

    async def _hours_of(self, connection: AsyncConnection, events: Sequence[UsageEvent]) -> set[datetime]:
        """Give the hours that lines will change: better knowledge may have another time than the line it replaces."""
        times = [event.time for event in events]
        times += await connection.scalars(self._lines.times, {NAMED: [event.event_id for event in events]})
        first, last = (period(Group.HOUR, time) for time in (min(times), max(times)))
        return {first} if first == last else {period(Group.HOUR, time) for time in times}


async def _used_since(connection: AsyncConnection, start: datetime) -> list[Used]:
    table = usage_events.c
    query = (
        sa.select(table.project_id, table.key_id, total(table.pictures_delivered), total(table.price))
        .where(table.time >= start, table.pictures_delivered > 0)
        .group_by(table.project_id, table.key_id)
    )
    return [Used(*row) for row in await connection.execute(query)]


async def _lines(
    connection: AsyncConnection, wanted: sa.ColumnElement[bool], named: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Charge]:
    table = usage_events.c
    columns = (table.event_id, table.outcome, table.time, table.project_id, table.key_id)
    query = sa.select(*columns, table.pictures_delivered.label("pictures"), table.price).where(wanted)
    rows = (await connection.execute(query, named)).mappings()
    return {row["event_id"]: Charge(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows}


async def _ended_since(connection: AsyncConnection, start: datetime) -> list[tuple[str, str]]:
    """Give jobs that ended since a moment: lines have the time at which a job began, and how long it took."""
    table = usage_events.c
    lately, long = table.time >= start - LONG, table.latency_ms >= int(LONG / timedelta(milliseconds=1))
    query = sa.select(table.event_id, table.project_id, table.time, table.latency_ms).where(
        table.time >= start - LONGEST, sa.or_(lately, long), table.outcome.not_in(UNCERTAIN)
    )
    rows = await connection.execute(query)
    return [(row[0], row[1]) for row in rows if row[2] + timedelta(milliseconds=row[3]) >= start]
