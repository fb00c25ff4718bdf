"""The store of admin keys: one suite for the fake and for SQL on SQLite and PostgreSQL."""

import asyncio
import gc
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType

import pytest
import sqlalchemy as sa

from gateway.adapters.sql.admin_keys import SqlAdminKeys
from gateway.adapters.sql.engine import answers, migrate, open_engine
from gateway.adapters.sql.tables import admin_keys, installation
from gateway.domain.admin_keys import AdminKey
from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.keys import Digest, Renewal
from gateway.domain.paging import Place
from tests.fakes_administration import NOW, FakeAdminKeys

pytestmark = pytest.mark.anyio


def an_admin_key(key_id="one", **changes):
    ordinary = {"name": "ci", "prefix": "sk-admin-one", "last_four": "abcd", "created_at": NOW}
    return AdminKey(**{**ordinary, "id": key_id, "digest": key_id.encode().ljust(32), **changes})


@asynccontextmanager
async def sql_store(url):
    engine = open_engine(url)
    try:
        await migrate(engine)
        async with engine.begin() as connection:
            await connection.execute(sa.delete(admin_keys))
            await connection.execute(sa.delete(installation))
        yield SqlAdminKeys(engine)
    finally:
        await engine.dispose()


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def store(request, tmp_path):
    if request.param == "fake":
        yield FakeAdminKeys()
        return
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with sql_store(url) as opened:
        yield opened


async def test_what_is_stored_comes_back(store):
    later = NOW + timedelta(hours=1)
    full = an_admin_key(digested_with="0123456789abcdef", expires_at=later, revoked_at=later, last_used_at=later)
    assert await store.add(full)
    assert await store.get("one") == full
    assert await store.find([b"x", full.digest]) == full
    assert (await store.get("two"), await store.find([b"x"])) == (None, None)


async def test_a_digest_is_there_once(store):
    assert await store.add(an_admin_key())
    assert not await store.add(an_admin_key("two", digest=an_admin_key().digest))
    assert await store.list() == [an_admin_key()]


async def test_a_digest_is_renewed_where_it_still_is_and_stays_unique(store):
    one, two = an_admin_key(), an_admin_key("two")
    await store.add(one)
    await store.add(two)
    new = Digest(b"n" * 32, "new")
    await store.renew(Renewal("one", b"replaced meanwhile", new))
    assert await store.get("one") == one
    await store.renew(Renewal("one", one.digest, new))
    await store.renew(Renewal("two", two.digest, new))
    assert await store.get("one") == an_admin_key(digest=b"n" * 32, digested_with="new")
    assert await store.get("two") == two


async def test_of_many_that_make_the_first_key_one_does(store):
    keys = [an_admin_key(str(number)) for number in range(8)]
    done = await asyncio.gather(*map(store.add_first, keys))
    assert sorted(done) == [False] * 7 + [True]
    assert await store.list() == [key for key, made in zip(keys, done, strict=True) if made]


async def test_the_oldest_comes_first(store):
    await store.add(an_admin_key("a", created_at=NOW + timedelta(seconds=1)))
    await store.add(an_admin_key("b"))
    assert [key.id for key in await store.list()] == ["b", "a"]


async def test_pages_in_both_orders(store):
    for number, key_id in enumerate("abcd"):
        await store.add(an_admin_key(key_id, created_at=NOW + timedelta(seconds=number // 2)))
    await store.revoke("b", NOW)

    async def page(limit, after=None, *, newest_first=False):
        found = await store.page(Place(limit=limit, after=after, newest_first=newest_first))
        return "".join(key.id for key in found.items), found.has_more

    assert await page(2) == ("ac", True)
    assert await page(2, "b") == ("cd", False)
    assert await page(2, newest_first=True) == ("dc", True)
    assert await page(2, "c", newest_first=True) == ("a", False)
    assert await store.page(Place(limit=1, after="nobody")) is None


async def test_revoking_keeps_the_first_time(store):
    await store.add(an_admin_key())
    assert await store.revoke("one", NOW)
    assert await store.revoke("one", NOW + timedelta(days=1))
    assert (await store.get("one")).revoked_at == NOW
    assert not await store.revoke("two", NOW)


async def test_the_last_use_is_noted(store):
    await store.add(an_admin_key())
    await store.touch("one", NOW)
    assert (await store.get("one")).last_used_at == NOW


async def test_a_database_that_is_away_is_told():
    engine = open_engine("postgresql://postgres@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        await SqlAdminKeys(engine).list()
    await engine.dispose()


async def test_asking_a_database_that_is_away_leaves_no_frames_behind():
    """They kept 60 KB an attempt, several a second, until the next look for garbage."""
    engine = open_engine("postgresql://postgres@127.0.0.1:1/none")
    store = SqlAdminKeys(engine)

    async def ask():
        with pytest.raises(DatabaseUnavailable):
            await store.list()
        assert not await answers(engine)

    await ask()
    gc.collect()
    before = _tracebacks()
    gc.disable()
    try:
        for _ in range(20):
            await ask()
        left = _tracebacks() - before
    finally:
        gc.enable()
    assert left < 20, left
    await engine.dispose()


def _tracebacks():
    return sum(isinstance(thing, TracebackType) for thing in gc.get_objects())
