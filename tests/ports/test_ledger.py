"""The ledger: one suite for the fake and for SQL on SQLite and PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from random import Random

import pytest
import sqlalchemy as sa

from gateway.adapters.sql import ledger as ledger_module
from gateway.adapters.sql.engine import open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.adapters.sql.tables import usage_events
from gateway.domain.usage import Outcome, UsageEvent, Used
from gateway.service.ports import LedgerUnavailable, LinesRefused
from tests import servers
from tests.builders import NOW, a_line
from tests.fakes_quota import FakeLedger
from tests.ledgers import empty_ledger

pytestmark = pytest.mark.anyio

DELIVERED = {"pictures_delivered": 2, "price": 200_000}
TOO_LARGE = 2**70  # no database's integer holds it


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def ledger(request, tmp_path):
    if request.param == "fake":
        yield FakeLedger()
        return
    url = f"sqlite:///{tmp_path}/gateway.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with empty_ledger(url) as engine:
        yield SqlLedger(engine)


async def test_lines_that_were_written_are_known(ledger):
    await ledger.write([])
    await ledger.write([a_line("a"), a_line("b")])
    assert set(await ledger.known(["a", "b", "c"])) == {"a", "b"}


async def test_writing_again_changes_nothing_and_better_knowledge_does(ledger):
    await ledger.write([a_line("a", Outcome.ABANDONED)])
    await ledger.write([a_line("a", **DELIVERED), a_line("a", Outcome.ABANDONED)])
    await ledger.write([a_line("a", pictures_delivered=9)])
    [used] = await ledger.used_since(NOW)
    assert (used.pictures, used.price) == (2, 200_000)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_many_who_write_the_same_lines_at_once_hold_up_nobody(request, tmp_path, kind):
    """Whatever order each has them in, the best knowledge stays, and no database sees a deadlock."""
    url = f"sqlite:///{tmp_path}/gateway.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    said = (Outcome.ABANDONED, Outcome.UNKNOWN, Outcome.DELIVERED, Outcome.UNKNOWN, Outcome.ABANDONED)
    lines = [a_line(f"line-{number}", outcome) for number in range(100) for outcome in said]
    async with empty_ledger(url) as engine:
        ledger = SqlLedger(engine)
        async with asyncio.TaskGroup() as writers:
            for chance in map(Random, range(6)):
                writers.create_task(ledger.write(chance.sample(lines, len(lines))))
        assert set((await ledger.known([line.event_id for line in lines])).values()) == {Outcome.DELIVERED}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_line_is_kept_as_it_is(request, tmp_path, kind):
    """Its values pass SQLAlchemy by on their way in, and not on their way out."""
    url = f"sqlite:///{tmp_path}/gateway.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    different = {
        name: f"<{name}> ' 画" for name in ("requested_model", "upstream_account", "error_code", "account_costs")
    }
    numbers = {name: number for number, name in enumerate(("cost", "price", "latency_ms", "queue_ms"), 2**40)}
    at = datetime(2026, 3, 29, 1, 59, 59, 7, timezone(timedelta(hours=2, minutes=30)))
    lines = [
        a_line("a", Outcome.UNKNOWN, time=at, cost_uncertain=True, status=504, **different, **numbers),
        a_line("b", Outcome.HIT, time=at.replace(microsecond=0), cache="HIT", size="1280x1280", prompt_hash="0" * 32),
    ]
    async with empty_ledger(url) as engine:
        await SqlLedger(engine).write(lines)
        async with engine.connect() as connection:
            rows = (await connection.execute(sa.select(usage_events).order_by(usage_events.c.event_id))).mappings()
            assert [UsageEvent(**row) for row in rows] == lines


async def test_what_was_used_is_summed_by_key_in_plain_integers(ledger):
    """The counters of an emptied store are made of these sums, and a store takes no other kind of number."""
    early = NOW - timedelta(days=1)
    await ledger.write(
        [
            a_line("a", **DELIVERED),
            a_line("b", Outcome.PARTIAL, **DELIVERED),
            a_line("c", key_id="other", **DELIVERED),
            a_line("d", time=early, **DELIVERED),
            a_line("e", Outcome.FAILED),
        ]
    )
    used = sorted(await ledger.used_since(NOW), key=lambda one: one.key_id)
    of = {"project_id": a_line().project_id}
    assert used == [Used(**of, key_id="abcDEF012345", pictures=4, price=400_000), Used(**of, key_id="other", **_two())]
    assert {type(number) for one in used for number in (one.pictures, one.price)} == {int}


async def test_what_ended_of_late_is_named_with_its_outcome_known(ledger):
    """A job may have begun long before: a paid picture is tried to be downloaded for a day."""
    hour, half = timedelta(hours=1), timedelta(minutes=30)
    await ledger.write(
        [
            a_line("now"),
            a_line("before", time=NOW - hour),
            a_line("ended late", time=NOW - hour, latency_ms=3_600_000, project_id="other"),
            a_line("took a day", time=NOW - 24 * hour, latency_ms=24 * 3_600_000),
            a_line("just ended", time=NOW - half, latency_ms=60_000),
            a_line("just not", time=NOW - half, latency_ms=59_999),
            a_line("abandoned", Outcome.ABANDONED),
            a_line("unknown", Outcome.UNKNOWN),
        ]
    )
    tally = await ledger.tally(NOW, NOW, NOW - half + timedelta(minutes=1))
    project = a_line().project_id
    of_project = {(name, project) for name in ("now", "took a day", "just ended")}
    assert {*tally.ended} == of_project | {("ended late", "other")}


async def test_a_tally_sums_two_periods(ledger):
    early = NOW - timedelta(days=1)
    await ledger.write([a_line("a", **DELIVERED), a_line("b", time=early, **DELIVERED)])
    tally = await ledger.tally(NOW, early, NOW)
    assert [(used.pictures, used.price) for used in tally.today] == [(2, 200_000)]
    assert [(used.pictures, used.price) for used in tally.month] == [(4, 400_000)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_tally_is_of_one_instant(request, tmp_path, monkeypatch, kind):
    """A line that is committed while it is made is in all of it or in nothing."""
    url = f"sqlite:///{tmp_path}/gateway.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    async with empty_ledger(url) as engine:
        ledger = SqlLedger(engine)
        await ledger.write([a_line("before", **DELIVERED)])
        ended_since = ledger_module._ended_since

        async def while_a_line_is_written(*words):
            await ledger.write([a_line("meanwhile", **DELIVERED)])
            return await ended_since(*words)

        monkeypatch.setattr(ledger_module, "_ended_since", while_a_line_is_written)
        tally = await ledger.tally(NOW, NOW, NOW)
        assert [used.pictures for used in tally.today] == [2]
        assert tally.ended == [("before", a_line().project_id)]
        assert len(await ledger.known(["before", "meanwhile"])) == 2


async def test_what_is_known_has_its_outcome_also_of_many(ledger):
    await ledger.write([a_line("a", Outcome.ABANDONED), a_line("b")])
    names = ["a", "b", *(f"no-{number}" for number in range(2500))]
    assert await ledger.known(names) == {"a": Outcome.ABANDONED, "b": Outcome.DELIVERED}


async def test_a_line_that_cannot_be_held_is_named_and_holds_up_no_other(ledger):
    lines = [a_line(f"line-{number}") for number in range(9)]
    lines[4] = replace(lines[4], cost=TOO_LARGE)
    lines[7] = replace(lines[7], latency_ms=-TOO_LARGE)
    with pytest.raises(LinesRefused) as failure:
        await ledger.write(lines)
    assert set(failure.value.reasons) == {"line-4", "line-7"}
    assert all(failure.value.reasons.values())
    assert set(await ledger.known([line.event_id for line in lines])) == {
        f"line-{number}" for number in (0, 1, 2, 3, 5, 6, 8)
    }


async def test_text_that_postgresql_cannot_hold_is_refused_there(postgres):
    async with empty_ledger(postgres) as engine:
        ledger = SqlLedger(engine)
        for text in ("a\0b", "\ud800"):
            with pytest.raises(LinesRefused) as failure:
                await ledger.write([a_line("good"), a_line("bad", requested_model=text)])
            assert set(failure.value.reasons) == {"bad"}
        assert set(await ledger.known(["good", "bad"])) == {"good"}


async def test_a_database_that_is_away_refuses_no_line(tmp_path):
    ledger = SqlLedger(open_engine(f"postgresql://nobody@127.0.0.1:{servers.free_port()}/none"))
    for asked in (ledger.write([a_line()]), ledger.known(["a"]), ledger.used_since(NOW), ledger.tally(NOW, NOW, NOW)):
        with pytest.raises(LedgerUnavailable):
            await asked


def _two():
    return {"pictures": 2, "price": 200_000}
