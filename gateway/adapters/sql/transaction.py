"""Connections for the stores: of their own, or the one that a transaction over several of them holds."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.adapters.sql.engine import READING, reaching

_CHANGES_LOCK = 0x676C6E  # PostgreSQL's advisory lock of who changes something; SQLite has one writer anyway

_held: ContextVar[AsyncConnection | None] = ContextVar("transaction", default=None)


@asynccontextmanager
async def together(engine: AsyncEngine) -> AsyncGenerator[None]:
    """Let all that the block writes be stored at its end, or nothing when it raises.

    One such block runs at a time in the installation, so that what it reads does not change under it, and its writes
    are seen in the order of their numbers. DatabaseUnavailable as from reaching.
    """
    async with reaching(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CHANGES_LOCK})
        token = _held.set(connection)
        try:
            yield
        finally:
            _held.reset(token)


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    """Give a connection to read with. DatabaseUnavailable as from reaching."""
    held = _held.get()
    if held is not None:
        yield held
        return
    async with reaching(), engine.execution_options(**{READING: True}).connect() as connection:
        yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    """Give a connection whose writes are all undone when the block raises. DatabaseUnavailable as from reaching."""
    held = _held.get()
    if held is not None:
        async with held.begin_nested():  # so that a refused row leaves the transaction usable
            yield held
        return
    async with reaching(), engine.begin() as connection:
        yield connection
