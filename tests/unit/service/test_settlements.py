"""What was made is charged, however long the store and the disk are away; only the end of the process loses it."""

import asyncio

import pytest

from gateway.adapters.spool import DiskSpool
from gateway.domain.errors import LedgerBehind
from gateway.domain.quota import shard_of
from gateway.service.backlog import Backlog
from gateway.service.ports import Settlement
from gateway.service.settlements import Settlements
from tests.builders import a_claim, a_line
from tests.fakes import FakeObserver, settle
from tests.fakes_quota import FakeQuotas, FakeSpool

pytestmark = pytest.mark.anyio
PROJECTS = ["proj_0", "proj_1", "proj_2"]


class Office:
    """The settlements on fakes, or with a spool of one's own."""

    def __init__(self, *on_disk, spool=None, most=100):
        self.store, self.observer = FakeQuotas(), FakeObserver()
        self.spool = spool or FakeSpool(*on_disk)
        self.settlements = Settlements(self.store, self.spool, Backlog(most, self.observer), self.observer)

    async def settle(self, number, project="proj_default"):
        done = a_settlement(number, project)
        await self.settlements.settle(done)


def a_settlement(number, project="proj_default"):
    claim = a_claim(f"request-{number}", project_id=project)
    event = a_line(f"request-{number}", project_id=project)
    return Settlement(reservation=FakeQuotas().assumed(claim), charged=1, event=event)


async def test_what_waits_on_disk_is_settled_and_then_forgotten():
    settlements = [a_settlement(1), a_settlement(2)]
    office = Office(*settlements)
    await office.settlements.replay()
    assert office.store.charged == {"request-1": 1, "request-2": 1}
    assert office.store.events == [settlement.event for settlement in settlements]
    assert office.spool.settlements == []


@pytest.mark.parametrize("trouble", ["down", "mute"])
async def test_without_the_store_the_disk_keeps_everything(trouble):
    settlements = [a_settlement(1), a_settlement(2)]
    office = Office(*settlements)
    setattr(office.store, trouble, True)
    await office.settlements.replay()
    assert office.spool.settlements == settlements
    assert office.observer.backlog == 2
    setattr(office.store, trouble, False)
    await office.settlements.replay()
    assert office.spool.settlements == []
    assert office.observer.backlog == 0
    assert office.store.charged == {"request-1": 1, "request-2": 1}
    assert len(office.store.events) == 2


async def test_a_settlement_that_was_made_after_all_charges_nothing_more():
    settlement = a_settlement(1)
    office = Office(settlement)
    await office.store.settle(settlement.reservation, settlement.charged, settlement.event)
    await office.settlements.replay()
    assert office.store.events == [settlement.event]
    assert office.spool.settlements == []


async def test_a_shard_that_cannot_settle_does_not_keep_the_others_settlements_waiting():
    """An emptied shard refuses settlements until a request refills it: that of an idle project may never come."""
    office = Office(a_settlement(1, "proj_1"), a_settlement(2, "proj_2"))
    office.store.memory.lose(shard_of("proj_1"))
    await office.settlements.replay()
    assert office.store.charged == {"request-2": 1}
    assert [settlement.event.event_id for settlement in office.spool.settlements] == ["request-1"]


async def test_too_many_settlements_on_disk_let_no_job_begin():
    office = Office(*map(a_settlement, range(3)), most=2)
    office.store.down = True
    office.settlements.refuse_when_behind()
    await office.settlements.replay()
    with pytest.raises(LedgerBehind):
        office.settlements.refuse_when_behind()
    office.store.down = False
    await office.settlements.replay()
    office.settlements.refuse_when_behind()


class Disk:
    """A spool whose folder cannot be made while a file of its name is there: what root may not do either."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "spool"
        self.path.touch()
        self.office = Office(spool=DiskSpool(self.path))

    def mend(self):
        self.path.unlink()

    def files(self):
        return sorted(path.stem for path in self.path.glob("*.json"))


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


@pytest.mark.parametrize("trouble", ["down", "mute"])
async def test_a_settlement_that_the_disk_refuses_is_made_when_the_store_is_back(disk, trouble):
    office = disk.office
    setattr(office.store, trouble, True)
    for number, project in enumerate(PROJECTS):
        await office.settle(number, project)
    [(first, reason), *_] = office.observer.all("settlement_unsaved")
    assert first.event.event_id == "request-0"
    assert "spool" in reason
    assert office.observer.unsaved == 3
    await office.settlements.replay()
    assert (office.observer.unsaved, office.observer.backlog) == (3, 3)
    setattr(office.store, trouble, False)
    await office.settlements.replay()
    assert (office.observer.unsaved, office.observer.backlog) == (0, 0)
    assert office.store.charged == {f"request-{number}": 1 for number in range(3)}
    assert len(office.store.events) == 3
    await office.settlements.give_up()
    assert office.observer.all("settlement_lost") == []


async def test_a_disk_that_is_mended_gets_what_was_in_memory(disk):
    office = disk.office
    office.store.down = True
    for number, project in enumerate(PROJECTS):
        await office.settle(number, project)
    disk.mend()
    await office.settlements.replay()
    assert disk.files() == ["request-0", "request-1", "request-2"]
    assert (office.observer.unsaved, office.observer.backlog) == (0, 3)
    await office.settlements.give_up()
    assert office.observer.all("settlement_lost") == []
    office.store.down = False
    await office.settlements.replay()
    assert len(office.store.events) == 3
    assert disk.files() == []


async def test_at_the_end_it_is_tried_a_last_time_and_what_is_lost_is_told(disk):
    office = disk.office
    office.store.down = True
    await office.settle(1, "proj_1")
    await office.settle(2, "proj_2")
    office.store.down = False
    office.store.memory.lose(shard_of("proj_1"))
    await office.settlements.give_up()
    assert office.store.charged == {"request-2": 1}
    [[lost]] = office.observer.all("settlement_lost")
    assert lost == a_settlement(1, "proj_1")


@pytest.mark.parametrize("ticks", range(4))
async def test_a_settlement_that_is_cut_off_by_a_stop_is_made_at_the_end(ticks):
    """At the end of server.drain_seconds every job is cancelled, also one that waits for the store's answer."""
    office, gate = Office(), asyncio.Event()
    make = office.store.settle

    async def hang(*words):
        await gate.wait()
        await make(*words)

    office.store.settle = hang
    task = asyncio.create_task(office.settle(1))
    await settle(ticks)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gate.set()
    await office.settlements.give_up()
    assert office.store.charged == ({"request-1": 1} if ticks else {})
