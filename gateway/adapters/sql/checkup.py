"""Examines a database: whether it answers, its schema, its clock, and the secret that its keys were made with."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING, reaching, reason_of
from gateway.adapters.sql.installation import knows_secret
from gateway.adapters.sql.schema import scripts_of, serves_us
from gateway.adapters.sql.tables import admin_keys, installation, keys
from gateway.domain.checkup import Finding, Verdict, clocks, warning, well, wrong
from gateway.domain.errors import DatabaseUnavailable

PART = "database"
SHOWN = 10  # ids of keys in one line


async def examine(engine: AsyncEngine, checks: Sequence[str], marks: Sequence[str]) -> list[Finding]:
    """Ask a database; `checks` and `marks` are those of the secrets, the newest first, none when there is none yet."""
    where = engine.url.render_as_string(hide_password=True)
    try:
        async with reaching():
            schema = await _schema(engine, where)
            if schema.verdict is not Verdict.OK:
                return [schema, *await _clock(engine)]
            return [
                schema,
                *await _writing(engine, where),
                *await _secret(engine, checks, marks),
                *await _clock(engine),
            ]
    except DatabaseUnavailable as failure:
        reason = str(failure.__cause__).splitlines()[0] if failure.__cause__ else "no answer"
        advice = "Start it, or set DATABASE_URL right. While it is away, keys that are known are served for an hour."
        return [wrong(PART, f"{where} cannot be used: {reason or 'no answer in time'}.", advice)]


async def _schema(engine: AsyncEngine, where: str) -> Finding:
    """Compare the schema with this release's."""
    async with engine.execution_options(**{READING: True}).connect() as connection:
        return await connection.run_sync(_compare, where)


def _compare(connection: sa.Connection, where: str) -> Finding:
    part, scripts = "database schema", scripts_of(connection)
    head = scripts.get_current_head()
    there = sa.inspect(connection).has_table("alembic_version")
    current = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) if there else None
    if current == head:
        return well(part, f"{where} answers, and its schema is this release's ({head}).")
    try:
        scripts.get_revision(current or "base")
    except CommandError:
        said = f"{where} was made by a newer release ({current})"
        if serves_us(connection):
            return warning(part, f"{said}, and serves this one ({head}) too.", "Go on to that release.")
        return wrong(part, f"{said}.", "Use that release, or restore a backup.")
    advice = "'glm-gateway migrate' brings it up to date, as 'serve' does; an older release goes on beside it."
    return warning(part, f"{where} has the schema {current or 'of no release'}, this release's is {head}.", advice)


async def _writing(engine: AsyncEngine, where: str) -> list[Finding]:
    """Tell when a database answers and takes nothing, as a replica does, or another user's file."""
    trial = sa.insert(installation).values(name=f"doctor-{secrets.token_hex(8)}", value="")
    async with engine.connect() as connection:
        try:
            await connection.execute(trial)
        except DBAPIError as failure:
            advice = "Name the primary in DATABASE_URL; the user, or the gateway's own, has to be allowed to write."
            return [wrong(PART, f"{where} cannot be written: {reason_of(failure)}.", advice)]
        await connection.rollback()
    return []


async def _secret(engine: AsyncEngine, checks: Sequence[str], marks: Sequence[str]) -> list[Finding]:
    """Tell whether this process has the secrets that the keys were made with, where that can be told."""
    part = "secret"
    if not checks or (known := await knows_secret(engine, checks)) is None:
        return []
    if not known:
        advice = "Give every replica the same GLM_GATEWAY_SECRET_KEY, or the new one and behind a comma the old one."
        return [wrong(part, "It is not the one that this database's keys were made with.", advice)]
    lost, old = await _keys_apart(engine, marks)
    if lost:
        advice = "Set that secret again, as the last of the comma list, until they were used; or give out new ones."
        return [
            wrong(part, f"What these were made with is missing, so that they do not open: {_listed(lost)}.", advice)
        ]
    if old and len(marks) > 1:
        advice = (
            "Each leaves them within a minute of its next use; rotate or revoke the rest before those are left out."
        )
        return [warning(part, f"These open only by older secrets of the list: {_listed(old)}.", advice)]
    also = ", and no key needs the older ones" if len(marks) > 1 else ""
    return [well(part, f"It is the one that this database's keys were made with{also}.")]


async def _keys_apart(engine: AsyncEngine, marks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Name the keys in use that were made with none of the secrets, and those with another than the newest.

    Keys of before this was noted may have been made with any.
    """
    made: dict[str, str | None] = {}
    async with engine.execution_options(**{READING: True}).connect() as connection:
        for table in (keys, admin_keys):
            lasting = sa.or_(table.c.expires_at.is_(None), table.c.expires_at > _now())
            query = sa.select(table.c.id, table.c.digested_with).where(table.c.revoked_at.is_(None), lasting)
            made |= {row.id: row.digested_with for row in await connection.execute(query.order_by(table.c.created_at))}
    lost = [key_id for key_id, mark in made.items() if mark is not None and mark not in marks]
    return lost, [key_id for key_id, mark in made.items() if mark != marks[0]]


def _listed(ids: Sequence[str]) -> str:
    """Name some, and the number of the rest."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


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
