"""Any order of what can happen to reservations: a real server answers at every step as the fake in memory does."""

import asyncio
import itertools
import uuid
from contextlib import AsyncExitStack
from datetime import UTC
from functools import partial

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

from gateway.domain.limits import Limit
from gateway.domain.quota import Counts, Limits, Reservation, calendar_of, shard_of
from gateway.service.ports import QuotaEmptied, QuotaRestoring, QuotaUnavailable
from tests.ports.quota_shop import PRICE, Shop, event
from tests.ports.quota_stores import LEASE, memory_store, moved_redis_store

HOUR = 3600
FOREVER = 10.0**9
MINUTE = 60_000  # ms

small = st.integers(0, 12)
some = st.one_of(st.none(), st.none(), small)
limits = st.builds(
    Limits,
    requests_per_minute=some,
    images_per_minute=some,
    images_per_day=some,
    images_per_month=some,
    concurrent=st.one_of(st.none(), st.none(), st.integers(0, 3)),
    spend_per_month=st.one_of(st.none(), st.none(), small.map(lambda pictures: pictures * PRICE)),
    shadow=st.sampled_from([False, False, False, True]),
)
choices = st.integers(0, 10**6)
STEADY, DYING = "steady", "dying"
PROBES = list(itertools.product(Limit, (0, 1)))


class Machine(RuleBasedStateMachine):
    """One project and two replicas, one of which cannot keep its leases, on a server and on the fake."""

    url = ""
    runner: asyncio.Runner

    def __init__(self):
        super().__init__()
        self.stack = AsyncExitStack()
        self.project = f"proj_{uuid.uuid4().hex}"
        self.shops = [self.open(partial(moved_redis_store, self.url)), self.open(memory_store)]
        self.replicas = [
            {STEADY: at.store.replica(STEADY, FOREVER), DYING: at.store.replica(DYING, LEASE)} for at in self.shops
        ]
        self.claims = []
        self.settled = {}
        self.running = set()
        self.taken_again = set()

    def open(self, open_store):
        return Shop(self.do(self.stack.enter_async_context(open_store(shard_of(self.project)))), self.project)

    def do(self, work):
        return self.runner.run(work)

    def both(self, work):
        """Have both do something that is given a shop and its replicas; they answer alike."""
        server, fake = (
            self.do(answer_of(work(at, quotas))) for at, quotas in zip(self.shops, self.replicas, strict=True)
        )
        assert server == fake
        return server

    @initialize()
    def fill(self):
        """Start with a shard that is not empty, whose collector has just run."""
        self.both(lambda at, _: at.open())
        self.collect()

    def teardown(self):
        self.do(self.stack.aclose())

    @rule(pictures=st.lists(st.integers(1, 4), min_size=1, max_size=4), key=limits, project=limits, dying=st.booleans())
    def reserve(self, pictures, key, project, dying):
        for number in pictures:
            claim = self.shops[0].claim(number, key=key, project=project)
            self.claims.append((claim, DYING if dying else STEADY))
            self.ask(*self.claims[-1])

    @rule(pictures=st.integers(1, 4), limit=small, seconds=st.integers(58, 62), less=st.integers(0, 999))
    def reserve_about_a_minute_apart(self, pictures, limit, seconds, less):
        minute = Limits(images_per_minute=limit, requests_per_minute=limit)
        self.reserve([pictures], minute, minute, dying=False)
        self.time_passes(seconds, less)
        self.reserve([pictures, 1], minute, minute, dying=False)

    @precondition(lambda self: self.claims)
    @rule(choice=choices)
    def reserve_again(self, choice):
        """Run the script again: its answer was lost."""
        self.ask(*self.claims[choice % len(self.claims)])

    @rule(pictures=st.integers(1, 4), key=limits, project=limits)
    def release_before_the_reserve_arrives(self, pictures, key, project):
        claim = self.shops[0].claim(pictures, key=key, project=project)
        self.claims.append((claim, STEADY))
        self.both(lambda _, replicas: replicas[STEADY].release(claim))

    @precondition(lambda self: self.claims)
    @rule(choice=choices, charged=st.integers(0, 4), again=st.booleans(), other=st.booleans())
    def settle(self, choice, charged, again, other):
        """Settle whatever became of it; without an answer to reserve, as the service does under `on_outage = allow`."""
        claim, owner = self.claims[choice % len(self.claims)]
        owner = STEADY if other else owner
        assumed = self.replicas[0][owner].assumed(claim)
        line, charged = event(claim.request_id, self.project), min(charged, claim.pictures)
        for _ in range(1 + again):
            self.both(lambda _, replicas: replicas[owner].settle(assumed, charged, line))
        self.settled[claim.request_id] = owner, assumed, charged, line

    @precondition(lambda self: self.claims)
    @rule(choice=choices)
    def release_one(self, choice):
        claim, owner = self.claims[choice % len(self.claims)]
        self.both(lambda _, replicas: replicas[owner].release(claim))

    @rule()
    def let_leases_end(self):
        """Collect before and after the end of the dying replica's lease."""
        self.both(lambda at, _: at.live(LEASE))
        self.both(lambda at, _: at.live(1))

    @rule(seconds=st.sampled_from([1, 5, 20, 40, 59, 60, 61, 62]), less=st.integers(0, 999))
    def time_passes(self, seconds, less):
        self.both(lambda at, _: at.store.advance((seconds * 1000 - less) / 1000))

    @rule(hours=st.sampled_from([1, 24, 24 * 31]))
    def the_store_stands_still(self, hours):
        """Let no collector run for long: its next run must not take that for the death of all."""
        self.both(lambda at, _: at.store.advance(hours * HOUR))
        self.collect()

    @rule(hours=st.sampled_from([0, 1, -1, 24, -24, 24 * 31, -24 * 31, 24 * 400]))
    def the_gateways_clock_steps(self, hours):
        self.shops[0].store.skew = hours * HOUR

    @rule(images=small, wait=st.sampled_from([0, 1, 3]), mask=st.integers(0, 255))
    def the_store_is_lost_and_refilled(self, images, wait, mask):
        """Take and settle again what the replicas held and settled, before the refilled store grants or after.

        The refill has counted some of it, as `mask` says.
        """
        counted = [name for number, name in enumerate(self.settled) if mask >> number % 8 & 1]
        self.both(lambda at, _: at.store.lose())
        self.compare()
        counts = Counts(images_today=images, images_this_month=images, spend=images * PRICE)
        self.both(lambda at, _: refill(at, counts, counted))
        self.both(lambda at, _: at.store.advance(wait))
        self.taken_again |= {claim.request_id for claim, _ in self.claims}
        for owner in (STEADY, DYING):
            settled = [words for whose, *words in self.settled.values() if whose == owner]
            self.both(lambda at, replicas, *, o=owner, s=settled: take_all_again(replicas[o], at.shard, s))
        self.both(lambda at, _: at.store.advance(3 - wait))
        self.collect()

    @invariant()
    def the_server_is_as_the_fake(self):
        self.compare()

    def compare(self):
        self.both(lambda at, _: asyncio.gather(*(answer_of(at.probe(*words)) for words in PROBES)))
        self.both(lambda at, _: lines_by_request(at))
        self.both(lambda at, _: at.store.line(self.project))
        self.places_go_to_who_came_first()

    def places_go_to_who_came_first(self):
        """Nobody got a place beyond a limit of its own, and nobody waits for one that it could have."""
        shard = self.shops[1].store.shard
        running = {taken.claim.request_id: taken for taken in shard.log if taken.state == "held" and not taken.waits}
        new = [
            claim for claim, _ in self.claims if claim.request_id in running.keys() - self.running - self.taken_again
        ]
        for number, claim in enumerate(new, len(running) - len(new) + 1):
            for subject in claim.subjects:
                within(subject.limits, Limit.CONCURRENT, number)
        self.running = set(running)
        if shard.line:
            first = shard.line[0].claim
            assert any(
                one.limits.concurrent is not None and len(running) >= one.limits.concurrent for one in first.subjects
            )

    def collect(self):
        self.both(lambda at, _: at.store.collect())

    def ask(self, claim, owner):
        """Reserve; what is granted anew leaves no 60 s with more than the limit, by the log of what was granted."""
        shard = self.shops[1].store.shard
        before = len(shard.log)
        answer = self.both(lambda _, replicas: replicas[owner].reserve(claim))
        if len(shard.log) == before:
            return
        assert isinstance(answer, Reservation)
        for subject in claim.subjects:
            recent = [one for one in shard.log if subject.name in one.counted and shard.now() - one.moment < MINUTE]
            within(subject.limits, Limit.REQUESTS_PER_MINUTE, len(recent))
            within(subject.limits, Limit.IMAGES_PER_MINUTE, sum(one.pictures for one in recent))


async def answer_of(work):
    """What was answered, or raised."""
    try:
        return await work
    except (QuotaEmptied, QuotaRestoring, QuotaUnavailable) as failure:
        return type(failure), str(failure)


async def lines_by_request(at):
    """The order in which one run of the collector gives back is nobody's business."""
    return sorted(await at.lines(), key=lambda line: line.event_id)


async def refill(at, counts, counted):
    calendar = calendar_of(await at.quotas.now(at.shard), UTC)
    await at.quotas.refill(at.shard, calendar, dict.fromkeys(at.subjects, counts), counted, fresh=False)


async def take_all_again(quotas, shard, settled):
    for words in settled:
        await quotas.settle(*words)
    for claim in quotas.held(shard):
        await quotas.take_again(claim)
    return quotas.held(shard)


def within(limits, limit, used):
    value = limits.value(limit)
    assert value is None or limits.shadow or used <= value


def run(url, examples):
    """Let the machine run on a server, with one loop for all examples."""
    with asyncio.Runner() as runner:
        machine = type("Bound", (Machine,), {"url": url, "runner": runner})
        slow = [HealthCheck.too_slow]
        chosen = settings(max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=slow)
        run_state_machine_as_test(machine, settings=chosen)


def test_a_server_answers_as_the_fake(real_redis):
    run(real_redis, settings().max_examples // 2)


def test_a_cluster_answers_as_the_fake(cluster):
    run(cluster, settings().max_examples // 10)
