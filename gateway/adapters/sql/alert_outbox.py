"""The outbox of alerts: written with the crossing, emptied by whoever claims a row first, kept as their history."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING, reaching
from gateway.adapters.sql.tables import webhook_deliveries, webhooks
from gateway.adapters.sql.webhooks import WEBHOOK_COLUMNS, webhook_beside
from gateway.domain.limits import Limit
from gateway.domain.webhooks import Delivery, Webhook
from gateway.service.ports_alerts import Told

_ROW = webhook_deliveries.c
_OUTCOME = ("state", "tries_left", "last_status", "last_error", "last_tried_at", "next_try_at", "delivered_at")


class SqlAlertOutbox:
    """The outbox over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        """Store new events, all or none; of those that tell of the same amount of a limit and period one is kept."""
        insert = (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(webhook_deliveries)
        if deliveries:
            async with reaching(), self._engine.begin() as connection:
                await connection.execute(insert.on_conflict_do_nothing(), [asdict(one) for one in deliveries])

    async def told(self, project_ids: Sequence[str], periods: Sequence[str]) -> list[Told]:
        """Say which thresholds were told in some periods."""
        query = sa.select(_ROW.project_id, _ROW.limit, _ROW.period, _ROW.threshold, _ROW.used)
        query = query.where(_ROW.project_id.in_(project_ids), _ROW.period.in_(periods))
        async with reaching(), self._reading.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [Told(project, Limit(limit), *rest) for project, limit, *rest in rows]

    async def claim(
        self, now: datetime, until: datetime, most: int, busy: Collection[str]
    ) -> list[tuple[Delivery, Webhook]]:
        """Begin a try of the pending events that are due, each for one of all callers; see the port."""
        async with reaching(), self._reading.connect() as connection:
            due = (await connection.execute(_due(now, most, busy))).mappings().all()
        return [(claimed, webhook_beside(row)) for row in due if (claimed := await self._claim(row["id"], now, until))]

    async def record(self, delivery: Delivery) -> None:
        """Note what became of a try."""
        values = {name: getattr(delivery, name) for name in _OUTCOME}
        async with reaching(), self._engine.begin() as connection:
            await connection.execute(sa.update(webhook_deliveries).where(_ROW.id == delivery.id).values(values))

    async def find(self, project_id: str, delivery_id: str) -> Delivery | None:
        """Find a project's event."""
        return next(iter(await self._select(_ROW.project_id == project_id, _ROW.id == delivery_id)), None)

    async def of_project(self, project_id: str) -> list[Delivery]:
        """Give a project's events, oldest first."""
        return await self._select(_ROW.project_id == project_id)

    async def prune(self, before: datetime, now: datetime) -> None:
        """Forget events that were made before a moment, except those of periods that are not over: they were told."""
        over = sa.or_(_ROW.period_ends.is_(None), _ROW.period_ends <= now)
        async with reaching(), self._engine.begin() as connection:
            await connection.execute(sa.delete(webhook_deliveries).where(_ROW.created_at < before, over))

    async def _claim(self, delivery_id: str, now: datetime, until: datetime) -> Delivery | None:
        """Claim an event; None when another process was faster: it is not due any more."""
        update = sa.update(webhook_deliveries).where(
            _ROW.id == delivery_id, _ROW.state == "pending", _ROW.next_try_at <= now
        )
        counted = {"tries": _ROW.tries + 1, "tries_left": _ROW.tries_left - 1}
        claiming = update.values(next_try_at=until, last_tried_at=now, **counted).returning(webhook_deliveries)
        async with reaching(), self._engine.begin() as connection:
            row = (await connection.execute(claiming)).mappings().one_or_none()
        return _delivery(row) if row else None

    async def _select(self, *which: sa.ColumnElement[bool]) -> list[Delivery]:
        query = sa.select(webhook_deliveries).where(*which).order_by(_ROW.created_at, _ROW.id)
        async with reaching(), self._reading.connect() as connection:
            return [_delivery(row) for row in (await connection.execute(query)).mappings()]


def _due(now: datetime, most: int, busy: Collection[str]) -> sa.Select[Any]:
    """Ask for the event of each project that has been due for longest: a receiver that hangs holds up its own alone."""
    place = sa.func.row_number().over(partition_by=_ROW.project_id, order_by=(_ROW.next_try_at, _ROW.id))
    waiting = sa.select(_ROW.id, _ROW.next_try_at, *WEBHOOK_COLUMNS, place.label("place")).join_from(
        webhook_deliveries, webhooks, _ROW.project_id == webhooks.c.project_id
    )
    wanted = (_ROW.state == "pending", _ROW.next_try_at <= now, _ROW.project_id.not_in(busy))
    due = waiting.where(*wanted, webhooks.c.disabled_at.is_(None)).subquery()
    return sa.select(due).where(due.c.place == 1).order_by(due.c.next_try_at).limit(most)


def _delivery(row: sa.RowMapping) -> Delivery:
    return Delivery(**{str(name): value for name, value in row.items()})
