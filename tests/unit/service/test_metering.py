"""Lines reach the ledger exactly once in effect: written first, forgotten after; and what waits on disk is made up."""

from dataclasses import replace

import pytest

from gateway.domain.quota import shard_of
from gateway.domain.usage import Outcome
from gateway.service.metering import Metering
from gateway.service.ports import Settlement
from tests.builders import a_claim, a_line
from tests.fakes_quota import FakeLedger, FakeQuotas, FakeSpool, FakeUsageStream

pytestmark = pytest.mark.anyio

LINES = [a_line(f"request-{number}", project_id=f"proj_{number % 3}") for number in range(9)]


class Office:
    """The metering on fakes."""

    def __init__(self, *lines, settlements=()):
        self.stream, self.ledger, self.store = FakeUsageStream(*lines), FakeLedger(), FakeQuotas()
        self.spool = FakeSpool(*settlements)
        self.metering = Metering(self.stream, self.ledger, self.spool, self.store)

    def written(self):
        return sorted(self.ledger.lines)


def a_settlement(number, project="proj_default"):
    claim = a_claim(f"request-{number}", project_id=project)
    event = a_line(f"request-{number}", project_id=project)
    return Settlement(reservation=FakeQuotas().assumed(claim), charged=1, event=event)


async def test_every_line_of_every_shard_is_carried_over():
    office = Office(*LINES)
    assert await office.metering.drain() == len(LINES)
    assert office.ledger.lines == {line.event_id: line for line in LINES}
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


async def test_what_waits_on_disk_is_settled_and_then_forgotten():
    settlements = [a_settlement(1), a_settlement(2)]
    office = Office(settlements=settlements)
    await office.metering.carry()
    assert office.store.charged == {"request-1": 1, "request-2": 1}
    assert office.store.events == [settlement.event for settlement in settlements]
    assert office.spool.settlements == []


@pytest.mark.parametrize("trouble", ["down", "mute"])
async def test_without_the_store_the_disk_keeps_everything(trouble):
    settlements = [a_settlement(1), a_settlement(2)]
    office = Office(*LINES, settlements=settlements)
    setattr(office.store, trouble, True)
    await office.metering.carry()
    assert office.spool.settlements == settlements
    assert len(office.written()) == len(LINES)
    setattr(office.store, trouble, False)
    await office.metering.carry()
    assert office.spool.settlements == []
    assert office.store.charged == {"request-1": 1, "request-2": 1}
    assert len(office.store.events) == 2


async def test_a_settlement_that_was_made_after_all_charges_nothing_more():
    settlement = a_settlement(1)
    office = Office(settlements=[settlement])
    await office.store.settle(settlement.reservation, settlement.charged, settlement.event)
    await office.metering.carry()
    assert office.store.events == [settlement.event]
    assert office.spool.settlements == []


async def test_a_shard_that_cannot_settle_does_not_keep_the_others_settlements_waiting():
    """An emptied shard refuses settlements until a request refills it: that of an idle project may never come."""
    office = Office(settlements=[a_settlement(1, "proj_1"), a_settlement(2, "proj_2")])
    office.store.emptied = {shard_of("proj_1")}
    await office.metering.carry()
    assert office.store.charged == {"request-2": 1}
    assert [settlement.event.event_id for settlement in office.spool.settlements] == ["request-1"]
