"""The slot store: never more calls in flight than an account lets, and everybody gets their fair turn."""

from collections import Counter
from functools import partial

import pytest

from gateway.domain.slots import Gone, Park, Ticket
from tests.ports.quota_stores import START
from tests.ports.slot_stores import LONGEST, LONGEST_CALL, a_seat, memory_shop, redis_shop

pytestmark = pytest.mark.anyio
NOW = round(START.timestamp() * 1000)


@pytest.fixture(params=["memory", "valkey", "real_redis", "cluster", "sentinel"])
def open_shop(request):
    return memory_shop if request.param == "memory" else partial(redis_shop, request.getfixturevalue(request.param))


class Desk:
    """A model's queue as one replica uses it."""

    def __init__(self, shop, *seats, owner="owner"):
        self.shop = shop
        self.seats = seats or (a_seat(),)
        self.store = shop.replica(owner)
        self.holding = {}

    async def enter(self, *tickets):
        standing = await self.store.enter(self.shop.model, self.seats, tickets)
        return self._noted(standing)

    async def leave(self, *gone):
        for one in gone:
            self.holding.pop(one.ticket, None)
        return self._noted(await self.store.leave(self.shop.model, self.seats, gone))

    async def tend(self, *waiting, names=False):
        return self._noted(await self.store.tend(self.shop.model, self.seats, waiting, names=names))

    async def one(self, ticket, **gone):
        """Give a slot back, and name who has it next."""
        standing = await self.leave(Gone(ticket=ticket, **gone))
        return [*standing.granted]

    async def park(self, seat, until=0, *, code="1113", **more):
        park = Park(**{"seat": seat.name, "code": code, "until": until, "whole": True, **more})
        await self.store.park(self.shop.model, seat, park)

    def _noted(self, standing):
        self.holding |= {ticket: grant.seat for ticket, grant in standing.granted.items()}
        return standing


@pytest.fixture
async def shop(open_shop):
    async with open_shop() as opened:
        yield opened


@pytest.fixture
async def queue(shop):
    return Desk(shop)


def a_ticket(name, project="a", **changes):
    return Ticket(**{"id": name, "project": project, "weight": 1, "group": name, **changes})


def tickets(project, count, weight=1):
    return [a_ticket(f"{project}{number}", project, weight=weight) for number in range(count)]


async def serve(queue, count):
    """Let so many calls end, one after the other; the tickets that got slots, in their order."""
    served = []
    for _ in range(count):
        [held] = queue.holding
        served += await queue.one(held)
    return served


async def test_a_free_slot_is_given_at_once_and_the_next_waits(queue):
    first = await queue.enter(a_ticket("one"))
    assert first.granted["one"].seat == "main"
    second = await queue.enter(a_ticket("two"))
    assert second.granted == {}
    assert second.waiting["two"] > first.granted["one"].place
    assert await queue.one("one") == ["two"]
    assert await queue.one("two") == []


async def test_within_a_project_it_is_first_come_first_served(queue):
    await queue.enter(*tickets("a", 6))
    assert await serve(queue, 5) == ["a1", "a2", "a3", "a4", "a5"]


async def test_an_account_never_has_more_calls_than_it_lets(shop):
    queue = Desk(shop, a_seat("large", 3), a_seat("small", 1))
    await queue.enter(*tickets("a", 10))
    assert Counter(queue.holding.values()) == {"large": 3, "small": 1}
    for _ in range(6):
        await queue.one(next(iter(queue.holding)))
        assert Counter(queue.holding.values()) == {"large": 3, "small": 1}


async def test_keys_of_one_account_share_its_slots(shop):
    queue = Desk(shop, a_seat("first", 2, account="both"), a_seat("second", 2, account="both"))
    await queue.enter(*tickets("a", 5))
    assert len(queue.holding) == 2
    assert set(queue.holding.values()) == {"first", "second"}


async def test_accounts_take_their_share_by_weight(shop):
    queue = Desk(shop, a_seat("heavy", 1, weight=3), a_seat("light", 1))
    shares = Counter()
    for number in range(40):
        await queue.enter(a_ticket(f"t{number}"))
        shares.update(queue.holding.values())
        await queue.one(f"t{number}")
    assert shares == {"heavy": 30, "light": 10}


async def test_who_comes_to_a_flooded_queue_waits_for_one_more_at_most(queue):
    await queue.enter(*tickets("a", 15))
    await serve(queue, 2)
    await queue.enter(a_ticket("b0", "b"))
    assert "b0" in await serve(queue, 2)


async def test_with_equal_weights_each_other_project_comes_before_at_most_once(queue):
    for project in "abcd":
        await queue.enter(*tickets(project, 4))
    await serve(queue, 3)
    await queue.enter(a_ticket("z0", "z"))
    served = await serve(queue, 5)
    before = Counter(ticket[0] for ticket in served[: served.index("z0")])
    assert max(before.values(), default=0) <= 1


async def test_flooding_projects_share_by_weight(queue):
    for project, weight in (("a", 1), ("b", 2), ("c", 3)):
        await queue.enter(*tickets(project, 6 * weight, weight)[:6])
    served = []
    for number in range(60):
        [ticket] = await serve(queue, 1)
        served.append(ticket[0])
        weight = {"a": 1, "b": 2, "c": 3}[ticket[0]]
        await queue.enter(a_ticket(f"{ticket[0]}-{number}", ticket[0], weight=weight))
    assert {project: round(count / 10) for project, count in Counter(served).items()} == {"a": 1, "b": 2, "c": 3}


async def test_a_project_saves_up_no_turns_while_it_sends_nothing(queue):
    await queue.enter(*tickets("a", 12))
    await serve(queue, 6)
    await queue.enter(*tickets("b", 6))
    served = await serve(queue, 6)
    assert Counter(ticket[0] for ticket in served)["a"] >= 3


async def test_who_leaves_the_queue_is_passed_over_and_holds_nobody_up(queue):
    await queue.enter(a_ticket("held", "x"), *tickets("a", 3), a_ticket("b0", "b"))
    await queue.leave(Gone(ticket="a0"), Gone(ticket="a2"))
    assert sorted(await serve(queue, 2)) == ["a1", "b0"]
    assert (await queue.tend()).held == 1


async def test_entering_and_leaving_twice_is_doing_it_once(queue):
    first = await queue.enter(a_ticket("one"), a_ticket("two"))
    assert await queue.enter(a_ticket("one"), a_ticket("two")) == first
    await queue.leave(Gone(ticket="one"))
    await queue.leave(Gone(ticket="one"))
    assert (await queue.tend("two")).held == 1
    assert [*queue.holding] == ["two"]


async def test_who_comes_back_to_its_place_is_before_those_that_came_later(queue):
    standing = await queue.enter(a_ticket("first"), *tickets("a", 2))
    await queue.leave(Gone(ticket="first", how="rate"))
    await queue.enter(a_ticket("again", place=standing.granted["first"].place))
    await queue.shop.advance(1)
    assert [*(await queue.tend("a0", "a1", "again")).granted] == ["again"]


async def test_another_replicas_ticket_is_told_on_its_channel(shop, queue):
    other = Desk(shop, owner="other")
    await queue.enter(a_ticket("mine"))
    await other.enter(a_ticket("theirs", "b"))
    assert await queue.one("mine") == []
    told = await shop.heard("other")
    assert told["theirs"].seat == "main"
    assert (await other.tend("theirs")).granted == told


async def test_so_many_wait_and_no_more_and_a_request_comes_in_whole_or_not_at_all(queue):
    await queue.enter(a_ticket("held"), *tickets("a", LONGEST - 1))
    standing = await queue.enter(a_ticket("x1", group="x"), a_ticket("x2", group="x"), a_ticket("y", group="y"))
    assert standing.refused == {"x": 0}
    assert [*standing.waiting] == ["y"]
    assert (await queue.tend()).length == LONGEST
    assert (await queue.enter(a_ticket("z"))).refused == {"z": 0}


async def test_what_cannot_be_served_in_time_is_refused_at_once_with_the_time_to_stay_away(queue):
    await queue.enter(a_ticket("first"))
    await queue.leave(Gone(ticket="first", how="made", seconds=20))
    await queue.enter(a_ticket("held"), *tickets("a", 4))
    standing = await queue.enter(a_ticket("late", "b", patience=9), a_ticket("patient", "c", patience=60))
    assert standing.refused == {"late": 1}  # 0.5 calls of 20 s are before it
    assert [*standing.waiting] == ["patient"]
    standing = await queue.enter(a_ticket("a9", patience=60))
    assert [*standing.refused] == ["a9"]
    assert standing.refused["a9"] == pytest.approx(20 * 5.5 - 60, abs=0.01)


async def test_how_long_a_wait_would_take_is_foreseen_as_a_refusal_does_it(queue):
    foresee = partial(queue.store.foresee, queue.shop.model, queue.seats)
    await queue.enter(*tickets("a", 4))
    assert await foresee(a_ticket("new")) is None
    await queue.leave(Gone(ticket="a0", how="made", seconds=20))
    assert await foresee(a_ticket("new")) == pytest.approx(20 * 2.5)
    assert await foresee(a_ticket("a3")) == pytest.approx(20 * 1.5)  # which is not before itself
    refused = (await queue.enter(a_ticket("new", patience=1))).refused
    assert refused["new"] == pytest.approx(20 * 2.5 - 1)
    assert await foresee(a_ticket("first", "b")) < await foresee(a_ticket("new"))
    await queue.park(a_seat(), NOW + 1000)
    assert await foresee(a_ticket("new")) is None


async def test_a_parked_account_is_used_by_nobody_until_its_time(shop):
    full, empty = a_seat("full"), a_seat("empty")
    queue = Desk(shop, empty, full)
    await queue.park(empty, NOW + 3_600_000)
    await queue.enter(*tickets("a", 3))
    assert [*queue.holding.values()] == ["full"]
    tended = await queue.tend()
    assert [(park.seat, park.code) for park in tended.parked] == [("empty", "1113")]
    assert tended.usable
    await shop.advance(3_600)
    assert (await queue.tend("a1", "a2")).parked == ()
    assert sorted(queue.holding.values()) == ["empty", "full"]


async def test_a_key_is_parked_alone_and_until_it_changes(shop):
    wrong, good = a_seat("wrong", 2, account="both"), a_seat("good", 2, account="both")
    queue = Desk(shop, wrong, good)
    await queue.park(wrong, whole=False, code="401")
    await shop.advance(10**7)
    await queue.enter(*tickets("a", 2))
    assert set(queue.holding.values()) == {"good"}
    await queue.leave(*(Gone(ticket=ticket) for ticket in tuple(queue.holding)))
    changed = Desk(shop, a_seat("wrong", 2, account="both", fingerprint="another"), good)
    await changed.enter(a_ticket("b0"), a_ticket("b1"))
    assert "wrong" in changed.holding.values()


async def test_a_slot_names_the_key_that_is_meant(shop, queue):
    """Replicas with other settings may know another key by the same name."""
    other = Desk(shop, a_seat(fingerprint="another key"), owner="other")
    standing = await queue.enter(a_ticket("mine"))
    assert standing.granted["mine"].fingerprint == "key main"
    await other.enter(a_ticket("theirs", "b"))
    await queue.leave(Gone(ticket="mine"))
    assert (await shop.heard("other"))["theirs"].fingerprint == "key main"
    assert (await other.tend("theirs")).granted["theirs"].fingerprint == "key main"


async def test_an_account_is_parked_for_all_its_keys(shop):
    first, second = a_seat("first", account="both"), a_seat("second", account="both")
    queue = Desk(shop, first, second)
    await queue.park(first, NOW + 1000)
    standing = await queue.enter(a_ticket("one"))
    assert not standing.usable
    assert {park.seat for park in standing.parked} == {"first", "second"}
    assert (await queue.tend()).held == 0
    assert await queue.store.unpark(shop.model, second)
    assert not await queue.store.unpark(shop.model, second)
    assert [*(await queue.enter(a_ticket("one"))).granted] == ["one"]


async def test_when_all_are_parked_those_who_wait_are_told_when_they_look(queue):
    await queue.enter(*tickets("a", 2))
    await queue.park(a_seat(), NOW + 1000)
    tended = await queue.tend("a1")
    assert not tended.usable
    assert tended.granted == {}


async def test_a_lenient_park_holds_while_another_seat_may_be_used(shop):
    near, far, broke = a_seat("near"), a_seat("far"), a_seat("broke")
    queue = Desk(shop, near, far, broke)
    await queue.park(near, NOW + 30_000, code="unreachable", whole=False, lenient=True)
    await queue.park(broke, NOW + 90_000)
    await queue.enter(*tickets("a", 2))
    assert [*queue.holding.values()] == ["far"]
    await queue.park(far, NOW + 40_000, code="unreachable", whole=False, lenient=True)
    tended = await queue.tend("a1")
    assert {park.seat: park.code for park in tended.parked} == {
        "near": "unreachable",
        "far": "unreachable",
        "broke": "1113",
    }
    assert tended.usable
    assert [*queue.holding.values()] == ["far", "near"]
    await queue.leave(Gone(ticket="a0"), Gone(ticket="a1"))
    await shop.advance(30)
    await queue.enter(*tickets("b", 2))
    assert [*queue.holding.values()] == ["near"]
    seen = await queue.store.look(shop.model, queue.seats)
    assert [one.park and one.park.code for one in seen] == [None, "unreachable", "1113"]


async def test_a_seat_with_two_parks_goes_by_the_one_that_is_not_lenient(shop):
    queue = Desk(shop, a_seat())
    await queue.park(a_seat(), NOW + 30_000, code="unreachable", whole=False, lenient=True)
    await queue.park(a_seat(), NOW + 90_000)
    standing = await queue.enter(a_ticket("one"))
    assert not standing.usable
    assert [park.code for park in standing.parked] == ["1113"]
    await queue.park(a_seat(), NOW + 90_000, lenient=True)
    await queue.park(a_seat(), NOW + 30_000, whole=False, code="1220")
    assert [park.code for park in (await queue.enter(a_ticket("two"))).parked] == ["1220"]


async def test_too_many_calls_lower_the_limit_for_a_while_and_it_grows_back_one_by_one(shop):
    queue = Desk(shop, a_seat(limit=4))
    await queue.enter(*tickets("a", 12))
    held = tuple(queue.holding)
    await queue.leave(Gone(ticket=held[0], how="rate"))
    await queue.leave(Gone(ticket=held[1], how="rate"))
    assert len(queue.holding) == 2  # two calls too many
    await queue.leave(Gone(ticket=held[2], how="made", seconds=1))
    assert len(queue.holding) == 2
    for limit in (3, 4, 4):
        await shop.advance(60)
        await queue.tend(*(f"a{number}" for number in range(12)))
        assert len(queue.holding) == limit


async def test_what_was_learned_of_an_account_is_forgotten_when_told(shop):
    queue = Desk(shop, a_seat(limit=4))
    await queue.enter(*tickets("a", 12))
    await queue.leave(*(Gone(ticket=name, how="rate") for name in tuple(queue.holding)[:3]))
    assert len(queue.holding) == 1
    await queue.store.unlearn(shop.model, "another")
    await queue.tend(*(f"a{number}" for number in range(12)))
    assert len(queue.holding) == 1
    await queue.store.unlearn(shop.model, "main")
    await queue.tend(*(f"a{number}" for number in range(12)))
    assert len(queue.holding) == 4


async def test_a_limit_that_is_growing_back_is_lowered_from_where_it_is(shop):
    queue = Desk(shop, a_seat(limit=4))
    names = [ticket.id for ticket in tickets("a", 12)]
    await queue.enter(*tickets("a", 12))
    await queue.leave(*(Gone(ticket=name, how="rate") for name in tuple(queue.holding)[:3]))
    assert len(queue.holding) == 1
    await shop.advance(120)
    await queue.tend(*names)
    assert len(queue.holding) == 3
    await queue.leave(Gone(ticket=next(iter(queue.holding)), how="rate"))
    assert len(queue.holding) == 2
    await queue.leave(Gone(ticket=next(iter(queue.holding)), how="made", seconds=1))
    assert len(queue.holding) == 2


async def test_an_account_that_takes_not_even_one_call_is_left_alone_for_longer_each_time(shop, queue):
    name = "first"
    await queue.enter(a_ticket(name))
    for number, pause in enumerate([0.5, 1, 2, 4, 8, 8]):
        await queue.leave(Gone(ticket=name, how="rate"))
        name = f"again{number}"
        standing = await queue.enter(a_ticket(name))
        assert standing.pause == pytest.approx(pause)
        await shop.advance(pause - 0.01)
        assert (await queue.tend(name)).granted == {}
        await shop.advance(0.02)
        assert [*(await queue.tend(name)).granted] == [name]
    await queue.leave(Gone(ticket=name, how="made", seconds=1))
    await queue.enter(a_ticket("next"))
    await queue.leave(Gone(ticket="next", how="rate"))
    assert (await queue.enter(a_ticket("last"))).pause == pytest.approx(0.5)


async def test_what_a_call_meets_that_still_runs_unseen_teaches_nothing(shop):
    queue = Desk(shop, a_seat(limit=3))
    await queue.enter(*tickets("a", 8))
    await queue.leave(Gone(ticket="a0", how="cut", seconds=50))
    await queue.leave(Gone(ticket="a1", how="rate"))
    await shop.advance(0.6)
    await queue.tend(*(f"a{number}" for number in range(8)))
    assert len(queue.holding) == 3
    await shop.advance(50)
    await queue.leave(Gone(ticket="a2", how="rate"))
    assert len(queue.holding) == 2


async def test_a_dead_replica_holds_nothing_and_its_calls_may_run_on(shop):
    queue, other = Desk(shop, a_seat(limit=2)), Desk(shop, a_seat(limit=2), owner="other")
    await other.enter(*tickets("a", 4))
    await queue.enter(a_ticket("mine", "b"))
    await queue.store.bury(shop.model, queue.seats)
    assert (await queue.tend("mine")).granted == {}
    await shop.die("other")
    await queue.store.bury(shop.model, queue.seats)
    assert [*(await queue.tend("mine")).granted] == ["mine"]
    assert (await other.tend()).held == 0
    await queue.leave(Gone(ticket="mine", how="rate"))  # a call of the dead one still runs
    await queue.enter(*tickets("c", 3))
    await shop.advance(0.6)
    await queue.tend("c0", "c1", "c2")
    assert len(queue.holding) == 2
    await shop.advance(LONGEST_CALL)
    await queue.leave(Gone(ticket="c0", how="rate"))
    assert len(queue.holding) == 1


async def test_what_the_store_lost_is_brought_back(shop):
    queue = Desk(shop)
    standing = await queue.enter(*tickets("a", 3))
    await shop.lose()
    tended = await queue.tend("a1", "a2")
    assert (tended.held, set(tended.missing)) == (0, {"a1", "a2"})
    await queue.enter(a_ticket("a0", seat=a_seat(), place=standing.granted["a0"].place))
    again = await queue.enter(*(a_ticket(name, place=standing.waiting[name]) for name in ("a2", "a1")))
    assert again.granted == {}
    assert await serve(queue, 2) == ["a1", "a2"]


async def test_who_comes_after_a_loss_is_behind_those_who_are_brought_back(queue):
    standing = await queue.enter(*tickets("a", 3))
    await queue.shop.lose()
    await queue.enter(a_ticket("a0", seat=a_seat(), place=standing.granted["a0"].place))
    await queue.enter(*(a_ticket(name, place=place) for name, place in standing.waiting.items()))
    await queue.enter(*tickets("b", 1), a_ticket("new"))
    served = await serve(queue, 4)
    assert served.index("new") > served.index("a2")


async def test_what_a_replica_does_not_know_of_is_named_to_it(queue):
    await queue.enter(*tickets("a", 2))
    assert set((await queue.tend(names=True)).names) == {"a0", "a1"}
    assert (await queue.tend()).names == ()


async def test_the_operator_sees_how_each_seat_stands(shop):
    first, second, other = a_seat("first", 3, account="both"), a_seat("second", 3, account="both"), a_seat("other")
    queue = Desk(shop, first, second, other)
    await queue.enter(*tickets("a", 6))
    await queue.park(other, whole=False, code="401")
    mine = [ticket for ticket, seat in queue.holding.items() if seat != "other"]
    await queue.leave(Gone(ticket=mine[0], how="rate"))
    seen = await queue.store.look(shop.model, queue.seats)
    assert [(one.seat, one.limit, one.in_flight) for one in seen] == [
        ("first", 2, 2),
        ("second", 2, 2),
        ("other", 1, 1),
    ]
    assert [one.park and one.park.code for one in seen] == [None, None, "401"]
