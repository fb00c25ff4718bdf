"""httpx's transport seam over aiohttp: the one place where a connection to the upstream is made.

httpx's own pool costs 10 ms of CPU a request at 64 in flight. The published aiohttp adapter reports a connection that
was cut after the request had been sent as a connect failure; here that difference decides whether a picture may be
paid twice, so the errors are mapped by us: ConnectError and ConnectTimeout mean that nothing was sent.
"""

import errno
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.adapters.glm.proxies import Proxies
from gateway.domain.addresses import is_public

CHUNK = 64 * 1024
# Shorter than any usual server's keep-alive, so that a paid POST never goes out on a connection about to be closed.
KEEPALIVE_SECONDS = 4.0


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests through aiohttp, without cookies, redirects or decompression.

    `resolver` is asked for the hosts that are reached without a proxy: a proxy resolves names itself.
    """

    def __init__(self, *, resolver: AbstractResolver | None = None, proxies: Proxies | None = None) -> None:
        self._resolver = resolver
        self._proxies = proxies or Proxies({})
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether a proxy is used

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose body is in memory; the answer's body is streamed."""
        timeout, url = request.extensions.get("timeout", {}), str(request.url)
        proxy = self._proxies.of(url)
        try:
            response = await self._open(proxied=proxy is not None).request(
                request.method,
                url,
                proxy=proxy,
                headers=request.headers,
                data=request.content or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=timeout.get("pool"),
                    sock_connect=timeout.get("connect"),
                    sock_read=timeout.get("read"),
                ),
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
            raise _translated(failure) from failure
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()

    def _open(self, *, proxied: bool) -> aiohttp.ClientSession:
        """Make a session inside the running loop, once."""
        if proxied not in self._sessions:
            resolver = None if proxied else self._resolver
            self._sessions[proxied] = aiohttp.ClientSession(
                # No limit here: the slots and the jobs bound the connections.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, resolver=resolver),
                cookie_jar=aiohttp.DummyCookieJar(),  # the upstream's WAF sets cookies (section 1.3)
                auto_decompress=False,
                skip_auto_headers=("User-Agent",),
            )
        return self._sessions[proxied]


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_chunked(CHUNK):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            raise _translated(failure) from failure

    async def aclose(self) -> None:
        self._response.release()


class PublicResolver(aiohttp.ThreadedResolver):
    """Resolves names to public addresses only, so that a URL in an answer cannot reach into the operator's network.

    `except_hosts` may be replaced.
    """

    def __init__(self, *, except_hosts: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.except_hosts = except_hosts

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        """Resolve a name; OSError when one of its addresses is not public."""
        found = await super().resolve(host, port, family)
        if host not in self.except_hosts and not all(is_public(ip_address(result["host"])) for result in found):
            raise OSError(errno.EHOSTUNREACH, f"{host} resolves to an address that is not public")
        return found


def _translated(failure: Exception) -> httpx.TransportError:
    """Give httpx's name for what happened; only the first two say that nothing was sent."""
    match failure:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout(str(failure))
        case aiohttp.ClientConnectorError() | aiohttp.InvalidURL():
            return httpx.ConnectError(str(failure))
        case aiohttp.ClientHttpProxyError():  # CONNECT was refused: the request itself did not go out
            return httpx.ConnectError(f"the proxy refused the connection with status {failure.status}")
        case TimeoutError():
            return httpx.ReadTimeout(str(failure) or "no answer in time")
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(str(failure))
        case _:
            return httpx.ReadError(str(failure))
