"""Lists in the order of their making, cut into pages where they are stored."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain.paging import Place


async def rows_after(
    connection: AsyncConnection, query: sa.Select[Any], table: sa.Table, among: sa.ColumnElement[bool], place: Place
) -> Sequence[sa.RowMapping] | None:
    """Give the rows of a page and one more, if there are more; None when no row `among` all is there to begin after.

    What the query does not show is a place in the list all the same: paging goes on when the last item was deleted.
    """
    if place.after is not None:
        start = await connection.execute(sa.select(table.c.created_at).where(table.c.id == place.after, among))
        at = start.scalar_one_or_none()
        if at is None:
            return None
        query = query.where(_beyond(table, at, place))
    order = (table.c.created_at, table.c.id)
    ordered = query.order_by(*(column.desc() for column in order) if place.newest_first else order)
    rows: Sequence[sa.RowMapping] = (await connection.execute(ordered.limit(place.limit + 1))).mappings().all()
    return rows


def _beyond(table: sa.Table, at: object, place: Place) -> sa.ColumnElement[bool]:
    made, name = table.c.created_at, table.c.id
    if place.newest_first:
        return sa.or_(made < at, sa.and_(made == at, name < place.after))
    return sa.or_(made > at, sa.and_(made == at, name > place.after))
