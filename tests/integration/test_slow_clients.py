"""Clients that send or read without end do not hold a connection for ever."""

import asyncio
import json
import time

import pytest

from gateway.api.protocol import OpenAIProtocol
from gateway.cli.running import bind, serving

pytestmark = pytest.mark.anyio
CHUNK = b"x" * 65536


class Endless:
    """An application whose answer never ends; `ended` is set when it is told that its client is gone."""

    def __init__(self):
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert (await receive())["type"] == "http.request"
        gone = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            self.sent += 1
            await asyncio.sleep(0)
        assert gone.result()["type"] == "http.disconnect"
        self.ended.set()


async def connect(server):
    host, port = server.address.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port), limit=2**16)


async def test_a_client_that_stops_reading_is_let_go(monkeypatch):
    monkeypatch.setattr("gateway.api.protocol.UNREAD_SECONDS", 0.3)
    app = Endless()
    async with serving(app, bind("127.0.0.1", 0), 1, OpenAIProtocol) as server:
        _, writer = await connect(server)
        writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        async with asyncio.timeout(10):
            await app.ended.wait()
        writer.close()


async def test_a_client_that_reads_slowly_is_served(monkeypatch):
    monkeypatch.setattr("gateway.api.protocol.UNREAD_SECONDS", 1.0)
    app = Endless()
    async with serving(app, bind("127.0.0.1", 0), 1, OpenAIProtocol) as server:
        reader, writer = await connect(server)
        writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert await reader.read(2**20)
            await asyncio.sleep(0.05)
        assert not app.ended.is_set()
        writer.close()
        async with asyncio.timeout(10):
            await app.ended.wait()


async def test_headers_that_never_end_are_refused(monkeypatch):
    monkeypatch.setattr("gateway.api.protocol.HEAD_SECONDS", 0.3)
    async with serving(Endless(), bind("127.0.0.1", 0), 1, OpenAIProtocol) as server:
        reader, writer = await connect(server)
        writer.write(b"GET / HTTP/1.1\r\nhost: he")
        async with asyncio.timeout(10):
            answer = await reader.read()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        writer.close()


async def briefly(scope, receive, send):
    """Answer with nothing."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_each_request_of_a_connection_has_its_own_time_for_its_headers(monkeypatch):
    monkeypatch.setattr("gateway.api.protocol.HEAD_SECONDS", 1.0)
    async with serving(briefly, bind("127.0.0.1", 0), 1, OpenAIProtocol) as server, asyncio.timeout(10):
        reader, writer = await connect(server)
        for _ in range(4):  # longer than one of them may take
            writer.write(b"GET / HTTP/1.1\r\n")
            await asyncio.sleep(0.4)
            writer.write(b"host: here\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nhost: he")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert 0.9 < time.monotonic() - began < 5
        writer.close()
