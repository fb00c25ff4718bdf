"""The stores of keys and projects: one suite for the fakes and for SQL on SQLite and PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_network

import pytest
import sqlalchemy as sa

from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.sql.projects import SqlProjects
from gateway.adapters.sql.rows import values_of
from gateway.adapters.sql.tables import keys as keys_table
from gateway.adapters.sql.tables import projects as projects_table
from gateway.domain.errors import DatabaseUnavailable, NameTaken
from gateway.domain.keys import Digest, Renewal
from gateway.domain.paging import Place
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import Limits
from tests import postgres_servers
from tests.fakes_administration import DEFAULT, NOW, FakeKeys, FakeProjects, a_key, a_project, a_secret

pytestmark = pytest.mark.anyio

ALL_LIMITS = Limits(
    requests_per_minute=0,
    images_per_minute=1,
    images_per_day=2,
    images_per_month=3,
    concurrent=4,
    spend_per_month=10**15,
    shadow=True,
)
FULL = {
    "previous_digest": b"p" * 32,
    "previous_until": NOW + timedelta(hours=1),
    "expires_at": NOW + timedelta(days=1),
    "disabled_at": NOW,
    "account": "abcDEF012345",
    "digested_with": "0123456789abcdef",
    "last_used_at": NOW,
    "limits": ALL_LIMITS,
    "models": ("glm-image", "cogview-4"),
    "ips": (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
    "cache_scope": "shared",
    "unwatermarked_allowed": True,
    "metadata": {"team": "设计"},
}
OTHER = a_secret("other0000000")


@asynccontextmanager
async def sql_stores(url):
    """Empty tables but for the default project."""
    engine = open_engine(url)
    try:
        await migrate(engine)
        async with engine.begin() as connection:
            await connection.execute(sa.delete(keys_table))
            await connection.execute(sa.delete(projects_table).where(projects_table.c.id != DEFAULT_ID))
            await connection.execute(sa.update(projects_table).values(values_of(DEFAULT, projects_table)))
        yield SqlProjects(engine), SqlKeys(engine)
    finally:
        await engine.dispose()


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def stores(request, tmp_path):
    if request.param == "fake":
        projects = FakeProjects()
        yield projects, FakeKeys(projects)
        return
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with sql_stores(url) as opened:
        yield opened


@pytest.fixture
def projects(stores):
    return stores[0]


@pytest.fixture
def keys(stores):
    return stores[1]


class TestProjects:
    async def test_the_default_project_is_there_from_the_start(self, projects):
        [project] = await projects.list()
        assert (project.id, project.name) == ("proj_default", "default")
        assert project.limits == Limits()
        assert project.created_at.utcoffset() == timedelta(0)

    async def test_what_is_stored_comes_back(self, projects):
        project = a_project(limits=ALL_LIMITS, models=("glm-image",), archived_at=NOW, weight=7, markup=Decimal("1.25"))
        await projects.add(project)
        assert await projects.find(project.id) == project
        assert await projects.find(project.name) == project
        assert await projects.find("nobody") is None

    async def test_no_two_have_one_name_even_when_one_is_archived(self, projects):
        await projects.add(a_project(archived_at=NOW))
        with pytest.raises(NameTaken):
            await projects.add(replace(a_project(), id="proj_2"))
        assert len(await projects.list()) == 2

    async def test_a_page_begins_after_a_project_shown_or_not(self, projects):
        await projects.change(DEFAULT_ID, {"archived_at": NOW})
        for number in (3, 1, 2, 0):  # two of them made at one moment
            at = NOW + timedelta(seconds=number // 2 * 2)
            archived = at if number == 1 else None
            await projects.add(a_project(f"p{number}", created_at=at, archived_at=archived))

        async def page(archived, limit, after=None):
            found = await projects.page(Place(limit=limit, after=after), archived=archived)
            return [project.name for project in found.items], found.has_more

        assert await page(archived=False, limit=2) == (["p0", "p2"], True)
        assert await page(archived=False, limit=2, after="proj_p0") == (["p2", "p3"], False)
        assert await page(archived=False, limit=1, after="proj_p1") == (["p2"], True)
        assert await page(archived=True, limit=2, after="proj_p0") == (["p1", "p2"], True)
        assert await page(archived=True, limit=9, after="proj_p3") == ([], False)
        assert await projects.page(Place(limit=1, after="nobody"), archived=True) is None

    async def test_a_change_changes_what_is_named(self, projects):
        await projects.add(a_project(limits=ALL_LIMITS))
        assert await projects.change(
            "proj_design",
            {"images_per_day": None, "models": ("cogview-4",), "weight": 3, "markup": Decimal("0.000001")},
        )
        assert await projects.find("design") == a_project(
            limits=replace(ALL_LIMITS, images_per_day=None), models=("cogview-4",), weight=3, markup=Decimal("0.000001")
        )
        assert not await projects.change("nobody", {"images_per_day": 1})

    async def test_a_name_that_is_taken_is_not_taken_again_by_a_change(self, projects):
        await projects.add(a_project())
        with pytest.raises(NameTaken, match="'default'"):
            await projects.change("proj_design", {"name": "default"})
        assert await projects.change("proj_design", {"name": "design"})
        assert await projects.change("proj_design", {"name": "web"})
        assert await projects.find("web") == a_project(name="web", id="proj_design")

    async def test_archiving_is_undone_by_a_change(self, projects):
        await projects.add(a_project(archived_at=NOW))
        assert await projects.change("proj_design", {"archived_at": None})
        assert await projects.find("design") == a_project()

    async def test_archiving_twice_keeps_the_first_time(self, projects):
        await projects.add(a_project())
        assert await projects.archive("proj_design", NOW)
        assert await projects.archive("proj_design", NOW + timedelta(days=1))
        assert (await projects.find("design")).archived_at == NOW
        assert not await projects.archive("nobody", NOW)


class TestKeys:
    async def test_a_page_has_a_projects_keys_that_are_not_revoked(self, projects, keys):
        await projects.add(a_project())
        names = ("a", "b", "c", "d", "e")
        for number, name in enumerate(names):
            changes = {"project": a_project(), "name": name, "created_at": NOW + timedelta(seconds=number)}
            changes |= {"b": {"revoked_at": NOW}, "d": {"disabled_at": NOW}}.get(name, {})
            await keys.add(a_key(a_secret(name * 12), **changes))
        await keys.add(a_key(OTHER))

        async def page(limit, after=None, access=None):
            found = await keys.page("proj_design", Place(limit=limit, after=after), access)
            return "".join(key.name for key in found.items), found.has_more

        assert await page(9) == ("acde", False)
        assert await page(2) == ("ac", True)
        assert await page(2, "b" * 12) == ("cd", True)
        assert await page(2, "c" * 12) == ("de", False)
        assert await page(2, access="active") == ("ac", True)
        assert await page(2, access="inactive") == ("d", False)
        assert (await keys.page("proj_design", Place(limit=1))).items[0].project == a_project()
        assert await keys.page("proj_design", Place(limit=1, after="other0000000")) is None
        await projects.change("proj_design", {"archived_at": NOW})
        assert await page(9, access="inactive") == ("acde", False)
        assert await page(9, access="active") == ("", False)

    async def test_an_account_lives_as_long_as_one_of_its_keys(self, projects, keys):
        await projects.add(a_project())
        of = {
            "a": {"revoked_at": NOW},
            "b": {"account": "a" * 12},
            "c": {"revoked_at": NOW},
            "d": {},
            "e": {"account": "d" * 12},
        }
        for number, (name, changes) in enumerate(of.items()):
            made = {"project": a_project(), "name": name, "created_at": NOW + timedelta(seconds=number)}
            await keys.add(a_key(a_secret(name * 12), **made, **changes))
        page = await keys.page_accounts("proj_design", Place(limit=1))
        assert ([key.name for key in page.items], page.has_more) == (["a"], True)
        page = await keys.page_accounts("proj_design", Place(limit=1, after="c" * 12))
        assert ([key.name for key in page.items], page.has_more) == (["d"], False)
        assert await keys.page_accounts("proj_design", Place(limit=1, after="nobody")) is None
        assert [key.name for key in await keys.of_account("proj_design", "a" * 12)] == ["a", "b"]
        assert list(await keys.of_account("proj_default", "a" * 12)) == []
        assert list(await keys.of_account("proj_design", "b" * 12)) == []

    @pytest.mark.parametrize("fields", [{}, FULL])
    async def test_what_is_stored_comes_back_with_its_project(self, projects, keys, fields):
        project = a_project(limits=ALL_LIMITS)
        await projects.add(project)
        key = a_key(project=project, **fields)
        await keys.add(key)
        assert await keys.get(key.id) == key
        assert await keys.get("nobody") is None

    async def test_mapped_addresses_that_were_stored_before_are_read_as_those_of_version_4(self, keys):
        await keys.add(a_key(ips=(ip_network("::ffff:192.0.2.0/120"),)))
        if isinstance(keys, SqlKeys):
            assert (await keys.get(a_key().id)).ips == (ip_network("192.0.2.0/24"),)

    async def test_a_change_of_the_project_is_seen_with_the_key(self, projects, keys):
        await keys.add(a_key())
        await projects.change(DEFAULT_ID, {"images_per_day": 5})
        assert (await keys.get(a_key().id)).project.limits.images_per_day == 5

    async def test_lists_are_oldest_first_and_of_a_project(self, projects, keys):
        await projects.add(a_project())
        await keys.add(a_key(created_at=NOW + timedelta(seconds=1)))
        await keys.add(a_key(OTHER, project=a_project()))
        assert [key.id for key in await keys.list()] == ["other0000000", "abcDEF012345"]
        assert [key.id for key in await keys.list("proj_design")] == ["other0000000"]

    async def test_a_name_is_unique_in_its_project_among_keys_that_are_not_revoked(self, projects, keys):
        await projects.add(a_project())
        await keys.add(a_key())
        await keys.add(a_key(OTHER, project=a_project()))
        third = a_key(a_secret("third0000000"))
        with pytest.raises(NameTaken):
            await keys.add(third)
        await keys.revoke(a_key().id, NOW)
        await keys.add(third)
        assert len(await keys.list()) == 3

    async def test_of_many_at_once_with_one_name_one_is_stored(self, keys):
        made = [a_key(a_secret(f"{number:012}")) for number in range(10)]
        ends = await asyncio.gather(*(keys.add(key) for key in made), return_exceptions=True)
        assert ends.count(None) == 1
        assert {type(end) for end in ends if end} == {NameTaken}
        assert len(await keys.list()) == 1

    async def test_a_change_changes_what_is_named(self, keys):
        await keys.add(a_key(**FULL))
        assert await keys.change(a_key().id, {"spend_per_month": None, "shadow": False, "ips": (), "cache_scope": None})
        limits = replace(ALL_LIMITS, spend_per_month=None, shadow=False)
        expected = a_key(**{**FULL, "limits": limits, "ips": (), "cache_scope": None})
        assert await keys.get(a_key().id) == expected
        assert not await keys.change("nobody", {"shadow": True})

    async def test_a_change_of_what_is_no_limit(self, keys):
        await keys.add(a_key())
        changes = {"disabled_at": NOW, "metadata": {"team": "设计"}, "name": "other"}
        assert await keys.change(a_key().id, changes)
        assert await keys.get(a_key().id) == a_key(**changes)

    async def test_a_name_that_is_taken_is_not_taken_again_by_a_change(self, keys):
        await keys.add(a_key())
        await keys.add(a_key(OTHER, name="other"))
        with pytest.raises(NameTaken, match="'other'"):
            await keys.change(a_key().id, {"name": "other"})
        await keys.revoke("other0000000", NOW)
        assert await keys.change(a_key().id, {"name": "other"})

    async def test_changes_at_once_do_not_undo_each_other(self, keys):
        await keys.add(a_key())
        names = ("requests_per_minute", "images_per_minute", "images_per_day", "images_per_month", "concurrent")
        await asyncio.gather(*(keys.change(a_key().id, {name: number}) for number, name in enumerate(names)))
        assert (await keys.get(a_key().id)).limits == Limits(**{name: number for number, name in enumerate(names)})

    async def test_a_new_secret_keeps_the_old_one_for_a_while_or_not(self, keys):
        await keys.add(a_key())
        until = NOW + timedelta(hours=1)
        assert await keys.replace_secret(a_key().id, Digest(b"2" * 32, "new"), "2222", until)
        changed = {"digest": b"2" * 32, "digested_with": "new", "last_four": "2222"}
        assert await keys.get(a_key().id) == a_key(**changed, previous_digest=a_key().digest, previous_until=until)
        assert await keys.replace_secret(a_key().id, Digest(b"3" * 32, "new"), "3333", None)
        assert await keys.get(a_key().id) == a_key(digest=b"3" * 32, digested_with="new", last_four="3333")

    async def test_no_new_secret_for_a_revoked_key_or_none(self, keys):
        await keys.add(a_key(revoked_at=NOW))
        assert not await keys.replace_secret(a_key().id, Digest(b"2" * 32, "new"), "2222", None)
        assert not await keys.replace_secret("nobody", Digest(b"2" * 32, "new"), "2222", None)
        assert await keys.get(a_key().id) == a_key(revoked_at=NOW)

    async def test_a_digest_is_renewed_where_it_still_is(self, keys):
        ours = [a_key(a_secret(f"{number:012}"), name=str(number)) for number in range(3)]
        for key in ours:
            await keys.add(key)
        news = [Digest(str(number).encode() * 32, "new") for number in range(3)]
        olds = (ours[0].digest, ours[1].digest, b"replaced meanwhile".ljust(32))
        renewals = [Renewal(key.id, old, new) for key, old, new in zip(ours, olds, news, strict=True)]
        await keys.renew([*renewals[::-1], Renewal("nobody", b"x" * 32, news[0])])
        assert [(key.digest, key.digested_with) for key in await keys.list()] == [
            (b"0" * 32, "new"),
            (b"1" * 32, "new"),
            (ours[2].digest, None),
        ]

    async def test_revoking_twice_keeps_the_first_time(self, keys):
        await keys.add(a_key())
        assert await keys.revoke(a_key().id, NOW)
        assert await keys.revoke(a_key().id, NOW + timedelta(days=1))
        assert (await keys.get(a_key().id)).revoked_at == NOW
        assert not await keys.revoke("nobody", NOW)

    async def test_the_last_use_does_not_run_back(self, keys):
        await keys.add(a_key())
        await keys.add(a_key(OTHER, name="other", last_used_at=NOW))
        later = NOW + timedelta(minutes=1)
        await keys.touch({a_key().id: later, "other0000000": NOW - timedelta(minutes=1), "nobody": NOW})
        assert (await keys.get(a_key().id)).last_used_at == later
        assert (await keys.get("other0000000")).last_used_at == NOW


async def test_a_server_that_is_gone_is_said_to_be_so(tmp_path):
    with postgres_servers.postgres_server(tmp_path) as url:
        engine = open_engine(url)
        await migrate(engine)
        assert await SqlKeys(engine).list() == []
    try:
        for call in (SqlKeys(engine).get("x"), SqlKeys(engine).touch({"x": NOW}), SqlProjects(engine).list()):
            with pytest.raises(DatabaseUnavailable):
                await call
    finally:
        await engine.dispose()
