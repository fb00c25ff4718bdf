"""A replica and the store of slots agree in the end, in whatever order their words arrive."""

import asyncio
from dataclasses import replace

import pytest

from gateway.domain import errors
from gateway.domain.slots import Gone, Granted, Park, Seat, Ticket
from gateway.service.desk import Desk
from gateway.service.jobs import Jobs
from gateway.service.model_queue import FOREIGN_PAUSE, ModelQueue
from gateway.service.ports_slots import SlotsUnavailable
from tests.fakes import FakeClock, settle
from tests.slots_memory import FakeSlots, SlotMemory

pytestmark = pytest.mark.anyio
MODEL = "glm-image"


class Line(FakeSlots):
    """A store whose answers to `enter` wait for `gate`; with `lost` they never arrive."""

    def __init__(self, memory, owner="owner"):
        super().__init__(memory, owner)
        self.gate = asyncio.Event()
        self.gate.set()
        self.lost = False

    async def enter(self, model, seats, tickets):
        standing = await super().enter(model, seats, tickets)
        await self.gate.wait()
        if self.lost:
            raise SlotsUnavailable("the answer was lost")
        return standing


def a_seat(limit=1, fingerprint="key"):
    return Seat(name="main", account="main", limit=limit, weight=1, fingerprint=fingerprint)


class Replica:
    """A model's queue on a store."""

    def __init__(self, *, owner="owner", memory=None, without=False, seat=None, seats=None):
        self.clock = FakeClock()
        self.crashes = []
        self.memory = memory or SlotMemory(lambda: self.clock.now().timestamp())
        self.store = Line(self.memory, owner)
        self.seat = seat or a_seat()
        desk = Desk(store=self.store, clock=self.clock, errands=Jobs(self.crashes.append), without=without)
        self.queue = ModelQueue(MODEL, seats or [self.seat], desk)
        self.store.told = self.queue.granted

    async def take(self, name, seconds=30.0):
        """Begin to wait for a slot."""
        ticket = Ticket(id=name, project="default", weight=1, group=name)
        task = asyncio.create_task(self.queue.take(ticket, seconds))
        await settle()
        return task

    async def give(self, name):
        self.queue.give(Gone(ticket=name))
        await settle()

    @property
    def held(self):
        """What the store holds of all replicas: whether each has a slot."""
        return {name: held.seat is not None for name, held in self.memory.line(MODEL).tickets.items()}


@pytest.fixture
async def replica():
    made = Replica()
    yield made
    assert made.crashes == []


async def test_who_leaves_before_the_store_has_answered_leaves_nothing_there(replica):
    replica.store.gate.clear()
    first, second = await replica.take("first"), await replica.take("second")
    assert replica.held == {"first": True, "second": False}
    for task in (first, second):
        task.cancel()
    await settle()
    replica.store.gate.set()
    await settle()
    assert replica.held == {}


async def test_who_leaves_in_the_turn_in_which_it_came_never_enters(replica):
    ticket = Ticket(id="one", project="default", weight=1, group="one")
    task = asyncio.create_task(replica.queue.take(ticket, 30.0))
    await asyncio.sleep(0)
    task.cancel()
    await settle()
    assert replica.held == {}


async def test_a_slot_may_be_there_before_the_answer_that_one_waits(replica):
    other = Replica(owner="other", memory=replica.memory)
    await other.take("theirs")
    replica.store.gate.clear()
    task = await replica.take("mine")
    await other.give("theirs")
    seat, place = await task
    assert (seat.name, replica.held) == ("main", {"mine": True})
    replica.store.gate.set()
    await settle()
    assert replica.held == {"mine": True}
    await replica.give("mine")
    assert replica.held == {}
    assert place > 0


async def test_what_has_come_and_gone_before_the_answer_is_not_held_by_it(replica):
    replica.store.gate.clear()
    task = await replica.take("mine")
    replica.queue.granted({"mine": Granted(seat="main", place=1, fingerprint="key")})
    await task
    await replica.give("mine")
    replica.store.gate.set()
    await settle()
    assert replica.held == {}
    assert (await (await replica.take("next")))[0].name == "main"


async def test_a_slot_for_one_who_waits_no_more_goes_to_the_next(replica):
    tasks = [await replica.take(name) for name in ("first", "second", "third")]
    tasks[1].cancel()
    replica.queue.give(Gone(ticket="first"))
    await settle()
    assert tasks[2].done()
    assert replica.held == {"third": True}


async def test_without_an_answer_the_request_is_refused_and_its_place_given_back(replica):
    replica.store.lost = True
    task = await replica.take("one")
    with pytest.raises(errors.QuotaStoreDown):
        await task
    await settle()
    assert replica.held == {}


async def test_a_place_is_given_back_when_the_store_can_be_reached_again(replica):
    await replica.take("one")
    replica.store.down = True
    await replica.give("one")
    assert replica.held == {"one": True}
    replica.store.down = False
    await settle()
    assert replica.held == {}


async def test_without_the_store_a_replica_counts_for_itself_if_it_may():
    replica = Replica(without=True)
    replica.store.down = True
    first, second = await replica.take("first"), await replica.take("second")
    assert (first.done(), second.done()) == (True, False)
    await replica.give("first")
    assert second.done()


@pytest.mark.parametrize(("whole", "seconds", "used"), [(False, 0, "second"), (True, 0, "third"), (True, 61, "first")])
async def test_what_is_left_alone_is_so_without_the_store_too_until_its_time(whole, seconds, used):
    names = {"first": "shared", "second": "shared", "third": "own"}
    seats = [replace(a_seat(fingerprint=name), name=name, account=account) for name, account in names.items()]
    replica = Replica(without=True, seats=seats)
    until = round(replica.clock.now().timestamp() * 1000) + 60_000
    replica.store.down = True
    await replica.queue.park(Park(seat="first", code="1113", until=until, whole=whole), seats[0])
    replica.clock.seconds += seconds
    assert (await (await replica.take("one")))[0].name == used


async def test_without_the_store_a_picture_that_was_turned_away_is_tried_again():
    replica = Replica(without=True)
    replica.store.down = True
    _, place = await (await replica.take("one"))
    replica.queue.give(Gone(ticket="one", how="rate"))
    ticket = Ticket(id="again", project="default", weight=1, group="one", place=place or 1)
    assert (await replica.queue.take(ticket, 10.0))[0].name == "main"


async def test_without_the_store_nobody_waits_for_what_is_left_alone():
    replica = Replica(without=True)
    replica.store.down = True
    await replica.queue.park(Park(seat="main", code="401", until=0, whole=False), a_seat())
    with pytest.raises(errors.AccountUnusable, match="key is not valid"):
        await (await replica.take("one"))


@pytest.mark.parametrize(("lenient", "used"), [({"first"}, "second"), ({"first", "second"}, "first")])
async def test_without_the_store_a_lenient_park_holds_while_there_is_another_seat(lenient, used):
    seats = [replace(a_seat(fingerprint=name), name=name, account=name) for name in ("first", "second")]
    replica = Replica(without=True, seats=seats)
    replica.store.down = True
    until = round(replica.clock.now().timestamp() * 1000) + 60_000
    for seat in seats:
        if seat.name in lenient:
            await replica.queue.park(Park(seat=seat.name, code="", until=until, whole=False, lenient=True), seat)
    assert (await (await replica.take("one")))[0].name == used


async def test_who_waits_in_a_store_that_goes_away_is_served_without_it_if_that_may_be():
    replica = Replica(without=True)
    await replica.take("first")
    second = await replica.take("second")
    replica.store.down = True
    for look in (replica.queue.bury, replica.queue.tend):
        with pytest.raises(SlotsUnavailable):
            await look()
    await settle()
    assert not second.done()
    await replica.give("first")
    assert second.done()
    replica.store.down = False
    await replica.give("second")
    await settle()
    assert replica.held == {}


async def test_what_runs_without_the_store_is_counted_there_when_it_is_back():
    replica = Replica(without=True)
    replica.store.down = True
    task = await replica.take("one")
    assert task.done()
    replica.store.down = False
    await replica.queue.tend()
    for _ in range(3):
        await settle()
    assert replica.held == {"one": True}
    other = Replica(owner="other", memory=replica.memory)
    assert not (await other.take("theirs")).done()


async def test_a_slot_of_a_key_that_is_not_known_here_is_given_back_and_asked_for_again():
    replica = Replica()
    changed = Replica(owner="changed", memory=replica.memory, seat=a_seat(fingerprint="another key"))
    await changed.take("theirs")
    task = await replica.take("mine")
    place = replica.memory.line(MODEL).tickets["mine"].place
    await changed.give("theirs")
    assert await task == (replica.seat, place)
    assert FOREIGN_PAUSE in replica.clock.slept
    assert replica.held == {"mine": True}


async def test_what_the_store_has_lost_is_brought_back(replica):
    tasks = [await replica.take(name) for name in ("first", "second", "third")]
    before = {name: held.place for name, held in replica.memory.line(MODEL).tickets.items()}
    replica.memory.lose()
    await replica.queue.tend()
    await settle()
    assert replica.held == {"first": True, "second": False, "third": False}
    assert {name: held.place for name, held in replica.memory.line(MODEL).tickets.items()} == before
    await replica.give("first")
    assert [task.done() for task in tasks] == [True, True, False]


async def test_what_has_ended_while_it_was_brought_back_is_not_held(replica):
    await replica.take("one")
    replica.memory.lose()
    replica.store.gate.clear()
    await replica.queue.tend()
    await settle()
    assert replica.held == {"one": True}
    await replica.give("one")
    replica.store.gate.set()
    await settle()
    assert replica.held == {}


async def test_what_the_store_holds_and_nobody_wants_is_given_back(replica):
    stranger = Ticket(id="stranger", project="default", weight=1, group="stranger")
    await replica.store.enter(MODEL, [replica.seat], [stranger])
    await replica.queue.tend()  # more than is known
    assert replica.held == {"stranger": True}
    await replica.queue.tend()
    await settle()
    assert replica.held == {}


async def test_a_slot_that_was_told_to_nobody_is_found_at_the_next_look(replica):
    other = Replica(owner="other", memory=replica.memory)
    await other.take("theirs")
    task = await replica.take("mine")
    replica.store.told = lambda _: None
    await other.give("theirs")
    assert not task.done()
    await replica.queue.tend()
    assert (await task)[0].name == "main"


async def test_a_slot_that_came_while_the_process_stood_still_is_not_used_when_others_have_it(replica):
    """What was told before its lease ended is read after it: the slot is taken by another replica meanwhile."""
    other = Replica(owner="other", memory=replica.memory)
    await other.take("theirs")
    task, heard = await replica.take("mine"), {}
    replica.store.told = heard.update
    await other.give("theirs")
    replica.memory.dead.add("owner")
    await other.queue.bury()
    assert (await other.take("next")).done()
    replica.clock.seconds += 60.0
    replica.queue.granted(heard)
    await settle()
    assert not task.done()
    assert replica.held == {"next": True, "mine": False}
    replica.store.told = replica.queue.granted
    await other.give("next")
    assert (await task)[0].name == "main"


async def test_a_slot_that_came_while_the_process_stood_still_is_used_when_it_is_still_its_own(replica):
    other = Replica(owner="other", memory=replica.memory)
    await other.take("theirs")
    task = await replica.take("mine")
    replica.clock.seconds += 60.0
    replica.store.down = True
    await other.give("theirs")
    await settle()
    assert not task.done()
    replica.store.down = False
    await replica.queue.tend()
    assert (await task)[0].name == "main"
    assert replica.held == {"mine": True}


async def test_an_answer_that_waited_for_the_process_is_not_taken_for_granted(replica):
    replica.store.gate.clear()
    task = await replica.take("mine")
    replica.memory.lose()
    other = Replica(owner="other", memory=replica.memory)
    assert (await other.take("theirs")).done()
    replica.clock.seconds += 60.0
    replica.store.gate.set()
    await settle()
    assert not task.done()
    await other.give("theirs")
    assert (await task)[0].name == "main"


async def test_who_waits_too_long_is_gone_from_the_store(replica):
    await replica.take("first")
    late = await replica.take("late", seconds=0.01)
    with pytest.raises(TimeoutError):
        await late
    await settle()
    assert replica.held == {"first": True}


async def test_who_waits_already_is_not_refused_while_the_store_is_away(replica):
    other = Replica(owner="other", memory=replica.memory)
    await other.take("theirs")
    task = await replica.take("mine")
    replica.memory.lose()
    await other.queue.tend()
    await settle()
    replica.store.lost = True
    await replica.queue.tend()
    await settle()
    assert not task.done()
    replica.store.lost = False
    await replica.queue.tend()
    await settle()
    await other.give("theirs")
    await replica.queue.tend()
    assert (await task)[0].name == "main"


async def test_giving_back_late_takes_no_slot_from_who_runs():
    replica, pause = Replica(without=True), asyncio.Event()
    replica.clock.sleep = lambda _: pause.wait()
    replica.store.down = True
    assert (await replica.take("one")).done()
    replica.store.down = False
    await replica.queue.tend()
    await settle()
    assert replica.held == {"one": True}
    pause.set()
    await settle()
    assert replica.held == {"one": True}
