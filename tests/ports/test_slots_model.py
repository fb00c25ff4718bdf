"""Any order of what can happen to slots: a real server stands at every step as the fake in memory does."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.domain.slots import Gone, Park, Ticket
from tests.ports.slot_stores import a_seat, memory_shop, redis_shop
from tests.slots_memory import shut

OWNERS = ("owner", "other")
FLEETS = (
    [a_seat()],
    [a_seat(limit=4)],
    [a_seat("large", 3, weight=3), a_seat("small", 1)],
    [a_seat("first", 2, account="both"), a_seat("second", 2, account="both"), a_seat("third", 1, weight=2)],
)
projects = st.sampled_from("abc")
owners = st.sampled_from(OWNERS)
choices = st.integers(0, 10**6)
# No multiple of a call's time, so that rounding decides nothing.
patience = st.sampled_from([0, 0, 1.37, 7.91, 61.7])
wanted = st.lists(st.tuples(projects, st.integers(1, 4), patience, st.integers(1, 3)), min_size=1, max_size=4)
hows = st.sampled_from(["made", "made", "none", "rate", "rate", "cut"])


class Machine(RuleBasedStateMachine):
    """Two replicas that use one model's queue, on a server and on the fake."""

    url = ""
    runner: asyncio.Runner

    def __init__(self):
        super().__init__()
        self.stack = AsyncExitStack()
        self.server, self.fake = (self.open(partial(redis_shop, self.url)), self.open(memory_shop))
        self.replicas = [{owner: shop.replica(owner) for owner in OWNERS} for shop in (self.server, self.fake)]
        self.tickets = {}  # all that ever entered: owner and ticket
        self.gone = []  # what was given back after a grant, with its place: it may come back
        self.rows = {}
        self.exempt = set()  # entered with a slot that the store had lost

    def open(self, open_shop):
        return self.do(self.stack.enter_async_context(open_shop()))

    def do(self, work):
        return self.runner.run(work)

    @initialize(seats=st.sampled_from(FLEETS))
    def open_queue(self, seats):
        self.seats = seats

    def teardown(self):
        self.do(self.stack.aclose())

    def both(self, owner, operation, *words, **more):
        """Have both replicas of that name do something; they answer alike."""
        server, fake = (
            self.do(getattr(replicas[owner], operation)(shop.model, *words, **more))
            for shop, replicas in zip((self.server, self.fake), self.replicas, strict=True)
        )
        assert said(server) == said(fake, partial(pytest.approx, abs=0.01))  # a server counts milliseconds
        self.compare()
        return fake

    def compare(self):
        """Hold what stands in the two stores against each other, and what has changed against the promises."""
        server, fake = self.do(rows_of(self.server)), fake_rows(self.fake)
        assert server == fake
        before, self.rows = self.rows, fake
        for name, (_, project, place, _, seat) in fake.items():
            if seat and not before.get(name, ("",) * 5)[-1] and name not in self.exempt:
                assert all(place < other for _, whose, other, _, held in fake.values() if whose == project and not held)

    @rule(owner=owners, wishes=wanted)
    def enter(self, owner, wishes):
        group = f"g{len(self.tickets)}"
        tickets = [
            Ticket(
                id=f"t{len(self.tickets) + number}",
                project=project,
                weight=weight,
                group=f"{group}-{team}",
                patience=seconds,
            )
            for number, (project, weight, seconds, team) in enumerate(wishes)
        ]
        self.tickets |= {ticket.id: (owner, ticket) for ticket in tickets}
        self.both(owner, "enter", self.seats, tickets)

    @rule(project=projects, weight=st.integers(1, 4), choice=choices)
    def foresee(self, project, weight, choice):
        new = Ticket(id="new", project=project, weight=weight, group="")
        ticket = self.tickets[self.pick(choice)][1] if self.rows and choice % 2 else new
        self.both("owner", "foresee", self.seats, ticket)

    @precondition(lambda self: self.rows)
    @rule(choice=choices, count=st.integers(1, 3))
    def enter_again(self, choice, count):
        """Run the script again: its answer was lost."""
        owner, _ = self.tickets[self.pick(choice)]
        mine = [name for name, row in self.rows.items() if row[0] == owner]
        self.both(owner, "enter", self.seats, [self.tickets[name][1] for name in mine[:count]])

    @precondition(lambda self: self.rows)
    @rule(choice=choices, how=hows, seconds=st.integers(1, 30), again=st.booleans())
    def leave(self, choice, how, seconds, again):
        name = self.pick(choice)
        owner, ticket = self.tickets[name]
        if self.rows[name][-1]:
            self.gone.append((owner, replace(ticket, place=self.rows[name][2], seat=None)))
        for _ in range(1 + again):
            self.both(owner, "leave", self.seats, [Gone(ticket=name, how=how, seconds=seconds)])

    @rule(owner=owners, count=st.integers(1, 4), seconds=st.sampled_from([0, 60, 3600]))
    def a_burst_meets_a_lower_limit(self, owner, count, seconds):
        self.enter(owner, [("a", 1, 0, 1)] * 4)
        for name in [name for name, row in self.rows.items() if row[-1]][:count]:
            self.both(self.rows[name][0], "leave", self.seats, [Gone(ticket=name, how="rate")])
        self.time_passes(seconds)

    @precondition(lambda self: self.gone)
    @rule()
    def come_back(self):
        owner, ticket = self.gone.pop()
        if ticket.id not in self.rows:
            ticket = replace(ticket, id=f"{ticket.id}+")
            self.tickets[ticket.id] = (owner, ticket)
            self.both(owner, "enter", self.seats, [ticket])

    @rule(choice=choices, seconds=st.sampled_from([0, 1, 60, 3600]), whole=st.booleans(), lenient=st.booleans())
    def park(self, choice, seconds, whole, lenient):
        seat = self.seats[choice % len(self.seats)]
        until = round(self.fake.seconds + seconds) * 1000 if seconds else 0
        self.both("owner", "park", seat, Park(seat=seat.name, code="1113", until=until, whole=whole, lenient=lenient))

    @rule(choice=choices)
    def unpark(self, choice):
        self.both("owner", "unpark", self.seats[choice % len(self.seats)])

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 4, 60, 120, 3600]))
    def time_passes(self, seconds):
        for shop in (self.server, self.fake):
            self.do(shop.advance(seconds))

    @rule(owner=owners, names=st.booleans())
    def look(self, owner, names):
        """Tend; afterwards nobody waits while a slot is free that could be used."""
        waiting = [name for name, (whose, *_, seat) in self.rows.items() if whose == owner and not seat]
        tended = self.both(owner, "tend", self.seats, [*waiting, "never heard of"], names=names)
        assert {"never heard of"} == set(tended.missing)
        free, parked = self.replicas[1][owner]._survey(self.fake.memory.line(self.fake.model), self.seats)
        closed = shut(parked, self.seats)
        assert not tended.length or not any(free[seat.account] for seat in self.seats if seat.name not in closed)

    @rule(owner=owners)
    def a_replica_dies(self, owner):
        [living] = set(OWNERS) - {owner}
        for shop, replicas in zip((self.server, self.fake), self.replicas, strict=True):
            self.do(shop.die(owner))
            self.do(replicas[living].bury(shop.model, self.seats))
        self.fake.memory.dead.discard(owner)
        self.compare()

    @rule(back=st.booleans())
    def the_store_is_lost(self, back):
        lost = self.rows
        for shop in (self.server, self.fake):
            self.do(shop.lose())
        self.rows = {}
        self.compare()
        for owner in OWNERS if back else ():
            mine = {name: row for name, row in lost.items() if row[0] == owner}
            self.bring_back(owner, {name: row for name, row in mine.items() if row[-1]})
            self.bring_back(owner, {name: row for name, row in mine.items() if not row[-1]})

    def bring_back(self, owner, rows):
        if not rows:
            return
        seats = {seat.name: seat for seat in self.seats} | {"": None}
        tickets = [
            replace(self.tickets[name][1], place=place, seat=seats[seat])
            for name, (_, _, place, _, seat) in rows.items()
        ]
        self.exempt |= {ticket.id for ticket in tickets if ticket.seat}
        self.both(owner, "enter", self.seats, tickets)

    @invariant()
    def no_account_has_more_calls_than_it_lets(self):
        account = {seat.name: seat for seat in getattr(self, "seats", ())}
        calls = [account[seat] for name, (*_, seat) in self.rows.items() if seat and name not in self.exempt]
        for seat in account.values():
            assert sum(one.account == seat.account for one in calls) <= seat.limit

    @precondition(lambda self: len(self.rows) > 3)
    @rule()
    def nobody_is_forgotten(self):
        """Let all calls end, one after the other: everybody who waits gets a slot."""
        for seat in self.seats:
            self.both("owner", "unpark", seat)
        self.time_passes(10.0)
        self.look("owner", names=True)
        for _ in range(len(self.rows)):
            held = next(name for name, row in self.rows.items() if row[-1])
            self.both(self.rows[held][0], "leave", self.seats, [Gone(ticket=held)])
        assert self.rows == {}

    def pick(self, choice):
        return sorted(self.rows)[choice % len(self.rows)]


def said(answer, near=float):
    """An answer, with each of its times made `near`."""
    if answer is None or isinstance(answer, bool):
        return answer
    if isinstance(answer, float):
        return near(answer)
    changes = {
        "refused": {group: near(wait) for group, wait in answer.refused.items()},
        "pause": None if answer.pause is None else near(answer.pause),
    }
    if hasattr(answer, "names"):
        changes |= {"names": set(answer.names), "missing": set(answer.missing)}
    return replace(answer, **changes)


async def rows_of(shop):
    """Every ticket of a server: owner, project, place, weight and seat."""
    found = await shop.client.call("HGETALL", shop.names.of("tickets"))
    pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
    rows = {name.decode(): json.loads(words) for name, words in pairs}
    return {
        name: (owner.partition("-")[0], project, int(place), weight, seat)
        for name, (owner, project, place, weight, seat, *_) in rows.items()
    }


def fake_rows(shop):
    return {
        name: (held.owner, held.project, held.place, held.weight, held.seat.name if held.seat else "")
        for name, held in shop.memory.line(shop.model).tickets.items()
    }


def run(url, examples):
    """Let the machine run on a server, with one loop for all examples."""
    with asyncio.Runner() as runner:
        machine = type("Bound", (Machine,), {"url": url, "runner": runner})
        chosen = settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        run_state_machine_as_test(machine, settings=chosen)


def test_a_server_answers_as_the_fake(valkey):
    run(valkey, settings().max_examples // 4)
