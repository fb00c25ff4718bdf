"""The durable list of projects."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.pages import rows_after
from gateway.adapters.sql.rows import project_of, values_of
from gateway.adapters.sql.tables import projects
from gateway.adapters.sql.transaction import reading, writing
from gateway.domain.errors import NameTaken
from gateway.domain.paging import Page, Place, page_of
from gateway.domain.projects import Project
from gateway.domain.terms import Changes


class SqlProjects:
    """The project store over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, id_or_name: str) -> Project | None:
        """Find a project; ids go before names, and no name looks like an id."""
        query = sa.select(projects).where(sa.or_(projects.c.id == id_or_name, projects.c.name == id_or_name))
        async with reading(self._engine) as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return project_of(row) if row else None

    async def add(self, project: Project) -> None:
        """Store a new project; NameTaken when there is one of its name, even an archived one."""
        try:
            async with writing(self._engine) as connection:
                await connection.execute(sa.insert(projects).values(values_of(project, projects)))
        except IntegrityError as failure:
            raise _taken(project.name) from failure

    async def list(self) -> list[Project]:
        """Give all projects, oldest first."""
        query = sa.select(projects).order_by(projects.c.created_at, projects.c.id)
        async with reading(self._engine) as connection:
            return [project_of(row) for row in (await connection.execute(query)).mappings()]

    async def page(self, place: Place, *, archived: bool) -> Page[Project] | None:
        """Give a page of the projects, of archived ones too if asked; None when there is none to begin after."""
        query = sa.select(projects).where(sa.true() if archived else projects.c.archived_at.is_(None))
        async with reading(self._engine) as connection:
            rows = await rows_after(connection, query, projects, sa.true(), place)
        return None if rows is None else page_of([project_of(row) for row in rows], place.limit)

    async def change(self, project_id: str, changes: Changes) -> bool:
        """Set the named fields; False when there is no such project, NameTaken as for a new one."""
        update = sa.update(projects).where(projects.c.id == project_id).values(dict(changes))
        try:
            return await self._update(update)
        except IntegrityError as failure:
            raise _taken(changes["name"]) from failure

    async def archive(self, project_id: str, at: datetime) -> bool:
        """Archive a project once; False when there is none of this id."""
        first_time = sa.func.coalesce(projects.c.archived_at, sa.bindparam("at", at, projects.c.archived_at.type))
        update = sa.update(projects).where(projects.c.id == project_id)
        return await self._update(update.values(archived_at=first_time))

    async def _update(self, update: sa.Update) -> bool:
        async with writing(self._engine) as connection:
            return (await connection.execute(update.returning(projects.c.id))).one_or_none() is not None


def _taken(name: str) -> NameTaken:
    return NameTaken(
        f"There is a project named {name!r}; names of archived ones stay taken. Choose another name.", param="name"
    )
