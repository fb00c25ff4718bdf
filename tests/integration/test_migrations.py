"""The migrations make what tables.py says, and can be undone; what was there before stays usable."""

import asyncio
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic import command

from gateway.adapters.sql.engine import alembic_config, migrate, open_engine
from gateway.adapters.sql.installation import agree_on_secret, is_first_to_open
from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.sql.tables import metadata
from gateway.domain.errors import Misconfigured
from tests import postgres_servers

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

    later = {"admin_keys", "audit_log", "webhooks", "webhook_deliveries"}
    assert await on(engine, down) == [set(metadata.tables) - later, {"keys"}, set()]
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
