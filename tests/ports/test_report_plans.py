"""How the databases find what reports ask for among many lines, and that sums of many are exact."""

import asyncio
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from gateway.adapters.sql.reports import SqlReports
from gateway.adapters.sql.rollups import SqlRollups
from gateway.adapters.sql.stale import mark
from gateway.adapters.sql.tables import usage_events, usage_stale
from gateway.api.usage import _costs_result
from gateway.cli import main
from gateway.domain.reports import Group, Question, period
from gateway.service.report import PageAsked, PageUsage
from gateway.service.rollups import Rollups
from tests.builders import NOW, a_line
from tests.fakes import FakeClock
from tests.ledgers import empty_ledger
from tests.servers import environment

pytestmark = pytest.mark.anyio

MANY = 100_000
DAYS = 10
BEGIN = NOW - timedelta(days=DAYS)
BY = (Group.PROJECT, Group.DAY)
PRICE = 100_000  # a tenth
FULL = r"usage_(?:events|(?:hours|days)(?:_by_size)?)"


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")


async def tidy(engine):
    """What PostgreSQL does by itself, sooner or later."""
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sa.text("ANALYZE"))


async def plans_of(engine, question):
    """The indexes by which a report finds what it reads; no table that has rows is read as a whole."""
    asked = []

    def note(connection, cursor, statement, parameters, *_):
        asked.append((statement, parameters))

    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    await SqlReports(engine).sums(question)
    sa.event.remove(engine.sync_engine, "before_cursor_execute", note)
    explain = "EXPLAIN " if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    found = set()
    async with engine.connect() as connection:
        for statement, parameters in asked:
            plan = "\n".join(str(row) for row in await connection.exec_driver_sql(explain + statement, parameters))
            assert not re.search(rf"(Seq Scan on|SCAN) {FULL}", plan), plan
            found |= set(re.findall(rf"ix_{FULL}\w+|pk_{FULL}|sqlite_autoindex_{FULL}_1", plan))
    return {re.sub(r"sqlite_autoindex_(\w+)_1", r"pk_\1", name) for name in found}


async def test_indexes_find_what_is_asked_for_among_100000_lines(url):
    async with empty_ledger(url) as engine:
        rows = [asdict(a_line(str(n), time=BEGIN + n * timedelta(days=DAYS) / MANY)) for n in range(MANY)]
        for n, row in enumerate(rows):
            row |= {"project_id": f"proj_{n % 50}", "key_id": f"key_{n % 200}", "price": PRICE}
        hours = sorted({period(Group.HOUR, row["time"]) for row in rows})
        async with engine.begin() as connection:
            await connection.execute(sa.insert(usage_events), rows)
            await connection.execute(sa.insert(usage_stale), [{"period": "hour", "time": hour} for hour in hours])
        await tidy(engine)
        await lines_alone(engine)
        await Rollups(SqlRollups(engine), FakeClock(start=NOW), timedelta(days=400)).tend()
        await tidy(engine)
        await rolled_up(engine)


async def lines_alone(engine):
    """A day, a project's or a key's week of lines."""
    week, day = NOW - timedelta(days=7), NOW - timedelta(days=1)
    assert await plans_of(engine, Question(start=day, end=NOW, by=BY)) == {"ix_usage_events_time"}
    by_project = Question(start=week, end=NOW, by=BY, only={Group.PROJECT: ["proj_7"]})
    assert await plans_of(engine, by_project) == {"ix_usage_events_project_id_time"}
    by_key = Question(start=week, end=NOW, by=BY, only={Group.KEY: ["key_9"]})
    assert await plans_of(engine, by_key) == {"ix_usage_events_key_id_time"}


async def rolled_up(engine):
    """Whole days and hours come from their own tables, by key of time; a project's from its index."""
    midnight = period(Group.DAY, NOW)
    whole = Question(start=midnight - timedelta(days=1), end=midnight, by=(Group.KEY, Group.DAY))
    assert await plans_of(engine, whole) == {"pk_usage_days"}
    of_key, of_project = {Group.KEY: ["key_9"]}, {Group.PROJECT: ["proj_7"]}
    days = Question(start=midnight - timedelta(days=8), end=midnight, only=of_key)
    assert await plans_of(engine, days) == {"ix_usage_days_key_id_time"}
    week = Question(start=midnight - timedelta(days=7), end=midnight, by=(Group.HOUR,), only=of_project)
    assert await plans_of(engine, week) == {"ix_usage_hours_by_size_project_id_time"}
    everything = await SqlReports(engine).sums(Question(start=BEGIN, by=BY))
    assert (sum(row.requests for row in everything), sum(row.price for row in everything)) == (MANY, MANY * PRICE)


MILLION = 10**6
NUMBERS = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < :many) SELECT n FROM s"


async def write_a_million(engine, line):
    """Add a million lines like this one, within one statement."""
    row = asdict(line)
    numbers = sa.text(NUMBERS).columns(sa.column("n", sa.Integer)).subquery()
    columns = [column for column in usage_events.columns if column.name != "event_id"]
    copies = [sa.literal(row[column.name], column.type) for column in columns]
    query = sa.select(sa.cast(numbers.c.n, sa.String), *copies)
    names = ["event_id", *(column.name for column in columns)]
    async with engine.begin() as connection:
        for index in usage_events.indexes:  # all lines are asked for: they would only cost time
            await connection.run_sync(index.drop)
        await connection.execute(sa.insert(usage_events).from_select(names, query), {"many": MILLION})
        await mark(connection, Group.HOUR, [period(Group.HOUR, line.time)])


async def test_a_million_tenths_are_100000(tmp_path):
    """Binary fractions would not add up: the command and the costs API say it to the last digit, rolled up or not."""
    url = f"sqlite:///{tmp_path}/gateway.db"
    now = datetime.now(UTC)
    line = a_line(time=now - timedelta(days=3), cost=PRICE, price=PRICE, pictures_delivered=1)
    async with empty_ledger(url) as engine:
        await write_a_million(engine, line)
        for _ in range(2):
            await says_100000(engine, now - timedelta(days=4))
            await asyncio.to_thread(command_says_100000, tmp_path, url)
            await Rollups(SqlRollups(engine), FakeClock(start=now), timedelta(days=400)).tend()


async def says_100000(engine, start):
    asked = PageAsked(start=int(start.timestamp()), end=None, width=Group.DAY, by=(Group.MODEL,), only={}, limit=180)
    page = await PageUsage(SqlReports(engine), FakeClock(start=datetime.now(UTC)))(asked)
    [cost] = [_costs_result(sums) for bucket in page.buckets for sums in bucket.sums]
    assert (cost.amount.value, cost.quantity) == (100_000, MILLION)


def command_says_100000(tmp_path, url):
    env = environment(GLM_GATEWAY_DATA_DIR=str(tmp_path / "data"), DATABASE_URL=url, GLM_GATEWAY_SECRET_KEY="a secret")
    words = ["usage", "--since", "4d", "--group-by", "model", "--format", "json"]
    [row] = json.loads(CliRunner().invoke(main, words, env=env).stdout)
    assert (row["requests"], row["cost"], row["price"]) == (MILLION, "100000.00", "100000.00")
