"""What becomes of a job: it is repeated, left, cancelled, taken over when its replica dies; what it made is bounded."""

import asyncio
import time
from dataclasses import replace

import pytest

from gateway.adapters.redis import flights
from gateway.adapters.redis.plans import SharedPlans, place_of
from gateway.domain.errors import (
    ContentRefused,
    IdempotencyKeyReused,
    Moderation,
    UpstreamOverloaded,
)
from gateway.domain.flights import WITHDRAWN, End, Task
from gateway.domain.quota import Limits, Refusal, shard_of
from gateway.domain.usage import Answer, Outcome
from tests.ports.flight_shop import PRICE, a_new_plan, picture, project, receipt, sought, url

pytestmark = pytest.mark.anyio
SHORT = 0.3  # seconds: the lease of a replica that is about to die

keyed = sought("", "off", body="b0d1", idempotency_key="1de3")
first_try = sought("", "off", body="b0d1")
retry = replace(first_try, retry=True)


@pytest.fixture(params=["project", "key", "shared"])
def scope(request):
    return request.param


async def test_the_same_idempotency_key_joins_while_the_job_runs_and_gets_its_ends_after(server):
    async with project(server) as at:
        job = await at.ask(keyed, n=2)
        running = await at.ask(keyed, n=2)
        assert (running.replay.job_id, running.replay.ended) == (job.claim.request_id, None)
        waits = [asyncio.create_task(at.at.flights.follow(running, part)) for part in running.follows]
        refusal = End.of(ContentRefused(Moderation(stage="input")))
        await at.settle(job, picture("fox"), refusal)
        assert await asyncio.gather(*waits) == [picture("fox"), refusal]
        await at.settle(running, outcome=Outcome.REPLAYED)
        ended = await at.ask(keyed, n=2)
        assert ended.settled
        assert ended.replay.ended == (picture("fox"), refusal)
        assert ended.replay.created == int(job.claim.abandoned.time.timestamp())
        assert await at.images() == (1, PRICE, 0)
        assert [line.outcome for line in await at.lines()][1:] == [Outcome.REPLAYED] * 2


@pytest.mark.parametrize("n", [1, 3])
async def test_an_idempotency_key_with_another_body_is_refused(server, n):
    async with project(server) as at:
        job = await at.ask(keyed)
        other = replace(keyed, body="b0d2")
        with pytest.raises(IdempotencyKeyReused):
            await at.ask(other, n=n)
        await at.settle(job, picture())
        with pytest.raises(IdempotencyKeyReused):
            await at.ask(other, n=n)
        assert len((await at.ask(other, key="another key")).leads) == 1


@pytest.mark.parametrize(("wanted", "hours"), [(keyed, 24), (first_try, 0)])
async def test_a_job_is_known_for_as_long_as_it_may_be_repeated(server, wanted, hours):
    async with project(server) as at:
        job = await at.made(wanted)
        left = await at.at.client.call("PTTL", at.names.of("reservation", job.claim.request_id))
        assert round(left / 3_600_000) == hours
        assert left > 120_000


async def test_a_retry_that_brings_an_idempotency_key_keeps_its_job_for_a_day(server):
    async with project(server) as at:
        job = await at.made(first_try)
        assert (await at.ask(replace(retry, idempotency_key="1de3"))).settled
        left = await at.at.client.call("PTTL", at.names.of("reservation", job.claim.request_id))
        assert round(left / 3_600_000) == 24
        assert (await at.ask(keyed)).replay.job_id == job.claim.request_id


async def test_a_hit_under_an_idempotency_key_is_repeated_for_a_day(server):
    async with project(server) as at:
        wanted = sought(a_new_plan(), body="b0d1")
        await at.made(wanted, "fox")
        hit = await at.ask(replace(wanted, idempotency_key="1de3"))
        record = at.names.of("reservation", hit.claim.request_id)
        assert await at.at.client.call("PTTL", record) > 23 * 3_600_000
        await at.at.board.purge(at.id)
        again = await at.ask(replace(wanted, idempotency_key="1de3"))
        assert again.replay.ended == (picture("fox"),)


@pytest.mark.parametrize("ending", ["refused", "released", "gone"])
async def test_an_idempotency_key_of_a_job_that_came_to_nothing_is_free(server, ending):
    async with project(server, replicas=2) as at:
        job = await at.ask(keyed)
        if ending == "refused":
            overloaded = End.of(UpstreamOverloaded("busy"))
            await at.settle(job, overloaded, outcome=Outcome.FAILED, replayable=False)
        elif ending == "released":
            await at.at.quotas.release(job.claim)
        else:
            await at.at.client.call("DEL", at.names.of("reservation", job.claim.request_id))
        again = await at.ask(replace(keyed, body="b0d2"), on=at.replicas[1])
        assert len(again.leads) == 1
        assert (await at.ask(replace(keyed, body="b0d2"), on=at.replicas[1])).replay.job_id == again.claim.request_id


async def test_who_repeats_a_job_that_lacks_pictures_takes_its_place(server):
    async with project(server) as at:
        job = await at.ask(keyed, n=2)
        await at.settle(job, picture("fox"), WITHDRAWN, outcome=Outcome.PARTIAL)
        heir = await at.ask(keyed, n=2)
        assert (heir.settled, heir.leads) == (False, ())
        assert (heir.replay.ended, heir.replay.lacks) == ((picture("fox"), WITHDRAWN), True)
        joined = await at.ask(keyed, n=2)
        assert (joined.replay.job_id, joined.replay.origin) == (heir.claim.request_id, job.claim.request_id)
        assert await at.at.flights.follow(joined, joined.follows[0]) == picture("fox")  # nobody waits for that
        second = asyncio.create_task(at.at.flights.follow(joined, joined.follows[1]))
        await at.settle(heir, outcome=Outcome.JOINED, p0=picture("fox"), p1=picture("owl"))
        assert await second == picture("owl")
        again = await at.ask(keyed, n=2)
        assert again.settled
        assert (again.replay.job_id, again.replay.ended) == (heir.claim.request_id, (picture("fox"), picture("owl")))
        assert await at.at.client.call("PTTL", at.names.of("reservation", heir.claim.request_id)) > 23 * 3_600_000
        with pytest.raises(IdempotencyKeyReused):
            await at.ask(replace(keyed, body="b0d2"), n=2)


@pytest.mark.parametrize("wanted", [keyed, first_try])
async def test_what_repeats_a_job_whose_replica_died_has_its_origin(server, wanted):
    """So that one picture is made for all who repeat it, those who followed it among them."""
    async with project(server, replicas=3, lease=SHORT) as at:
        repeated = wanted if wanted is keyed else retry
        dead, other, third = at.replicas
        lost = await at.ask(wanted)
        follower = await at.ask(repeated, on=other)
        await die(at)
        assert follower.replay.origin == lost.claim.request_id
        heir = await at.ask(repeated, on=other)
        assert (heir.replay.job_id, heir.replay.lacks) == (lost.claim.request_id, True)
        last = await at.ask(repeated, on=third)
        assert (last.replay.job_id, last.replay.origin) == (heir.claim.request_id, lost.claim.request_id)
        await at.settle(lost, picture("late"), on=dead)
        assert await at.images() == (1, PRICE, 0)


async def test_an_sdk_retry_joins_the_running_job_or_gets_its_end_and_so_does_the_next(server):
    async with project(server) as at:
        job = await at.ask(first_try)
        await at.at.flights.left(job)
        second = await at.ask(retry)
        assert second.replay.job_id == job.claim.request_id
        await at.at.flights.left(second)
        await at.settle(job, picture("fox"))
        await at.settle(second, outcome=Outcome.REPLAYED)
        third = await at.ask(retry)
        assert third.settled
        assert third.replay.job_id == job.claim.request_id
        assert third.replay.ended == (picture("fox"),)
        assert await at.images() == (1, PRICE, 0)


async def test_a_request_that_is_no_retry_is_a_new_one(server):
    async with project(server) as at:
        await at.made(first_try)
        assert len((await at.ask(first_try)).leads) == 1
        for other in (replace(retry, body="b0d2"), replace(retry, body="")):
            assert len((await at.ask(other)).leads) == 1
        assert len((await at.ask(retry, key="another key")).leads) == 1


async def test_each_retry_takes_a_job_of_its_own_one_whose_client_left_first(server):
    async with project(server) as at:
        jobs = [await at.ask(first_try) for _ in range(3)]
        await at.at.flights.left(jobs[1])
        found = [(await at.ask(retry)).replay.job_id for _ in range(3)]
        names = [job.claim.request_id for job in jobs]
        assert found[0] == names[1]
        assert set(found) <= set(names)


async def test_two_retries_at_once_take_two_jobs(server):
    async with project(server) as at:
        jobs = [await at.ask(first_try) for _ in range(2)]
        for job in jobs:
            await at.at.flights.left(job)
        found = await asyncio.gather(*(at.ask(retry) for _ in range(2)))
        assert {again.replay.job_id for again in found} == {job.claim.request_id for job in jobs}


async def test_a_retry_after_two_minutes_is_a_new_request(server):
    async with project(server) as at:
        await at.made(first_try)
        clock = int(await at.at.client.call("GET", at.names.of("clock")))
        await at.at.client.call("SET", at.names.of("clock"), clock + 121_000)
        found = await at.ask(retry)
        await at.at.client.call("DEL", at.names.of("clock"))
        assert len(found.leads) == 1


async def test_a_refusal_is_not_replayed_and_refused_content_is(server):
    async with project(server) as at:
        job = await at.ask(first_try)
        await at.settle(job, End.of(UpstreamOverloaded("busy")), outcome=Outcome.FAILED, replayable=False)
        again = await at.ask(retry)
        assert len(again.leads) == 1
        refusal = End.of(ContentRefused(Moderation(stage="input")))
        await at.settle(again, refusal, outcome=Outcome.FAILED)
        assert (await at.ask(retry)).replay.ended == (refusal,)


async def test_a_repeated_request_has_a_line_with_the_answer_that_is_repeated(server):
    async with project(server) as at:
        refused = Answer(status=400, code="content_policy_violation")
        other = replace(keyed, body="b0d2")
        failed, made = await at.ask(first_try), await at.ask(other)
        await at.settle(failed, End.of(ContentRefused(Moderation())), outcome=Outcome.FAILED, answer=refused)
        await at.settle(made, picture())
        assert [(await at.ask(again)).settled for again in (retry, other)] == [True, True]
        lines = (await at.lines())[2:]
        assert [Answer(status=line.status, code=line.error_code) for line in lines] == [refused, Answer()]


async def test_a_retry_prefers_its_job_to_what_is_remembered(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope, body="b0d1", read=False, join=False)
        await at.made(wanted, "old")
        lost = await at.made(wanted, "lost")
        await at.at.flights.left(lost)
        again = await at.ask(replace(wanted, read=True, join=True, retry=True))
        assert again.replay.ended == (picture("lost"),)
        assert len((await at.ask(replace(wanted, read=True), n=3)).hits) == 2


async def test_a_job_is_waited_for_by_its_client_and_by_those_who_follow(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope, body="b0d1")
        flights = at.at.flights
        leader = await at.ask(wanted)
        assert await flights.waiting(leader)
        await flights.left(leader)
        assert not await flights.waiting(leader)

        follower = await at.ask(wanted, key="other" if scope != "key" else "key")
        waiting = asyncio.create_task(flights.follow(follower, follower.follows[0]))
        await until(lambda: flights.waiting(leader))
        await flights.left(follower)
        assert not await flights.waiting(leader)
        repeated = await at.ask(replace(wanted, retry=True), key="other" if scope != "key" else "key")
        assert await flights.waiting(leader)
        await flights.left(repeated)
        assert not await flights.waiting(leader)
        waiting.cancel()


async def test_a_follower_that_has_ended_does_not_wait(server):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        leader, follower = await at.ask(wanted, n=2), await at.ask(wanted)
        await at.at.flights.left(leader)
        assert await at.at.flights.waiting(leader)
        await at.settle(follower, outcome=Outcome.JOINED)
        assert not await at.at.flights.waiting(leader)


async def test_what_a_dead_replica_had_not_paid_is_given_back_and_made_by_a_follower(server, scope):
    async with project(server, replicas=2, lease=SHORT) as at:
        wanted = sought(a_new_plan(), scope)
        alive = at.replicas[1]
        lost = await at.ask(wanted)
        await at.at.flights.sent(lost, 0)
        follower = await at.ask(wanted, on=alive)
        waiting = asyncio.create_task(alive.flights.follow(follower, follower.follows[0]))
        assert await at.at.flights.sent(lost, 0)
        await die(at)
        assert not await at.at.flights.sent(lost, 0)
        assert await waiting == WITHDRAWN
        assert alive.orphans == []
        assert [line.outcome for line in await at.lines()] == [Outcome.ABANDONED]
        heir = await at.ask(replace(wanted, again=True), on=alive)
        assert len(heir.leads) == 1

        assert await at.at.flights.paid(lost, 0, receipt())  # it was only slow: nobody else accounts for it
        await at.settle(lost, picture("late"))
        assert (await at.ask(wanted, on=alive, n=2)).follows[0].job_id == heir.claim.request_id
        await at.settle(heir, picture("heir"), on=alive)
        both = {picture("late").picture, picture("heir").picture}  # perhaps of the same millisecond
        assert {hit.picture for hit in (await at.ask(wanted, on=alive, n=2)).hits} == both
        assert await at.images() == (2, 2 * PRICE, 0)


async def test_what_a_dead_replica_had_paid_is_rescued_under_its_own_job(server, scope):
    async with project(server, replicas=2, lease=SHORT) as at:
        wanted = sought(a_new_plan(), scope)
        alive = at.replicas[1]
        lost = await at.ask(wanted, n=3)
        for index in range(3):
            await at.at.flights.sent(lost, index)
        for index in range(2):
            assert await at.at.flights.paid(lost, index, receipt(f"fox{index}"))
        await at.at.flights.finish(lost, 0, picture("fox0"))
        follower = await at.ask(wanted, on=alive, n=2)
        waiting = asyncio.create_task(alive.flights.follow(follower, follower.follows[0]))
        await die(at)
        assert not await at.at.flights.sent(lost, 2)

        [orphan] = alive.orphans
        assert orphan.receipts == {0: receipt("fox0"), 1: receipt("fox1")}
        assert orphan.ends == {0: picture("fox0")}
        assert orphan.sent == {0, 1, 2}
        assert orphan.reservation.claim.abandoned == replace(lost.claim.abandoned, cost=3 * PRICE, time=lost.time)
        assert await at.lines() == []
        assert not await at.at.flights.paid(lost, 2, receipt("fox2"))
        await at.settle(lost, picture("fox0"), picture("fox1"), picture("fox2"))  # the dead has no say any more
        assert await at.lines() == []
        assert not waiting.done()

        await at.settle(orphan.reservation, picture("fox0"), picture("fox1"), on=alive, outcome=Outcome.PARTIAL)
        assert url(await waiting) == url(picture("fox1"))
        assert [line.event_id for line in await at.lines()] == [lost.claim.request_id]
        assert await at.images() == (2, 2 * PRICE, 0)
        assert len((await at.ask(wanted, on=alive, n=2)).hits) == 2
        for _ in range(2):
            assert await alive.collector._collect_shard(at.names.shard) == 0
        assert await alive.client.call("ZSCORE", at.names.of("owners"), at.at.owner) is None


async def test_what_a_dead_replica_had_ordered_is_handed_on_with_its_order(server):
    async with project(server, replicas=2, lease=SHORT) as at:
        lost = await at.ask(sought(a_new_plan()), n=2)
        for name in ("first", "again"):  # a picture may be ordered again when nothing was made
            await at.at.flights.sent(lost, 1)
            await at.at.flights.submitted(lost, 1, Task(account="main", id=name))
        await die(at)
        [orphan] = at.replicas[1].orphans
        assert orphan.tasks == {1: Task(account="main", id="again")}
        assert (orphan.receipts, orphan.sent) == ({}, {1})
        assert await at.lines() == []
        await at.settle(orphan.reservation, p1=picture(), on=at.replicas[1], outcome=Outcome.PARTIAL)
        assert [line.event_id for line in await at.lines()] == [lost.claim.request_id]


async def test_a_rescuer_that_dies_is_rescued_too(server):
    async with project(server, replicas=3, lease=SHORT) as at:
        lost = await at.ask(sought(a_new_plan()))
        assert await at.at.flights.paid(lost, 0, receipt())
        at.replicas[1].collector._lease = 50
        await die(at)
        [orphan] = at.replicas[1].orphans
        await asyncio.sleep(0.1)
        await until(lambda: collected(at, at.replicas[2], 0))
        [again] = at.replicas[2].orphans
        assert not await at.replicas[1].flights.paid(orphan.reservation, 0, receipt())
        await at.settle(orphan.reservation, picture(), on=at.replicas[1])
        assert await at.lines() == []
        await at.settle(again.reservation, picture(), on=at.replicas[2])
        assert await at.images() == (1, PRICE, 0)


async def test_without_a_rescuer_paid_jobs_are_abandoned_as_all_others(server):
    async with project(server, replicas=2, lease=SHORT) as at:
        lost = await at.ask(sought(a_new_plan()))
        await at.at.flights.paid(lost, 0, receipt())
        at.replicas[1].collector._rescue = None
        await die(at)
        assert [line.outcome for line in await at.lines()] == [Outcome.ABANDONED]


async def test_a_shared_flight_whose_job_never_began_is_free_after_a_while(server, monkeypatch):
    """Its replica was killed between the slot that all projects share and that of its own."""
    monkeypatch.setattr(flights, "CLAIM_SECONDS", 0.5)
    async with project(server) as at:
        wanted = sought(a_new_plan(), "shared")
        claim = at.claim(wanted)
        await SharedPlans(at.at.scripts).claim(claim, place_of(claim), 2.0)
        follower = await at.ask(wanted)
        waiting = asyncio.create_task(at.at.flights.follow(follower, follower.follows[0]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert len((await at.ask(wanted)).follows) == 1
        assert await waiting == WITHDRAWN
        assert len((await at.ask(wanted)).leads) == 1


async def test_a_shared_flight_that_is_refused_in_its_project_sends_its_followers_away(server):
    async with project(server) as at:
        wanted = sought(a_new_plan(), "shared")
        claim = at.claim(wanted)
        await SharedPlans(at.at.scripts).claim(claim, place_of(claim), 2.0)
        follower = await at.ask(wanted)
        waiting = asyncio.create_task(at.at.flights.follow(follower, follower.follows[0]))
        refused = at.claim(wanted, request_id=claim.request_id, limits=Limits(images_per_day=0))
        assert isinstance(await at.at.quotas.reserve(refused), Refusal)
        assert await waiting == WITHDRAWN
        assert len((await at.ask(wanted)).leads) == 1


async def test_a_shared_flight_whose_end_was_lost_answers_once_and_is_free(server):
    """Its replica was killed between settling in its project's slot and telling the one that all projects share."""
    async with project(server) as at:
        wanted = sought(a_new_plan(), "shared")
        leader = await at.ask(wanted)
        claim, place = leader.claim, place_of(leader.claim)
        await at.settle(leader, End.of(UpstreamOverloaded("busy")), outcome=Outcome.FAILED, replayable=False)
        await SharedPlans(at.at.scripts).claim(claim, place, 2.0)
        follower = await at.ask(wanted)
        end = await at.at.flights.follow(follower, follower.follows[0])
        assert isinstance(end.failure.error(), UpstreamOverloaded)
        assert len((await at.ask(wanted)).leads) == 1


async def test_a_retry_of_a_shared_job_leaves_no_flight_behind(server):
    async with project(server) as at:
        wanted = sought(a_new_plan(), "shared", body="b0d1", read=False, join=False)
        job = await at.ask(wanted)
        again = await at.ask(replace(wanted, retry=True))
        assert again.replay.job_id == job.claim.request_id
        found = await at.ask(replace(wanted, join=True, body=""), n=3)
        assert [part.job_id for part in found.follows] == [job.claim.request_id]


async def test_a_dead_follower_leaves_an_abandoned_line_that_costs_nothing(server):
    async with project(server, replicas=2, lease=SHORT) as at:
        wanted = sought(a_new_plan())
        await at.ask(wanted, on=at.replicas[1])
        await at.ask(wanted)
        await die(at)
        [line] = await at.lines()
        assert (line.outcome, line.cost, line.cost_uncertain) == (Outcome.ABANDONED, 0, False)
        assert await at.images() == (1, PRICE, 1)


async def test_the_line_of_a_dead_job_costs_what_it_led(server):
    async with project(server, replicas=2, lease=SHORT) as at:
        wanted = sought(a_new_plan())
        await at.made(wanted, on=at.replicas[1])
        await at.ask(wanted, n=3)
        await die(at)
        line = (await at.lines())[1]
        assert (line.outcome, line.cost, line.cost_uncertain) == (Outcome.ABANDONED, 2 * PRICE, True)


async def test_after_a_loss_of_the_store_a_job_goes_on_and_is_found_by_who_repeats_it(server):
    async with project(server) as at:
        wanted = sought(a_new_plan(), body="b0d1", idempotency_key="1de3")
        job = await at.ask(wanted, n=2)
        await lose(at)
        assert await at.images() == (2, 2 * PRICE, 1)
        again = await at.ask(wanted, n=2)
        assert again.replay.job_id == job.claim.request_id
        waits = [asyncio.create_task(at.at.flights.follow(again, part)) for part in again.follows]
        assert await at.at.flights.paid(job, 0, receipt())
        await at.settle(job, picture("one"), picture("two"))
        assert await asyncio.gather(*waits) == [picture("one"), picture("two")]
        assert await at.images() == (2, 2 * PRICE, 0)
        assert len((await at.ask(replace(wanted, idempotency_key="", body=""), n=2)).hits) == 2


async def test_after_a_loss_of_the_store_equal_requests_still_join_what_is_being_made(server):
    async with project(server, replicas=2) as at:
        wanted, refused = sought(a_new_plan()), End.of(ContentRefused(Moderation(stage="input")))
        job = await at.ask(wanted, n=3)
        await at.at.flights.finish(job, 0, picture("one"))
        await at.at.flights.finish(job, 1, refused)
        await lose(at)
        again = await at.ask(wanted, n=3, on=at.replicas[1])
        assert [(part.job_id, part.index) for part in again.follows] == [(job.claim.request_id, i) for i in (0, 2)]
        waits = [asyncio.create_task(at.replicas[1].flights.follow(again, part)) for part in again.follows]
        await at.settle(job, picture("one"), refused, picture("three"))
        assert await asyncio.gather(*waits) == [picture("one"), picture("three")]
        assert len((await at.ask(wanted, n=2)).hits) == 2


async def test_a_job_whose_pointer_another_has_by_now_does_not_take_it_back(server):
    async with project(server, replicas=2) as at:
        await at.ask(keyed)
        await lose(at, taken_again=False)
        later = await at.ask(keyed, on=at.replicas[1])
        await take_again(at)
        assert (await at.ask(keyed)).replay.job_id == later.claim.request_id


async def test_after_a_loss_of_the_store_a_dead_replicas_paid_job_is_rescued(server, scope):
    """The loss took the receipts too: who has the job writes them again, and those of calls that met no store."""
    async with project(server, replicas=2, lease=SHORT) as at:
        wanted = sought(a_new_plan(), scope)
        await at.made(wanted, on=at.replicas[1])
        job = await at.ask(wanted, n=4)
        assert await at.at.flights.paid(job, 1, receipt("one"))
        await at.at.flights.finish(job, 2, picture("two"))
        await at.at.flights.sent(job, 3)
        await lose(at)
        await die(at)
        [orphan] = at.replicas[1].orphans
        assert [lead.index for lead in orphan.reservation.leads] == [1, 2, 3]
        assert orphan.reservation.claim.pictures == 4
        assert (orphan.receipts, orphan.ends, orphan.sent) == ({1: receipt("one")}, {2: picture("two")}, {3})
        assert await at.images() == (3, 3 * PRICE, 1)


async def test_a_job_of_which_only_a_download_is_left_lets_another_run(server):
    one = Limits(concurrent=1)
    async with project(server, replicas=2, lease=SHORT) as at:
        job = await at.ask(sought(), limits=one, on=at.replicas[1])
        await at.replicas[1].flights.paid(job, 0, receipt())
        for _ in range(2):
            await at.replicas[1].flights.vacate(job)
        assert await at.images() == (1, PRICE, 0)
        other = await at.ask(sought(), limits=one, on=at.replicas[1])
        await at.settle(job, picture(), on=at.replicas[1])
        assert await at.images() == (2, 2 * PRICE, 1)
        await at.replicas[1].flights.vacate(replace(job, fence=5))
        await at.settle(other, picture(), on=at.replicas[1])
        assert await at.images() == (2, 2 * PRICE, 0)


async def test_what_was_vacated_is_taken_again_without_its_place_and_rescued_once(server):
    async with project(server, replicas=2, lease=SHORT) as at:
        job = await at.ask(sought())
        await at.at.flights.paid(job, 0, receipt())
        await at.at.flights.vacate(job)
        await lose(at)
        assert await at.images() == (1, PRICE, 0)
        await die(at)
        [orphan] = at.replicas[1].orphans
        await at.at.flights.vacate(job)
        await at.settle(orphan.reservation, picture(), on=at.replicas[1])
        assert await at.images() == (1, PRICE, 0)


async def test_what_was_settled_meanwhile_is_not_taken_again(server):
    async with project(server) as at:
        job = await at.ask(sought(a_new_plan()))
        await lose(at, taken_again=False)
        await at.settle(job, picture())
        await at.at.quotas.take_again(job.claim)
        assert await at.images() == (1, PRICE, 0)


async def test_jobs_that_run_are_listed(server):
    async with project(server) as at:
        queued = await at.ask(sought(a_new_plan()), n=2)
        sent, fetched = await at.ask(sought(a_new_plan())), await at.ask(sought(a_new_plan()))
        for job in (sent, fetched):
            await at.at.flights.sent(job, 0)
        await at.at.flights.paid(fetched, 0, receipt())
        await at.made(sought(a_new_plan()))
        listed = {job.job_id: job for job in await at.at.board.jobs() if job.project_id == at.id}
        assert {job_id: job.state for job_id, job in listed.items()} == {
            queued.claim.request_id: "queued",
            sent.claim.request_id: "sent",
            fetched.claim.request_id: "fetched",
        }
        shown = listed[queued.claim.request_id]
        assert (shown.pictures, shown.key_id, shown.owner) == (2, queued.claim.abandoned.key_id, at.at.owner)
        for job in (queued, sent, fetched):
            await at.settle(job)


async def test_a_cancelled_job_is_heard_of_by_its_replica(server):
    async with project(server, replicas=2, listening=True) as at:
        job = await at.ask(sought(a_new_plan()))
        assert await at.replicas[1].board.cancel(job.claim.request_id)
        await until(lambda: said(at.at.cancelled == [job.claim.request_id]))
        assert not await at.at.flights.waiting(job)
        await at.settle(job)
        assert not await at.replicas[1].board.cancel(job.claim.request_id)
        assert not await at.replicas[1].board.cancel("nobody's")


async def test_a_purge_forgets_what_is_remembered_of_a_project_and_no_flight(server):
    async with project(server) as at, project(server) as other:
        plans = [a_new_plan() for _ in range(3)]
        wanted = [sought(plans[0]), sought(plans[1], "key"), sought(plans[2])]
        leader = await at.ask(wanted[2])
        for each in wanted[:2]:
            await at.made(each)
            await other.made(each)
        assert await at.at.board.purge(at.id) == 2
        for each in wanted[:2]:
            assert len((await at.ask(each)).leads) == 1
            assert (await other.ask(each)).settled
        assert (await at.ask(wanted[2])).follows[0].job_id == leader.claim.request_id


async def test_a_purge_of_everything_takes_what_is_shared_too(server):
    async with project(server) as at:
        shared, own = sought(a_new_plan(), "shared"), sought(a_new_plan())
        await at.made(shared)
        await at.made(own)
        assert await at.at.board.purge() >= 2
        assert len((await at.ask(shared)).leads) == len((await at.ask(own)).leads) == 1


async def test_no_more_plans_are_remembered_than_allowed(server, scope):
    async with project(server) as at:
        await at.at.board.purge()
        plans = [a_new_plan() for _ in range(400 if scope == "shared" else 5)]
        if scope == "shared":
            plans = [plan for plan in plans if shard_of(plan) == shard_of(plans[0])][:5]
        wanted = [sought(plan, scope, max_entries=2) for plan in plans]
        for each in wanted:
            await at.made(each)
            await asyncio.sleep(0.005)
        found = [len((await at.ask(each)).hits) for each in wanted]
        assert found == [0] * (len(plans) - 2) + [1, 1]


async def test_plans_whose_time_is_over_take_no_room(server, scope):
    async with project(server) as at:
        await at.at.board.purge()
        wanted = sought(a_new_plan(), scope, max_entries=2)
        index = place_of(at.claim(wanted)).index
        await at.at.client.call("ZADD", index, 1, "made in 1970", 2, "made a little later")
        await at.made(wanted)
        assert await at.at.client.call("ZCARD", index) == 1


async def test_a_picture_whose_bytes_are_gone_is_forgotten(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        await at.made(wanted)
        gone = await at.ask(wanted)
        await at.at.flights.forget(gone, gone.hits[0])
        assert len((await at.ask(replace(wanted, again=True))).leads) == 1


async def test_a_plan_has_a_bounded_number_of_pictures(server):
    async with project(server) as at:
        wanted = sought(a_new_plan(), read=False, join=False)
        for _ in range(4):
            job = await at.ask(wanted, n=10)
            await at.settle(job, *(picture(str(number)) for number in range(10)))
        found = await at.ask(replace(wanted, read=True), n=50)
        assert len(found.hits) == 32


async def die(at):
    """Let the first replica's lease end, and the second find that out."""
    alive, lines = at.replicas[1], len(await at.lines())
    if not await collected(at, alive, lines):  # a slow machine may have let it end already
        await asyncio.sleep(SHORT + 0.05)
        await until(lambda: collected(at, alive, lines))


async def collected(at, replica, lines):
    """Tell whether a job was rescued, or a further line is there; what other tests left in the shard does not count."""
    await replica.collector._collect_shard(at.names.shard)
    return bool(replica.orphans) or len(await at.lines()) > lines


async def said(truth):
    return truth


async def until(condition, seconds=30.0):
    """Wait until a question is answered by yes."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def lose(at, *, taken_again=True):
    """Lose what the project's shard holds, and have the first replica take again what it had."""
    for name in await keys_of(at):
        await at.at.client.call("DEL", name)
    if taken_again:
        await take_again(at)


async def take_again(at):
    for claim in at.at.quotas.held(at.names.shard):
        await at.at.quotas.take_again(claim)


async def keys_of(at):
    """Everything in a project's shard but its epoch and its owners."""
    script = "return redis.call('KEYS', ARGV[1])"
    found = await at.at.client.call("EVAL", script, 1, at.names.of("epoch"), at.names.of("*"))
    return {name.decode() for name in found} - {at.names.of("epoch"), at.names.of("owners")}
