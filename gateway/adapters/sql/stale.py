"""Marks of hours and days whose sums have to be made anew.

Without a mark, the roll-ups of an hour or day are what its lines come to. Who writes lines marks their hours first and
holds the marks, shared, until the end of the transaction. Who sums an hour up holds its mark alone from before it reads
until it has taken the mark away. (SQLite lets one transaction write at a time, which is enough there.)
"""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters.sql.tables import usage_stale
from gateway.domain.reports import Group
from gateway.domain.rollups import LENGTHS, Span, Stale

_MARK = usage_stale.c


async def mark(connection: AsyncConnection, group: Group, starts: Iterable[datetime]) -> None:
    """Mark periods, and hold the marks so that nobody takes them away while the transaction goes on."""
    for start in sorted(starts):  # one after the other, so that no two who mark several wait for each other
        while not await _hold(connection, group, start):  # it may be gone with the transaction that took it away
            await mark_alone(connection, group, start)


async def mark_alone(connection: AsyncConnection, group: Group, start: datetime) -> bool:
    """Mark a period that has no mark; False when it has one."""
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(usage_stale)
    row = insert.values(period=group.value, time=start).on_conflict_do_nothing()
    return (await connection.execute(row)).rowcount == 1


async def hold_alone(connection: AsyncConnection, group: Group, start: datetime) -> bool:
    """Hold a period's mark alone; False when there is none, or somebody else holds it."""
    return await connection.scalar(_mark_of(group, start).with_for_update(skip_locked=True)) is not None


async def unmark(connection: AsyncConnection, group: Group, start: datetime) -> None:
    """Take a mark away that is held alone."""
    await connection.execute(sa.delete(usage_stale).where(_MARK.period == group.value, _MARK.time == start))


async def stale_within(connection: AsyncConnection, span: Span | None = None) -> Stale:
    """Read the marks of periods that lie in a range, or partly do; without one all marks."""
    query = sa.select(_MARK.period, _MARK.time)
    if span is not None:
        query = query.where(_MARK.time > span[0] - LENGTHS[Group.DAY], _MARK.time < span[1])
    rows = (await connection.execute(query)).all()
    hours, days = (frozenset(time for name, time in rows if name == group) for group in (Group.HOUR, Group.DAY))
    return Stale(hours, days)


async def _hold(connection: AsyncConnection, group: Group, start: datetime) -> bool:
    """Hold a period's mark together with others; False when there is none."""
    return await connection.scalar(_mark_of(group, start).with_for_update(read=True)) is not None


def _mark_of(group: Group, start: datetime) -> sa.Select[tuple[datetime]]:
    return sa.select(_MARK.time).where(_MARK.period == group.value, _MARK.time == start)
