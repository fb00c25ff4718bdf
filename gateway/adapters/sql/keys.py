"""The durable list of keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.pages import rows_after
from gateway.adapters.sql.rows import PROJECT_COLUMNS, key_of, values_of
from gateway.adapters.sql.tables import keys, projects
from gateway.adapters.sql.transaction import reading, writing
from gateway.domain.errors import NameTaken
from gateway.domain.keys import Access, Digest, Renewal, StoredKey
from gateway.domain.paging import Page, Place, page_of
from gateway.domain.terms import Changes

_WITH_PROJECT = sa.select(keys, *PROJECT_COLUMNS).join(projects, keys.c.project_id == projects.c.id)


class SqlKeys:
    """The key store over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, key_id: str) -> StoredKey | None:
        """Find a key by its id, with its project."""
        async with reading(self._engine) as connection:
            rows = await connection.execute(_WITH_PROJECT.where(keys.c.id == key_id))
            row = rows.mappings().one_or_none()
        return key_of(row) if row else None

    async def add(self, key: StoredKey) -> None:
        """Store a new key; NameTaken when a key of its project that is not revoked has its name."""
        try:
            async with writing(self._engine) as connection:
                await connection.execute(sa.insert(keys).values(values_of(key, keys)))
        except IntegrityError as failure:
            raise _taken(key.name) from failure

    async def list(self, project_id: str | None = None) -> list[StoredKey]:
        """Give all keys or those of a project, oldest first."""
        query = _WITH_PROJECT.order_by(keys.c.created_at, keys.c.id)
        if project_id is not None:
            query = query.where(keys.c.project_id == project_id)
        async with reading(self._engine) as connection:
            return [key_of(row) for row in (await connection.execute(query)).mappings()]

    async def page(self, project_id: str, place: Place, access: Access | None = None) -> Page[StoredKey] | None:
        """Give a page of a project's keys that are not revoked; None when it has no key to begin after."""
        of_project = keys.c.project_id == project_id
        barred = sa.or_(keys.c.disabled_at.is_not(None), projects.c.archived_at.is_not(None))
        accessible = {None: sa.true(), "inactive": barred, "active": sa.not_(barred)}[access]
        query = _WITH_PROJECT.where(of_project, keys.c.revoked_at.is_(None), accessible)
        async with reading(self._engine) as connection:
            rows = await rows_after(connection, query, keys, of_project, place)
        return None if rows is None else page_of([key_of(row) for row in rows], place.limit)

    async def page_accounts(self, project_id: str, place: Place) -> Page[StoredKey] | None:
        """Give a page of the first keys of service accounts that have a key that is not revoked; None as above."""
        of_project = keys.c.project_id == project_id
        others = keys.alias()
        living = sa.select(sa.func.coalesce(others.c.account, others.c.id)).where(
            others.c.project_id == project_id, others.c.revoked_at.is_(None)
        )
        async with reading(self._engine) as connection:
            query = _WITH_PROJECT.where(of_project, keys.c.id.in_(living))
            rows = await rows_after(connection, query, keys, of_project, place)
        return None if rows is None else page_of([key_of(row) for row in rows], place.limit)

    async def of_account(self, project_id: str, account_id: str) -> Sequence[StoredKey]:
        """Give all keys of a service account, the first one first."""
        its = sa.func.coalesce(keys.c.account, keys.c.id) == account_id
        query = _WITH_PROJECT.where(keys.c.project_id == project_id, its)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query.order_by(keys.c.account.is_not(None), keys.c.created_at, keys.c.id))
            return [key_of(row) for row in rows.mappings()]

    async def change(self, key_id: str, changes: Changes) -> bool:
        """Set the named fields; False when there is no such key, NameTaken as for a new one."""
        update = sa.update(keys).where(keys.c.id == key_id).values(dict(changes))
        try:
            return await self._update(update)
        except IntegrityError as failure:
            raise _taken(changes["name"]) from failure

    async def replace_secret(self, key_id: str, digest: Digest, last_four: str, old_until: datetime | None) -> bool:
        """Exchange the secret in one step; the old one lives until `old_until`. False when no such key is in use."""
        update = sa.update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        previous = keys.c.digest if old_until else None
        new = {"digest": digest.value, "digested_with": digest.made_with, "last_four": last_four}
        return await self._update(update.values(**new, previous_digest=previous, previous_until=old_until))

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key once; False when there is none of this id."""
        first_time = sa.func.coalesce(keys.c.revoked_at, sa.bindparam("at", at, keys.c.revoked_at.type))
        return await self._update(sa.update(keys).where(keys.c.id == key_id).values(revoked_at=first_time))

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Note when keys were last used; an earlier moment does not replace a later one."""
        before = sa.bindparam("at", type_=keys.c.last_used_at.type)
        older = sa.or_(keys.c.last_used_at.is_(None), keys.c.last_used_at < before)
        update = sa.update(keys).where(keys.c.id == sa.bindparam("key_id"), older).values(last_used_at=before)
        # In one order for all replicas: two that write the same rows in different orders would deadlock.
        rows = [{"key_id": key_id, "at": at} for key_id, at in sorted(used.items())]
        async with writing(self._engine) as connection:
            await connection.execute(update, rows)

    async def renew(self, renewals: Sequence[Renewal]) -> None:
        """Put new digests where the old ones still are: a rotation meanwhile stands."""
        where = (keys.c.id == sa.bindparam("key_id"), keys.c.digest == sa.bindparam("old", type_=keys.c.digest.type))
        new = {"digest": sa.bindparam("new", type_=keys.c.digest.type), "digested_with": sa.bindparam("made_with")}
        rows = [
            {"key_id": one.key_id, "old": one.old, "new": one.new.value, "made_with": one.new.made_with}
            for one in sorted(renewals, key=lambda one: one.key_id)  # in one order for all replicas, as above
        ]
        async with writing(self._engine) as connection:
            await connection.execute(sa.update(keys).where(*where).values(**new), rows)

    async def _update(self, update: sa.Update) -> bool:
        async with writing(self._engine) as connection:
            return (await connection.execute(update.returning(keys.c.id))).one_or_none() is not None


def _taken(name: str) -> NameTaken:
    return NameTaken(
        f"The project has a key named {name!r}. Choose another name, or revoke that key first.", param="name"
    )
