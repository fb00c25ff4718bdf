"""The audit log: one suite for the fake and for SQL on SQLite and PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.adapters.sql.admin_keys import SqlAdminKeys
from gateway.adapters.sql.audit_log import SqlAuditLog
from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.sql.projects import SqlProjects
from gateway.adapters.sql.tables import metadata
from gateway.domain.audit import Actor, AuditEntry, AuditEvent, AuditQuestion
from gateway.domain.errors import DatabaseUnavailable, NameTaken
from tests.fakes_administration import NOW, FakeAuditLog, Office, a_project

pytestmark = pytest.mark.anyio

ALICE = Actor(
    kind="admin_key", id="alice", name="Alice's", address="2001:db8::1", user_agent="curl/8 \u00fc", request_id="req_1"
)


def an_entry(seconds=0, actor=ALICE, **event):
    ordinary = {"type": "project.updated", "resource_id": "proj_1", "project_id": "proj_1", "project_name": "one"}
    event = {**ordinary, "before": {"name": "设计\0"}, "after": {"name": None, "models": ["x"]}, **event}
    return AuditEntry(time=NOW + timedelta(seconds=seconds), actor=actor, event=AuditEvent(**event))


@asynccontextmanager
async def empty_engine(url):
    """A database whose tables have just been made: the log's rows cannot be deleted."""
    engine = open_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.drop_all)
            await connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
            if engine.dialect.name == "postgresql":
                await connection.execute(sa.text("DROP FUNCTION IF EXISTS audit_log_stays"))
        await migrate(engine)
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
async def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with empty_engine(url) as opened:
        yield opened


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def log(request, tmp_path):
    if request.param == "fake":
        yield FakeAuditLog()
        return
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with empty_engine(url) as opened:
        yield SqlAuditLog(opened)


async def written(log, *entries):
    for entry in entries:
        async with log.transaction():
            await log.add(entry)


async def seconds(log, **question):
    """The times of what a question finds, and whether there is more."""
    page = await log.page(AuditQuestion(**{"limit": 100, **question}))
    return [int((entry.time - NOW).total_seconds()) for entry in page.items], page.has_more


async def test_what_is_written_comes_back(log):
    await written(log, an_entry())
    [entry] = (await log.page(AuditQuestion(limit=1))).items
    assert entry.number > 0
    assert (entry.time, entry.actor, entry.event) == (an_entry().time, ALICE, an_entry().event)


async def test_the_last_written_comes_first_whatever_its_time(log):
    await written(log, an_entry(5), an_entry(3), an_entry(4))
    assert await seconds(log) == ([4, 3, 5], False)


async def test_pages_go_both_ways(log):
    await written(log, *(an_entry(number) for number in range(7)))
    numbers = [entry.number for entry in (await log.page(AuditQuestion(limit=100))).items][::-1]
    assert await seconds(log, limit=3) == ([6, 5, 4], True)
    assert await seconds(log, limit=3, after=numbers[4]) == ([3, 2, 1], True)
    assert await seconds(log, limit=3, after=numbers[1]) == ([0], False)
    assert await seconds(log, limit=3, before=numbers[2]) == ([5, 4, 3], True)
    assert await seconds(log, limit=3, before=numbers[4]) == ([6, 5], False)
    assert await seconds(log, limit=3, after=numbers[5], before=numbers[2]) == ([4, 3], False)
    assert await seconds(log, after=numbers[0]) == ([], False)


async def test_each_filter(log):
    bob = Actor(kind="cli", id="cli:bob", name="bob")
    await written(
        log,
        an_entry(0, type="project.created"),
        an_entry(1, actor=bob),
        an_entry(2, project_id="proj_2", resource_id="key"),
        an_entry(3, resource_id="other"),
    )
    assert await seconds(log, only={"type": ["project.created", "nothing"]}) == ([0], False)
    assert await seconds(log, only={"actor_id": ["cli:bob"]}) == ([1], False)
    assert await seconds(log, only={"project_id": ["proj_2"]}) == ([2], False)
    assert await seconds(log, only={"resource_id": ["key", "other"]}) == ([3, 2], False)
    assert await seconds(log, only={"resource_id": ["key", "other"], "project_id": ["proj_1"]}) == ([3], False)
    assert await seconds(log, start=NOW + timedelta(seconds=1), end=NOW + timedelta(seconds=3)) == ([2, 1], False)
    assert await seconds(log, limit=1, start=NOW + timedelta(seconds=2)) == ([3], True)


async def test_a_change_that_fails_is_undone_with_its_line(engine):
    log, projects = SqlAuditLog(engine), SqlProjects(engine)

    async def fail():
        async with log.transaction():
            await projects.add(a_project())
            await log.add(an_entry())
            raise NameTaken("late", param="name")

    with pytest.raises(NameTaken):
        await fail()
    assert await projects.find("design") is None
    assert (await log.page(AuditQuestion(limit=1))).items == []


async def test_what_a_store_refuses_leaves_the_rest_of_a_transaction(engine):
    log, projects = SqlAuditLog(engine), SqlProjects(engine)
    async with log.transaction():
        await projects.add(a_project())
        with pytest.raises(NameTaken):
            await projects.add(a_project(id="proj_2"))
        assert await projects.find("design") == a_project(), "it sees what it has written"
    assert await projects.find("proj_2") is None
    assert await projects.find("design") == a_project()


async def test_no_change_without_its_line(engine):
    """A log that cannot be written keeps the change from happening, whatever is changed."""
    office = Office.on(SqlAuditLog(engine), SqlProjects(engine), SqlKeys(engine), SqlAdminKeys(engine))
    await office.projects.create("design", {})
    key, _ = await office.keys.create("n8n", project="design")
    async with engine.begin() as connection:
        await connection.execute(sa.text("DROP TABLE audit_log"))
    told = len(office.announcer.told)
    for act in (
        lambda: office.projects.create("web", {}),
        lambda: office.projects.archive("design"),
        lambda: office.projects.change("design", {"images_per_day": 5}),
        lambda: office.keys.create("another", project="design"),
        lambda: office.keys.revoke(key.id),
        lambda: office.keys.rotate(key.id, timedelta(0)),
        lambda: office.admin_keys.create("ci"),
        lambda: office.admin_keys.ensure_first(""),
    ):
        with pytest.raises((DBAPIError, DatabaseUnavailable)):
            await act()
    assert await office.keys.list() == [key]
    assert {project.name for project in await office.projects.list()} == {"default", "design"}
    assert await office.admin_keys.list() == []
    assert len(office.announcer.told) == told, "nobody is told of what did not happen"


async def test_each_line_has_what_was_there_before_even_when_many_change_it_at_once(engine):
    office = Office.on(SqlAuditLog(engine), SqlProjects(engine), SqlKeys(engine), SqlAdminKeys(engine))
    await office.projects.create("design", {"weight": 100})
    await asyncio.gather(*(office.projects.change("design", {"weight": number}) for number in range(1, 9)))
    page = await office.audit.page(AuditQuestion(limit=100))
    lines = [(entry.event.before["weight"], entry.event.after["weight"]) for entry in page.items[::-1][1:]]
    assert len(lines) == 8
    assert [before for before, _ in lines] == [100, *(after for _, after in lines[:-1])]


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor_id = 'nobody'", "DELETE FROM audit_log"])
async def test_a_line_stays_as_it_is(engine, statement):
    log = SqlAuditLog(engine)
    await written(log, an_entry())
    with pytest.raises(DBAPIError, match="only ever added to"):
        async with engine.begin() as connection:
            await connection.execute(sa.text(statement))
    assert len((await log.page(AuditQuestion(limit=2))).items) == 1


async def test_a_database_that_is_away_is_told():
    engine = open_engine("postgresql://postgres@127.0.0.1:1/none")
    log = SqlAuditLog(engine)
    with pytest.raises(DatabaseUnavailable):
        await log.transaction().__aenter__()
    with pytest.raises(DatabaseUnavailable):
        await log.page(AuditQuestion(limit=1))
    await engine.dispose()
