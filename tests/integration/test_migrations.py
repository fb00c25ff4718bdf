"""The migrations make what tables.py says, and can be undone; what was there before stays usable."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic import command

from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.installation import agree_on_secret, is_first_to_open
from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.sql.rollups import SqlRollups
from gateway.adapters.sql.schema import SERVES, alembic_config
from gateway.adapters.sql.tables import installation, metadata, usage_events
from gateway.domain.errors import Misconfigured
from gateway.domain.rollups import Stale
from tests import postgres_servers
from tests.builders import a_line

pytestmark = pytest.mark.anyio

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
async def engine(request, tmp_path):
    if request.param == "sqlite":
        opened = open_engine(f"sqlite:///{tmp_path}/gateway.db")
        yield opened
        await opened.dispose()
        return
    with postgres_servers.postgres_server(tmp_path) as url:
        opened = open_engine(url)
        yield opened
        await opened.dispose()


async def on(engine, work):
    async with engine.begin() as connection:
        return await connection.run_sync(work)


def tables(connection):
    return {name for name in sa.inspect(connection).get_table_names() if name != "alembic_version"}


async def test_the_migrations_make_what_the_tables_say(engine):
    await migrate(engine)
    await on(engine, lambda connection: command.check(alembic_config(connection)))  # raises when they differ
    assert await on(engine, tables) == set(metadata.tables)


async def test_each_step_down_and_up_again(engine):
    await migrate(engine)

    def down(connection):
        left = []
        for revision in ("0002", "0001", "base"):
            command.downgrade(alembic_config(connection), revision)
            left.append(tables(connection))
        return left

    since = {"admin_keys", "audit_log", "usage_stale", "usage_archive", "webhooks", "webhook_deliveries"}
    since |= {f"usage_{period}{words}" for period in ("hours", "days") for words in ("", "_by_size")}
    assert await on(engine, down) == [set(metadata.tables) - since, {"keys"}, set()]
    await migrate(engine)
    await migrate(engine)  # nothing is left to do
    await on(engine, lambda connection: command.check(alembic_config(connection)))


async def test_keys_of_before_projects_go_on_in_the_default_one(engine):
    def before(connection):
        command.upgrade(alembic_config(connection), "0001")
        keys = sa.Table("keys", sa.MetaData(), autoload_with=connection)
        common = {"prefix": "p", "last_four": "l", "digest": b"d", "expires_at": None}
        at = BEFORE if connection.dialect.name == "postgresql" else BEFORE.replace(tzinfo=None)
        rows = [("1", "twice", None), ("2", "twice", None), ("3", "twice", at), ("4", "x" * 100, None)]
        rows.append(("5", "x" * 100, None))
        for key_id, name, revoked_at in rows:
            row = {**common, "id": key_id, "name": name, "revoked_at": revoked_at, "created_at": at}
            connection.execute(sa.insert(keys).values(row))

    await on(engine, before)
    await migrate(engine)
    keys = await SqlKeys(engine).list()
    assert [key.name for key in keys] == ["twice", "twice 2", "twice", "x" * 100, "x" * 98 + " 5"]
    assert {(key.project.name, key.project.weight, key.project.markup) for key in keys} == {("default", 1, 1)}
    assert {(key.models, key.ips, key.unwatermarked_allowed, key.created_at) for key in keys} == {
        ((), (), False, BEFORE)
    }


async def test_the_first_process_sets_the_secret_and_one_that_disagrees_is_refused(engine):
    await migrate(engine)
    await agree_on_secret(engine, ["one"])
    await agree_on_secret(engine, ["one"])
    with pytest.raises(Misconfigured, match="GLM_GATEWAY_SECRET_KEY"):
        await agree_on_secret(engine, ["two"])


async def test_a_new_secret_replaces_an_old_one_that_is_known_too(engine):
    await migrate(engine)
    await agree_on_secret(engine, ["old"])
    await agree_on_secret(engine, ["new", "old"])
    await agree_on_secret(engine, ["new"])
    await agree_on_secret(engine, ["newer", "new"])
    with pytest.raises(Misconfigured):
        await agree_on_secret(engine, ["old"])


async def test_one_process_ever_is_the_first_to_open_the_store(engine):
    await migrate(engine)
    first = await asyncio.gather(*(is_first_to_open(engine) for _ in range(8)))
    assert sorted(first) == [False] * 7 + [True]
    assert not await is_first_to_open(engine)


async def test_lines_of_before_roll_ups_are_summed_up_by_the_hour(engine):
    """What a roll-up of an hour does not know of is marked."""
    await on(engine, lambda connection: command.upgrade(alembic_config(connection), "0005"))
    hours = [BEFORE + timedelta(hours=number) for number in (0, 5)]
    times = [hours[0], hours[0] + timedelta(minutes=59, microseconds=1), hours[1] + timedelta(minutes=1)]
    rows = [asdict(a_line(str(number), time=time)) for number, time in enumerate(times)]
    for row in rows:
        del row["account_costs"], row["prompt"]  # later columns
    async with engine.begin() as connection:
        await connection.execute(sa.insert(usage_events), rows)
    await migrate(engine)
    assert await SqlRollups(engine).stale() == Stale(frozenset(hours))


async def of_a_newer_release(engine, serves):
    """Leave the schema as a newer release would, whose note says which schema's release it serves."""
    await migrate(engine)

    def change(connection):
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        note = installation.c.name == "schema_serves"
        connection.execute(sa.update(installation).where(note).values(value=serves))

    await on(engine, change)


async def test_a_newer_schema_that_serves_this_release_stays_as_it_is(engine):
    await of_a_newer_release(engine, SERVES)
    await migrate(engine)
    version = sa.text("SELECT version_num FROM alembic_version")
    assert await on(engine, lambda connection: connection.scalar(version)) == "9999"


async def test_a_newer_schema_that_serves_later_releases_only_is_refused(engine):
    await of_a_newer_release(engine, "9998")
    with pytest.raises(Misconfigured, match="newer release"):
        await migrate(engine)
