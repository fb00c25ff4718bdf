"""The seam to the upstream against real servers: only where nothing was sent may an error say so."""

import asyncio
import socket
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from gateway.adapters.glm import client
from gateway.adapters.glm.client import Endpoint, GlmImage
from gateway.adapters.glm.transport import HttpTransport, PublicResolver
from gateway.adapters.glm.transport.pool import KEEPALIVE_SECONDS
from gateway.domain.upstream import Fault
from gateway.service.ports_upstream import CallFailed
from tests.builders import a_plan, an_account
from tests.fakes import answering, head, serving, settle
from tests.servers import free_port
from tests.wires import NOTHING_WAS_SENT, a_post, leading, send

pytestmark = pytest.mark.anyio

PAID = b'{"data":[{"url":"https://z.ai/a.png"}],"request_id":"r"}'


WHOLE = head("200 OK", len(PAID)) + PAID


@pytest.fixture
async def transport():
    transport = HttpTransport()
    yield transport
    await transport.aclose()


def upstream(transport, port, timeout=5.0, path=""):
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}{path}", api_key="id.secret", timeout=timeout)
    return GlmImage(transport, {"main": endpoint})


async def never(task_id):
    raise AssertionError("nothing is ordered in one call")


async def test_a_whole_answer(transport):
    async with serving(answering(WHOLE)) as server:
        response, content = await send(transport, a_post(server.url))
    assert (response.status_code, content) == (200, PAID)
    assert server.requests[0][1] == b'{"prompt":"x"}'


async def test_nothing_listens(transport):
    with pytest.raises(httpx.ConnectError):
        await send(transport, a_post(f"http://127.0.0.1:{free_port()}/"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1%25nowhere]:1/"])
async def test_a_place_that_cannot_be_reached(transport, url):
    with pytest.raises(NOTHING_WAS_SENT):
        await send(transport, a_post(url))


@contextmanager
def crowded():
    """A listener whose queue is full, so that no further connection is made."""
    with socket.socket() as listener, ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_listener_that_takes_nobody(transport, monkeypatch):
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
    with crowded() as port:
        with pytest.raises(httpx.ConnectTimeout):
            await send(transport, a_post(f"http://127.0.0.1:{port}/", connect=0.2))
        with pytest.raises(CallFailed) as failed:
            await upstream(transport, port).make(an_account(), a_plan(), never)
        assert failed.value.failure.fault is Fault.UNREACHABLE


@pytest.mark.parametrize("abort", [True, False])
async def test_a_server_that_closes_without_reading(transport, abort):
    """What was written is gone, and nobody knows how far it came."""

    async def close(_, writer):
        writer.transport.abort() if abort else writer.close()

    listener = await asyncio.start_server(close, "127.0.0.1", 0)
    async with listener:
        with pytest.raises(httpx.TransportError) as failed:
            await send(transport, a_post(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"))
    assert not isinstance(failed.value, NOTHING_WAS_SENT)


async def test_a_handshake_that_fails_has_sent_nothing(transport):
    async with serving(answering(WHOLE)) as server:
        with pytest.raises(NOTHING_WAS_SENT):
            await send(transport, a_post(server.url.replace("http:", "https:"), connect=0.2))
        assert server.requests == []


CHUNKED = head("200 OK", None, "Transfer-Encoding: chunked")
PROTOCOL, READ = httpx.RemoteProtocolError, httpx.ReadTimeout
AFTER_SENDING = {
    "closes without a word": (answering(b"", "close"), PROTOCOL),
    "resets without a word": (answering(b"", "reset"), httpx.TransportError),
    "half a status line": (answering(b"HTTP/1.1 2", "close"), PROTOCOL),
    "half a head": (answering(b"HTTP/1.1 200 OK\r\nContent-", "close"), PROTOCOL),
    "half a body": (answering(head("200 OK", len(PAID)) + PAID[:20], "close"), PROTOCOL),
    "half a body and a reset": (answering(head("200 OK", 99) + PAID[:20], "reset"), httpx.TransportError),
    "half a chunk": (answering(CHUNKED + b"20\r\n{", "close"), PROTOCOL),
    "a wrong chunk": (answering(CHUNKED + b"zz\r\n"), PROTOCOL),
    "a wrong length": (answering(head("200 OK", "many")), PROTOCOL),
    "a head without end": (answering(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000), PROTOCOL),
    "no HTTP": (answering(b"+PONG\r\n", "close"), PROTOCOL),
    "silence": (answering(b""), READ),
    "silence after the head": (answering(head("200 OK", 100)), READ),
    "silence in the body": (answering(head("200 OK", 100) + PAID[:20]), READ),
}


@pytest.mark.parametrize("what", AFTER_SENDING)
async def test_what_happens_after_the_request_was_sent_never_says_that_nothing_was_sent(transport, what):
    behave, kind = AFTER_SENDING[what]
    async with serving(behave) as server:
        with pytest.raises(kind) as failed:
            await send(transport, a_post(server.url, read=0.2))
        assert not isinstance(failed.value, NOTHING_WAS_SENT)
        assert server.connections == 1
        assert len(server.requests) == 1


@pytest.mark.parametrize("what", AFTER_SENDING)
async def test_such_a_call_is_cut_and_not_repeated(transport, what):
    async with serving(AFTER_SENDING[what][0]) as server:
        with pytest.raises(CallFailed) as failed:
            await upstream(transport, server.port, 0.2).make(an_account(), a_plan(), never)
        assert failed.value.failure.fault is Fault.CUT
        assert len(server.requests) == 1


async def test_an_upstream_that_is_not_there_is_unreachable(transport):
    with pytest.raises(CallFailed) as failed:
        await upstream(transport, free_port()).make(an_account(), a_plan(), never)
    assert (failed.value.failure.fault, failed.value.failure.status) == (Fault.UNREACHABLE, 0)


@pytest.mark.parametrize("length", [client.LARGEST_ANSWER, client.LARGEST_ANSWER + 1])
async def test_an_answer_may_be_so_large_and_no_larger(transport, length):
    content = head("200 OK", length) + PAID + b" " * (length - len(PAID))
    async with serving(answering(content)) as server:
        [end] = await asyncio.gather(
            upstream(transport, server.port).make(an_account(), a_plan(), never), return_exceptions=True
        )
    assert isinstance(end, CallFailed) is (length > client.LARGEST_ANSWER)
    assert not isinstance(end, CallFailed) or "larger" in end.failure.detail


async def test_the_calls_headers_are_glms(transport):
    async with serving(answering(WHOLE)) as server:
        paid = await upstream(transport, server.port, path="/api/paas/v4/").make(an_account(), a_plan(), never)
    request, _ = server.requests[0]
    assert paid.url == "https://z.ai/a.png"
    assert request.startswith(b"POST /api/paas/v4/images/generations HTTP/1.1\r\n")
    assert b"authorization: bearer id.secret\r\n" in request.lower()
    assert b"content-type: application/json\r\n" in request.lower()
    assert b"accept: */*\r\n" in request.lower()
    assert b"accept-encoding: identity\r\n" in request.lower()
    assert request.lower().count(b"user-agent: glm-image-gateway/") == request.lower().count(b"user-agent:") == 1


async def test_any_number_of_calls_is_in_flight_at_once(transport):
    arrived = []

    async def wait_for_all(_, writer):
        arrived.append(writer)
        if len(arrived) == 150:
            for each in arrived:
                each.write(WHOLE)

    async with serving(wait_for_all) as server:
        ends = await asyncio.gather(*(send(transport, a_post(server.url)) for _ in range(150)))
    assert {content for _, content in ends} == {PAID}


async def test_an_idle_connection_is_dropped_before_servers_drop_it(transport, monkeypatch):
    """Usual servers keep one for 5 s or more: a paid POST must not go out on one that is about to be closed."""
    assert KEEPALIVE_SECONDS < 5
    monkeypatch.setattr("gateway.adapters.glm.transport.pool.KEEPALIVE_SECONDS", 0.05)
    async with serving(answering(WHOLE)) as server:
        await send(transport, a_post(server.url))
        await asyncio.sleep(0.1)
        await send(transport, a_post(server.url))
        assert server.connections == 2


@pytest.mark.parametrize("ticks", [0, 1, 2, 5, 20])
async def test_a_connection_that_the_server_has_just_closed(transport, ticks):
    """Noticed in time, a new one is made; else the request may have been read, and nobody may say that it was not."""
    async with serving(answering(WHOLE)) as server:
        await send(transport, a_post(server.url))
        server.writers[0].close()
        await settle(ticks)
        [end] = await asyncio.gather(send(transport, a_post(server.url)), return_exceptions=True)
        assert not isinstance(end, NOTHING_WAS_SENT)
        assert isinstance(end, httpx.TransportError) or end[1] == PAID
        assert len(server.requests) <= 2


async def test_a_close_that_was_noticed_costs_no_call(transport):
    async with serving(answering(WHOLE)) as server:
        await send(transport, a_post(server.url))
        server.writers[0].close()
        await asyncio.sleep(0.05)
        assert (await send(transport, a_post(server.url)))[1] == PAID
        assert server.connections == 2


async def test_redirects_are_answers_and_cookies_are_not_kept(transport):
    content = head("307 Temporary Redirect", 0, "Location: http://127.0.0.1:1/", "Set-Cookie: acw_tc=1;path=/;HttpOnly")
    async with serving(answering(content)) as server:
        response, _ = await send(transport, a_post(server.url))
        await send(transport, a_post(server.url))
    assert response.status_code == 307
    assert response.headers["location"] == "http://127.0.0.1:1/"
    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1][0].lower()


async def test_a_body_comes_as_it_was_sent(transport):
    """A decompressed one could be larger than what is allowed."""
    content = head("200 OK", 4, "Content-Encoding: gzip") + b"\x1f\x8b\x08\0"
    async with serving(answering(content)) as server:
        response = await transport.handle_async_request(a_post(server.url))
        assert b"".join([part async for part in response.aiter_raw()]) == b"\x1f\x8b\x08\0"


async def test_a_name_that_leads_into_the_own_network_is_not_followed():
    transport = HttpTransport(resolver=PublicResolver())
    async with serving(answering(WHOLE)) as server:
        with pytest.raises(httpx.ConnectError):
            await send(transport, a_post(f"http://localhost:{server.port}/"))
        assert server.connections == 0
    await transport.aclose()


async def test_only_a_named_host_may_be_on_this_machine():
    transport = HttpTransport(resolver=PublicResolver(except_hosts=frozenset({"localhost"})))
    async with serving(answering(WHOLE)) as server:
        assert (await send(transport, a_post(f"http://localhost:{server.port}/")))[1] == PAID
    await transport.aclose()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
async def test_one_private_address_among_public_ones_is_enough(address, monkeypatch):
    leading(monkeypatch, "8.8.8.8", address)
    with pytest.raises(OSError, match="not public"):
        await PublicResolver().resolve("cdn.z.ai")


async def test_a_transport_that_was_never_used_closes():
    await HttpTransport().aclose()
