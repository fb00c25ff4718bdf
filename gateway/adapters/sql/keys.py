"""The durable list of keys."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING
from gateway.adapters.sql.tables import keys
from gateway.domain.keys import StoredKey


class SqlKeys:
    """The key store over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})

    async def get(self, key_id: str) -> StoredKey | None:
        """Find a key by its id."""
        async with self._reading.connect() as connection:
            row = (await connection.execute(sa.select(keys).where(keys.c.id == key_id))).one_or_none()
        return _key(row) if row else None

    async def add(self, key: StoredKey) -> None:
        """Store a new key."""
        values = {column.name: getattr(key, column.name) for column in keys.columns}
        async with self._engine.begin() as connection:
            await connection.execute(sa.insert(keys).values(values))

    async def list(self) -> list[StoredKey]:
        """Give all keys, oldest first."""
        async with self._reading.connect() as connection:
            rows = await connection.execute(sa.select(keys).order_by(keys.c.created_at, keys.c.id))
            return [_key(row) for row in rows]

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key once; False when there is none of this id."""
        first_time = sa.func.coalesce(keys.c.revoked_at, sa.bindparam("at", at, keys.c.revoked_at.type))
        async with self._engine.begin() as connection:
            found = await connection.execute(
                sa.update(keys).where(keys.c.id == key_id).values(revoked_at=first_time).returning(keys.c.id),
            )
            return found.one_or_none() is not None


def _key(row: sa.Row[tuple[object, ...]]) -> StoredKey:
    return StoredKey(**row._mapping)  # noqa: SLF001 - the documented name of a row's mapping
