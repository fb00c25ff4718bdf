"""Connections to the upstream: when one is kept, when it is closed, and how long anything is waited for."""

import asyncio
import gc
from contextlib import suppress

import httpx
import pytest

from gateway.adapters.glm.transport import HttpTransport
from gateway.adapters.glm.transport.answer import Answer
from gateway.adapters.glm.transport.connection import MOST_HELD
from tests.fakes import answering, head, serving, settle
from tests.wires import NOTHING_WAS_SENT, a_post, listening, send

pytestmark = pytest.mark.anyio

WHOLE = head("200 OK", 2) + b"ok"
MEGABYTE = 1024 * 1024


@pytest.fixture
async def transport():
    transport = HttpTransport()
    yield transport
    await transport.aclose()


class Lines:
    """A server without any rules: it hands each connection to `behave`, and knows when the client has closed it."""

    def __init__(self, behave):
        self.behave = behave
        self.connections = 0
        self.closed = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            await self.behave(reader, writer)
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            self.closed.set()
            writer.close()


async def closing(server):
    async with asyncio.timeout(5):
        await server.closed.wait()


@pytest.mark.parametrize("half", [True, False])
async def test_a_kept_connection_that_the_server_closes_is_not_used_again(transport, half):
    async with serving(answering(WHOLE)) as server:
        for used in (1, 2, 3):
            await send(transport, a_post(server.url))
            assert server.connections == used
            server.writers[-1].write_eof() if half else server.writers[-1].close()
            await asyncio.sleep(0.02)


async def test_what_comes_unasked_ends_a_kept_connection_and_is_nobodys_answer(transport):
    async with serving(answering(WHOLE)) as server:
        await send(transport, a_post(server.url))
        server.writers[0].write(head("200 OK", 5) + b"wrong")
        await asyncio.sleep(0.02)
        assert (await send(transport, a_post(server.url)))[1] == b"ok"
        assert server.connections == 2


async def test_a_kept_connection_that_breaks_after_the_request_is_not_repeated(transport):
    async def once(server, writer):
        if len(server.requests) == 2:
            raise ConnectionError
        writer.write(WHOLE)

    async with serving(once) as server:
        await send(transport, a_post(server.url))
        with pytest.raises(httpx.RemoteProtocolError):
            await send(transport, a_post(server.url))
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_who_speaks_first_is_no_http_server_and_was_sent_nothing(transport):
    async def greet(_, writer):
        writer.write(b"220 mail.example ESMTP\r\n")

    server = Lines(greet)
    async with listening(server.serve) as port:
        with pytest.raises(httpx.TransportError):
            await send(transport, a_post(f"http://127.0.0.1:{port}/"))
        await closing(server)


async def test_the_connection_used_last_is_used_next(transport):
    """So that the others come to their end; idle ones of other hosts and ports are others."""
    async with serving(answering(WHOLE)) as server, serving(answering(WHOLE)) as other:
        await send(transport, a_post(other.url))
        responses = [await transport.handle_async_request(a_post(server.url)) for _ in range(3)]
        assert server.connections == 1  # each was answered whole before the next
        await asyncio.gather(*(send(transport, a_post(server.url)) for _ in range(3)))
        assert server.connections == 3
        for _ in range(3):
            await send(transport, a_post(server.url))
        assert (server.connections, other.connections) == (3, 1)
        assert [await response.aread() for response in responses] == [b"ok"] * 3


@pytest.mark.parametrize("answer", [b"", head("200 OK", 10), head("200 OK", 10) + b"12345"])
async def test_who_is_cancelled_closes_the_connection(transport, answer):
    async def behave(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    server = Lines(behave)
    async with listening(server.serve) as port:
        call = asyncio.create_task(send(transport, a_post(f"http://127.0.0.1:{port}/", read=None)))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await closing(server)
        assert server.connections == 1


async def test_who_is_cancelled_after_the_answer_leaves_the_connection_to_the_next(transport):
    """It may carry another paid call by then, in the very turn of the loop in which the answer came."""
    async with serving(answering(WHOLE)) as server:
        call = asyncio.create_task(send(transport, a_post(server.url)))
        while not transport._pool._idle:
            await settle(1)
        assert not call.done()
        call.cancel()
        assert (await send(transport, a_post(server.url)))[1] == b"ok"
        assert call.cancelled()
        assert server.connections == 1


async def test_answers_need_no_collection_of_garbage(transport):
    async with serving(answering(WHOLE)) as server:
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await send(transport, a_post(server.url))
            assert sum(isinstance(thing, Answer) for thing in gc.get_objects()) <= 1
        finally:
            gc.enable()


async def test_an_answer_that_is_left_before_its_end_closes_the_connection(transport):
    async def behave(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("200 OK", 10) + b"12345")

    server = Lines(behave)
    async with listening(server.serve) as port:
        response = await transport.handle_async_request(a_post(f"http://127.0.0.1:{port}/"))
        await response.aclose()
        await closing(server)


async def test_an_answer_before_the_request_was_read_is_given_and_the_connection_closed(transport):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("413 Content Too Large", 2) + b"no")
        await asyncio.sleep(0.1)

    server = Lines(refuse)
    async with listening(server.serve) as port:
        request = a_post(f"http://127.0.0.1:{port}/", content=b"x" * 32 * MEGABYTE)
        response, content = await send(transport, request)
        assert (response.status_code, content) == (413, b"no")
        await closing(server)


async def test_a_body_that_nobody_takes_is_not_read_on(transport):
    sent = 0

    async def stream(_, writer):
        nonlocal sent
        writer.write(head("200 OK", 64 * MEGABYTE))
        for _ in range(1024):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(stream) as server:
        response = await transport.handle_async_request(a_post(server.url, read=0.2))
        await asyncio.sleep(0.5)  # longer than a piece may take: the server is not to blame
        assert sent < 32 * MEGABYTE  # what the sockets hold
        assert response.stream.held < MOST_HELD + 256 * 1024  # what is read at once
        assert sum([len(piece) async for piece in response.stream]) == 64 * MEGABYTE
        assert sent == 64 * MEGABYTE


async def test_each_piece_of_an_answer_has_its_time(transport):
    async def drip(_, writer):
        for byte in head("200 OK", 4)[:12], head("200 OK", 4)[12:], b"1", b"2", b"3", b"4":
            writer.write(byte)
            await asyncio.sleep(0.15)

    async with serving(drip) as server:
        assert (await send(transport, a_post(server.url, read=0.4)))[1] == b"1234"


async def test_the_time_of_a_piece_begins_when_it_is_waited_for(transport):
    async def behave(_, writer):
        writer.write(head("200 OK", 2) + b"o")
        await asyncio.sleep(0.4)
        writer.write(b"k")

    async with serving(behave) as server:
        response = await transport.handle_async_request(a_post(server.url, read=0.3))
        await asyncio.sleep(0.2)
        assert await response.aread() == b"ok"


async def test_silence_is_left_in_time_and_the_connection_closed(transport):
    async def silent(_, __):
        pass

    server, loop = Lines(silent), asyncio.get_running_loop()
    async with listening(server.serve) as port:
        began = loop.time()
        with pytest.raises(httpx.ReadTimeout):
            await send(transport, a_post(f"http://127.0.0.1:{port}/", read=0.2))
        assert 0.19 < loop.time() - began < 2
        await closing(server)


async def test_closing_ends_what_runs_and_what_waits(transport):
    async def hang(_, writer):
        if server.connections == 1:
            writer.write(WHOLE)

    async with serving(hang) as server:
        await send(transport, a_post(server.url))
        calls = [asyncio.create_task(send(transport, a_post(server.url, read=None))) for _ in range(2)]
        await asyncio.sleep(0.05)
        await transport.aclose()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends if isinstance(end, Exception)] == [httpx.ReadError]
        with pytest.raises(httpx.ConnectError, match="closed"):
            await send(transport, a_post(server.url))


@pytest.mark.parametrize("field", [{"x": "a\r\nb: c"}, {"x": "a\nb"}, {"x": "a\rb"}, {"x": "a\0b"}, {"x\r\ny": "a"}])
async def test_a_header_cannot_smuggle_another_one(transport, field):
    async with serving(answering(WHOLE)) as server:
        with pytest.raises(NOTHING_WAS_SENT):
            await send(transport, httpx.Request("POST", server.url, headers=field, content=b"x"))
        await asyncio.sleep(0.02)
        assert server.requests == []


async def test_a_request_is_one_piece_with_nothing_added(transport):
    async with serving(answering(WHOLE)) as server:
        request = httpx.Request("PUT", server.url + "?a=%20b#there", headers={"X-Y": "z"}, content=b"body")
        await send(transport, request)
    [(said, body)] = server.requests
    place = f"127.0.0.1:{server.port}".encode()
    assert said == (
        b"PUT /images/generations?a=%20b HTTP/1.1\r\nHost: " + place + b"\r\nX-Y: z\r\nContent-Length: 4\r\n\r\n"
    )
    assert body == b"body"


async def test_kept_connections_end_by_themselves(transport, monkeypatch):
    monkeypatch.setattr("gateway.adapters.glm.transport.pool.KEEPALIVE_SECONDS", 0.2)
    ends = []

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(14)
                writer.write(WHOLE)
        ends.append(asyncio.get_running_loop().time())
        writer.close()

    async with listening(serve) as port:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(send(transport, a_post(f"http://127.0.0.1:{port}/")) for _ in range(5)))
        await asyncio.sleep(0.1)
        await send(transport, a_post(f"http://127.0.0.1:{port}/"))
        await asyncio.sleep(0.5)
        assert len(ends) == 5
        assert min(ends) - began >= 0.19
        assert max(ends) - min(ends) >= 0.05  # the one that was used again
