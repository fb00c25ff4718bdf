"""The schema: brings it up to date, and tells whether one that a newer release has made serves this one too."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from gateway.adapters.sql.tables import installation

# The oldest schema whose release can go on with today's, since a release that is replaced runs beside the new one.
# A migration that takes away or changes what older releases use raises it, and cannot be made beside them.
SERVES = "0011"
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x676C6D  # PostgreSQL's advisory lock that lets one process migrate at a time
_NOTE = "schema_serves"
_VALUE = sa.select(installation.c.value).where(installation.c.name == _NOTE)


def upgrade(connection: sa.Connection) -> None:
    """Bring the schema up to date; one that a newer release has made stays as it is when it serves this one too.

    Raises:
        CommandError: it does not.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError:
        if not serves_us(connection):
            raise
        return
    _note(connection)


def serves_us(connection: sa.Connection) -> bool:
    """Tell whether the release that made the schema has noted that it serves ours, too: ours knows what it names."""
    if not sa.inspect(connection).has_table(installation.name):
        return False
    named: str | None = connection.scalar(_VALUE)
    try:
        return named is not None and bool(scripts_of(connection).get_revision(named))
    except CommandError:
        return False


def scripts_of(connection: sa.Connection) -> ScriptDirectory:
    """Give this release's migrations."""
    return ScriptDirectory.from_config(alembic_config(connection))


def alembic_config(connection: sa.Connection) -> Config:
    """Say to Alembic where the migrations are and which connection they run on."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _note(connection: sa.Connection) -> None:
    """Say to older releases whether the schema serves them."""
    if connection.scalar(_VALUE) != SERVES:
        connection.execute(sa.delete(installation).where(installation.c.name == _NOTE))
        connection.execute(sa.insert(installation).values(name=_NOTE, value=SERVES))
