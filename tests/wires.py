"""Requests over the seam to the upstream, and TLS servers under names that lead to loopback."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from gateway.adapters.glm.transport import connecting

TLS = Path(__file__).parent / "tls"  # a certificate of glm.example, and nobody's secret
NOTHING_WAS_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


def a_post(url, read=5.0, connect=5.0, content=b'{"prompt":"x"}'):
    timeout = {"connect": connect, "read": read}
    return httpx.Request("POST", url, content=content, extensions={"timeout": timeout})


async def send(transport, request):
    response = await transport.handle_async_request(request)
    try:
        return response, await response.aread()
    finally:
        await response.aclose()


@asynccontextmanager
async def listening(serve, **options):
    async with await asyncio.start_server(serve, "127.0.0.1", 0, **options) as listener:
        yield listener.sockets[0].getsockname()[1]


async def carry(reader, writer):
    """Pass on what comes, to its end."""
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def trusting_glm_example(monkeypatch):
    """Let transports that are made from now on trust the certificate; give what a server shows it with."""
    trusting = ssl.create_default_context(cafile=TLS / "cert.pem")
    monkeypatch.setattr(connecting, "trusting", lambda: trusting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


def leading(monkeypatch, *addresses):
    """Let every name lead to these addresses; gives the names that were looked up."""
    asked = []

    async def found(host, *_, **__):
        asked.append(host)
        await asyncio.sleep(0.01)
        return [(2, 1, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found, raising=False)
    return asked
