"""What all replicas of an installation have to agree upon."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import READING, reaching
from gateway.adapters.sql.tables import installation
from gateway.domain.errors import Misconfigured

_CHECK = "secret_check"
_OPENED = "quota_store_opened"
_ASKING = sa.select(installation.c.value).where(installation.c.name == _CHECK)


async def agree_on_secret(engine: AsyncEngine, checks: Sequence[str]) -> None:
    """Compare the check values of this process's secrets, the newest first, with the installation's.

    The first process writes it; one whose newest secret is new, and that has the installation's too, replaces it.

    Raises:
        Misconfigured: none of the secrets is the installation's.
    """
    async with reaching():
        try:
            known = await _known_or_set(engine, checks[0])
        except IntegrityError:  # another process was the first in the meantime
            known = await _known_or_set(engine, checks[0])
        if known not in checks:
            raise Misconfigured(
                "GLM_GATEWAY_SECRET_KEY is not the secret that this database's keys were made with: give every "
                "replica the same one, or the new one and behind a comma the old one.",
            )
        if known != checks[0]:
            await _replace(engine, known, checks[0])


async def knows_secret(engine: AsyncEngine, checks: Sequence[str]) -> bool | None:
    """Tell whether one of the secrets is the installation's; None when it has none yet."""
    if not await _has_table(engine):
        return None
    async with engine.execution_options(**{READING: True}).connect() as connection:
        known: str | None = (await connection.execute(_ASKING)).scalar_one_or_none()
    return None if known is None else known in checks


async def is_first_to_open(engine: AsyncEngine) -> bool:
    """Tell whether this process is the first of the installation's life that opens the quota store: one ever is."""
    async with reaching():
        try:
            async with engine.begin() as connection:
                await connection.execute(sa.insert(installation).values(name=_OPENED, value="1"))
        except IntegrityError:
            return False
        return True


async def _known_or_set(engine: AsyncEngine, check: str) -> str:
    """Give the installation's value; where there is none, this one becomes it."""
    async with engine.begin() as connection:
        known: str | None = (await connection.execute(_ASKING)).scalar_one_or_none()
        if known is None:
            await connection.execute(sa.insert(installation).values(name=_CHECK, value=check))
        return known or check


async def _replace(engine: AsyncEngine, old: str, new: str) -> None:
    where = (installation.c.name == _CHECK, installation.c.value == old)
    async with engine.begin() as connection:
        await connection.execute(sa.update(installation).where(*where).values(value=new))


async def _has_table(engine: AsyncEngine) -> bool:
    async with engine.execution_options(**{READING: True}).connect() as connection:
        return await connection.run_sync(lambda connected: sa.inspect(connected).has_table(installation.name))
