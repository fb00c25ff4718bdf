"""Opens the database and brings its schema up to date."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.adapters.sql.schema import upgrade
from gateway.domain.errors import DatabaseUnavailable, Misconfigured, drop_tracebacks
from gateway.service.ports import LedgerUnavailable

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
SECONDS = 5.0  # a database that has not answered by then counts as away; one that stands still never answers
SUM_SECONDS = 60.0  # a month of a large installation
READING = "gateway_reading"  # execution option of an engine that only reads
WRITER_NICENESS = 10
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=4000", "foreign_keys=ON")
_UNUSABLE = (DBAPIError, OSError, TypeError, ValueError)  # the last two: what a driver says of words in its URL
# SQLSTATE's classes of what would fail again: data exception, constraint violation, program limit exceeded.
_REFUSED_DATA = frozenset({"22", "23", "54"})


def open_engine(url: str) -> AsyncEngine:
    """Make an engine for `sqlite:///path` or `postgresql://...`, with or without a driver in the scheme.

    Raises:
        Misconfigured: the URL is of neither form, or names a database that would be lost with the process.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise Misconfigured("DATABASE_URL is not a URL; use postgresql://... or sqlite:///path.") from None
    driver = DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise Misconfigured(
            f"DATABASE_URL names {parsed.get_backend_name()!r}; use postgresql://... or sqlite:///path."
        )
    if driver.startswith("sqlite") and (not parsed.database or ":memory:" in parsed.database):
        raise Misconfigured("DATABASE_URL names a database in memory, where nothing lasts; use sqlite:///path.")
    if "sslmode" in parsed.query:  # libpq's name, which operators know; asyncpg's is ssl
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": parsed.query["sslmode"]})
    pings = driver.startswith("postgresql")
    # Without the parameters: an error's text must not carry what is in the rows into the log.
    engine = create_async_engine(parsed.set(drivername=driver), pool_pre_ping=pings, hide_parameters=True)
    if driver.startswith("sqlite"):
        sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


async def migrate(engine: AsyncEngine) -> None:
    """Bring the schema up to date; processes that start together wait for each other.

    Raises:
        Misconfigured: the database cannot be reached or its schema cannot be changed.
    """
    try:
        await _greet(engine)
        async with engine.begin() as connection:
            await connection.run_sync(upgrade)  # without a limit: another process may be at it
    except CommandError as failure:
        raise Misconfigured(
            "The database was made by a newer release of the gateway; use that release, or restore a backup.",
        ) from failure
    except _UNUSABLE as failure:
        where = engine.url.render_as_string(hide_password=True)
        raise Misconfigured(f"The database {where} cannot be used: {reason_of(failure)}.") from failure


async def answers(engine: AsyncEngine, seconds: float = 2.0) -> bool:
    """Tell whether the database answers a trivial question in time."""
    try:
        await _greet(engine, seconds)
    except _UNUSABLE as failure:
        drop_tracebacks(failure)
        return False
    return True


async def close(engine: AsyncEngine) -> None:
    """Close all connections; those to a database that stands still are dropped, since it would not say goodbye."""
    await engine.dispose(close=await answers(engine, seconds=1.0))


@asynccontextmanager
async def reaching(seconds: float = SECONDS) -> AsyncGenerator[None]:
    """Bound the use of a database in time; DatabaseUnavailable when it cannot be reached, the rest are defects.

    Some 2 seconds may come on top: a connection that is given up is closed in that time.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except (DBAPIError, PoolTimeout, OSError) as failure:
        if refuses_data(failure) or isinstance(failure, ProgrammingError):
            raise
        drop_tracebacks(failure)
        raise DatabaseUnavailable(
            "The gateway's database cannot be reached. Nothing was charged; try again after a short wait.",
        ) from failure


@asynccontextmanager
async def summing(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    """Give a connection for a question that may take its time once the database answers; raises as reaching does."""
    async with reaching(SUM_SECONDS), asyncio.timeout(SECONDS) as first, engine.connect() as connection:
        first.reschedule(None)
        yield connection


@contextmanager
def ledger_reached() -> Generator[None]:
    """Say in the ledger's words that the database is away."""
    try:
        yield
    except DatabaseUnavailable as failure:
        raise LedgerUnavailable(reason_of(failure.__cause__ or failure)) from failure


def snapshot_of(engine: AsyncEngine) -> dict[str, str]:
    """Give the options of a connection whose transaction sees one instant; SQLite's do by themselves."""
    return {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}


def refuses_data(failure: Exception) -> bool:
    """Tell whether a database or its driver refused what it was to hold, so that it always will."""
    if isinstance(failure, IntegrityError | DataError):
        return True
    if isinstance(failure, DBAPIError):
        return (getattr(failure.orig, "sqlstate", None) or "")[:2] in _REFUSED_DATA
    return isinstance(failure, StatementError | OverflowError | UnicodeError)


def reason_of(failure: BaseException) -> str:
    """Give a failure's own words, in one line."""
    if isinstance(failure, TimeoutError):
        return "no answer in time"
    return (str(getattr(failure, "orig", failure)) or type(failure).__name__).splitlines()[0]


async def _greet(engine: AsyncEngine, seconds: float = SECONDS) -> None:
    """Ask a trivial question; TimeoutError when there is no answer in time."""
    reading = engine.execution_options(**{READING: True})
    async with asyncio.timeout(seconds), reading.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))


def _prepare_sqlite(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    del entry
    # The driver must not begin transactions by itself: _begin_sqlite does.
    connection.isolation_level = None
    connection.create_function("step_back", 0, _step_back)
    cursor = connection.cursor()
    cursor.execute("SELECT step_back()")
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _step_back() -> None:
    """Let the event loop go first, from the thread of a connection: half a second's lines are 20 ms of its work.

    Beside 1000 requests a second, 1 % of them waited for 20 ms, and now for 15.
    """
    if sys.platform == "linux":  # elsewhere it would be the whole process
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WRITER_NICENESS)


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once: two transactions that read first and write later would deadlock."""
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
