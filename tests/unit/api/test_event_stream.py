"""Server-sent events: when headers go out, heartbeats, and how failures are told (openai-images-api.md section 1.4)."""

import asyncio
import json

import pytest

from gateway.api import generations
from gateway.domain.errors import PictureLost, UpstreamOverloaded
from gateway.domain.image import ImageOrder, ImagePlan
from gateway.domain.limits import Limit
from gateway.service.deliver import Deliver, Handover
from gateway.service.generation import Generation
from gateway.service.links import PictureLinks
from tests.builders import NOW, a_picture, a_room, a_run
from tests.fakes import FakeClock
from tests.fakes_store import FakeDownload, FakePictureStore

pytestmark = pytest.mark.anyio
PLAN = ImagePlan(model="glm-image", prompt="a fox", size="512x512", quality="hd")
OVERLOADED = UpstreamOverloaded("try again")


@pytest.fixture(autouse=True)
def quick_heartbeats(monkeypatch):
    monkeypatch.setattr(generations, "HEARTBEAT_SECONDS", 0.05)


def picture(content):
    return a_picture(content, size=(512, 512))


async def stream_of(running, echo=None, gone=()):
    """The answer to a generation whose pictures are in the store, but for those that are gone."""
    store = FakePictureStore()
    for content in (b"one", b"two"):
        if content not in gone:
            await store.put(FakeDownload(content))
    links = PictureLinks([b"secret"], 60, FakeClock())
    return await generations.event_stream(Handover(Deliver(store, links), running, "http://gateway"), echo or {})


def generation(*ends, rooms=()):
    """A generation whose pictures end after the given seconds with a picture or a failure."""

    async def end(seconds, outcome):
        await asyncio.sleep(seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    order = ImageOrder(plan=PLAN, n=len(ends), response_format="url", stream=True)
    run = a_run(order, rooms=rooms)
    run.begun(asyncio.ensure_future(end(*words)) for words in ends)
    run.answerable.set_result(None)
    return Generation(run=run, leave=lambda run: setattr(run, "left", True))


async def body_of(stream):
    return b"".join([piece async for piece in stream.body])


def events_in(body):
    assert body.endswith(b"\n\n")
    return [
        json.loads(block.split(b"data: ", 1)[1]) for block in body.strip().split(b"\n\n") if not block.startswith(b":")
    ]


async def test_a_quick_picture_comes_without_heartbeats():
    body = await body_of(await stream_of(generation((0, picture(b"one"))), {"safety_identifier": "s"}))
    [event] = events_in(body)
    assert body.startswith(b"event: image_generation.completed\ndata: ")
    assert b": keep-alive" not in body
    assert event["type"] == "image_generation.completed"
    assert event["created_at"] == int(NOW.timestamp())
    assert event["b64_json"] == "b25l"
    assert event["safety_identifier"] == "s"


async def test_heartbeats_fill_the_waits_and_every_picture_comes():
    slow = generation((0.12, picture(b"one")), (0.3, picture(b"two")))
    body = await body_of(await stream_of(slow))
    assert body.startswith(b": keep-alive\n\n")
    assert body.count(b": keep-alive\n\n") >= 3
    assert [event["b64_json"] for event in events_in(body)] == ["b25l", "dHdv"]


async def test_a_failure_before_the_first_event_is_a_plain_error():
    with pytest.raises(UpstreamOverloaded):
        await stream_of(generation((0.01, OVERLOADED), (0.02, OVERLOADED)))


async def test_a_failure_after_the_headers_is_an_error_event():
    body = await body_of(await stream_of(generation((0.12, OVERLOADED))))
    [event] = events_in(body)
    assert b"event: error\ndata: " in body
    assert event["type"] == "error"
    assert event["error"]["code"] == "server_is_overloaded"


async def test_one_failure_among_pictures_does_not_spoil_the_stream():
    mixed = generation((0, OVERLOADED), (0.02, picture(b"one")), (0.12, OVERLOADED), (0.15, picture(b"two")))
    body = await body_of(await stream_of(mixed))
    assert [event["b64_json"] for event in events_in(body)] == ["b25l", "dHdv"]
    assert body.count(b": a picture failed: try again\n\n") == 2


async def test_a_client_that_leaves_does_not_cancel_the_pictures():
    running = generation((0, picture(b"one")), (0.2, picture(b"two")))
    stream = await stream_of(running)
    pieces = aiter(stream.body)
    await anext(pieces)
    await pieces.aclose()
    assert [made.image.bytes for made in await running.all()] == [3, 3]


@pytest.mark.parametrize("seconds", [0, 0.12])
async def test_the_headers_say_how_far_limits_are_used(seconds):
    """Also when they go out before the first picture is there."""
    rooms = (a_room(Limit.IMAGES_PER_DAY, value=10, used=4), a_room(Limit.REQUESTS_PER_MINUTE, value=5, used=5))
    stream = await stream_of(generation((seconds, picture(b"one")), rooms=rooms))
    assert stream.headers["x-ratelimit-remaining-images"] == "6"
    assert stream.headers["x-ratelimit-remaining-requests"] == "0"
    assert ("x-glm-size" in stream.headers) is (seconds == 0)
    assert len(events_in(await body_of(stream))) == 1


async def test_without_limits_nothing_is_said_of_them():
    stream = await stream_of(generation((0, picture(b"one"))))
    assert not [name for name in stream.headers if name.startswith("x-ratelimit")]
    await body_of(stream)


async def test_a_picture_whose_bytes_are_gone_is_told_like_one_that_failed():
    running = generation((0, picture(b"one")), (0, picture(b"two")))
    body = await body_of(await stream_of(running, gone=[b"one"]))
    assert [event["b64_json"] for event in events_in(body)] == ["dHdv"]
    assert body.count(b": a picture failed: ") == 1


async def test_when_all_bytes_are_gone_that_is_a_plain_error():
    with pytest.raises(PictureLost):
        await stream_of(generation((0, picture(b"one"))), gone=[b"one"])
