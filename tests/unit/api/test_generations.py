"""The route of generations by itself, as an ASGI application."""

import gc
import weakref
from types import SimpleNamespace

import pytest

from gateway.api.generations import Generations
from gateway.api.middleware import Edge
from gateway.domain.errors import InvalidKey

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
