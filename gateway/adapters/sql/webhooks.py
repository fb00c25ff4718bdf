"""The durable list of webhooks, one a project."""

from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.rows import PROJECT_COLUMNS, project_beside
from gateway.adapters.sql.tables import projects, webhook_deliveries, webhooks
from gateway.adapters.sql.transaction import reading, writing
from gateway.domain.projects import Project
from gateway.domain.webhooks import Webhook

REMOVED = "the webhook was removed"
_OF_WEBHOOK = "webhook__"
WEBHOOK_COLUMNS = tuple(column.label(_OF_WEBHOOK + column.name) for column in webhooks.columns)


class SqlWebhooks:
    """The store of webhooks over SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, project_id: str) -> Webhook | None:
        """Find a project's webhook."""
        query = sa.select(*WEBHOOK_COLUMNS).where(webhooks.c.project_id == project_id)
        async with reading(self._engine) as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return webhook_beside(row) if row else None

    async def put(self, webhook: Webhook) -> None:
        """Store a webhook in place of the project's former one."""
        values = asdict(webhook)
        insert = (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(webhooks).values(values)
        upsert = insert.on_conflict_do_update(index_elements=["project_id"], set_=values)
        async with writing(self._engine) as connection:
            await connection.execute(upsert)

    async def remove(self, project_id: str) -> bool:
        """Forget a project's webhook, and give up what is pending; False when there is none."""
        table = webhook_deliveries.c
        delete = sa.delete(webhooks).where(webhooks.c.project_id == project_id).returning(webhooks.c.project_id)
        give_up = sa.update(webhook_deliveries).where(table.project_id == project_id, table.state == "pending")
        async with writing(self._engine) as connection:
            found = (await connection.execute(delete)).one_or_none() is not None
            await connection.execute(give_up.values(state="failed", next_try_at=None, last_error=REMOVED))
        return found

    async def disable(self, project_id: str, url: str, at: datetime) -> None:
        """Post nothing more to a project's webhook, if that still has the URL."""
        update = sa.update(webhooks).where(webhooks.c.project_id == project_id, webhooks.c.url == url)
        async with writing(self._engine) as connection:
            await connection.execute(update.values(disabled_at=at))

    async def watched(self) -> list[tuple[Webhook, Project]]:
        """Give the webhooks that are not disabled, of projects that are not archived."""
        query = sa.select(*WEBHOOK_COLUMNS, *PROJECT_COLUMNS).join_from(webhooks, projects)
        query = query.where(webhooks.c.disabled_at.is_(None), projects.c.archived_at.is_(None))
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [(webhook_beside(row), project_beside(row)) for row in rows]


def webhook_beside(row: sa.RowMapping) -> Webhook:
    """Read the webhook out of a row that has WEBHOOK_COLUMNS."""
    named = {str(name): value for name, value in row.items()}
    return Webhook(**{name[len(_OF_WEBHOOK) :]: named[name] for name in named if name.startswith(_OF_WEBHOOK)})
