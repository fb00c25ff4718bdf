"""How a connection comes about: names, addresses in order, TLS and proxies; until it is there nothing was sent."""

import asyncio
import base64
import socket
import ssl

import httpx
import pytest

from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport import HttpTransport, PublicResolver
from tests.fakes import answering, head, serving
from tests.servers import free_port
from tests.wires import NOTHING_WAS_SENT, a_post, carry, leading, listening, send, trusting_glm_example

pytestmark = pytest.mark.anyio

WHOLE = head("200 OK", 2) + b"ok"


class Host:
    """Answers with `ok`, in TLS if it has a context, and notes what it was asked and by which name."""

    def __init__(self, context=None):
        self.context = context
        self.names, self.heads, self.connections = [], [], 0
        if context:
            context.sni_callback = lambda _, name, __: self.names.append(name)

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(14)
                writer.write(WHOLE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def test_a_name_is_looked_up_once_and_is_what_the_host_is_told(monkeypatch):
    host, asked = Host(trusting_glm_example(monkeypatch)), leading(monkeypatch, "127.0.0.1")
    transport = HttpTransport()
    async with listening(host.serve, ssl=host.context) as port:
        url = f"https://glm.example:{port}/x"
        await asyncio.gather(*(send(transport, a_post(url)) for _ in range(5)))
        assert (await send(transport, a_post(url)))[1] == b"ok"
        await transport.aclose()
    assert (asked, host.connections, host.names) == (["glm.example"], 5, ["glm.example"] * 5)
    assert f"\r\nHost: glm.example:{port}\r\n".encode() in host.heads[0]


async def test_a_failed_look_up_is_not_remembered(monkeypatch):
    async def fails(*_, **__):
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    transport = HttpTransport()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails, raising=False)
    async with serving(answering(WHOLE)) as server:
        url = f"http://glm.example:{server.port}/"
        with pytest.raises(httpx.ConnectError, match="try again"):
            await send(transport, a_post(url))
        await asyncio.sleep(0)
        leading(monkeypatch, "127.0.0.1")
        assert (await send(transport, a_post(url)))[1] == b"ok"
        await transport.aclose()


async def test_a_name_without_an_address_cannot_be_reached(monkeypatch):
    leading(monkeypatch)
    transport = HttpTransport()
    with pytest.raises(httpx.ConnectError, match="no address"):
        await send(transport, a_post("http://glm.example/"))
    await transport.aclose()


async def test_who_leaves_a_look_up_does_not_take_it_from_others(monkeypatch):
    asked, transport = leading(monkeypatch, "127.0.0.1"), HttpTransport()
    async with serving(answering(WHOLE)) as server:
        calls = [asyncio.create_task(send(transport, a_post(f"http://glm.example:{server.port}/"))) for _ in range(3)]
        await asyncio.sleep(0)
        calls[0].cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        await transport.aclose()
    assert isinstance(ends[0], asyncio.CancelledError)
    assert [end[1] for end in ends[1:]] == [b"ok", b"ok"]
    assert asked == ["glm.example"]


async def test_addresses_are_tried_in_their_order(monkeypatch):
    leading(monkeypatch, "127.0.0.2", "::1", "127.0.0.1")
    transport = HttpTransport()
    async with serving(answering(WHOLE)) as server:
        assert (await send(transport, a_post(f"http://glm.example:{server.port}/")))[1] == b"ok"
        await transport.aclose()
    with pytest.raises(httpx.ConnectError):
        await send(HttpTransport(), a_post(f"http://glm.example:{free_port()}/"))


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch):
    leading(monkeypatch, "127.0.0.2", "127.0.0.1")
    transport = HttpTransport()
    async with serving(answering(WHOLE)) as server:
        with socket.socket() as full, socket.socket() as filler, socket.socket() as another:
            full.bind(("127.0.0.2", server.port))
            full.listen(0)
            for each in (filler, another):
                each.settimeout(0)
                each.connect_ex(full.getsockname())
            request = a_post(f"http://glm.example:{server.port}/", connect=1.0)
            assert (await send(transport, request))[1] == b"ok"
            await transport.aclose()


async def test_version_6():
    server = Host()
    listener = await asyncio.start_server(server.serve, "::1", 0)
    port = listener.sockets[0].getsockname()[1]
    transport = HttpTransport()
    async with listener:
        assert (await send(transport, a_post(f"http://[::1]:{port}/")))[1] == b"ok"
        await transport.aclose()
    assert f"Host: [::1]:{port}\r\n".encode() in server.heads[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost"])
async def test_an_address_is_guarded_as_a_name_is(host):
    transport = HttpTransport(resolver=PublicResolver())
    async with serving(answering(WHOLE)) as server:
        with pytest.raises(httpx.ConnectError, match="not public"):
            await send(transport, a_post(f"http://{host}:{server.port}/"))
        assert server.connections == 0
    await transport.aclose()


@pytest.mark.parametrize("trusts", [True, False])
async def test_a_host_that_is_not_who_it_should_be_is_sent_nothing(monkeypatch, trusts):
    context = trusting_glm_example(monkeypatch)
    if not trusts:
        monkeypatch.undo()
    leading(monkeypatch, "127.0.0.1")
    host, transport = Host(context), HttpTransport()
    name = "other.example" if trusts else "glm.example"
    async with listening(host.serve, ssl=context) as port:
        with pytest.raises(httpx.ConnectError, match=r"CERTIFICATE_VERIFY_FAILED|certificate"):
            await send(transport, a_post(f"https://{name}:{port}/"))
    assert host.heads == []
    await transport.aclose()


async def silence(reader, writer, closed):
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    closed.set()
    writer.close()


@pytest.mark.parametrize("cancelled", [True, False])
@pytest.mark.parametrize("proxied", [True, False])
async def test_a_handshake_without_end_is_left_and_its_connection_closed(cancelled, proxied):
    closed, transport = asyncio.Event(), HttpTransport()

    async def serve(reader, writer):
        await silence(reader, writer, closed)

    async with listening(serve) as port:
        if proxied:
            transport = HttpTransport(proxies=Proxies({"HTTPS_PROXY": f"http://127.0.0.1:{port}"}))
        url = "https://glm.example/" if proxied else f"https://127.0.0.1:{port}/"
        call = asyncio.create_task(send(transport, a_post(url, connect=5.0 if cancelled else 0.2)))
        await asyncio.sleep(0.1)
        if cancelled:
            call.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else httpx.ConnectTimeout):
            await call
        async with asyncio.timeout(5):
            await closed.wait()
    assert transport._pool._all == set()
    await transport.aclose()


REFUSALS = [head("403 Forbidden", 0), b"no HTTP at all", b"", head("200 OK").replace(b"/1.1 200", b"/1.1 101")]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_a_proxy_says_instead_of_yes_means_that_nothing_was_sent(refusal):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        writer.close()

    async with listening(refuse) as port:
        transport = HttpTransport(proxies=Proxies({"HTTPS_PROXY": f"http://us:s3cret@127.0.0.1:{port}"}))
        with pytest.raises(NOTHING_WAS_SENT) as failed:
            await send(transport, a_post("https://glm.example/"))
        assert "s3cret" not in str(failed.value)
        assert transport._pool._all == set()
        await transport.aclose()


class Tunnel:
    """A proxy that lets everybody through to one port."""

    def __init__(self, port):
        self.port = port
        self.heads = []

    async def serve(self, reader, writer):
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        there, out = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head("200 Connection established"))
        await asyncio.gather(carry(reader, out), carry(there, writer))


async def test_one_way_through_a_proxy_carries_many_requests(monkeypatch):
    host = Host(trusting_glm_example(monkeypatch))
    async with listening(host.serve, ssl=host.context) as port:
        tunnel = Tunnel(port)
        async with listening(tunnel.serve) as at:
            transport = HttpTransport(proxies=Proxies({"HTTPS_PROXY": f"http://127.0.0.1:{at}"}))
            for _ in range(3):
                assert (await send(transport, a_post("https://glm.example/")))[1] == b"ok"
            await transport.aclose()
    assert (len(tunnel.heads), len(host.heads), host.names) == (1, 3, ["glm.example"])
    assert tunnel.heads[0] == b"CONNECT glm.example:443 HTTP/1.1\r\nHost: glm.example:443\r\n\r\n"


@pytest.mark.parametrize("password", ["s3cret", "%40%3A%c3%a9%20"])
async def test_http_through_a_proxy_names_the_whole_url_and_who_asks(password):
    host = Host()
    async with listening(host.serve) as port:
        proxies = Proxies({"HTTP_PROXY": f"http://us:{password}@127.0.0.1:{port}"})
        transport = HttpTransport(proxies=proxies, resolver=PublicResolver())
        for _ in range(2):
            assert (await send(transport, a_post("http://glm.example/a?b=c")))[1] == b"ok"
        await transport.aclose()
    assert host.connections == 1
    said = host.heads[1].split(b"\r\n")
    assert said[0] == b"POST http://glm.example/a?b=c HTTP/1.1"
    assert b"Host: glm.example" in said
    shown = base64.b64decode(said[-3].removeprefix(b"Proxy-Authorization: Basic "))
    assert shown in {b"us:s3cret", "us:@:é ".encode()}


def test_what_tls_trusts_is_read_once():
    assert HttpTransport()._connector._tls is HttpTransport()._connector._tls
    assert HttpTransport()._connector._tls.verify_mode is ssl.CERT_REQUIRED
