"""Any order of what can happen to reservations: after every step a real server holds what a plain model says."""

import asyncio
import time
from collections import Counter
from datetime import UTC

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

from gateway.adapters.redis import quota
from gateway.adapters.redis.collector import Collector
from gateway.adapters.redis.quota import RedisQuotas
from gateway.domain.limits import Limit
from gateway.domain.quota import Limits, Refusal, shard_of
from gateway.service.ports import QuotaUnavailable
from tests.ports.quota_model import Model
from tests.ports.test_quota_store import PRICE, Shop, event

HOUR = 3_600_000
LEASE = 0.04
FOREVER = 10.0**9

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


class Machine(RuleBasedStateMachine):
    """Two replicas of the gateway, one of which cannot keep its leases, and one project."""

    url = ""
    runner: asyncio.Runner
    clock_skew = 0

    def __init__(self):
        super().__init__()
        self.at = Shop(self.url, lease=FOREVER, owner=f"steady-{time.monotonic_ns()}")
        self.dying = f"dying-{time.monotonic_ns()}"
        self.owners = {
            self.at.owner: self.at.quotas,
            self.dying: RedisQuotas(self.at.scripts, self.dying, UTC, lease=LEASE, deadline=2.0),
        }
        self.collector = Collector(self.at.scripts, "collector", lease=FOREVER)
        self.model = Model(PRICE)
        self.claims = []
        self.answers = {}

    def do(self, work):
        return self.runner.run(work)

    @initialize()
    def fill(self):
        """Start with a shard that is not empty, whose collector has just run."""
        Machine.clock_skew = 0
        self.do(self.at.client.call("SET", self.at.names.of("epoch"), "ready"))
        self.collect()

    def teardown(self):
        names = self.at.names
        for name in ("clock", "owners", "collected", "events"):  # other projects of this shard begin anew
            self.do(self.at.client.call("DEL", names.of(name)))
        self.do(self.at.client.aclose())

    @rule(pictures=st.lists(st.integers(1, 4), min_size=1, max_size=4), key=limits, project=limits, dying=st.booleans())
    def reserve(self, pictures, key, project, dying):
        for number in pictures:
            claim = self.at.claim(number, key=key, project=project)
            self.claims.append((claim, self.dying if dying else self.at.owner))
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
        claim = self.at.claim(pictures, key=key, project=project)
        self.claims.append((claim, self.at.owner))
        self.release(claim, self.at.owner)

    @precondition(lambda self: self.claims)
    @rule(choice=choices, charged=st.integers(0, 4), again=st.booleans())
    def settle(self, choice, charged, again):
        """Settle whatever became of it; without an answer to reserve, as the service does under `on_outage = allow`."""
        claim, owner = self.claims[choice % len(self.claims)]
        quotas = self.owners[owner]
        reservation = self.answers.get(claim.request_id) or quotas.assumed(claim)
        for _ in range(1 + again):
            self.do(quotas.settle(reservation, min(charged, claim.pictures), event(claim.request_id, self.at.project)))
            self.model.settle(reservation, min(charged, claim.pictures))

    @precondition(lambda self: self.claims)
    @rule(choice=choices)
    def release_one(self, choice):
        self.release(*self.claims[choice % len(self.claims)])

    @rule()
    def let_leases_end(self):
        """Wait until the dying replica's lease is over, and collect."""
        self.collect()  # after a standstill this only lengthens leases
        ends = self.do(self.at.client.call("ZSCORE", self.at.names.of("owners"), self.dying))
        left = float(ends) - self.now() if ends else -1
        if left > HOUR / 2:
            return
        if left >= 0 and self.now() > self.real():
            self.advance(left + 1)  # the store's clock stands until real time has reached it
        elif left >= 0:
            time.sleep(left / 1000 + 0.002)
        self.collect()
        self.model.abandon(self.dying)

    @rule(seconds=st.sampled_from([1, 5, 20, 40, 59, 60, 61, 62]), less=st.integers(0, 999))
    def time_passes(self, seconds, less):
        self.advance(seconds * 1000 - less)

    @rule(hours=st.sampled_from([24, 24 * 31]))
    def days_pass(self, hours):
        self.advance(hours * HOUR)

    @rule()
    def the_store_stands_still(self):
        """Let no collector run for an hour: its next run must not take that for the death of all."""
        self.do(self.at.client.call("SET", self.at.names.of("clock"), self.now() + HOUR))
        self.collect()

    @rule(hours=st.sampled_from([0, 1, -1, 24, -24, 24 * 31, -24 * 31, 24 * 400]))
    def the_gateways_clock_steps(self, hours):
        Machine.clock_skew = hours * HOUR

    @invariant()
    def the_store_holds_what_the_model_says(self):
        for subject in (f"key.{self.at.project}", f"project.{self.at.project}"):
            self.do(self.compare(subject))
        lines = Counter(line.event_id for line in self.do(self.at.lines()))
        assert lines == +Counter({request_id: taken.lines for request_id, taken in self.model.taken.items()})

    def ask(self, claim, owner):
        """Reserve, and compare the answer with the model's."""
        known = self.model.taken.get(claim.request_id)
        try:
            answer = self.do(self.owners[owner].reserve(claim))
        except QuotaUnavailable:
            assert known.claim is claim
            assert claim.request_id not in self.answers
            return
        if claim.request_id in self.answers:
            assert answer == self.answers[claim.request_id]
            return
        now = self.now()
        day, month = time.strftime("%Y-%m-%d %Y-%m", time.gmtime(now / 1000)).split()
        obstacle = self.model.standing_in_the_way(claim, day, month, now // 1000)
        if isinstance(answer, Refusal):
            assert (answer.room.subject, answer.room.limit, answer.room.used) == obstacle
        else:
            assert obstacle is None
            self.answers[claim.request_id] = answer
            self.model.grant(claim, owner, answer, now)
            self.check_the_minute(claim, now)

    def check_the_minute(self, claim, now):
        for subject in claim.subjects:
            requests, images = self.model.in_a_minute(subject.name, now)
            for limit, used in ((Limit.REQUESTS_PER_MINUTE, requests), (Limit.IMAGES_PER_MINUTE, images)):
                value = subject.limits.value(limit)
                assert value is None or subject.limits.shadow or used <= value

    def release(self, claim, owner):
        self.do(self.owners[owner].release(claim))
        self.model.release(claim)

    def collect(self):
        self.do(self.collector._collect_shard(shard_of(self.at.project)))

    def real(self):
        seconds, micros = self.do(
            self.at.client.call("EVAL", "return redis.call('TIME')", 1, self.at.names.of("clock"))
        )
        return int(seconds) * 1000 + int(micros) // 1000

    def now(self):
        """Read the store's clock: real time, unless it was moved ahead."""
        return max(self.real(), int(self.do(self.at.client.call("GET", self.at.names.of("clock"))) or 0))

    def advance(self, milliseconds):
        """Move the store's clock, with collectors running all the while.

        It never runs back, so it then stands until real time has reached it.
        """
        moment = round(self.now() + milliseconds)
        for name in ("clock", "collected"):
            self.do(self.at.client.call("SET", self.at.names.of(name), moment))

    async def compare(self, subject):
        names, call, model = self.at.names, self.at.client.call, self.model
        for day in {taken.day for taken in model.taken.values()} - {""}:
            assert int(await call("GET", names.of("day", subject, day)) or 0) == model.day(subject, day)
        for month in {taken.month for taken in model.taken.values()} - {""}:
            images, spend = await call("HMGET", names.of("month", subject, month), "images", "spend")
            assert (int(images or 0), int(spend or 0)) == (n := model.month(subject, month), n * PRICE)
        running = await call("SMEMBERS", names.of("running", subject))
        assert {member.decode() for member in running} == model.running(subject)
        clock = await call("GET", names.of("clock"))
        if clock is not None:
            await self.compare_minute(subject, int(clock) // 1000)

    async def compare_minute(self, subject, second):
        held = await self.at.client.call("HGETALL", self.at.names.of("minute", subject))
        pairs = {name.decode(): int(count) for name, count in _pairs(held)}
        recent = {name: count for name, count in pairs.items() if second - int(name[1:]) < 61}
        assert {name: count for name, count in recent.items() if count} == +self.model.buckets(subject, second)


def _pairs(reply):
    return reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)


def run(url, monkeypatch, examples):
    """Let the machine run on a server, with one loop for all examples."""
    monkeypatch.setattr(quota, "_milliseconds", lambda: time.time_ns() // 1_000_000 + Machine.clock_skew)
    with asyncio.Runner() as runner:
        machine = type("Bound", (Machine,), {"url": url, "runner": runner})
        slow = [HealthCheck.too_slow]
        chosen = settings(max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=slow)
        run_state_machine_as_test(machine, settings=chosen)


def test_a_server_holds_what_the_model_says(real_redis, monkeypatch):
    run(real_redis, monkeypatch, settings().max_examples // 2)


def test_a_cluster_holds_what_the_model_says(cluster, monkeypatch):
    run(cluster, monkeypatch, settings().max_examples // 10)
