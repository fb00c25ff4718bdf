"""One write for the lines of all who have some: a transaction costs a hundred times what a line does."""

import asyncio

import pytest

from gateway.domain.quota import shard_of
from gateway.service.backlog import Backlog
from gateway.service.metering import Metering
from gateway.service.ports import LedgerUnavailable
from gateway.service.shared_writes import MOST, SharedWrites
from tests.builders import a_line
from tests.fakes import FakeObserver, settle
from tests.fakes_quota import FakeLedger, FakeUsageStream

pytestmark = pytest.mark.anyio


class SlowLedger(FakeLedger):
    """Knows what was written together; each write ends when it is let."""

    def __init__(self):
        super().__init__()
        self.writes, self.let = [], asyncio.Semaphore(0)

    async def write(self, events):
        self.writes.append([event.event_id for event in events])
        await self.let.acquire()
        await super().write(events)


class Desk:
    """Several who write to one ledger."""

    def __init__(self):
        self.ledger = SlowLedger()
        self.writes = SharedWrites(self.ledger)

    async def begin(self, *names, **changes):
        """Begin to write lines, one task for each."""
        tasks = [asyncio.create_task(self.writes.write([a_line(name, **changes)])) for name in names]
        await settle()
        return tasks

    def let_all(self):
        for _ in range(100):
            self.ledger.let.release()


async def test_a_line_in_each_of_many_shards_takes_one_write():
    lines = [a_line(f"line-{number}", project_id=f"proj_{number}") for number in range(200)]
    stream, ledger, observer = FakeUsageStream(*lines, most=1000), SlowLedger(), FakeObserver()
    ledger.let.release()
    assert len({shard_of(line.project_id) for line in lines}) > 50
    async with asyncio.timeout(5):
        assert await Metering(stream, ledger, Backlog(1000, observer), observer, list).drain() == len(lines)
    assert [len(write) for write in ledger.writes] == [len(lines)]
    assert stream.all() == []


async def test_who_comes_while_others_write_has_part_in_the_next():
    desk = Desk()
    first = await desk.begin("a", "b")
    later = await desk.begin("c", "d", "e")
    desk.let_all()
    assert await asyncio.gather(*first, *later) == [{}] * 5
    assert desk.ledger.writes == [["a", "b"], ["c", "d", "e"]]


async def test_a_write_has_so_many_lines_and_a_share_more_at_most():
    desk = Desk()
    desk.let_all()
    lines = [a_line(f"line-{number}") for number in range(3 * MOST)]
    await asyncio.gather(*(desk.writes.write(lines[at : at + 600]) for at in range(0, len(lines), 600)))
    assert [len(write) for write in desk.ledger.writes] == [1200, 1200, 600]
    assert len(desk.ledger.lines) == len(lines)


async def test_all_are_told_that_the_ledger_is_away_and_the_next_may_do_better():
    desk = Desk()
    desk.let_all()
    desk.ledger.down = True
    told = await asyncio.gather(*await desk.begin("a", "b"), return_exceptions=True)
    assert [type(failure) for failure in told] == [LedgerUnavailable] * 2
    desk.ledger.down = False
    assert await asyncio.gather(*await desk.begin("a", "b")) == [{}] * 2
    assert set(desk.ledger.lines) == {"a", "b"}


async def test_a_line_that_can_never_be_held_is_told_and_holds_up_nobody():
    desk = Desk()
    first, good, bad = [await desk.begin("first"), await desk.begin("good"), await desk.begin("bad", cost=2**70)]
    desk.let_all()
    [refused] = await asyncio.gather(*bad)
    assert refused == {"bad": "too large"}
    await asyncio.gather(*first, *good)
    assert set(desk.ledger.lines) == {"first", "good"}
    assert desk.ledger.writes == [["first"], ["good", "bad"]]


async def test_who_leaves_while_it_writes_leaves_the_others_lines_to_them():
    desk = Desk()
    first, other, third = await desk.begin("a", "b", "c")
    first.cancel()
    await settle()
    third.cancel()
    desk.let_all()
    assert await other == {}
    assert desk.ledger.writes == [["a", "b", "c"], ["b", "c"]]
    assert {"b"} <= set(desk.ledger.lines)
    assert await asyncio.gather(*await desk.begin("d")) == [{}]
    assert desk.ledger.writes[-1] == ["d"]


async def test_a_defect_is_told_to_each_and_ends_nothing():
    desk = Desk()
    desk.let_all()
    write = desk.ledger.write
    desk.ledger.write = None
    told = await asyncio.gather(*await desk.begin("a", "b"), return_exceptions=True)
    assert [type(failure) for failure in told] == [TypeError] * 2
    desk.ledger.write = write
    assert await asyncio.gather(*await desk.begin("a")) == [{}]
