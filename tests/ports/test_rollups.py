"""Roll-ups and old lines: whatever is summed up when, reports say what the lines alone would say."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters.sql.engine import open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.adapters.sql.reports import SqlReports
from gateway.adapters.sql.rollups import SqlRollups
from gateway.adapters.sql.stale import hold_alone, mark
from gateway.adapters.sql.tables import (
    usage_archive,
    usage_days,
    usage_days_by_size,
    usage_events,
    usage_hours,
    usage_hours_by_size,
)
from gateway.domain.errors import InvalidValue
from gateway.domain.reports import Group, Question
from gateway.domain.rollups import Stale
from gateway.domain.usage import RANKS, Outcome
from gateway.service.ports import LedgerUnavailable
from gateway.service.rollups import Rollups
from tests import servers
from tests.builders import NOW, a_line
from tests.fakes import FakeClock
from tests.fakes_reports import FakeReports
from tests.ledgers import QUESTIONS, a_drawn_line, empty_ledger, in_order

pytestmark = pytest.mark.anyio

ALL_TIME = Question(start=datetime(2000, 1, 1, tzinfo=UTC))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
LONG = timedelta(days=4000)
ROLLED = (usage_hours, usage_hours_by_size, usage_days, usage_days_by_size)


@pytest.fixture(params=["sqlite", "postgresql"])
async def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with empty_ledger(url) as opened:
        yield opened


async def tend(engine, now, retention=LONG):
    await Rollups(SqlRollups(engine), FakeClock(start=now), retention).tend()


async def count(engine, *tables):
    async with engine.connect() as connection:
        return [await connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables]


async def same(engine, lines, questions):
    """Whether every question has the answer that the lines alone give."""
    for question in questions:
        expected = await FakeReports(*lines).sums(question)
        assert in_order(await SqlReports(engine).sums(question)) == in_order(expected), question


class Books:
    """What the ledger has to know: one line per job, replaced by better knowledge only."""

    def __init__(self):
        self.lines = {}

    def write(self, lines):
        for line in lines:
            known = self.lines.get(line.event_id)
            if known is None or RANKS[line.outcome] > RANKS[known.outcome]:
                self.lines[line.event_id] = line


WRITTEN = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2**32)), min_size=1, max_size=8)
ROUNDS = st.lists(WRITTEN | st.integers(0, 120), max_size=8)  # lines, or roll-ups so many hours later
MOMENTS = st.integers(0, 100 * 60)  # minutes after NOW


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rounds=ROUNDS, bounds=st.tuples(MOMENTS, MOMENTS), seed=st.integers(0, 1000))
async def test_roll_ups_at_any_time_change_no_answer(engine, rounds, bounds, seed):
    """Lines come late and change, also their times; roll-ups are made between."""
    books = Books()
    async with empty_ledger(engine.url.render_as_string(hide_password=False)):
        pass
    for one in rounds:
        if isinstance(one, int):
            await tend(engine, NOW + one * HOUR)
            continue
        lines = [a_drawn_line(number, random.Random(draw)) for number, draw in one]  # noqa: S311 - lines, no secrets
        books.write(lines)
        await SqlLedger(engine).write(lines)
    start, end = (NOW + timedelta(minutes=minutes) for minutes in sorted(bounds))
    chance = random.Random(seed)  # noqa: S311 - as above
    questions = [replace(ALL_TIME, **words) for words in chance.sample(QUESTIONS, 4)]
    questions += [replace(question, start=start, end=end) for question in questions]
    await same(engine, books.lines.values(), questions)


async def test_many_lines_are_summed_up_and_every_question_answered(engine):
    chance = random.Random(7)  # noqa: S311 - the same lines each time
    lines = [a_drawn_line(number, chance) for number in range(600)]
    await SqlLedger(engine).write(lines)
    await tend(engine, NOW + 5 * DAY)
    assert await SqlRollups(engine).stale() == Stale()
    assert 0 not in await count(engine, *ROLLED)
    questions = [replace(ALL_TIME, **words) for words in QUESTIONS]
    ragged = {"start": NOW + timedelta(minutes=7, microseconds=1), "end": NOW + timedelta(hours=71, minutes=3)}
    await same(engine, lines, [*questions, *(replace(question, **ragged) for question in questions)])


async def test_what_is_summed_up_is_not_read_from_lines(engine):
    """Whoever takes lines away behind the ledger's back sees where reports come from."""
    early, late = a_line("early", time=MIDNIGHT + HOUR), a_line("late", time=MIDNIGHT + 30 * HOUR)
    await SqlLedger(engine).write([early, late])
    await tend(engine, MIDNIGHT + 32 * HOUR)
    async with engine.begin() as connection:
        await connection.execute(sa.delete(usage_events))
    await same(engine, [early, late], [ALL_TIME, replace(ALL_TIME, by=(Group.DAY, Group.KEY, Group.OUTCOME))])
    await same(engine, [early, late], [replace(ALL_TIME, by=(Group.HOUR, Group.SIZE))])
    assert await count(engine, usage_hours, usage_days) == [2, 1]  # the second day is not over


async def test_an_hour_is_summed_up_five_minutes_after_its_end(engine):
    await SqlLedger(engine).write([a_line("a", time=MIDNIGHT)])
    await tend(engine, MIDNIGHT + HOUR + timedelta(minutes=4))
    assert await count(engine, usage_hours) == [0]
    await tend(engine, MIDNIGHT + HOUR + timedelta(minutes=5))
    assert await count(engine, usage_hours) == [1]


async def test_a_line_that_moves_to_another_hour_leaves_the_one_it_was_in(engine):
    await SqlLedger(engine).write([a_line("a", Outcome.ABANDONED, time=MIDNIGHT)])
    await tend(engine, MIDNIGHT + 2 * DAY)
    moved = a_line("a", time=MIDNIGHT + 2 * HOUR)
    await SqlLedger(engine).write([moved])
    question = replace(ALL_TIME, by=(Group.HOUR, Group.OUTCOME))
    await same(engine, [moved], [question])
    await tend(engine, MIDNIGHT + 2 * DAY)
    await same(engine, [moved], [question])


async def test_lines_older_than_the_retention_are_kept_as_sums(engine):
    """All but which minute they began in is still known."""
    chance = random.Random(8)  # noqa: S311 - the same lines each time
    lines = [replace(a_drawn_line(number, chance), event_id=f"a-{number}") for number in range(400)]
    lines = [replace(line, time=NOW + (line.time - NOW) / 4) for line in lines]
    await SqlLedger(engine).write(lines)
    cut = NOW + timedelta(hours=10, minutes=30)
    await tend(engine, NOW + 5 * DAY, retention=NOW + 5 * DAY - cut)
    [left] = await count(engine, usage_events)
    # The hour that the cut lies in is kept whole.
    assert left == sum(line.time >= cut.replace(minute=0, second=0, microsecond=0) for line in lines)
    assert 0 < left < 400
    questions = [replace(ALL_TIME, **words) for words in QUESTIONS if Group.MINUTE not in words.get("by", ())]
    questions = [question for question in questions if question.start == ALL_TIME.start]
    await same(engine, lines, questions)
    week = {"start": MIDNIGHT - 7 * DAY, "end": MIDNIGHT + 3 * HOUR}
    await same(engine, lines, [replace(question, **week) for question in questions])

    late = [replace(a_drawn_line(number, chance), event_id=f"late-{number}", time=lines[0].time) for number in range(9)]
    late += [replace(line, event_id=f"again-{line.event_id}") for line in lines[:100]]
    for _ in range(2):
        await SqlLedger(engine).write(late)
        await same(engine, [*lines, *late], questions)
    await tend(engine, NOW + 5 * DAY, retention=NOW + 5 * DAY - cut)
    await same(engine, [*lines, *late], questions)
    await tend(engine, NOW + 500 * DAY, retention=2 * DAY)
    assert await count(engine, usage_events) == [0]
    await same(engine, [*lines, *late], questions)


async def test_a_bill_of_days_whose_lines_are_not_kept_is_not_compared(engine):
    """Sums do not say which account took what: all of it would seem to be missing."""
    ledger, day = SqlLedger(engine), NOW.date()
    await ledger.write([a_line("kept", pictures_paid=1, cost=100_000, upstream_account="main")])
    assert [one.cost for one in await ledger.paid(day, day)] == [100_000]
    await tend(engine, NOW + 50 * DAY, retention=35 * DAY)
    for first in (day, day + DAY):
        with pytest.raises(InvalidValue, match=f"from {day + 2 * DAY} on"):
            await ledger.paid(first, day + 3 * DAY)
    assert await ledger.paid(day + 2 * DAY, day + 3 * DAY) == []


async def test_old_lines_go_in_batches_within_one_hour(engine):
    together = [a_line(f"at once {number}", time=MIDNIGHT) for number in range(5)]
    apart = [a_line(f"apart {number}", time=MIDNIGHT + timedelta(seconds=number + 1)) for number in range(5)]
    other = [a_line("the next hour's", time=MIDNIGHT + HOUR)]
    await SqlLedger(engine).write([*together, *apart, *other])
    rollups = SqlRollups(engine)
    assert await rollups.archive(NOW + LONG, 2) == 0  # not summed up yet
    await tend(engine, MIDNIGHT + 2 * DAY)
    assert [await rollups.archive(MIDNIGHT + HOUR, 2) for _ in range(5)] == [5, 2, 2, 1, 0]
    assert await rollups.archive(MIDNIGHT + HOUR + timedelta(minutes=59), 2) == 0
    assert await rollups.archive(MIDNIGHT + 2 * HOUR, 2) == 1
    assert await count(engine, usage_events, usage_archive) == [0, 5]
    await same(engine, [*together, *apart, *other], [ALL_TIME, replace(ALL_TIME, by=(Group.HOUR, Group.USER))])


async def test_writers_sums_and_archives_at_once_lose_nothing(postgres):
    """Four that write the same hours, two that sum them up and two that take lines away, each on their own."""
    chance = random.Random(9)  # noqa: S311 - the same lines each time
    lines = [replace(a_drawn_line(number, chance), event_id=f"b-{number}") for number in range(1200)]
    lines = [replace(line, time=MIDNIGHT + (line.time - NOW) / 32) for line in lines]
    async with empty_ledger(postgres) as engine:
        writing = asyncio.Event()

        async def write(some):
            for start in range(0, len(some), 15):
                await SqlLedger(engine).write(some[start : start + 15])

        async def go_on(retention):
            while not writing.is_set():
                await tend(engine, MIDNIGHT + 2 * DAY, retention)

        async with asyncio.TaskGroup() as others:
            keepers = [others.create_task(go_on(days * DAY)) for days in (1, 2, 1.95, 1.9)]
            async with asyncio.TaskGroup() as writers:
                for number in range(4):
                    writers.create_task(write(lines[number::4]))
            writing.set()
            await asyncio.gather(*keepers)
        questions = [ALL_TIME, replace(ALL_TIME, by=(Group.HOUR, Group.OUTCOME)), replace(ALL_TIME, by=(Group.USER,))]
        await same(engine, lines, questions)
        await tend(engine, MIDNIGHT + 2 * DAY, 2 * DAY)
        assert await SqlRollups(engine).stale() == Stale()
        await same(engine, lines, questions)


async def test_an_hour_that_is_being_written_is_summed_up_later(postgres):
    """What is not committed yet would be missing, and its mark gone."""
    async with empty_ledger(postgres) as engine, engine.connect() as writer:
        await SqlLedger(engine).write([a_line("a", time=MIDNIGHT)])
        async with writer.begin():
            await mark(writer, Group.HOUR, [MIDNIGHT])
            await tend(engine, MIDNIGHT + 2 * DAY)
            assert await count(engine, usage_hours) == [0]
        await tend(engine, MIDNIGHT + 2 * DAY)
        assert await count(engine, usage_hours, usage_days) == [1, 1]


async def test_an_hour_that_two_mark_at_once_is_marked_until_both_have_written(postgres):
    """Who waits for the other's mark holds it, too, or the hour would be summed up without what it writes."""
    async with empty_ledger(postgres) as engine, engine.connect() as one, engine.connect() as other:
        first, second = await one.begin(), await other.begin()
        await mark(one, Group.HOUR, [MIDNIGHT])
        waiting = asyncio.create_task(mark(other, Group.HOUR, [MIDNIGHT]))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        await first.commit()
        await waiting
        async with engine.begin() as summing:
            assert not await hold_alone(summing, Group.HOUR, MIDNIGHT)
        await second.commit()
        async with engine.begin() as summing:
            assert await hold_alone(summing, Group.HOUR, MIDNIGHT)


async def test_a_database_that_is_away_is_told_in_the_ledgers_words():
    engine = open_engine(f"postgresql://nobody@127.0.0.1:{servers.free_port()}/none")
    for work in (
        SqlRollups(engine).stale(),
        SqlRollups(engine).roll_up(Group.HOUR, NOW),
        SqlRollups(engine).archive(NOW, 1),
    ):
        with pytest.raises(LedgerUnavailable):
            await work
