"""The ledger: one row per job, written in batches, changed only by better knowledge of the same job."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING, SECONDS, reaching, reason_of, refuses_data
from gateway.adapters.sql.tables import usage_events
from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.usage import RANKS, UsageEvent, Used
from gateway.service.ports import LedgerUnavailable, LinesRefused

SUM_SECONDS = 60.0  # a month of a large installation

_KNOWN = max(RANKS.values())
_UNCERTAIN = {outcome.value: rank for outcome, rank in RANKS.items() if rank < _KNOWN}


class SqlLedger:
    """The ledger port over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})

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
        refused = await self._write([asdict(event) for event in best.values()])
        if refused:
            raise LinesRefused(refused)

    async def used_since(self, start: datetime) -> list[Used]:
        """Sum what each key was charged for since a moment, for refilling counters; LedgerUnavailable as above."""
        table = usage_events.c
        query = (
            sa.select(table.project_id, table.key_id, _sum(table.pictures_delivered), _sum(table.price))
            .where(table.time >= start, table.pictures_delivered > 0)
            .group_by(table.project_id, table.key_id)
        )
        async with _answering(SUM_SECONDS), asyncio.timeout(SECONDS) as first, self._reading.connect() as connection:
            first.reschedule(None)  # it answers, so that the sum may take its time
            return [Used(*row) for row in await connection.execute(query)]

    async def known(self, event_ids: Sequence[str]) -> set[str]:
        """Tell which lines are there; LedgerUnavailable as above."""
        query = sa.select(usage_events.c.event_id).where(usage_events.c.event_id.in_(event_ids))
        async with _answering(), self._reading.connect() as connection:
            return set((await connection.execute(query)).scalars())

    async def _write(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Write rows and give those that are refused: a batch that is refused for its data is halved to find them."""
        if not rows:
            return {}
        try:
            async with _answering(), self._engine.begin() as connection:
                await connection.execute(self._upsert(), rows)
        except Exception as failure:
            if not refuses_data(failure):
                raise
            if len(rows) == 1:
                return {rows[0]["event_id"]: reason_of(failure)}
        else:
            return {}
        half = len(rows) // 2
        return await self._write(rows[:half]) | await self._write(rows[half:])

    def _upsert(self) -> Any:  # noqa: ANN401 - the two dialects' inserts share no type
        insert = (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(usage_events)
        changed = {column.name: insert.excluded[column.name] for column in usage_events.columns}
        better = _rank(insert.excluded.outcome) > _rank(usage_events.c.outcome)
        return insert.on_conflict_do_update(index_elements=["event_id"], set_=changed, where=better)


@asynccontextmanager
async def _answering(seconds: float = SECONDS) -> AsyncGenerator[None]:
    try:
        async with reaching(seconds):
            yield
    except DatabaseUnavailable as failure:
        raise LedgerUnavailable(reason_of(failure.__cause__ or failure)) from failure


def _sum(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Sum as an integer: PostgreSQL's sum of bigint is a numeric, which comes as a Decimal."""
    return sa.cast(sa.func.sum(column), sa.BigInteger)


def _rank(outcome: Any) -> sa.ColumnElement[int]:  # noqa: ANN401 - a column, or excluded's
    return sa.case(_UNCERTAIN, value=outcome, else_=_KNOWN)
