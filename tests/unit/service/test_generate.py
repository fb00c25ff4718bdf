"""A request becomes so many pictures; what is paid is made to its end, whoever still waits for it."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway.domain import errors
from gateway.domain.limits import Limit
from gateway.domain.quota import Limits
from gateway.domain.upstream import Fault
from tests.builders import NOW, a_caller, a_paid_picture, failed
from tests.fakes import settle
from tests.studio import Studio

pytestmark = pytest.mark.anyio

REFUSED = failed(Fault.CONTENT, "1301", 400)
BROKE = failed(Fault.ACCOUNT, "1113", 429)


def names(pictures):
    return [picture.paid.request_id for picture in pictures]


@pytest.mark.parametrize("n", [1, 3, 10])
async def test_every_picture_is_a_call_of_its_own(n):
    studio = Studio()
    generation = await studio.start(n=n, prompt="a fox", size="1920x1080")
    pictures = await generation.all()
    assert len(pictures) == len(studio.shop.upstream.calls) == n
    assert {plan for _, plan in studio.shop.upstream.calls} == {generation.order.plan}
    assert generation.order.plan.size == "1920x1088"
    assert generation.rooms == ()
    assert generation.created == int(NOW.timestamp())
    assert isinstance(generation.created, int)


@pytest.mark.parametrize("parameters", [{"prompt": None}, {"n": 11}, {"model": "gpt-4o"}, {"size": "large"}])
async def test_a_wrong_request_starts_nothing(parameters):
    studio = Studio()
    with pytest.raises(errors.InvalidRequest):
        await studio.start(**parameters)
    await settle()
    assert studio.shop.upstream.calls == studio.quotas.asked == []
    assert await studio.jobs.drain(1) == 0


@pytest.mark.parametrize(("by_operator", "by_client"), [(False, True), (True, False), (True, True)])
async def test_strictness_comes_from_the_operator_or_from_the_client(by_operator, by_client):
    with pytest.raises(errors.UnknownParameter):
        await Studio(strict=by_operator).start(strict=by_client, unknown=("seed",))


async def test_one_strict_request_does_not_make_the_next_one_strict():
    studio = Studio()
    with pytest.raises(errors.UnknownParameter):
        await studio.start(strict=True, unknown=("seed",))
    assert await (await studio.start(unknown=("seed",))).all()


async def test_the_pictures_that_came_are_given_in_order():
    studio = Studio(a_paid_picture("1"), REFUSED, a_paid_picture("3"), BROKE)
    assert names(await (await studio.start(n=4)).all()) == ["request-1", "request-3"]


async def test_the_first_failure_is_given_when_no_picture_came():
    rejected = failed(Fault.REQUEST, "1214", 400)
    generation = await Studio(rejected, REFUSED, REFUSED).start(n=3)
    with pytest.raises(errors.UpstreamRejected):
        await generation.all()


async def test_what_was_refused_once_is_not_sent_for_the_jobs_other_pictures():
    """The prompt is the same (glm-image-api.md section 3: 1301, 1210 to 1215, 1261 are never tried again)."""
    studio = Studio(*[REFUSED] * 4, concurrency=1)
    generation = await studio.start(n=4)
    with pytest.raises(errors.ContentRefused):
        await generation.all()
    assert len(studio.shop.upstream.calls) == 1


async def test_what_is_in_its_back_off_when_another_picture_is_refused_is_not_sent_again():
    studio = Studio(failed(Fault.OVERLOADED, "1305", 429), REFUSED, REFUSED, concurrency=2)
    asleep = asyncio.Event()

    async def sleep(_):
        asleep.set()
        await asyncio.Event().wait()

    studio.shop.clock.sleep = sleep
    studio.shop.upstream.gate.clear()
    generation = await studio.start(n=2)
    await settle()
    studio.shop.upstream.gate.set()
    with pytest.raises(errors.ContentRefused):
        await generation.all()
    assert len(studio.shop.upstream.calls) == 2


async def test_a_defect_costs_its_own_picture_only_and_is_told():
    defect = RuntimeError("a defect")
    studio = Studio(a_paid_picture("1"), defect)
    assert names(await (await studio.start(n=2)).all()) == ["request-1"]
    assert studio.crashes == [defect]


async def collect(generation):
    return [picture async for picture in generation.each()]


async def test_each_gives_pictures_in_the_order_of_their_completion():
    studio = Studio()
    gates = {url: asyncio.Event() for url in ("https://cdn.z.ai/1.png", "https://cdn.z.ai/2.png")}
    fetch = studio.shop.source.fetch

    @asynccontextmanager
    async def fetch_when_told(url):
        await gates[url].wait()
        async with fetch(url) as download:
            yield download

    studio.shop.source.fetch = fetch_when_told
    pictures = (await studio.start(n=2)).each()
    gates["https://cdn.z.ai/2.png"].set()
    assert (await anext(pictures)).paid.request_id == "request-2"
    gates["https://cdn.z.ai/1.png"].set()
    assert (await anext(pictures)).paid.request_id == "request-1"
    with pytest.raises(StopAsyncIteration):
        await anext(pictures)


async def test_each_passes_over_failures_while_a_picture_comes():
    studio = Studio(REFUSED, a_paid_picture("2"), BROKE)
    assert names(await collect(await studio.start(n=3))) == ["request-2"]


async def test_what_did_not_come_can_be_asked_for():
    generation = await Studio(REFUSED, a_paid_picture("2"), BROKE, RuntimeError("a defect")).start(n=4)
    assert generation.failures() == []
    assert len(await generation.all()) == 1
    assert [type(failure) for failure in generation.failures()] == [errors.ContentRefused, errors.AccountUnusable]


async def test_each_gives_the_first_failure_when_no_picture_came():
    generation = await Studio(REFUSED, BROKE, concurrency=1).start(n=2)
    with pytest.raises(errors.ContentRefused):
        await collect(generation)


@pytest.mark.parametrize("consume", [lambda generation: generation.all(), collect])
async def test_a_client_that_leaves_stops_nothing(consume):
    studio = Studio(concurrency=1)
    studio.shop.upstream.gate.clear()
    client = asyncio.create_task(consume(await studio.start(n=3)))
    await settle()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    studio.shop.upstream.gate.set()
    assert await studio.jobs.drain(5) == 0
    assert len(studio.shop.upstream.calls) == 3
    assert len(studio.shop.observer.all("picture_delivered")) == 3


async def test_a_client_that_leaves_a_stream_after_its_first_event_stops_nothing():
    studio = Studio(concurrency=1)
    pictures = (await studio.start(n=3)).each()
    await anext(pictures)
    await pictures.aclose()
    assert await studio.jobs.drain(5) == 0
    assert len(studio.shop.observer.all("picture_delivered")) == 3


async def test_a_failure_that_nobody_waits_for_is_no_defect():
    studio = Studio(REFUSED)
    client = asyncio.create_task((await studio.start()).all())
    await asyncio.sleep(0)
    client.cancel()
    await settle()
    assert studio.crashes == []


async def test_nothing_is_called_before_the_limits_have_let_it_pass():
    studio = Studio()
    studio.quotas.gate.clear()
    client = asyncio.create_task(studio.start(n=3))
    await settle()
    assert studio.quotas.asked == [("reserve", "request-1")]
    assert studio.shop.upstream.calls == []
    studio.quotas.gate.set()
    await (await client).all()
    assert len(studio.shop.upstream.calls) == 3


async def test_what_was_taken_is_told():
    caller = a_caller(key_limits=Limits(images_per_day=10), project_limits=Limits(requests_per_minute=3))
    generation = await Studio().start(n=4, caller=caller)
    told = [(room.subject, room.limit, room.value, room.used) for room in generation.rooms]
    key, project = "key.abcDEF012345", "project.proj_default"
    assert told == [(key, Limit.IMAGES_PER_DAY, 10, 4), (project, Limit.REQUESTS_PER_MINUTE, 3, 1)]
    await generation.all()


REFUSALS = [
    ({"key_limits": Limits(requests_per_minute=0)}, errors.QuotaExhausted),
    ({"project_limits": Limits(concurrent=0)}, errors.QuotaExhausted),
    ({"key_limits": Limits(images_per_day=0)}, errors.QuotaExhausted),
    ({"project_limits": Limits(spend_per_month=0)}, errors.QuotaExhausted),
    ({"key_limits": Limits(images_per_day=2)}, errors.InvalidValue),
    ({"models": frozenset({"another"})}, errors.ModelNotAllowed),
]


@pytest.mark.parametrize(("rights", "kind"), REFUSALS)
async def test_nothing_is_made_of_what_is_refused(rights, kind):
    studio = Studio()
    with pytest.raises(kind):
        await studio.start(n=3, caller=a_caller(**rights))
    await settle()
    assert studio.shop.upstream.calls == studio.quotas.events == []
    assert not studio.quotas.holding
    assert await studio.jobs.drain(1) == 0


@pytest.mark.parametrize(("by_operator", "by_key"), [(False, True), (True, False), (True, True)])
async def test_the_watermark_may_be_left_out_where_operator_or_key_allow_it(by_operator, by_key):
    studio = Studio(allow_unwatermarked=by_operator)
    generation = await studio.start(watermark_enabled=False, caller=a_caller(unwatermarked_allowed=by_key))
    assert generation.order.plan.watermark is False
    if not by_operator:  # what one key may do, the next one may not
        with pytest.raises(errors.InvalidValue, match="watermark_enabled"):
            await studio.start(watermark_enabled=False)
    await generation.all()


async def test_while_pictures_cannot_be_kept_nothing_is_taken_from_the_limits():
    studio = Studio()
    studio.shop.store.known_down = True
    with pytest.raises(errors.PictureStoreUnavailable):
        await studio.start()
    assert studio.quotas.events == []
    assert studio.shop.upstream.calls == []
