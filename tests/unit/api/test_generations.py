"""The route of generations by itself, as an ASGI application."""

import asyncio
import gc
import json
import weakref
from types import SimpleNamespace

import pytest

from gateway.api.answers import HEARTBEAT
from gateway.api.generations import Generations
from gateway.api.middleware import Edge
from gateway.domain.errors import InvalidKey
from gateway.domain.upstream import Fault
from gateway.service.deliver import Deliver
from gateway.service.generation import Run
from gateway.service.links import PictureLinks
from tests.builders import a_caller, failed
from tests.studio import Studio

pytestmark = pytest.mark.anyio


class Told:
    """Who is told of requests."""

    def __init__(self):
        self.codes = []

    def request_began(self):
        pass

    def request_finished(self, finished):
        self.codes.append((finished.status, finished.code))


async def test_a_refusal_leaves_nothing_that_has_to_be_looked_for():
    """A storm of them would else stop the gateway for as long as a look for garbage takes."""
    raised, sent, told = [], [], Told()

    def refusal():
        failure = InvalidKey("Incorrect API key provided.")
        raised.append(weakref.ref(failure))
        return failure

    async def refuse(secret, address):
        raise refusal()

    async def receive():
        raise AssertionError("the body of a request without a key is not read")

    async def send(message):
        sent.append(message)

    services = SimpleNamespace(trusted_proxies=(), authenticate=refuse)
    app = Edge(Generations(lambda: services, 1000).serve, lambda _: "req_1", lambda: (told, None))
    gc.disable()
    try:
        for _ in range(3):
            scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "scheme": "http"}
            scope |= {"headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
            await app(scope, receive, send)
            del scope
        left = [failure for failure in raised if failure() is not None]
    finally:
        gc.enable()
    assert told.codes == [(401, "invalid_api_key")] * 3
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [401] * 3
    assert left == []


REFUSED, BROKEN = (Fault.CONTENT, "1301", 400), (Fault.ACCOUNT, "1113", 429)


@pytest.mark.parametrize(
    ("body", "failures", "status", "says"),
    [
        ({}, [REFUSED], 400, b"content_policy_violation"),
        ({"n": 3}, [REFUSED] * 3, 400, b"content_policy_violation"),
        ({"n": 2}, [BROKEN], 200, b"usage"),
        ({"stream": True}, [REFUSED], 400, b"content_policy_violation"),
        ({"stream": True}, [], 200, b"image_generation.completed"),
        ({"stream": True, "n": 2}, [BROKEN], 200, b": a picture failed"),
    ],
)
async def test_a_job_that_has_ended_leaves_nothing_that_has_to_be_looked_for(body, failures, status, says):
    """Each that failed left 90 objects, each stream 50: after 5,000 of them the process had grown by 45 MB."""
    answer, left = await answer_and_left(Studio(*(failed(*failure) for failure in failures)), body)
    assert answer[0]["status"] == status
    assert says in b"".join(message.get("body", b"") for message in answer)
    assert left == 0


@pytest.mark.parametrize("n", [1, 3])
async def test_a_stream_that_fails_after_a_heartbeat_leaves_nothing_either(monkeypatch, n):
    monkeypatch.setattr("gateway.api.generations.HEARTBEAT_SECONDS", 0.02)
    studio = Studio(*[failed(*REFUSED) for _ in range(n)])
    studio.shop.upstream.gate.clear()
    answer, left = await answer_and_left(studio, {"stream": True, "n": n})
    assert b"event: error" in answer[-2]["body"]
    assert left == 0


async def answer_and_left(studio, body):
    """Ask, and give the messages of the answer and how many jobs have ended and are still there."""
    deliver = Deliver(studio.shop.store, PictureLinks([b"secret"], 60, studio.shop.clock, ""))
    services = SimpleNamespace(trusted_proxies=(), authenticate=let_in, generate=studio.generate, deliver=deliver)
    app = Edge(Generations(lambda: services, 1000).serve, lambda _: "req_1", lambda: (Told(), None))
    gc.collect()
    gc.disable()
    try:
        answer = await ask(app, {"prompt": "a fox", **body}, studio.shop.upstream.gate)
        assert await studio.jobs.drain(5) == 0
        return answer, await jobs_left()
    finally:
        gc.enable()


async def jobs_left():
    """Count jobs that are still there, once nothing is about to end any more."""
    for _ in range(50):
        left = sum(isinstance(thing, Run) for thing in gc.get_objects())
        if not left:
            return 0
        await asyncio.sleep(0.01)
    return left


async def let_in(secret, address):
    return a_caller()


async def ask(app, body, gate):
    """Send a generation and give the messages of its answer; at a heartbeat the upstream's `gate` opens."""
    content, sent, read = json.dumps(body).encode(), [], asyncio.Event()

    async def receive():
        if read.is_set():
            await asyncio.Event().wait()  # the client stays
        read.set()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message):
        sent.append(message)
        if message.get("body") == HEARTBEAT:
            gate.set()

    scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "scheme": "http"}
    scope |= {"headers": [(b"host", b"gateway")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    await app(scope, receive, send)
    return sent
