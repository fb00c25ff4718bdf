"""A request becomes so many pictures; what is paid is made to its end, whoever still waits for it."""

import asyncio

import pytest

from gateway.domain import errors
from gateway.domain.keys import Caller
from gateway.domain.upstream import Fault
from gateway.service.generate import GenerateImages
from gateway.service.jobs import Jobs
from gateway.settings.models import load_catalog
from tests.builders import NOW, a_paid_picture, a_request, an_account, failed, mapping_rules
from tests.fakes import Workshop, settle

pytestmark = pytest.mark.anyio

CALLER = Caller(key_id="abcDEF012345", name="tests")
REFUSED = failed(Fault.CONTENT, "1301", 400)
BROKE = failed(Fault.ACCOUNT, "1113", 429)


class Studio:
    """The use case on fakes; `concurrency` calls may be in flight."""

    def __init__(self, *ends, concurrency=10, **rules):
        self.shop = Workshop(*ends, accounts=[an_account(concurrency=concurrency)])
        self.crashes = []
        self.jobs = Jobs(self.crashes.append)
        self.generate = GenerateImages(
            load_catalog(), mapping_rules(**rules), self.shop.dispatch, self.jobs, self.shop.clock
        )

    def start(self, *, strict=False, **parameters):
        return self.generate(CALLER, a_request(**parameters), strict=strict)


def names(pictures):
    return [picture.paid.request_id for picture in pictures]


@pytest.mark.parametrize("n", [1, 3, 10])
async def test_every_picture_is_a_call_of_its_own(n):
    studio = Studio()
    generation = studio.start(n=n, prompt="a fox", size="1920x1080")
    pictures = await generation.all()
    assert len(pictures) == len(studio.shop.upstream.calls) == n
    assert {plan for _, plan in studio.shop.upstream.calls} == {generation.order.plan}
    assert generation.order.plan.size == "1920x1088"
    assert generation.caller is CALLER
    assert generation.created == int(NOW.timestamp())
    assert isinstance(generation.created, int)


@pytest.mark.parametrize("parameters", [{"prompt": None}, {"n": 11}, {"model": "gpt-4o"}, {"size": "large"}])
async def test_a_wrong_request_starts_nothing(parameters):
    studio = Studio()
    with pytest.raises(errors.InvalidRequest):
        studio.start(**parameters)
    await settle()
    assert studio.shop.upstream.calls == []
    assert await studio.jobs.drain(1) == 0


@pytest.mark.parametrize(("by_operator", "by_client"), [(False, True), (True, False), (True, True)])
async def test_strictness_comes_from_the_operator_or_from_the_client(by_operator, by_client):
    with pytest.raises(errors.UnknownParameter):
        Studio(strict=by_operator).start(strict=by_client, unknown=("seed",))


async def test_one_strict_request_does_not_make_the_next_one_strict():
    studio = Studio()
    with pytest.raises(errors.UnknownParameter):
        studio.start(strict=True, unknown=("seed",))
    assert await studio.start(unknown=("seed",)).all()


async def test_the_pictures_that_came_are_given_in_order():
    studio = Studio(a_paid_picture("1"), REFUSED, a_paid_picture("3"), BROKE)
    assert names(await studio.start(n=4).all()) == ["request-1", "request-3"]


async def test_the_first_failure_is_given_when_no_picture_came():
    with pytest.raises(errors.AccountUnusable):
        await Studio(BROKE, REFUSED, REFUSED).start(n=3).all()


async def test_a_defect_costs_its_own_picture_only_and_is_told():
    defect = RuntimeError("a defect")
    studio = Studio(a_paid_picture("1"), defect)
    assert names(await studio.start(n=2).all()) == ["request-1"]
    assert studio.crashes == [defect]


async def collect(generation):
    return [picture async for picture in generation.each()]


async def test_each_gives_pictures_in_the_order_of_their_completion():
    studio = Studio()
    gates = {url: asyncio.Event() for url in ("https://cdn.z.ai/1.png", "https://cdn.z.ai/2.png")}
    fetch = studio.shop.source.fetch

    async def fetch_when_told(url):
        await gates[url].wait()
        return await fetch(url)

    studio.shop.source.fetch = fetch_when_told
    pictures = studio.start(n=2).each()
    gates["https://cdn.z.ai/2.png"].set()
    assert (await anext(pictures)).paid.request_id == "request-2"
    gates["https://cdn.z.ai/1.png"].set()
    assert (await anext(pictures)).paid.request_id == "request-1"
    with pytest.raises(StopAsyncIteration):
        await anext(pictures)


async def test_each_passes_over_failures_while_a_picture_comes():
    studio = Studio(REFUSED, a_paid_picture("2"), BROKE)
    assert names(await collect(studio.start(n=3))) == ["request-2"]


async def test_what_did_not_come_can_be_asked_for():
    generation = Studio(REFUSED, a_paid_picture("2"), BROKE, RuntimeError("a defect")).start(n=4)
    assert generation.failures() == []
    assert len(await generation.all()) == 1
    assert [type(failure) for failure in generation.failures()] == [errors.ContentRefused, errors.AccountUnusable]


async def test_each_gives_the_first_failure_when_no_picture_came():
    with pytest.raises(errors.ContentRefused):
        await collect(Studio(REFUSED, BROKE, concurrency=1).start(n=2))


@pytest.mark.parametrize("consume", [lambda generation: generation.all(), collect])
async def test_a_client_that_leaves_stops_nothing(consume):
    studio = Studio(concurrency=1)
    studio.shop.upstream.gate.clear()
    client = asyncio.create_task(consume(studio.start(n=3)))
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
    pictures = studio.start(n=3).each()
    await anext(pictures)
    await pictures.aclose()
    assert await studio.jobs.drain(5) == 0
    assert len(studio.shop.observer.all("picture_delivered")) == 3


async def test_a_failure_that_nobody_waits_for_is_no_defect():
    studio = Studio(REFUSED)
    client = asyncio.create_task(studio.start().all())
    await asyncio.sleep(0)
    client.cancel()
    await settle()
    assert studio.crashes == []
