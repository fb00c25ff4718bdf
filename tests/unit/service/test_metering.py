"""Lines reach the ledger exactly once in effect: written first, forgotten after."""

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.errors import LedgerBehind
from gateway.domain.quota import shard_of
from gateway.domain.usage import Outcome
from gateway.service.backlog import Backlog
from gateway.service.metering import Metering
from tests.builders import a_line
from tests.fakes import FakeObserver, settle
from tests.fakes_quota import FakeLedger, FakeUsageStream

pytestmark = pytest.mark.anyio

LINES = [a_line(f"request-{number}", project_id=f"proj_{number % 3}") for number in range(9)]


class Office:
    """The metering on fakes."""

    def __init__(self, *lines):
        self.stream, self.ledger, self.observer = FakeUsageStream(*lines), FakeLedger(), FakeObserver()
        self.backlog = Backlog(5, self.observer)
        self.told = []
        self.metering = Metering(self.stream, self.ledger, self.backlog, self.observer, self.told.extend)

    def written(self):
        return sorted(self.ledger.lines)


async def test_every_line_of_every_shard_is_carried_over():
    office = Office(*LINES)
    assert await office.metering.drain() == len(LINES)
    assert office.ledger.lines == {line.event_id: line for line in LINES}
    assert sorted(line.event_id for line in office.told) == sorted(office.ledger.lines)
    assert office.stream.all() == []
    assert await office.metering.drain() == 0


async def test_a_line_is_forgotten_only_when_it_is_written():
    office = Office(*LINES)
    remove = office.stream.remove

    async def remove_what_is_written(shard, positions):
        lines = {office.stream.lines[shard][position].event_id for position in positions}
        assert lines <= set(office.ledger.lines)
        await remove(shard, positions)

    office.stream.remove = remove_what_is_written
    assert await office.metering.drain() == len(LINES)


async def test_without_the_ledger_every_line_stays():
    office = Office(*LINES)
    office.ledger.down = True
    assert await office.metering.drain() == 0
    assert office.ledger.lines == {}
    assert office.told == []
    assert sorted(line.event_id for line in office.stream.all()) == sorted(line.event_id for line in LINES)
    office.ledger.down = False
    assert await office.metering.drain() == len(LINES)
    assert len(office.written()) == len(LINES)


async def test_a_line_that_the_ledger_can_never_hold_does_not_hold_up_the_others():
    poison = replace(LINES[3], cost=2**70)
    office = Office(*LINES[:3], poison, *LINES[4:])
    assert await office.metering.drain() == len(LINES)
    assert office.written() == sorted(line.event_id for line in LINES if line.event_id != poison.event_id)
    assert office.stream.all() == []
    assert office.stream.apart == {poison.event_id: "too large"}
    assert poison not in office.told


async def test_a_line_that_could_not_be_forgotten_is_written_again_and_counts_once():
    office = Office(*LINES)
    office.stream.forgets = False
    await office.metering.drain()
    assert len(office.stream.all()) == len(LINES)
    office.stream.forgets = True
    assert await office.metering.drain() == len(LINES)
    assert office.written() == sorted(line.event_id for line in LINES)


async def test_a_shard_that_gives_no_answer_does_not_keep_the_others_waiting():
    office = Office(*LINES)
    down = shard_of("proj_1")
    office.stream.down = {down}
    kept = [line for line in LINES if shard_of(line.project_id) == down]
    assert await office.metering.drain() == len(LINES) - len(kept)
    assert office.written() == sorted(line.event_id for line in LINES if line not in kept)
    assert office.stream.all() == kept


async def test_a_known_outcome_replaces_an_abandoned_one_and_never_the_other_way():
    one, other = a_line("request-1", Outcome.ABANDONED), a_line("request-1", Outcome.DELIVERED, price=5)
    for lines in ([one, other], [other, one]):
        office = Office(*lines)
        await office.metering.drain()
        assert office.ledger.lines == {"request-1": other}


async def test_a_shard_that_another_replica_carries_is_left_to_it():
    office = Office(*LINES)
    shard = shard_of("proj_1")
    office.stream.elsewhere = {shard}
    kept = [line for line in LINES if shard_of(line.project_id) == shard]
    assert await office.metering.drain() == len(LINES) - len(kept)
    assert office.stream.all() == kept
    assert office.observer.backlog == len(kept)


async def test_nobody_takes_a_turn_where_nothing_waits():
    office, turns = Office(*LINES), []
    turn = office.stream.turn
    office.stream.turn = lambda shard: turns.append(shard) or turn(shard)
    await office.metering.drain()
    assert sorted(turns) == sorted({shard_of(line.project_id) for line in LINES})
    await office.metering.drain()
    assert len(turns) == 3


async def test_the_backlog_is_known_while_a_drain_hangs():
    """SQL that hangs: the drain does not come to an end, and what waits grows."""
    office, gate = Office(*LINES[:3]), asyncio.Event()
    write = office.ledger.write

    async def hang(events):
        await gate.wait()
        await write(events)

    office.ledger.write = hang
    draining = asyncio.create_task(office.metering.drain_when_due())
    await office.metering.measure()
    await settle()
    for number, line in enumerate(LINES[3:]):
        office.stream.lines[shard_of(line.project_id)][f"{number}-9"] = line
    assert office.backlog.lines == 3
    await office.metering.measure()
    assert office.backlog.lines == len(LINES)
    with pytest.raises(LedgerBehind, match=r"9 usage records.*ledger\.max_backlog \(5\).*operator"):
        office.backlog.refuse_when_full()
    gate.set()
    await draining
    assert office.backlog.lines == office.observer.backlog == 0
    office.backlog.refuse_when_full()


async def test_a_shard_that_gives_no_answer_counts_as_before():
    office = Office(*LINES)
    office.ledger.down = True
    await office.metering.drain()
    office.stream.down = {shard_of(line.project_id) for line in LINES}
    await office.metering.measure()
    assert office.backlog.lines == len(LINES)


async def test_a_database_that_is_away_is_told():
    office = Office(*LINES)
    office.ledger.down = True
    await office.metering.drain()
    assert ["LedgerUnavailable", "the database is down"] in office.observer.all("outage")
