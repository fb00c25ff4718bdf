"""Sums of the ledger: one suite for SQLite and PostgreSQL, held to the same sums in memory."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.adapters.sql.engine import open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.adapters.sql.reports import SqlReports
from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.reports import Group, Question
from gateway.domain.usage import Outcome
from tests.builders import NOW, a_line
from tests.fakes_reports import FakeReports
from tests.ledgers import QUESTIONS, a_drawn_line, empty_ledger, in_order

pytestmark = pytest.mark.anyio

ALL_TIME = Question(start=datetime(2000, 1, 1, tzinfo=UTC))
MANY = 100_000
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["sqlite", "postgresql"])
async def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with empty_ledger(url) as opened:
        yield opened


async def answer(engine, *lines, **question):
    """What the ledger says of these lines."""
    await SqlLedger(engine).write(lines)
    return await SqlReports(engine).sums(replace(ALL_TIME, **question))


async def test_every_question_has_the_same_answer_as_in_memory(engine):
    chance = random.Random(6)  # noqa: S311 - the same lines each time
    lines = [a_drawn_line(number, chance) for number in range(600)]
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
