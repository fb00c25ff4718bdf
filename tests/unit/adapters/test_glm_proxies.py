"""The way out through a proxy: what goes through it, what never does, and what a proxy's refusal means."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport import HttpTransport, PublicResolver
from gateway.domain.errors import Misconfigured
from tests.fakes import answering, head, serving
from tests.servers import free_port
from tests.wires import carry, listening, trusting_glm_example

pytestmark = pytest.mark.anyio
WHOLE = head("200 OK", 2) + b"ok"


class Proxy:
    """A forward proxy on loopback that knows one host, whatever its name."""

    def __init__(self, port, refusal=None):
        self.port, self.refusal = port, refusal
        self.heads = []

    async def serve(self, reader, writer):
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        if self.refusal:
            writer.write(head(self.refusal, 0))
            await writer.drain()
            writer.close()
            return
        there = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head("200 Connection established"))
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))


@asynccontextmanager
async def behind_a_proxy(monkeypatch, refusal=None):
    """A host with TLS that only the proxy can find; gives the proxy, its port and what the host was sent."""
    asked = []

    async def host(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(WHOLE)
        await writer.drain()
        writer.close()

    async with listening(host, ssl=trusting_glm_example(monkeypatch)) as port:
        proxy = Proxy(port, refusal)
        async with listening(proxy.serve) as at:
            yield proxy, at, asked


async def get(url, environ, **options):
    transport = HttpTransport(proxies=Proxies(environ), **options)
    try:
        response = await transport.handle_async_request(
            httpx.Request("GET", url, extensions={"timeout": {"connect": 10, "read": 10}})
        )
        return response.status_code, await response.aread()
    finally:
        await transport.aclose()


async def test_a_host_is_reached_through_the_proxy_which_sees_nothing_but_its_name(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login thief password s3cret\n", "utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    async with behind_a_proxy(monkeypatch) as (proxy, port, asked):
        found = await get("https://glm.example/paas", {"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
    assert found == (200, b"ok")
    [said] = proxy.heads
    assert said.startswith(b"CONNECT glm.example:443 ")
    [request] = asked
    assert request.startswith(b"GET /paas ")
    assert b"authorization" not in said.lower() + request.lower()


async def test_the_proxys_own_password_goes_to_the_proxy_alone(monkeypatch):
    async with behind_a_proxy(monkeypatch) as (proxy, port, asked):
        await get("https://glm.example/", {"https_proxy": f"http://us%65r:pass@127.0.0.1:{port}"})
    assert b"proxy-authorization: basic dxnlcjpwyxnz" in proxy.heads[0].lower()
    assert b"authorization" not in asked[0].lower()


async def test_the_guard_of_downloads_lets_the_proxy_resolve(monkeypatch):
    """The proxy is on this machine; the picture's host is nowhere, as far as this machine knows."""
    async with behind_a_proxy(monkeypatch) as (_, port, _):
        environ = {"HTTPS_PROXY": f"127.0.0.1:{port}"}
        assert (await get("https://cdn.glm.example/a.png", environ, resolver=PublicResolver()))[0] == 200
        with pytest.raises(httpx.ConnectError):
            await get("https://localhost./a.png", {"NO_PROXY": "*", **environ}, resolver=PublicResolver())


@pytest.mark.parametrize("refusal", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_what_the_proxy_refuses_was_not_sent(monkeypatch, refusal):
    async with behind_a_proxy(monkeypatch, refusal) as (_, port, asked):
        with pytest.raises(httpx.ConnectError) as failed:
            await get("https://glm.example/", {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{port}"})
        assert asked == []
    assert "s3cret" not in str(failed.value)


async def test_a_proxy_that_is_not_there_was_sent_nothing():
    with pytest.raises(httpx.ConnectError) as failed:
        await get("https://glm.example/", {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{free_port()}"})
    assert "s3cret" not in str(failed.value)


async def test_this_machine_is_reached_without_a_proxy():
    dead = f"http://127.0.0.1:{free_port()}"
    async with serving(answering(WHOLE, "close")) as server:
        assert (await get(server.url, {"HTTP_PROXY": dead, "HTTPS_PROXY": dead}))[0] == 200


PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://z.ai/x", {}, None),
        ("https://z.ai/x", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://z.ai/x", {"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, PROXY),
        ("https://z.ai/x", {"HTTP_PROXY": PROXY}, None),
        ("https://z.ai/x", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ("https://api.z.ai/x", {"HTTPS_PROXY": PROXY, "NO_PROXY": "example.com, z.ai"}, None),
        ("https://api.z.ai/x", {"HTTPS_PROXY": PROXY, "no_proxy": ".z.ai"}, None),
        ("https://api.z.ai:8443/x", {"HTTPS_PROXY": PROXY, "no_proxy": "z.ai:8443"}, None),
        ("https://fuz.ai/x", {"HTTPS_PROXY": PROXY, "NO_PROXY": "z.ai"}, PROXY),
        ("https://z.ai/x", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        *((url, {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}, None) for url in (
            "http://127.0.0.1:1/x", "https://[::1]/x", "http://localhost:8/x",
        )),
    ],
)  # fmt: skip
def test_which_proxy_a_url_is_reached_through(url, environ, proxy):
    assert Proxies(environ).of(url) == proxy


@pytest.mark.parametrize(
    "proxy", ["socks5://u:s3cret@h:1", "http://", "http://u:s3cret@h:99999", "https://h", "http://[x"]
)
def test_a_proxy_that_cannot_be_used_is_told_at_the_start(proxy):
    with pytest.raises(Misconfigured, match="HTTPS_PROXY") as failure:
        Proxies({"HTTPS_PROXY": proxy})
    assert "s3cret" not in failure.value.message
