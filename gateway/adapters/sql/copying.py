"""Copies a database that is a file, as of one instant, while others write to it."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.adapters.sql.engine import open_engine
from gateway.domain.errors import Misconfigured


def file_of(url: str) -> Path:
    """Give the file that a database URL names; Misconfigured when it is a server's, or there is none."""
    named = open_engine(url).url
    if named.get_backend_name() != "sqlite" or not named.database:
        raise Misconfigured("The database is a server's: back it up with pg_dump (deploy/README.md, Backup).")
    file = Path(named.database)
    if not file.exists():
        raise Misconfigured(f"There is no database {file}: nothing was ever made here.")
    return file


async def copy_database(source: Path, target: Path) -> None:
    """Write a database anew into a file that does not exist; Misconfigured when it cannot be read or written."""
    await asyncio.to_thread(_copy, source, target)


def _copy(source: Path, target: Path) -> None:
    try:
        with closing(sqlite3.connect(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as failure:
        raise Misconfigured(f"The database {source} cannot be copied to {target}: {failure}.") from failure
    with target.open("rb") as copied:
        os.fsync(copied.fileno())
