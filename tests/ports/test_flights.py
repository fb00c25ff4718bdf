"""What is promised to requests for the same picture, on every server that the store may run on."""

import asyncio
import time
from dataclasses import replace

import pytest

from gateway.adapters.redis import watches
from gateway.adapters.redis.plans import place_of
from gateway.domain.errors import ContentRefused, Moderation, QueueTimedOut
from gateway.domain.flights import WITHDRAWN, End, Follow, Lead
from gateway.domain.quota import Limits, Refusal, Reservation
from gateway.domain.usage import Outcome
from gateway.service.ports import QuotaUnavailable
from gateway.service.ports_flights import NotLed
from tests.ports.flight_shop import PRICE, Project, Replica, a_new_plan, picture, project, sought, url
from tests.servers import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["project", "key", "shared"])
def scope(request):
    return request.param


async def test_the_first_leads_the_second_follows_the_third_hits(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        first, second = await at.ask(wanted), await at.ask(wanted)
        assert first.parts == (Lead(index=0),)
        assert [type(part) for part in second.parts] == [Follow]
        waiting = asyncio.create_task(at.at.flights.follow(second, second.follows[0]))
        await at.settle(first, picture("fox"))
        assert url(await waiting) == url(picture("fox"))
        await at.settle(second, outcome=Outcome.JOINED, p0=picture("fox"))
        third = await at.ask(wanted)
        assert third.settled
        assert [hit.picture for hit in third.hits] == [picture("fox").picture]
        assert await at.images() == (1, PRICE, 0)
        assert [line.outcome for line in await at.lines()] == [Outcome.DELIVERED, Outcome.JOINED, Outcome.HIT]
        line = (await at.lines())[2]
        assert (line.cost, line.price, line.cost_uncertain) == (0, 0, False)
        assert (line.status, line.error_code) == (200, "")


async def test_a_hit_is_told_how_old_it_is(server):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        await at.made(wanted)
        clock = int(await at.at.client.call("GET", at.names.of("clock")))
        await at.at.client.call("SET", at.names.of("clock"), clock + 7_500)
        hit = await at.ask(wanted)
        await at.at.client.call("DEL", at.names.of("clock"))
        assert hit.hits[0].age in {7, 8}


async def test_only_variants_that_lack_are_made(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        await at.made(wanted, "old")
        await asyncio.sleep(0.002)  # pictures of one millisecond have no order
        three = await at.ask(wanted, n=3)
        assert len(three.hits) == 1
        assert three.leads == (Lead(index=1), Lead(index=2))
        assert await at.images() == (3, 3 * PRICE, 1)
        again = await at.ask(wanted, n=3)
        assert len(again.hits) == 1
        assert [(part.job_id, part.index) for part in again.follows] == [
            (three.claim.request_id, 1),
            (three.claim.request_id, 2),
        ]
        await at.settle(three, picture("new1"), picture("new2"))
        assert [url(await at.at.flights.follow(again, part)) for part in again.follows] == [
            url(picture("new1")),
            url(picture("new2")),
        ]
        assert [hit.picture for hit in (await at.ask(wanted)).hits] == [picture("old").picture]
        assert len((await at.ask(wanted, n=3)).hits) == 3


async def test_a_picture_that_is_asked_for_anew_is_none_that_its_request_gives_already(server, scope):
    """Neither one that its own job makes at another position, nor one that it was given; others are taken."""
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        await at.made(wanted, "old")
        parent = await at.ask(wanted, n=2)
        again = replace(wanted, again=True, exclude=tuple(found.variant for found in parent.hits))
        child = await at.ask(again, request_id=f"{parent.claim.request_id}~0")
        assert len(child.leads) == 1
        sibling = await at.ask(again, request_id=f"{parent.claim.request_id}~1")
        assert len(sibling.leads) == 1
        await at.settle(child, picture("first"))
        assert len((await at.ask(again, request_id=f"{parent.claim.request_id}~1~0")).leads) == 1
        assert len((await at.ask(wanted, n=2)).hits) == 2


async def test_what_is_held_is_what_is_led(server):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        await at.made(wanted)
        job = await at.ask(wanted, n=3)
        await at.settle(job, picture("new"), End())
        assert await at.images() == (2, 2 * PRICE, 0)


@pytest.mark.parametrize("other", ["other scope", "other plan", "other key", "other project"])
async def test_a_remembered_picture_does_not_cross_its_scope(server, other):
    async with project(server) as at, project(server) as elsewhere:
        plan = a_new_plan()
        scope = "key" if other == "other key" else "project"
        await at.made(sought(plan, scope))
        asked = {
            "other scope": at.ask(sought(plan, "key")),
            "other plan": at.ask(sought(a_new_plan(), scope)),
            "other key": at.ask(sought(plan, scope), key="second"),
            "other project": elsewhere.ask(sought(plan, scope)),
        }
        for name, asking in asked.items():
            if name != other:
                asking.close()
        assert len((await asked[other]).leads) == 1


async def test_what_is_shared_is_found_by_every_project(server):
    async with project(server) as at, project(server) as elsewhere:
        wanted = sought(a_new_plan(), "shared")
        leader = await at.ask(wanted)
        follower = await elsewhere.ask(wanted)
        waiting = asyncio.create_task(elsewhere.at.flights.follow(follower, follower.follows[0]))
        await asyncio.sleep(0.05)
        await at.at.flights.left(leader)
        assert await at.at.flights.waiting(leader)
        await at.settle(leader, picture("fox"))
        assert url(await waiting) == url(picture("fox"))
        assert (await elsewhere.ask(wanted)).settled


async def test_off_neither_reads_nor_joins_nor_remembers(server):
    async with project(server) as at:
        for plan in ("", a_new_plan()):
            first, second = await at.ask(sought(plan, "off")), await at.ask(sought(plan, "off"))
            await at.settle(first, picture())
            assert [len(job.leads) for job in (first, second, await at.ask(sought(plan, "off")))] == [1, 1, 1]


async def test_no_cache_makes_anew_and_remembers_one_more(server):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        anew = replace(wanted, read=False, join=False)
        await at.made(wanted, "old")
        await asyncio.sleep(0.005)  # the store's clock tells milliseconds apart
        flying = await at.ask(anew)
        assert len(flying.leads) == len((await at.ask(anew)).leads) == 1
        assert {part.job_id for part in (await at.ask(wanted, n=3)).follows} >= {flying.claim.request_id}
        await at.settle(flying, picture("new"))
        assert [hit.picture for hit in (await at.ask(wanted, n=2)).hits] == [
            picture("old").picture,
            picture("new").picture,
        ]


async def test_an_outage_is_waited_out_for_a_while_by_who_follows_and_on_by_who_stands_in_line():
    away = Replica(f"redis://127.0.0.1:{free_port()}/0", patience=0.1)
    claim = Project([away]).claim(sought(a_new_plan()))
    reservation = Reservation(claim=claim, day="day", month="month", moment=0)
    turn = asyncio.create_task(away.flights.turn(reservation))
    with pytest.raises(QuotaUnavailable):
        await away.flights.follow(reservation, Follow(job_id="another", index=0, shard=0))
    await asyncio.sleep(0.5)
    assert not turn.done()
    turn.cancel()
    await away.aclose()


async def test_no_store_joins_and_is_joined_and_leaves_nothing(server):
    async with project(server) as at:
        wanted = replace(sought(a_new_plan()), read=False, remember=False)
        leader, follower = await at.ask(wanted), await at.ask(wanted)
        assert len(follower.follows) == 1
        await at.settle(leader, picture("fox"))
        assert url(await at.at.flights.follow(follower, follower.follows[0])) == url(picture("fox"))
        assert len((await at.ask(replace(wanted, read=True))).leads) == 1


@pytest.mark.parametrize("bound", ["max_age", "fresh"])
async def test_what_is_too_old_is_made_anew(server, bound):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        await at.made(wanted)
        assert (await at.ask(replace(wanted, **{bound: 60.0}))).settled
        clock = int(await at.at.client.call("GET", at.names.of("clock")))
        await at.at.client.call("SET", at.names.of("clock"), clock + 60_000)
        assert len((await at.ask(replace(wanted, **{bound: 60.0}))).leads) == 1
        await at.at.client.call("DEL", at.names.of("clock"))


async def test_remembered_pictures_end_with_their_lifetime(server):
    async with project(server) as at:
        wanted = replace(sought(a_new_plan()), lifetime=0.05)
        await at.made(wanted)
        await asyncio.sleep(0.1)
        assert await at.at.client.call("EXISTS", at.names.of("results", f"{at.id}//{wanted.plan}")) == 0


async def test_a_failure_of_the_upstream_answers_all_and_is_not_remembered(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        leader, follower = await at.ask(wanted), await at.ask(wanted)
        refusal = ContentRefused(Moderation(stage="output", categories=("violence",)))
        await at.settle(leader, End.of(refusal), outcome=Outcome.FAILED)
        error = (await at.at.flights.follow(follower, follower.follows[0])).failure.error()
        assert isinstance(error, ContentRefused)
        assert error.moderation == refusal.moderation
        assert len((await at.ask(wanted)).leads) == 1


@pytest.mark.parametrize("ending", ["settled", "released"])
async def test_a_leader_that_withdraws_lets_its_followers_attach_anew(server, scope, ending):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        leader, follower = await at.ask(wanted), await at.ask(wanted)
        waiting = asyncio.create_task(at.at.flights.follow(follower, follower.follows[0]))
        if ending == "settled":
            await at.settle(leader, End.of(QueueTimedOut("full")), outcome=Outcome.REFUSED, replayable=False)
        else:
            await at.at.quotas.release(leader.claim)
        assert await waiting == WITHDRAWN
        assert len((await at.ask(wanted)).leads) == 1


async def test_one_of_several_pictures_ends_before_its_job(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        leader = await at.ask(wanted, n=2)
        follower = await at.ask(wanted, n=2)
        waits = [asyncio.create_task(at.at.flights.follow(follower, part)) for part in follower.follows]
        await at.at.flights.finish(leader, 0, picture("first"))
        assert url(await waits[0]) == url(picture("first"))
        assert not waits[1].done()
        assert (await at.ask(wanted)).hits[0].picture == picture("first").picture
        await at.settle(leader, picture("first"), picture("second"))
        assert url(await waits[1]) == url(picture("second"))
        assert len((await at.ask(wanted, n=2)).hits) == 2
        assert await at.images() == (2, 2 * PRICE, 0)


async def test_one_of_several_pictures_is_withdrawn_before_its_job_ends(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        leader = await at.ask(wanted, n=2)
        follower = await at.ask(wanted, n=2)
        await at.at.flights.finish(leader, 0, WITHDRAWN)
        assert await at.at.flights.follow(follower, follower.follows[0]) == WITHDRAWN
        anew = await at.ask(wanted, n=2)
        assert [(len(anew.follows), len(anew.leads)), anew.follows[0].index] == [(1, 1), 1]


async def test_the_first_end_of_a_picture_counts(server):
    async with project(server) as at:
        wanted = sought(a_new_plan(), body="b0d1", idempotency_key="1de3")
        job = await at.ask(wanted, n=2)
        await at.at.flights.finish(job, 0, picture("first"))
        await at.settle(job, picture("other"), picture("second"))
        assert (await at.ask(wanted, n=2)).replay.ended == (picture("first"), picture("second"))
        assert {hit.picture for hit in (await at.ask(sought(wanted.plan), n=2)).hits} == {
            picture("first").picture,
            picture("second").picture,
        }


async def test_limits_stand_in_the_way_of_leaders_only(server):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        one = Limits(images_per_day=1, concurrent=1)
        first = await at.ask(wanted, limits=one)
        assert isinstance(await at.ask(sought(a_new_plan()), limits=one), Refusal)
        follower = await at.ask(wanted, limits=one)
        await at.settle(first, picture())
        assert (await at.ask(wanted, limits=one)).settled
        assert (await at.ask(wanted, limits=Limits(images_per_day=0, spend_per_month=0, concurrent=0))).settled
        await at.settle(follower, outcome=Outcome.JOINED)
        assert await at.images() == (1, PRICE, 0)


async def test_every_request_counts_and_one_that_attaches_anew_does_not_count_again(server):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        limits = Limits(requests_per_minute=3)
        await at.ask(wanted, limits=limits)
        await at.ask(wanted, limits=limits)
        await at.ask(replace(wanted, again=True), limits=limits)
        await at.ask(wanted, limits=limits)
        assert await at.requests() == 3
        assert isinstance(await at.ask(wanted, limits=limits), Refusal)
        assert not isinstance(await at.ask(replace(wanted, again=True), limits=limits), Refusal)


async def test_a_refused_request_leaves_nothing_behind(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope, body="b0d1", idempotency_key="1de3")
        assert isinstance(await at.ask(wanted, limits=Limits(images_per_day=0)), Refusal)
        assert len((await at.ask(replace(wanted, body="b0d2"))).leads) == 1


async def test_a_replica_that_shuts_down_attaches_and_begins_nothing(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        late = replace(wanted, lead=False)
        with pytest.raises(NotLed):
            await at.ask(late)
        leader = await at.ask(wanted)
        assert len((await at.ask(late)).follows) == 1
        with pytest.raises(NotLed):
            await at.ask(late, n=2)
        await at.settle(leader, picture())
        assert (await at.ask(late)).settled
        assert await at.images() == (1, PRICE, 0)


@pytest.mark.parametrize("found", ["lead", "follow", "hit"])
async def test_a_script_that_runs_twice_attaches_once(server, found, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope)
        if found != "lead":
            first = await at.ask(wanted)
        if found == "hit":
            await at.settle(first, picture())
        claim = at.claim(wanted, limits=Limits(requests_per_minute=9))
        once, twice = await at.at.quotas.reserve(claim), await at.at.quotas.reserve(claim)
        assert once == twice
        assert await at.requests() == 1
        assert await at.images() == (1, PRICE, int(found != "hit"))
        assert len(await at.lines()) == (2 if found == "hit" else 0)
        if found == "lead":
            for _ in range(2):
                await at.settle(once, picture())
            assert len(await at.lines()) == 1
            assert len((await at.ask(wanted, n=2)).hits) == 1


async def test_a_hundred_equal_requests_on_two_replicas_make_one_picture(server, scope):
    async with project(server, replicas=2, listening=True) as at:
        wanted = sought(a_new_plan(), scope)

        async def one(number):
            on = at.replicas[number % 2]
            job = await at.ask(wanted, on=on)
            if job.leads:
                await asyncio.sleep(0.3)
                await at.settle(job, picture("fox"), on=on)
                return "led", url(picture("fox"))
            end = await on.flights.follow(job, job.follows[0])
            await at.settle(job, on=on, outcome=Outcome.JOINED, p0=end)
            return "followed", url(end)

        ends = await asyncio.gather(*(one(number) for number in range(100)))
        assert sorted(how for how, _ in ends).count("led") == 1
        assert {where for _, where in ends} == {url(picture("fox"))}
        assert await at.images() == (1, PRICE, 0)
        assert len(await at.lines()) == 100


async def test_followers_on_every_replica_are_told_at_once(server, scope, monkeypatch):
    monkeypatch.setattr(watches, "FIRST_PAUSE", 1000.0)  # by themselves they look too late
    monkeypatch.setattr(watches, "LONGEST_PAUSE", 1000.0)
    async with project(server, replicas=2, listening=True) as at:
        wanted = sought(a_new_plan(), scope)
        leader = await at.ask(wanted)
        jobs = [await at.ask(wanted, on=replica) for replica in at.replicas]
        waits = [
            asyncio.create_task(replica.flights.follow(job, job.follows[0]))
            for replica, job in zip(at.replicas, jobs, strict=True)
        ]
        await asyncio.sleep(0.2)
        await at.settle(leader, picture("fox"))
        assert [url(end) for end in await asyncio.gather(*waits)] == [url(picture("fox"))] * 2


async def test_a_follower_that_gives_up_leaves_the_others_waiting(server):
    async with project(server) as at:
        wanted = sought(a_new_plan())
        leader = await at.ask(wanted)
        jobs = [await at.ask(wanted) for _ in range(2)]
        waits = [asyncio.create_task(at.at.flights.follow(job, job.follows[0])) for job in jobs]
        await asyncio.sleep(0.05)
        waits[0].cancel()
        await asyncio.wait([waits[0]])
        await at.settle(leader, picture("fox"))
        assert url(await waits[1]) == url(picture("fox"))


async def test_parallel_calls_of_one_client_take_different_pictures(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope, distinct=True)
        jobs = [await at.ask(wanted) for _ in range(3)]
        assert [len(job.leads) for job in jobs] == [1, 1, 1]
        for number, job in enumerate(jobs):
            await at.settle(job, picture(f"fox{number}"))
            await asyncio.sleep(0.005)  # the store's clock tells milliseconds apart
        await at.at.client.call("DEL", handed_of(at, wanted))  # five seconds later
        again = [await at.ask(wanted) for _ in range(3)]
        assert [job.hits[0].picture for job in again] == [picture(f"fox{number}").picture for number in range(3)]
        assert len((await at.ask(wanted)).leads) == 1
        assert (await at.ask(wanted, key="other")).settled is (scope != "key")


async def test_a_replica_that_shuts_down_gives_parallel_calls_the_same_picture(server, scope):
    async with project(server) as at:
        wanted = sought(a_new_plan(), scope, distinct=True)
        leader = await at.ask(wanted)
        late = replace(wanted, lead=False)
        assert len((await at.ask(late)).follows) == 1
        await at.settle(leader, picture("fox"))
        assert [hit.picture for hit in (await at.ask(late)).hits] == [picture("fox").picture]


async def test_a_distinct_call_joins_what_nobody_of_its_key_waits_for(server):
    async with project(server) as at:
        wanted = sought(a_new_plan(), distinct=True)
        leader = await at.ask(wanted)
        assert len((await at.ask(wanted, key="other")).follows) == 1
        await at.at.flights.left(leader)
        await at.at.client.call("DEL", handed_of(at, wanted))
        assert len((await at.ask(wanted)).follows) == 1


def handed_of(at, wanted):
    """The key of what the project's key was given of a plan."""
    claim = at.claim(wanted)
    return place_of(claim).handed(claim.abandoned.key_id)


async def test_a_replica_knows_by_itself_whether_it_may_have_been_taken_for_dead(server):
    async with project(server) as at:
        early = await at.ask(sought(a_new_plan()))
        at.at.lease.renewed(time.monotonic())
        late = await at.ask(sought(a_new_plan()))
        assert [at.at.flights.lapsed(job) for job in (early, late)] == [True, False]
