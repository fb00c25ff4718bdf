"""Sums of the ledger: one suite for SQLite and PostgreSQL, held to the same sums in memory."""

import random
import re
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.adapters.sql.reports import SqlReports, statement
from gateway.adapters.sql.tables import usage_events
from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.reports import Group, Question
from gateway.domain.usage import Outcome
from tests.builders import NOW, a_line
from tests.fakes_reports import FakeReports

pytestmark = pytest.mark.anyio

ALL_TIME = Question(start=datetime(2000, 1, 1, tzinfo=UTC))
MANY = 100_000
SECOND = timedelta(seconds=1)


@asynccontextmanager
async def database(url):
    """A database with an empty ledger."""
    engine = open_engine(url)
    try:
        await migrate(engine)
        async with engine.begin() as connection:
            await connection.execute(sa.delete(usage_events))
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
async def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with database(url) as opened:
        yield opened


async def answer(engine, *lines, **question):
    """What the ledger says of these lines."""
    await SqlLedger(engine).write(lines)
    return await SqlReports(engine).sums(replace(ALL_TIME, **question))


def in_order(rows):
    return sorted(rows, key=repr)


def drawn(number, chance):
    """A line of any kind, within four days."""
    requested = chance.randint(1, 4)
    paid = chance.randint(0, requested)
    return a_line(
        f"job-{number}{chance.choice(['', '', '~1'])}",
        chance.choice(list(Outcome)),
        time=NOW + timedelta(microseconds=chance.randrange(4 * 86_400_000_000)),
        project_id=chance.choice(["proj_a", "proj_b"]),
        key_id=chance.choice(["one", "two", "three"]),
        upstream_model=chance.choice(["glm-image", "cogview-4"]),
        size=chance.choice(["1280x1280", "1024x1024", ""]),
        end_user_hash=chance.choice(["", "somebody"]),
        pictures_requested=requested,
        pictures_paid=paid,
        pictures_delivered=chance.randint(0, paid),
        cost=chance.randrange(10**9),
        cost_currency=chance.choice(["CNY", "USD"]),
        price=chance.randrange(10**9),
    )


QUESTIONS = [
    {},
    *({"by": (group,)} for group in Group),
    {"by": (Group.OUTCOME, Group.DAY, Group.PROJECT, Group.KEY, Group.MODEL)},
    {"by": (Group.HOUR, Group.DAY), "only": {Group.PROJECT: ["proj_a"], Group.KEY: ["one", "two"]}},
    {"by": (Group.SIZE,), "only": {Group.MODEL: ["glm-image"], Group.SIZE: ["", "1024x1024"]}},
    {"only": {Group.KEY: []}},
    {"by": (Group.USER, Group.SOURCE), "start": NOW + timedelta(hours=30), "end": NOW + timedelta(hours=40)},
]


async def test_every_question_has_the_same_answer_as_in_memory(engine):
    chance = random.Random(6)  # noqa: S311 - the same lines each time
    lines = [drawn(number, chance) for number in range(600)]
    await SqlLedger(engine).write(lines)
    for words in QUESTIONS:
        question = replace(ALL_TIME, **words)
        expected = await FakeReports(*lines).sums(question)
        assert in_order(await SqlReports(engine).sums(question)) == in_order(expected), words


async def test_a_range_begins_with_its_start_and_ends_before_its_end(engine):
    lines = [a_line(str(offset), time=NOW + offset * SECOND) for offset in (-1, 0, 1, 2)]
    lines += [a_line("just in", time=NOW + 2 * SECOND - timedelta(microseconds=1))]
    [row] = await answer(engine, *lines, start=NOW, end=NOW + 2 * SECOND)
    assert row.requests == 3


async def test_the_last_instant_of_a_day_belongs_to_it(engine):
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    lines = [a_line("before", time=midnight - timedelta(microseconds=1)), a_line("after", time=midnight)]
    rows = await answer(engine, *lines, by=(Group.DAY, Group.MINUTE))
    assert sorted(tuple(row.group.values()) for row in rows) == [
        (midnight - timedelta(days=1), midnight - timedelta(minutes=1)),
        (midnight, midnight),
    ]


async def test_what_may_have_been_paid_is_not_in_paid(engine):
    lines = [
        a_line("a", Outcome.ABANDONED, pictures_requested=3),
        a_line("b", Outcome.UNKNOWN, pictures_requested=2, pictures_paid=1),
        a_line("c", Outcome.PARTIAL, pictures_requested=4, pictures_paid=2, pictures_delivered=1),
    ]
    [row] = await answer(engine, *lines)
    assert (row.requests, row.delivered, row.paid, row.uncertain) == (3, 1, 3, 4)


async def test_a_million_tenths_are_100000(engine):
    """Binary fractions would not add up; the numbers are plain integers."""
    lines = [a_line(str(number), cost=100_000, price=100_000) for number in range(1000)]
    [row] = await answer(engine, *lines)
    assert (row.cost * 1000, row.price * 1000) == (100_000 * 10**6,) * 2
    amounts = (row.requests, row.delivered, row.paid, row.uncertain, row.cost, row.price)
    assert {type(amount) for amount in amounts} == {int}


async def test_large_sums_are_exact(engine):
    odd = 10**15 + 1
    [row] = await answer(engine, *(a_line(str(number), price=odd) for number in range(999)))
    assert row.price == 999 * odd


async def test_no_lines_are_no_groups(engine):
    assert await answer(engine) == []


async def test_a_database_that_is_away_is_told():
    engine = open_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        await SqlReports(engine).sums(ALL_TIME)


async def test_indexes_find_the_lines_among_many(engine):
    """A day, a project's or a key's week out of 100,000 lines of a hundred days do not read the whole table."""
    start = NOW - timedelta(days=100)
    rows = [asdict(a_line(str(n), time=start + n * timedelta(days=100) / MANY)) for n in range(MANY)]
    for n, row in enumerate(rows):
        row |= {"project_id": f"proj_{n % 50}", "key_id": f"key_{n % 200}", "price": 100_000}
    async with engine.begin() as connection:
        await connection.execute(sa.insert(usage_events), rows)
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("ANALYZE"))
    week, day = NOW - timedelta(days=7), NOW - timedelta(days=1)
    by = (Group.PROJECT, Group.DAY)
    assert await index_of(engine, replace(ALL_TIME, start=day, end=NOW, by=by)) == "time"
    by_project = {"by": by, "only": {Group.PROJECT: ["proj_7"]}}
    assert await index_of(engine, replace(ALL_TIME, start=week, end=NOW, **by_project)) == "project_id_time"
    by_key = {"by": by, "only": {Group.KEY: ["key_9"]}}
    assert await index_of(engine, replace(ALL_TIME, start=week, end=NOW, **by_key)) == "key_id_time"
    everything = await SqlReports(engine).sums(replace(ALL_TIME, by=by))
    assert (sum(row.requests for row in everything), sum(row.price for row in everything)) == (MANY, MANY * 100_000)


async def index_of(engine, question):
    """The index by which the database finds the lines of a question."""
    dialect = engine.dialect
    words = str(statement(question, dialect.name).compile(engine.sync_engine, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN " if dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    async with engine.connect() as connection:
        rows = (await connection.exec_driver_sql(explain + words.replace("%%", "%"))).all()
    plan = "\n".join(str(row) for row in rows)
    assert "Seq Scan" not in plan
    assert "SCAN usage_events" not in plan
    [index] = set(re.findall(r"ix_usage_events_(\w+)", plan))
    return index
