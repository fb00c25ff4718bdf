"""Jobs are found by their ids, in their own project only, for a day when somebody has been promised so."""

from uuid import uuid4

import pytest

from gateway.adapters.redis.tasks import RedisJobRecords
from gateway.domain.asked import Asked
from gateway.domain.errors import ContentRefused, Moderation
from gateway.domain.flights import WITHDRAWN, End
from gateway.domain.quota import shard_of
from gateway.service.tasks import submitted
from tests.ports.flight_shop import a_new_plan, picture, project, sought

pytestmark = pytest.mark.anyio
DAY = 24


def a_task(plan=""):
    """What a submission looks for: its record is named by an Idempotency-Key."""
    asked = submitted(Asked(request_id=uuid4().hex, body="b0d1"))
    return sought(plan, "project" if plan else "off", body=asked.body, idempotency_key=asked.idempotency_key)


async def find(at, reservation, project_id=None):
    return await RedisJobRecords(at.at.scripts).find(project_id or at.id, reservation.claim.request_id)


async def hours(at, reservation):
    left = await at.at.client.call("PTTL", at.names.of("reservation", reservation.claim.request_id))
    return round(left / 3_600_000)


async def test_a_job_runs_and_ends(server):
    async with project(server) as at:
        job = await at.ask(a_task())
        running = await find(at, job)
        assert (running.state, running.model, running.end) == ("running", "glm-image", WITHDRAWN)
        await at.settle(job, picture("fox"))
        ended = await find(at, job)
        assert (ended.state, ended.end) == ("ended", picture("fox"))
        assert await hours(at, job) == DAY


@pytest.mark.parametrize("end", [End.of(ContentRefused(Moderation(stage="input"))), WITHDRAWN])
async def test_a_failure_is_known_as_long_as_a_picture(server, end):
    async with project(server) as at:
        job = await at.ask(a_task())
        await at.settle(job, end, replayable=False)
        ended = await find(at, job)
        assert (ended.state, ended.end) == ("ended", end)
        assert await hours(at, job) == DAY


async def test_what_is_remembered_is_the_result_at_once(server):
    async with project(server) as at:
        plan = a_new_plan()
        await at.made(sought(plan), "fox")
        hit = await at.ask(a_task(plan))
        assert hit.settled
        found = await find(at, hit)
        assert (found.state, found.end) == ("ended", picture("fox"))
        assert await hours(at, hit) == DAY


async def test_who_follows_has_a_result_too(server):
    async with project(server) as at:
        plan = a_new_plan()
        leader = await at.ask(sought(plan))
        follower = await at.ask(a_task(plan))
        assert follower.follows
        assert (await find(at, follower)).state == "running"
        await at.settle(leader, picture("fox"))
        await at.settle(follower, p0=picture("fox"))
        assert (await find(at, follower)).end == picture("fox")
        assert await hours(at, follower) == DAY


async def test_the_job_of_a_dead_replica_is_known_as_abandoned(server):
    async with project(server, replicas=2, lease=0.1) as at:
        job = await at.ask(a_task())
        found = await find(at, job)
        while found.state == "running":
            await at.replicas[1].collector._collect_shard(at.names.shard)
            found = await find(at, job)
        assert (found.state, found.end) == ("abandoned", WITHDRAWN)
        assert await hours(at, job) == DAY


async def test_a_job_is_not_found_by_another_project_of_the_same_slot(server):
    async with project(server) as at:
        job = await at.ask(a_task())
        names = (f"proj_{number}" for number in range(10_000))
        neighbour = next(name for name in names if shard_of(name) == at.names.shard)
        assert await find(at, job, neighbour) is None


@pytest.mark.parametrize("job_id", ["", "nobody", "a:b", "a" * 65, "\u0661", "x\n", "*"])
async def test_what_is_no_id_finds_nothing(server, job_id):
    async with project(server) as at:
        assert await RedisJobRecords(at.at.scripts).find(at.id, job_id) is None
