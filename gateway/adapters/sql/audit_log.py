"""The durable list of changes."""

from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, fields

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.tables import audit_log
from gateway.adapters.sql.transaction import reading, together, writing
from gateway.domain.audit import Actor, AuditEntry, AuditEvent, AuditQuestion
from gateway.domain.paging import Page, page_of

_ACTOR = {"kind": "actor_kind", "id": "actor_id", "name": "actor_name"}  # columns that are not named as their fields


class SqlAuditLog:
    """The audit log over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Let the block's writes happen together, one such block at a time."""
        return together(self._engine)

    async def add(self, entry: AuditEntry) -> None:
        """Write a line; it gets the next number."""
        actor = {_ACTOR.get(name, name): value for name, value in asdict(entry.actor).items()}
        row = {**actor, **asdict(entry.event), "time": entry.time}
        async with writing(self._engine) as connection:
            await connection.execute(sa.insert(audit_log).values(row))

    async def page(self, question: AuditQuestion) -> Page[AuditEntry]:
        """Give lines, the newest first."""
        upwards = question.after is None and question.before is not None
        number = audit_log.c.number
        query = sa.select(audit_log).where(*_conditions(question))
        ordered = query.order_by(number if upwards else number.desc()).limit(question.limit + 1)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(ordered)).mappings().all()
        page = page_of([_entry_of(row) for row in rows], question.limit)
        return Page(page.items[::-1], page.has_more) if upwards else page


def _conditions(question: AuditQuestion) -> list[sa.ColumnElement[bool]]:
    columns = audit_log.c
    bounds = (
        (question.after, columns.number.__lt__),
        (question.before, columns.number.__gt__),
        (question.start, columns.time.__ge__),
        (question.end, columns.time.__lt__),
    )
    among = [columns[name].in_(values) for name, values in question.only.items()]
    return [beyond(bound) for bound, beyond in bounds if bound is not None] + among


def _entry_of(row: sa.RowMapping) -> AuditEntry:
    actor = Actor(**{one.name: row[_ACTOR.get(one.name, one.name)] for one in fields(Actor)})
    event = AuditEvent(**{one.name: row[one.name] for one in fields(AuditEvent)})
    return AuditEntry(time=row["time"], actor=actor, event=event, number=row["number"])
