"""Pictures that are ordered and asked for: what is asked when, and what each answer means."""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.adapters.glm.client import POLL_EVERY, POLL_JITTER, POLL_WAITS, Endpoint, GlmImage
from gateway.adapters.glm.transport import HttpTransport
from gateway.domain.errors import Moderation
from gateway.domain.upstream import Fault
from gateway.service.ports_upstream import CallFailed
from tests.builders import a_plan, an_account
from tests.fakes import head, serving
from tests.servers import free_port

pytestmark = pytest.mark.anyio
ORDERED = {"model": "glm-image", "id": "task/1", "request_id": "r", "task_status": "PROCESSING"}
NOT_YET = {"task_status": "PROCESSING"}
DONE = {"task_status": "SUCCESS", "image_result": [{"url": "https://z.ai/a.png"}], "request_id": "r"}
CUT = "cut"


def answer(body, status="200 OK"):
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    return head(status, len(content)) + content


def in_turn(*answers):
    """Give one answer after the other, a connection each; CUT ends it without one."""
    left = list(answers)

    async def behave(_, writer):
        now = left.pop(0)
        if now is not CUT:
            writer.write(now if isinstance(now, bytes) else answer(now))
            await writer.drain()
        writer.close()

    return behave


class Client:
    """The upstream port on a server that answers in turn."""

    def __init__(self, port, timeout=5.0):
        self.transport = HttpTransport()
        endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}", api_key="id.secret", timeout=timeout, mode="async")
        self.glm = GlmImage(self.transport, {"main": endpoint}, self._sleep)
        self.slept, self.told = [], []

    async def make(self, **plan):
        return await self._closing(self.glm.make(an_account(), a_plan(**plan), self._submitted))

    async def resume(self, task_id="task/1"):
        return await self._closing(self.glm.resume(an_account(), task_id))

    async def _submitted(self, task_id):
        self.told.append((task_id, len(self.slept)))

    async def _sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(0.001)

    async def _closing(self, work):
        try:
            return await work
        finally:
            await self.transport.aclose()


async def failing(work):
    with pytest.raises(CallFailed) as failed:
        await work
    return failed.value.failure


async def test_a_picture_is_ordered_and_asked_for_until_it_is_there():
    async with serving(in_turn(ORDERED, *[NOT_YET] * 5, DONE)) as server:
        client = Client(server.port)
        paid = await client.make()
    assert (paid.url, paid.request_id) == ("https://z.ai/a.png", "r")
    assert client.told == [("task/1", 0)]
    lines = [request.split(b" HTTP")[0] for request, _ in server.requests]
    assert lines == [b"POST /async/images/generations", *[b"GET /async-result/task%2F1"] * 6]
    assert all(b"authorization: bearer id.secret" in request.lower() for request, _ in server.requests)
    assert json.loads(server.requests[0][1])["model"] == "glm-image"
    for slept, meant in zip(client.slept, [*POLL_WAITS, POLL_EVERY, POLL_EVERY], strict=True):
        assert abs(slept - meant) <= POLL_JITTER * meant


@pytest.mark.parametrize(
    "said",
    [
        CUT,
        answer(b"<html>", "502 Bad Gateway"),
        answer({"error": {"code": "1302", "message": "slow down"}}, "429 Too Many Requests"),
        answer({"error": {"code": "500", "message": "?"}}, "500 Internal Server Error"),
        answer(b'{"task_status": "SUCC'),
        answer({"task_status": "RUNNING"}),
        answer({"error": {"code": "401", "message": "?"}}, "401 Unauthorized"),
    ],
    ids=str,
)
async def test_a_question_without_an_answer_is_asked_again(said):
    async with serving(in_turn(ORDERED, said, said, DONE)) as server:
        assert (await Client(server.port).make()).url == "https://z.ai/a.png"


@pytest.mark.parametrize(
    ("place", "keys"),
    [("the same", ["id.secret", "id.secret", "new.secret"]), ("another", ["id.secret", "id.secret", "id.secret"])],
)
async def test_an_order_whose_key_has_ended_is_asked_for_with_the_next_one_of_its_account(place, keys):
    """Another place is another account, which knows nothing of the order."""
    refused = answer({"error": {"code": "401", "message": "?"}}, "401 Unauthorized")
    async with serving(in_turn(ORDERED, refused, DONE)) as server:
        client = Client(server.port)
        ordered = client.glm.endpoints["main"]
        elsewhere = ordered.base_url if place == "the same" else "https://elsewhere.example"
        submitted = client.told.append

        async def replaced(task_id):
            client.glm.endpoints = {"main": replace(ordered, api_key="new.secret", base_url=elsewhere)}
            submitted(task_id)

        client._submitted = replaced
        assert (await client.make()).url == "https://z.ai/a.png"
    used = [request.partition(b"Bearer ")[2].split(b"\r")[0].decode() for request, _ in server.requests]
    assert used == keys


async def test_a_success_may_come_with_a_warning():
    warned = {**DONE, "content_filter": [{"role": "user", "level": 3}]}
    async with serving(in_turn(ORDERED, warned)) as server:
        assert [warning.level for warning in (await Client(server.port).make()).warnings] == [3]


@pytest.mark.parametrize(
    ("said", "fault", "code"),
    [
        ({}, Fault.INTERNAL, ""),
        ({"error": {"code": "1234", "message": "x"}}, Fault.INTERNAL, "1234"),
        ({"error": {"code": "9999", "message": "x"}}, Fault.INTERNAL, "9999"),
        ({"error": {"message": "x"}}, Fault.INTERNAL, ""),
        ({"error": {"code": "1301"}, "contentFilter": [{"role": "assistant", "level": 1}]}, Fault.CONTENT, "1301"),
        ({"contentFilter": [{"role": "assistant", "level": 1}]}, Fault.CONTENT, ""),
    ],
)
async def test_an_order_that_failed_made_nothing(said, fault, code):
    async with serving(in_turn(ORDERED, NOT_YET, {"task_status": "FAIL", **said})) as server:
        failure = await failing(Client(server.port).make())
    assert (failure.fault, failure.code) == (fault, code)
    if "contentFilter" in said:
        assert failure.moderation == Moderation(stage="output")


async def test_a_success_without_a_picture_may_be_paid():
    async with serving(in_turn(ORDERED, {"task_status": "SUCCESS"})) as server:
        assert (await failing(Client(server.port).make())).fault is Fault.CUT


@pytest.mark.parametrize("said", [CUT, answer(b"<html>", "502 Bad Gateway"), answer(b"{"), answer({"id": 5})], ids=str)
async def test_an_order_whose_answer_was_cut_is_not_repeated(said):
    async with serving(in_turn(said)) as server:
        client = Client(server.port)
        assert (await failing(client.make())).fault is Fault.CUT
    assert len(server.requests) == 1
    assert client.told == []


async def test_an_order_that_is_refused_says_why():
    refused = answer({"error": {"code": "1302", "message": "x"}}, "429 Too Many Requests")
    async with serving(in_turn(refused)) as server:
        assert (await failing(Client(server.port).make())).fault is Fault.RATE


async def test_an_upstream_that_is_not_there_took_no_order():
    assert (await failing(Client(free_port()).make())).fault is Fault.UNREACHABLE


async def test_after_the_accounts_time_the_outcome_is_unknown():
    async with serving(in_turn(ORDERED, *[NOT_YET] * 10_000)) as server:
        client = Client(server.port, timeout=0.5)
        assert (await failing(client.make())).fault is Fault.CUT
        assert client.told


async def test_an_order_is_taken_up_again_without_ordering():
    async with serving(in_turn(CUT, NOT_YET, DONE)) as server:
        assert (await Client(server.port).resume("other task")).url == "https://z.ai/a.png"
    assert {request.split(b" HTTP")[0] for request, _ in server.requests} == {b"GET /async-result/other%20task"}


async def test_nobody_waits_for_an_order_longer_because_its_upstream_is_gone():
    assert (await failing(Client(free_port(), timeout=0.3).resume())).fault is Fault.CUT


async def test_models_that_cannot_be_ordered_are_called():
    called = {"data": [{"url": "https://z.ai/a.png"}], "request_id": "r"}
    async with serving(in_turn(called)) as server:
        client = Client(server.port)
        assert (await client.make(model="cogview-4")).url == "https://z.ai/a.png"
    assert b"POST /images/generations" in server.requests[0][0]
    assert client.told == []
