"""Pictures that others make or have made: joined, remembered, made anew when they do not come after all."""

from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.domain import errors
from gateway.domain.caching import repeated_name
from gateway.domain.flights import WITHDRAWN, End, Failure, Follow, Hit, Lead, Receipt, Replay, Task, replayable
from gateway.domain.limits import Limit
from gateway.domain.upstream import CallFailure, Fault
from gateway.domain.usage import Outcome
from gateway.service.picture_ports import FetchFailed
from gateway.service.ports_flights import Orphan
from gateway.service.ports_upstream import CallFailed
from gateway.service.rescue import Rescue
from gateway.service.resuming import Resuming
from gateway.service.turns import Bounds
from tests.builders import PRICE, a_job, a_paid_picture, a_picture, a_room, a_run, an_order, failed
from tests.fakes import settle
from tests.studio import BOOKS, Studio

pytestmark = pytest.mark.anyio
FOLLOW = Follow(job_id="other", index=0, shard=0)
REFUSAL = failed(Fault.CONTENT, "1301", 400)
REFUSED = Failure(kind="ContentRefused", message="no", moderation=errors.Moderation())


async def stored(studio, content=b"remembered"):
    """A picture of another request that the store has."""
    picture = a_picture(content)
    studio.shop.store.pictures[picture.image.name] = content
    return picture


async def attached(studio, n=1, **found):
    """Start a request that finds so much."""
    studio.quotas.found["request-1"] = found
    return await studio.start(n=n)


async def test_a_picture_in_flight_is_waited_for_and_costs_nothing():
    studio = Studio(scope="project")
    picture = await stored(studio)
    studio.flights.ends["other", 0] = End(picture=picture)
    generation = await attached(studio, follows=(FOLLOW,))
    assert await generation.all() == [picture]
    assert generation.cache == "COALESCED"
    line = await studio.line()
    assert (line.outcome, line.pictures_delivered, line.cost, line.price) == (Outcome.JOINED, 0, 0, 0)
    assert (line.cache, line.status, studio.shop.upstream.calls) == ("COALESCED", 200, [])


async def test_who_cannot_be_told_what_becomes_of_a_picture_pays_for_no_other_one():
    studio = Studio()
    generation = await attached(studio, 2, follows=(FOLLOW,), leads=(Lead(index=1),))
    studio.flights.down = True
    assert len(await generation.all()) == 1
    [failure] = generation.failures()
    assert isinstance(failure, errors.PictureUntold)
    assert "Nothing was charged" in failure.message
    studio.flights.down = False
    line = await studio.line()
    assert (line.pictures_paid, line.outcome) == (1, Outcome.DELIVERED)
    assert len(studio.shop.upstream.calls) == 1


async def test_a_failure_of_the_upstream_is_the_answer_of_all_who_follow():
    studio = Studio()
    studio.flights.ends["other", 0] = End(failure=REFUSED)
    generation = await attached(studio, follows=(FOLLOW,))
    with pytest.raises(errors.ContentRefused):
        await generation.all()
    assert (await studio.line()).error_code == "content_policy_violation"


@pytest.mark.parametrize(("ends", "used"), [((REFUSAL, REFUSAL), 4), ((REFUSAL,), 5), ((), 6)])
async def test_only_what_this_request_led_and_did_not_get_is_given_back(ends, used):
    """Two of three are led and so taken; the one that is followed fails, and was never taken."""
    studio = Studio(*ends)
    studio.flights.ends["other", 0] = End(failure=REFUSED)
    rooms = (a_room(Limit.IMAGES_PER_DAY, value=10, used=6), a_room(Limit.REQUESTS_PER_MINUTE, value=10, used=6))
    leads = (Lead(index=1), Lead(index=2))
    generation = await attached(studio, 3, follows=(FOLLOW,), leads=leads, rooms=rooms)
    assert [room.used for room in generation.rooms] == [6, 6]  # nothing is given back yet
    with suppress(errors.ContentRefused):
        await generation.all()
    assert [room.used for room in generation.rooms] == [used, 6]


async def test_who_follows_a_job_that_withdraws_attaches_anew():
    studio = Studio(scope="project")
    generation = await attached(studio, follows=(FOLLOW,))
    assert len(await generation.all()) == 1
    assert generation.cache == "MISS"
    assert await studio.jobs.drain(5) == 0
    lines = {line.event_id: (line.outcome, line.price) for line in studio.quotas.events}
    assert lines == {"request-1": (Outcome.JOINED, 0), "request-1~0": (Outcome.DELIVERED, PRICE)}
    assert {line.request_id for line in studio.quotas.events} == {"request-1"}


async def test_what_is_asked_for_anew_is_no_picture_that_the_answer_has_already():
    studio = Studio(scope="project")
    hit = Hit(picture=await stored(studio), age=7, variant="old.0")
    second = Follow(job_id="third", index=4, shard=0)
    studio.quotas.found["request-1~1"] = {"follows": (second,)}
    studio.quotas.found["request-1~2"] = {"follows": (FOLLOW,)}  # what had withdrawn may be there again
    generation = await attached(studio, 3, hits=(hit,), follows=(FOLLOW, replace(FOLLOW, index=1)))
    assert len(await generation.all()) == 3
    excluded = {name: set(claim.sought.exclude) for name, claim in studio.quotas.claims.items()}
    assert excluded["request-1~1"] == {"old.0", "other.1"}
    assert excluded["request-1~2"] == {"old.0", "third.4"}
    assert excluded["request-1~1~0"] == {"old.0", "other.0"}
    assert excluded["request-1~2~0"] == {"old.0"}


async def test_nobody_attaches_anew_for_ever():
    studio = Studio()
    studio.flights.gate.clear()
    generation = await attached(studio, follows=(FOLLOW,))
    await settle()
    studio.shop.clock.seconds += 181
    studio.flights.gate.set()
    with pytest.raises(errors.QueueTimedOut):
        await generation.all()
    assert studio.shop.upstream.calls == []


async def test_a_remembered_picture_is_given_at_once():
    studio = Studio(scope="project")
    hit = Hit(picture=await stored(studio), age=7, variant="v")
    generation = await attached(studio, hits=(hit,), settled=True)
    assert await generation.all() == [hit.picture]
    assert (generation.cache, generation.age) == ("HIT", 7)
    assert studio.shop.upstream.calls == studio.quotas.events == []


async def test_a_remembered_picture_whose_bytes_are_gone_is_forgotten_and_made_anew():
    studio = Studio(scope="project")
    hit = Hit(picture=a_picture(b"gone"), age=7, variant="v")
    generation = await attached(studio, hits=(hit,), settled=True)
    [picture] = await generation.all()
    assert picture.image != hit.picture.image
    assert (generation.cache, generation.age) == ("MISS", None)
    assert await studio.errands.drain(5) == 0
    assert studio.flights.all("forget") == [["request-1", hit]]


async def test_a_repeated_job_is_answered_with_its_ends_and_its_time():
    studio = Studio(scope="project")
    picture = await stored(studio)
    ends = (End(picture=picture), End(failure=REFUSED))
    generation = await attached(studio, 2, replay=Replay(job_id="other", created=5, ended=ends), settled=True)
    assert await generation.all() == [picture]
    assert (generation.created, generation.replayed, generation.job_id) == (5, True, "other")


async def test_what_a_repeated_job_lacks_is_made_by_the_request_that_takes_its_place():
    studio = Studio()
    picture = await stored(studio)
    ends = (End(picture=picture), WITHDRAWN)
    generation = await attached(studio, 2, replay=Replay(job_id="other", created=5, ended=ends, origin="first"))
    pictures = await generation.all()
    assert (len(pictures), pictures[0], len(studio.shop.upstream.calls)) == (2, picture, 1)
    assert (generation.replayed, generation.job_id, generation.cache) == (False, "request-1", "BYPASS")
    assert generation.created == int(studio.shop.clock.now().timestamp())
    assert await studio.jobs.drain(5) == 0
    lines = {line.event_id: (line.outcome, line.pictures_delivered) for line in studio.quotas.events}
    assert lines == {"request-1": (Outcome.JOINED, 0), "request-1~1": (Outcome.DELIVERED, 1)}
    assert studio.quotas.endings["request-1"].ends == {0: ends[0], 1: End(picture=pictures[1])}
    assert studio.quotas.claims["request-1~1"].sought.plan == repeated_name("first", 1)


async def test_several_pictures_are_told_of_one_by_one_and_a_single_one_with_its_job():
    for n, told in ((1, 0), (2, 2)):  # what waits for one of several does not wait for their job's settlement
        studio = Studio()
        generation = await attached(studio, n, leads=tuple(Lead(index=index) for index in range(n)))
        await generation.all()
        assert await studio.errands.drain(5) == 0
        assert len(studio.flights.all("finish")) == told
        assert len(studio.flights.all("sent")) == len(studio.flights.all("paid")) == n


async def test_a_single_lead_beside_others_is_told_of_at_once_too():
    """What takes the place of another picture of the job may follow it."""
    studio = Studio()
    studio.flights.ends["other", 0] = End(picture=await stored(studio))
    generation = await attached(studio, 2, follows=(FOLLOW,), leads=(Lead(index=1),))
    assert len(await generation.all()) == 2
    assert await studio.errands.drain(5) == 0
    assert [said[1] for said in studio.flights.all("finish")] == [1]


@pytest.mark.parametrize("kind", ["PictureStoreUnavailable", "LedgerBehind", "DatabaseUnavailable", "ShuttingDown"])
def test_what_keeps_one_replica_from_making_a_picture_is_no_end_for_others(kind):
    refusal = getattr(errors, kind)("not now")
    assert End.of(refusal).withdrawn
    assert not replayable([refusal])


async def test_a_picture_is_made_although_nobody_can_be_told_how_far_it_is():
    studio = Studio()
    studio.flights.down = True
    assert len(await (await studio.start()).all()) == 1
    assert studio.crashes == []


async def test_while_the_gateway_stops_what_exists_is_attached_to_and_nothing_is_begun():
    studio = Studio()
    studio.jobs.closing = True
    with pytest.raises(errors.ShuttingDown):
        await studio.start()
    assert studio.quotas.events == []


async def test_a_replica_runs_a_bounded_number_of_jobs():
    studio = Studio(bounds=Bounds(jobs=1, patience=180.0))
    first = await studio.start()
    with pytest.raises(errors.ReplicaFull):
        await studio.start()
    await first.all()
    assert await studio.jobs.drain(5) == 0
    assert len(await (await studio.start()).all()) == 1


class Queued(Studio):
    """One slot, which another picture has."""

    def __init__(self, **more):
        super().__init__(concurrency=1, **more)
        self.shop.upstream.gate.clear()

    async def begin(self):
        sent = await self.start()
        await settle()
        waiting = await self.start()
        await settle()
        assert len(self.shop.upstream.calls) == 1
        return sent, waiting


async def stood_still(studio):
    """Start a job of two pictures, of which one is sent before its replica stands still; then let it go on."""
    studio.shop.upstream.gate.clear()
    generation = await attached(studio, 2, leads=(Lead(index=0), Lead(index=1)))
    await settle()
    studio.flights.doubtful.add("request-1")
    studio.shop.upstream.gate.set()
    return generation


async def test_what_was_not_sent_before_its_replica_was_taken_for_dead_is_attached_anew():
    studio = Studio(concurrency=1, scope="project")
    picture = await stored(studio)
    studio.flights.ends["other", 0] = End(picture=picture)
    studio.quotas.found["request-1~1"] = {"follows": (FOLLOW,)}
    studio.flights.taken_over.add("request-1")
    generation = await stood_still(studio)
    first, second = await generation.all()
    assert (len(studio.shop.upstream.calls), first != picture, second) == (1, True, picture)
    assert await studio.jobs.drain(5) == 0
    lines = {line.event_id: (line.outcome, line.pictures_delivered) for line in studio.quotas.events}
    assert lines == {"request-1": (Outcome.DELIVERED, 1), "request-1~1": (Outcome.JOINED, 0)}
    assert {job: [lead.index for lead in leads] for job, leads in studio.quotas.led.items()} == {
        "request-1": [0],  # what others made is remembered as theirs
        "request-1~1": [],
    }


@pytest.mark.parametrize("down", [False, True])
async def test_who_is_not_known_to_be_taken_for_dead_goes_on(down):
    studio = Studio(concurrency=1, scope="project")
    generation = await stood_still(studio)
    studio.flights.down = down
    assert len(await generation.all()) == len(studio.shop.upstream.calls) == 2
    assert (await studio.line()).pictures_delivered == 2


async def test_what_is_not_sent_leaves_the_queue_when_its_client_has_gone():
    studio = Queued()
    sent, waiting = await studio.begin()
    sent.left()
    waiting.left()
    with pytest.raises(errors.ClientLeft):
        await waiting.all()
    studio.shop.upstream.gate.set()
    assert len(await sent.all()) == 1
    assert await studio.jobs.drain(5) == 0
    assert {line.event_id: line.outcome for line in studio.quotas.events} == {
        "request-1": Outcome.DELIVERED,
        "request-2": Outcome.FAILED,
    }
    assert studio.flights.all("left") == [["request-1"], ["request-2"]]


@pytest.mark.parametrize("trouble", ["wanted", "down"])
async def test_what_others_wait_for_or_might_keeps_its_place(trouble):
    studio = Queued()
    _, waiting = await studio.begin()
    setattr(studio.flights, trouble, True)
    waiting.left()
    await settle()
    assert waiting.run.unsent
    studio.shop.upstream.gate.set()
    assert len(await waiting.all()) == 1
    assert await studio.errands.drain(5) == 0


async def test_what_others_wait_for_is_looked_at_once_a_second_where_nothing_is_kept_for_who_left():
    studio = Queued(abandon_after=0.0)
    _, waiting = await studio.begin()
    studio.flights.wanted = True
    waiting.left()
    await settle()
    looks = studio.shop.clock.slept
    assert len(looks) > 2
    assert (looks[0], set(looks[1:])) == (0.0, {1.0})
    studio.shop.upstream.gate.set()
    assert len(await waiting.all()) == 1


async def test_an_operator_cancels_what_is_not_sent():
    studio = Queued()
    sent, waiting = await studio.begin()
    for job in ("request-1", "request-2", "unknown"):
        studio.generate.cancel(job)
    with pytest.raises(errors.JobCancelled):
        await waiting.all()
    studio.shop.upstream.gate.set()
    assert len(await sent.all()) == 1


async def test_a_picture_that_cannot_be_downloaded_yet_is_tried_after_its_client_was_told():
    studio = Studio()
    studio.shop.source.ends = [FetchFailed("404")] * 6
    generation = await attached(studio, leads=(Lead(index=0),), rooms=(a_room(),))
    with pytest.raises(errors.ImageDownloadFailed):
        await generation.all()
    assert studio.quotas.events == []
    assert [room.used for room in generation.rooms] == [4]  # it is still taken
    line = await studio.line()
    assert (line.outcome, line.pictures_delivered, line.price, line.status) == (Outcome.DELIVERED, 1, PRICE, 200)
    [(_, position, end)] = studio.flights.all("finish")
    assert (position, end.failure.kind) == (0, "ImageDownloadFailed")


async def test_what_waits_for_its_download_leaves_its_place_to_others_and_counts_among_the_jobs_of_the_replica():
    studio = Studio(bounds=Bounds(jobs=1, patience=180.0))
    studio.shop.source.ends = [FetchFailed("404")] * 4
    generation = await attached(studio, leads=(Lead(index=0),))
    while len(studio.shop.source.urls) < 4:
        await settle(1)
    studio.shop.source.gate.clear()
    with pytest.raises(errors.ImageDownloadFailed):
        await generation.all()
    assert studio.flights.all("vacate") == [["request-1"]]
    assert await studio.jobs.drain(5) == 0
    with pytest.raises(errors.ReplicaFull):
        await studio.start()
    studio.shop.source.gate.set()
    assert await studio.errands.drain(5) == 0
    assert len(await (await studio.start()).all()) == 1


async def rescued(studio, orphan):
    shop = studio.shop
    resuming = Resuming(shop.upstream, shop.offers)
    told = (studio.flights, studio.reservations, BOOKS, studio.errands)
    Rescue(shop.keeping, *told, shop.clock, resuming=resuming, offers=shop.offers)(orphan)
    return await studio.line()


async def test_what_a_dead_replica_had_paid_is_fetched_and_charged():
    studio = Studio()
    run = a_run(an_order(n=4))
    receipts = {position: Receipt(paid=a_paid_picture(str(position)), account="main") for position in (0, 1)}
    ends = {1: End(failure=Failure(kind="ImageDownloadFailed", message="slow"))}
    sent = frozenset({0, 1, 2})
    line = await rescued(studio, Orphan(reservation=run.reservation, receipts=receipts, ends=ends, sent=sent))
    assert (line.outcome, line.pictures_delivered, line.pictures_paid) == (Outcome.PARTIAL, 2, 2)
    assert (line.cost, line.cost_uncertain, line.price) == (3 * PRICE, True, 2 * PRICE)
    assert studio.shop.upstream.calls == []


async def test_what_had_ended_before_its_replica_died_is_not_fetched_again():
    studio = Studio()
    picture = await stored(studio)
    run = a_run(an_order(n=2))
    ends = {0: End(picture=picture), 1: End(failure=REFUSED)}
    receipts = {0: Receipt(paid=picture.paid)}
    orphan = Orphan(reservation=run.reservation, receipts=receipts, ends=ends, sent=frozenset({0, 1}))
    line = await rescued(studio, orphan)
    assert (line.outcome, line.pictures_delivered) == (Outcome.PARTIAL, 1)
    assert studio.shop.source.urls == []


async def asked_for(studio, account="main", **more):
    run = a_run(an_order(n=1))
    orphan = Orphan(
        reservation=run.reservation,
        receipts={},
        ends={},
        sent=frozenset({0}),
        tasks={0: Task(account=account, id="task-1")},
        **more,
    )
    return await rescued(studio, orphan)


async def test_what_a_dead_replica_had_ordered_is_asked_for_and_not_ordered_again():
    studio = Studio()
    line = await asked_for(studio)
    assert (line.outcome, line.pictures_delivered, line.upstream_account) == (Outcome.DELIVERED, 1, "main")
    assert studio.shop.upstream.resumed == [("main", "task-1")]
    assert studio.shop.upstream.calls == []
    assert [index for _, index, _ in studio.flights.all("paid")] == [0]  # for who rescues the rescuer


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.CONTENT, Outcome.FAILED),
        (Fault.INTERNAL, Outcome.UNKNOWN),  # it may have been ordered again
        (Fault.CUT, Outcome.UNKNOWN),
    ],
)
async def test_what_became_of_a_dead_replicas_order(fault, outcome):
    studio = Studio()
    studio.shop.upstream.ends.append(CallFailed(CallFailure(fault=fault, code="", status=200)))
    line = await asked_for(studio)
    assert (line.outcome, line.cost_uncertain) == (outcome, outcome is Outcome.UNKNOWN)


async def test_the_order_of_an_account_that_is_gone_is_unknown():
    studio = Studio()
    assert (await asked_for(studio, account="gone")).outcome is Outcome.UNKNOWN
    assert studio.shop.upstream.resumed == []


def test_a_job_that_takes_over_one_picture_looks_for_one():
    job = a_job(an_order(n=3))
    one = job.anew(2, job.came, (), None)
    assert (one.order.n, one.line.event_id, one.line.pictures_requested) == (1, "request-1~2", 1)
    assert (one.line.cost, one.line.request_id, one.came) == (PRICE, "request-1", job.came)
    assert one.sought == replace(job.sought, again=True, body="")


REPEATED = Replay(job_id="heir", created=5, origin="first")
SCOPES = {"off": {"plan": "", "scope": "off"}, "no-store": {"read": False, "remember": False}}
SCOPES |= {"no-cache": {"read": False, "join": False}, "max-age": {"max_age": 0.0}}


@pytest.mark.parametrize("rules", SCOPES.values(), ids=SCOPES)
def test_what_lacks_of_a_repeated_job_is_one_picture_for_all_who_repeat_it_and_for_nobody_else(rules):
    """Whatever their cache: they find by the job what would not be found by its plan."""
    job = a_job(an_order(n=3))
    job = replace(job, sought=replace(job.sought, **rules))
    again = [job.anew(1, job.came, (), replay).sought for replay in (REPEATED, replace(REPEATED, job_id="first"))]
    assert again[0] == again[1]
    assert again[0].lasts
    others = [
        job.anew(2, job.came, (), REPEATED).sought,
        job.anew(1, job.came, (), replace(REPEATED, origin="other")).sought,
        job.sought,
    ]
    assert again[0].plan not in {other.plan for other in others}


def test_what_is_remembered_anyway_is_looked_for_by_its_plan():
    job = a_job()
    assert job.anew(0, job.came, (), REPEATED).sought.plan == job.sought.plan


@pytest.mark.parametrize("rules", [SCOPES["no-store"], SCOPES["max-age"]])
def test_who_follows_without_repeating_anything_goes_on_looking_for_the_plan(rules):
    """All who followed a job of another client are to find each other."""
    job = a_job()
    job = replace(job, sought=replace(job.sought, **rules))
    again = job.anew(0, job.came, (), None)
    assert again.sought == replace(job.sought, again=True)
