"""Examines a database: whether it answers, its schema, its clock, and the secret that its keys were made with."""

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING, alembic_config, reaching
from gateway.adapters.sql.installation import knows_secret
from gateway.domain.checkup import Finding, clocks, warning, well, wrong
from gateway.domain.errors import DatabaseUnavailable

PART = "database"


async def examine(engine: AsyncEngine, checks: Sequence[str]) -> list[Finding]:
    """Ask a database; `checks` are the check values of the secrets, none when there is no secret yet."""
    where = engine.url.render_as_string(hide_password=True)
    try:
        async with reaching():
            return [await _schema(engine, where), *await _secret(engine, checks), *await _clock(engine)]
    except DatabaseUnavailable as failure:
        reason = str(failure.__cause__).splitlines()[0] if failure.__cause__ else "no answer"
        advice = "Start it, or set DATABASE_URL right. While it is away, keys that are known are served for an hour."
        return [wrong(PART, f"{where} cannot be used: {reason or 'no answer in time'}.", advice)]


async def _schema(engine: AsyncEngine, where: str) -> Finding:
    """Compare the schema with this release's."""
    async with engine.execution_options(**{READING: True}).connect() as connection:
        return await connection.run_sync(_compare, where)


def _compare(connection: sa.Connection, where: str) -> Finding:
    part, scripts = "database schema", ScriptDirectory.from_config(alembic_config(connection))
    head = scripts.get_current_head()
    there = sa.inspect(connection).has_table("alembic_version")
    current = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) if there else None
    if current == head:
        return well(part, f"{where} answers, and its schema is this release's ({head}).")
    try:
        scripts.get_revision(current or "base")
    except CommandError:
        return wrong(
            part, f"{where} was made by a newer release ({current}).", "Use that release, or restore a backup."
        )
    advice = "'glm-gateway migrate' brings it up to date, as 'serve' does; an older release goes on beside it."
    return warning(part, f"{where} has the schema {current or 'of no release'}, this release's is {head}.", advice)


async def _secret(engine: AsyncEngine, checks: Sequence[str]) -> list[Finding]:
    """Tell whether this process has the secret that the keys were made with, where that can be told."""
    part = "secret"
    if not checks or (known := await knows_secret(engine, checks)) is None:
        return []
    if known:
        return [well(part, "It is the one that this database's keys were made with.")]
    advice = "Give every replica the same GLM_GATEWAY_SECRET_KEY, or the new one and behind a comma the old one."
    return [wrong(part, "It is not the one that this database's keys were made with.", advice)]


async def _clock(engine: AsyncEngine) -> list[Finding]:
    """Compare clocks; SQLite has this machine's."""
    if engine.dialect.name == "sqlite":
        return []
    async with engine.connect() as connection:
        before = _now()
        there = await connection.scalar(sa.text("SELECT clock_timestamp()"))
        middle = before + (_now() - before) / 2
    return [clocks("database clock", there - middle)] if there else []


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - what is examined is this machine's clock itself
