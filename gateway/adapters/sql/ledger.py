"""The ledger: one row per job, written in batches, changed only by better knowledge of the same job."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING
from gateway.adapters.sql.tables import usage_events
from gateway.domain.usage import RANKS, UsageEvent, Used
from gateway.service.ports import LedgerUnavailable

_KNOWN = max(RANKS.values())
_UNCERTAIN = {outcome.value: rank for outcome, rank in RANKS.items() if rank < _KNOWN}
_UNREACHABLE = (DBAPIError, PoolTimeout, OSError, TimeoutError)


class SqlLedger:
    """The ledger port over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})

    async def write(self, events: Sequence[UsageEvent]) -> None:
        """Add or improve lines; writing the same events again changes nothing. LedgerUnavailable when SQL is down."""
        best: dict[str, UsageEvent] = {}
        for event in events:
            if event.event_id not in best or RANKS[event.outcome] > RANKS[best[event.event_id].outcome]:
                best[event.event_id] = event
        if not best:
            return
        rows = [asdict(event) for event in best.values()]
        try:
            async with self._engine.begin() as connection:
                await connection.execute(self._upsert(), rows)
        except _UNREACHABLE as failure:
            raise LedgerUnavailable(str(failure)) from failure

    async def used_since(self, start: datetime) -> list[Used]:
        """Sum what each key was charged for since a moment, for refilling counters; LedgerUnavailable as above."""
        table = usage_events.c
        query = (
            sa.select(table.project_id, table.key_id, sa.func.sum(table.pictures_delivered), sa.func.sum(table.price))
            .where(table.time >= start, table.pictures_delivered > 0)
            .group_by(table.project_id, table.key_id)
        )
        try:
            async with self._reading.connect() as connection:
                return [Used(*row) for row in await connection.execute(query)]
        except _UNREACHABLE as failure:
            raise LedgerUnavailable(str(failure)) from failure

    async def known(self, event_ids: Sequence[str]) -> set[str]:
        """Tell which lines are there; LedgerUnavailable as above."""
        query = sa.select(usage_events.c.event_id).where(usage_events.c.event_id.in_(event_ids))
        try:
            async with self._reading.connect() as connection:
                return set((await connection.execute(query)).scalars())
        except _UNREACHABLE as failure:
            raise LedgerUnavailable(str(failure)) from failure

    def _upsert(self) -> Any:  # noqa: ANN401 - the two dialects' inserts share no type
        insert = (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(usage_events)
        changed = {column.name: insert.excluded[column.name] for column in usage_events.columns}
        better = _rank(insert.excluded.outcome) > _rank(usage_events.c.outcome)
        return insert.on_conflict_do_update(index_elements=["event_id"], set_=changed, where=better)


def _rank(outcome: Any) -> sa.ColumnElement[int]:  # noqa: ANN401 - a column, or excluded's
    return sa.case(_UNCERTAIN, value=outcome, else_=_KNOWN)
