"""The durable list of admin keys."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.pages import rows_after
from gateway.adapters.sql.tables import admin_keys, installation
from gateway.adapters.sql.transaction import reading, writing
from gateway.domain.admin_keys import AdminKey
from gateway.domain.keys import Renewal
from gateway.domain.paging import Page, Place, page_of

_FIRST = "first_admin_key"  # the installation's note that it has made one


class SqlAdminKeys:
    """The store of admin keys over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, key_id: str) -> AdminKey | None:
        """Find a key by its id."""
        return next(iter(await self._select(admin_keys.c.id == key_id)), None)

    async def find(self, digests: Sequence[bytes]) -> AdminKey | None:
        """Find the key that has one of the digests."""
        return next(iter(await self._select(admin_keys.c.digest.in_(digests))), None)

    async def add(self, key: AdminKey) -> bool:
        """Store a new key; False when there is one of its digest."""
        return await self._insert(sa.insert(admin_keys).values(asdict(key)))

    async def add_first(self, key: AdminKey) -> bool:
        """Store the installation's own first key together with the note that it was made: of several processes one."""
        note = sa.insert(installation).values(name=_FIRST, value=key.id)
        return await self._insert(note, sa.insert(admin_keys).values(asdict(key)))

    async def list(self) -> list[AdminKey]:
        """Give all keys, oldest first."""
        return [*await self._select(sa.true())]

    async def page(self, place: Place) -> Page[AdminKey] | None:
        """Give a page of the keys that are not revoked; None when there is none to begin after."""
        query = sa.select(admin_keys).where(admin_keys.c.revoked_at.is_(None))
        async with reading(self._engine) as connection:
            rows = await rows_after(connection, query, admin_keys, sa.true(), place)
        return None if rows is None else page_of([AdminKey(**row) for row in rows], place.limit)

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key once; False when there is none of this id."""
        first_time = sa.func.coalesce(admin_keys.c.revoked_at, sa.bindparam("at", at, admin_keys.c.revoked_at.type))
        return await self._set(key_id, revoked_at=first_time)

    async def touch(self, key_id: str, at: datetime) -> None:
        """Note when a key was last used."""
        await self._set(key_id, last_used_at=at)

    async def renew(self, renewal: Renewal) -> None:
        """Put a new digest where the old one still is, unless another key has it."""
        where = (admin_keys.c.id == renewal.key_id, admin_keys.c.digest == renewal.old)
        new = {"digest": renewal.new.value, "digested_with": renewal.new.made_with}
        with suppress(IntegrityError):
            async with writing(self._engine) as connection:
                await connection.execute(sa.update(admin_keys).where(*where).values(**new))

    async def _select(self, which: sa.ColumnElement[bool]) -> Sequence[AdminKey]:
        query = sa.select(admin_keys).where(which).order_by(admin_keys.c.created_at, admin_keys.c.id)
        async with reading(self._engine) as connection:
            return [AdminKey(**row) for row in (await connection.execute(query)).mappings()]

    async def _insert(self, *rows: sa.Insert) -> bool:
        """Insert all rows or none; False when one is there already."""
        try:
            async with writing(self._engine) as connection:
                for row in rows:
                    await connection.execute(row)
        except IntegrityError:
            return False
        return True

    async def _set(self, key_id: str, **values: object) -> bool:
        update = sa.update(admin_keys).where(admin_keys.c.id == key_id).values(values)
        async with writing(self._engine) as connection:
            return (await connection.execute(update.returning(admin_keys.c.id))).one_or_none() is not None
