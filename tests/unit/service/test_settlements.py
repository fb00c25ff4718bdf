"""What was made is charged, however long the store and the disk are away; only the end of the process loses it."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC

import pytest

from gateway.adapters.spool import DiskSpool
from gateway.domain.errors import LedgerBehind
from gateway.domain.quota import calendar_of, shard_of
from gateway.domain.usage import Outcome
from gateway.service.backlog import Backlog
from gateway.service.ports import LedgerUnavailable, QuotaUnavailable, Settlement
from gateway.service.settlements import MOST_AT_ONCE
from tests.builders import NOW, a_claim, a_line
from tests.fakes import FakeObserver, settle
from tests.fakes_quota import Books, FakeQuotas, FakeSpool

pytestmark = pytest.mark.anyio
PROJECTS = ["proj_0", "proj_1", "proj_2"]


class Office:
    """The settlements on fakes, or with a spool of one's own."""

    def __init__(self, *on_disk, spool=None, most=100, in_memory=100):
        self.store, self.observer = FakeQuotas(), FakeObserver()
        self.spool = spool or FakeSpool(*on_disk)
        self.clock = self.store.memory.clock
        books = Books(self.store, self.spool, Backlog(most, self.observer), self.observer, most=in_memory)
        self.ledger, self.stream, self.outbox, self.settlements = (
            books.ledger, books.stream, books.outbox, books.settlements,
        )  # fmt: skip

    async def settle(self, number, project="proj_default"):
        await self.settlements.settle(a_settlement(number, project))

    async def crash(self, number):
        """Have the store lose a settlement that it took: it comes back as it was a second before."""
        taken = self.store.memory.shards[shard_of("proj_default")]._find(f"request-{number}")
        taken.state, taken.pictures = "held", taken.claim.pictures
        self.store.memory.shards[shard_of("proj_default")].lines.clear()

    async def live(self, seconds):
        """Let time pass, and what goes on beside come by."""
        self.clock.seconds += seconds
        await self.settlements.replay()
        with suppress(LedgerUnavailable):
            await self.settlements.review()

    async def carry(self, *, here=False):
        """Bring the lines of the store into the ledger; `here`: this replica does it."""
        await self.ledger.write(self.store.events)
        if here:
            self.outbox.told(self.store.events)


def a_settlement(number, project="proj_default"):
    claim = a_claim(f"request-{number}", project_id=project)
    event = a_line(f"request-{number}", project_id=project)
    return Settlement(reservation=FakeQuotas().assumed(claim), charged=1, event=event, since=NOW)


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
    office = Office(a_settlement(1, "proj_1"), a_settlement(2, "proj_2"))
    office.store.memory.lose(shard_of("proj_1"))
    office.ledger.down = True
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
    office.ledger.down = True
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


async def test_the_settlement_of_an_idle_project_refills_the_emptied_store_itself():
    """Nobody else may ever ask anything of that shard."""
    office = Office()
    office.store.memory.lose(shard_of("proj_1"))
    await office.settle(1, "proj_1")
    assert len(office.spool.settlements) == 1
    await office.settlements.replay()
    assert office.store.charged == {"request-1": 1}
    assert office.spool.settlements == []


class TestOld:
    """Settlements that wait for longer than the store knows a request after its end."""

    @pytest.fixture
    async def office(self):
        """One settlement was made without an answer, the other never was; then the store forgets both."""
        office = Office()
        office.store.mute = True
        await office.settle("made")
        office.store.mute, office.store.down = False, True
        await office.settle("lacking")
        office.store.down = False
        office.clock.seconds += 601
        return office

    async def test_the_ledger_says_which_were_made(self, office):
        await office.carry()
        await office.settlements.replay()
        assert office.store.charged == {"request-made": 1, "request-lacking": 1}
        assert [line.event_id for line in office.store.events] == ["request-made", "request-lacking"]
        assert office.spool.settlements == []

    async def test_nothing_is_made_while_lines_wait_for_the_ledger(self, office):
        office.stream.lines[shard_of("proj_default")]["1-0"] = a_line("request-made")
        await office.settlements.replay()
        assert (len(office.store.events), office.observer.backlog) == (1, 2)
        office.stream.lines.clear()
        await office.carry()
        await office.settlements.replay()
        assert len(office.store.events) == 2

    async def test_nothing_is_made_while_the_ledger_is_away(self, office):
        office.ledger.down = True
        await office.settlements.replay()
        assert len(office.spool.settlements) == 2

    async def test_a_line_that_says_less_does_not_keep_from_charging(self, office):
        await office.ledger.write([a_line("request-made"), a_line("request-lacking", Outcome.ABANDONED)])
        await office.settlements.replay()
        assert office.store.charged == {"request-made": 1, "request-lacking": 1}

    async def test_what_a_process_before_has_left_may_be_old(self):
        office = Office(replace(a_settlement(1), since=None))
        await office.ledger.write([a_line("request-1")])
        await office.settlements.replay()
        assert office.store.events == []
        assert office.spool.settlements == []


class Jammed(FakeSpool):
    """A disk that can be read and not changed."""

    jammed = True

    async def remove(self, settlement):
        if self.jammed:
            raise OSError("read-only file system")
        await super().remove(settlement)


async def test_a_file_that_cannot_be_removed_is_charged_once_and_told_once():
    office = Office(spool=Jammed(a_settlement(1), a_settlement(2)))
    for _ in range(5):
        await office.live(200)
    assert len(office.store.events) == 2
    assert [said[0].event.event_id for said in office.observer.all("settlement_stuck")] == ["request-1", "request-2"]
    office.spool.jammed = False
    await office.live(1)
    assert office.spool.settlements == []
    assert len(office.store.events) == 2


class TestLost:
    """What the store took, and lost with its last second."""

    @pytest.mark.parametrize("carried", ["not", "here", "elsewhere"])
    async def test_it_is_settled_again(self, carried):
        office = Office()
        await office.store.reserve(a_claim("request-1"))
        await office.settle(1)
        if carried != "not":
            await office.carry(here=carried == "here")
        await office.live(1)
        await office.crash(1)
        await office.live(1)
        assert office.store.charged == {"request-1": 1}
        assert list(office.store.holding) == []
        assert len(office.store.events) == 1

    async def test_it_is_kept_until_the_ledger_has_its_line_however_long_that_takes(self):
        office = Office()
        await office.settle(1)
        office.ledger.down = True
        for _ in range(20):
            await office.live(60)
        office.store.memory.lose(shard_of("proj_default"))
        office.ledger.down = False
        await office.store.refill(
            shard_of("proj_default"), calendar_of(round(NOW.timestamp() * 1000), UTC), {}, fresh=False
        )
        await office.outbox.settle_again(shard_of("proj_default"))
        assert office.store.charged == {"request-1": 1}
        await office.carry()
        await office.live(2)
        office.store.asked.clear()
        await office.outbox.settle_again(shard_of("proj_default"))
        assert office.store.asked == []

    @pytest.mark.parametrize(("outcome", "asked"), [(Outcome.DELIVERED, 0), (Outcome.ABANDONED, 1)])
    async def test_the_ledger_is_not_asked_for_lines_that_this_replica_has_brought_there(self, outcome, asked):
        office, questions = Office(), []
        await office.settle(1)
        office.ledger.known = lambda names, known=office.ledger.known: questions.extend(names) or known(names)
        line = replace(office.store.events[0], outcome=outcome)
        await office.ledger.write([line])
        office.outbox.told([line])
        await office.live(3)
        assert len(questions) == asked
        await office.outbox.close()
        assert len(office.spool.settlements) == asked  # a line that says less does not stand for it

    async def test_it_is_looked_for_when_the_store_is_back(self):
        office = Office()
        await office.settle(1)
        office.store.down = True
        with pytest.raises(QuotaUnavailable):
            await office.live(30)
        office.store.down = False
        await office.crash(1)
        await office.live(1)
        assert office.store.charged == {"request-1": 1}

    async def test_what_the_store_has_and_the_ledger_is_slow_to_take_is_not_charged_again(self):
        office = Office()
        await office.settle(1)
        for _ in range(30):
            await office.live(60)
        assert len(office.store.events) == 1

    async def test_more_than_memory_holds_wait_on_disk_and_leave_it_when_the_ledger_has_them(self):
        office = Office(in_memory=2)
        for number in range(5):
            await office.settle(number)
        assert [one.event.event_id for one in office.spool.settlements] == ["request-0", "request-1", "request-2"]
        office.stream.lines[shard_of("proj_default")] = dict(enumerate(office.store.events))
        await office.live(2)
        assert (len(office.spool.settlements), len(office.store.events), office.observer.backlog) == (3, 5, 0)
        office.stream.lines.clear()
        await office.carry()
        await office.live(2)
        assert (office.spool.settlements, len(office.store.events)) == ([], 5)

    async def test_what_waits_on_disk_for_the_ledger_is_looked_at_in_parts(self):
        office = Office(*(replace(a_settlement(number), confirmed=True) for number in range(10 * MOST_AT_ONCE)))
        office.ledger.down = True
        await office.settlements.replay()
        assert office.spool.read == MOST_AT_ONCE
        office.ledger.down = False
        await office.ledger.write([one.event for one in office.spool.settlements])
        for _ in range(10):
            await office.settlements.replay()
        assert (office.spool.settlements, office.store.events) == ([], [])

    async def test_at_the_end_what_the_ledger_lacks_goes_to_disk(self):
        office = Office()
        await office.settle(1)
        await office.carry()
        await office.settle(2)
        await office.outbox.close()
        assert [one.event.event_id for one in office.spool.settlements] == ["request-2"]
        later = Office(*office.spool.settlements)
        await later.live(0)
        assert later.store.charged == {"request-2": 1}

    async def test_at_the_end_without_the_ledger_all_goes_to_disk(self):
        office = Office()
        await office.settle(1)
        office.ledger.down = True
        with pytest.raises(LedgerUnavailable):
            await office.outbox.close()
        assert len(office.spool.settlements) == 1


class TestRefused:
    """Lines that the ledger can never hold, and that were put aside: they are charged once."""

    async def test_what_was_put_aside_is_not_kept(self):
        office = Office()
        await office.settle(1)
        await office.settle(2)
        office.stream.apart["request-1"] = "too large"
        await office.live(3)
        await office.outbox.close()
        assert [one.event.event_id for one in office.spool.settlements] == ["request-2"]

    async def test_what_a_process_before_has_left_is_not_charged_again(self):
        office = Office(replace(a_settlement(1), confirmed=True))
        office.stream.apart["request-1"] = "too large"
        await office.settlements.replay()
        assert office.store.events == office.spool.settlements == []

    async def test_without_an_answer_nothing_is_made_and_nothing_let_go(self):
        office = Office(replace(a_settlement(1), confirmed=True))
        office.stream.refusals_known = False
        await office.settlements.replay()
        assert office.store.events == []
        assert len(office.spool.settlements) == 1
