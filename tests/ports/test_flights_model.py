"""Any order of attaching, making, failing, leaving and dying: each waiter is answered, and nothing is taken twice."""

import asyncio
import uuid
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gateway.adapters.redis.plans import place_of
from gateway.domain.errors import UpstreamBroken
from gateway.domain.flights import WITHDRAWN, End, Hit
from gateway.domain.usage import Outcome
from tests.ports.flight_shop import PRICE, Project, Replica, a_new_plan, picture, receipt, sought

FAILED = End.of(UpstreamBroken("it broke"))
CROWDED = 25  # pictures of one plan: 32 are remembered
choices = st.integers(0, 10**6)
ends = st.sampled_from(["picture", "picture", "failure", "withdrawn"])


@dataclass
class Job:
    """One job as the model knows it. `ends` are by position; `taken` is what it still holds of the windows."""

    reservation: object
    replica: Replica
    plan: str
    remember: bool
    taken: int
    running: bool = True
    doubtful: bool = False  # it was taken for dead once, so that a follower may have been sent away
    heir: Replica | None = None
    paid: set = field(default_factory=set)
    ends: dict = field(default_factory=dict)

    @property
    def leads(self):
        return [lead.index for lead in self.reservation.leads]

    @property
    def made(self):
        return any(not end.withdrawn for end in self.ends.values())

    def variant(self, index):
        return f"{self.reservation.claim.request_id}.{index}"

    def open_leads(self):
        return [index for index in self.leads if index not in self.ends]


class Machine(RuleBasedStateMachine):
    """A replica that lives, one that dies and comes back under another name, one project, two plans."""

    url = ""
    scope = "project"
    runner: asyncio.Runner

    def __init__(self):
        super().__init__()
        self.alive, self.dying = Replica(self.url), Replica(self.url)
        self.project = Project([self.alive])
        self.do(self.alive.listen())
        self.do(self.project.open())
        self.plans = [a_new_plan() for _ in range(2)]
        self.jobs = []
        self.remembered = {plan: {} for plan in self.plans}
        self.followers = []

    def do(self, work):
        return self.runner.run(work)

    def running(self):
        return [job for job in self.jobs if job.running]

    @rule(plan=st.integers(0, 1), n=st.integers(1, 3), dying=st.booleans(), anew=st.booleans(), remember=st.booleans())
    def ask(self, plan, n, dying, anew, remember):
        """Attach, and see that the model would have found the same."""
        name = self.plans[plan]
        known, flying = self.remembered[name], self.flying(name)
        anew = anew and len(known) + len(flying) < CROWDED
        wanted = sought(name, self.scope, read=not anew, join=not anew, remember=remember)
        replica = self.dying if dying else self.alive
        reservation = self.do(self.project.ask(wanted, n=n, on=replica))
        hits, follows = reservation.hits, reservation.follows
        assert len(hits) == (0 if anew else min(n, len(known)))
        assert len(follows) == (0 if anew else min(n - len(hits), len(flying)))
        assert len(reservation.parts) == n
        assert {hit.variant for hit in hits} <= set(known)
        assert {f"{part.job_id}.{part.index}" for part in follows} <= set(flying)
        assert reservation.settled == all(isinstance(part, Hit) for part in reservation.parts)
        job = Job(reservation, replica, name, remember, len(reservation.leads), not reservation.settled)
        self.jobs.append(job)
        for part in follows:
            followed = next(other for other in self.jobs if other.variant(part.index) in flying and _is(other, part))
            waiting = self.runner.get_loop().create_task(self.alive.flights.follow(reservation, part))
            self.followers.append((waiting, followed, part.index))

    @precondition(lambda self: any(job.open_leads() for job in self.running()))
    @rule(choice=choices, end=ends)
    def finish(self, choice, end):
        """End a picture before its job, by the replica that has the job."""
        job = _one([job for job in self.running() if job.open_leads()], choice)
        index = _one(job.open_leads(), choice)
        said = self.end(end, job, index)
        self.do((job.heir or job.replica).flights.finish(job.reservation, index, said))
        self.note(job, {index: said})

    @precondition(lambda self: self.running())
    @rule(choice=choices, kinds=st.lists(ends, min_size=3, max_size=3), again=st.booleans())
    def settle(self, choice, kinds, again):
        job = _one(self.running(), choice)
        told = {index: self.end(kind, job, index) for index, kind in zip(job.open_leads(), kinds, strict=False)}
        for _ in range(1 + again):
            self.do(self.settled(job, {**told, **job.ends}, job.heir or job.replica))
        self.note(job, told)
        self.close(job)

    @precondition(lambda self: self.running())
    @rule(choice=choices)
    def release(self, choice):
        job = _one(self.running(), choice)
        if job.heir is None and not job.ends:
            self.do(job.replica.quotas.release(job.reservation.claim))
            self.close(job)

    @precondition(lambda self: any(job.open_leads() for job in self.running()))
    @rule(choice=choices)
    def pay(self, choice):
        job = _one([job for job in self.running() if job.open_leads()], choice)
        index = _one(job.open_leads(), choice)
        assert self.do(_paid((job.heir or job.replica).flights, job.reservation, index))
        job.paid.add(index)

    @precondition(lambda self: self.running())
    @rule(choice=choices)
    def leave(self, choice):
        job = _one(self.running(), choice)
        self.do((job.heir or job.replica).flights.left(job.reservation))

    @rule(late=st.lists(choices, max_size=3))
    def die(self, late):
        """End the lease of the dying replica; it goes on under another name, and was only late with some jobs."""
        old = [job for job in self.running() if job.replica is self.dying and job.heir is None]
        names, before = self.project.names, len(self.alive.orphans)
        self.do(self.alive.client.call("ZADD", names.of("owners"), "XX", 1, self.dying.owner))
        self.do(self.alive.collector._collect_shard(names.shard))
        rescued = {orphan.reservation.claim.request_id: orphan for orphan in self.alive.orphans[before:]}
        saved = {job.reservation.claim.request_id for job in old if job.paid or job.made}
        assert set(rescued) == saved
        for job in old:
            self.bury(job, rescued.get(job.reservation.claim.request_id))
        for job in {id(job): job for job in (_one(old, choice) for choice in late if old)}.values():
            self.come_late(job)
        ghost = self.dying
        self.dying = Replica(self.url)
        self.do(ghost.aclose())

    def bury(self, job, orphan):
        job.doubtful = True
        if orphan is None:
            job.running, job.taken = False, 0
            return
        assert set(orphan.receipts) == job.paid
        assert orphan.ends == job.ends
        job.dead, job.heir, job.reservation = job.reservation, self.alive, orphan.reservation

    def come_late(self, job):
        """Settle a job that was taken for dead: it counts if nobody else accounts for it."""
        told = {index: job.ends.get(index, self.end("picture", job, index)) for index in job.leads}
        if job.heir is not None:
            self.do(self.settled(job, told, self.dying, reservation=job.dead))
            return
        self.do(self.settled(job, told, self.dying))
        self.note(job, told)
        self.close(job)

    @invariant()
    def windows_hold_what_is_led_and_not_given_back(self):
        taken = sum(job.taken for job in self.jobs)
        running = sum(1 for job in self.running() if job.leads)
        assert self.do(self.project.images()) == (taken, taken * PRICE, running)

    @invariant()
    def a_flight_is_led_by_a_job_that_runs(self):
        for plan in self.plans:
            place = place_of(self.project.claim(sought(plan, self.scope)))
            found = self.do(self.alive.client.call("HKEYS", place.flights))
            assert sorted(name.decode() for name in found) == sorted(self.flying(plan))
            found = self.do(self.alive.client.call("HKEYS", place.results))
            assert sorted(name.decode() for name in found) == sorted(self.remembered[plan])

    def teardown(self):
        try:
            for job in self.running():
                self.do(self.settled(job, job.ends, job.heir or job.replica))
                self.close(job)
            for waiting, followed, index in self.followers:
                self.answered(self.do(asyncio.wait_for(waiting, 30)), followed, index)
            outcomes = [line.event_id for line in self.do(self.project.lines())]
            assert set(outcomes) <= {job.reservation.claim.request_id for job in self.jobs}
        finally:
            self.do(self.alive.aclose())
            self.do(self.dying.aclose())

    def answered(self, end, followed, index):
        known = followed.ends.get(index, WITHDRAWN)
        assert end == known or (followed.doubtful and end == WITHDRAWN)

    def flying(self, plan):
        return [job.variant(index) for job in self.running() if job.plan == plan for index in job.open_leads()]

    def end(self, kind, job, index):
        return {"picture": picture(job.variant(index)), "failure": FAILED, "withdrawn": WITHDRAWN}[kind]

    def note(self, job, told):
        """Keep the first end of each picture."""
        for index, end in told.items():
            if index not in job.ends:
                job.ends[index] = end
                if end.picture is not None and job.remember:
                    self.remembered[job.plan][job.variant(index)] = end

    def close(self, job):
        job.running = False
        job.taken = sum(job.ends[index].picture is not None for index in job.leads if index in job.ends)

    async def settled(self, job, told, on, reservation=None):
        positions = {f"p{index}": end for index, end in told.items()}
        await self.project.settle(reservation or job.reservation, on=on, outcome=Outcome.PARTIAL, **positions)


async def _paid(flights, reservation, index):
    return await flights.paid(reservation, index, receipt())


def _one(things, choice):
    return things[choice % len(things)]


def _is(job, part):
    return job.reservation.claim.request_id == part.job_id


def run(url, scope, examples):
    with asyncio.Runner() as runner:
        machine = type(f"Bound{uuid.uuid4().hex}", (Machine,), {"url": url, "scope": scope, "runner": runner})
        slow = [HealthCheck.too_slow]
        chosen = settings(max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=slow)
        run_state_machine_as_test(machine, settings=chosen)


def test_every_schedule_answers_each_waiter(real_redis):
    run(real_redis, "project", settings().max_examples // 3)


def test_every_schedule_answers_each_waiter_across_projects(valkey):
    run(valkey, "shared", settings().max_examples // 5)


def test_every_schedule_answers_each_waiter_in_a_cluster(cluster):
    run(cluster, "shared", settings().max_examples // 20)
