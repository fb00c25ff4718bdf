"""Makes connections, directly or through a proxy. Whatever fails here, nothing of a request was sent."""

import asyncio
import base64
import ssl
from functools import cache
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import httpx

from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport.connection import Connection, Key, Way
from gateway.adapters.glm.transport.names import Resolver
from gateway.adapters.glm.transport.pool import Pool

_PORTS = {"http": 80, "https": 443}


class Connector:
    """Makes a pool's connections. A proxy's own name may lead anywhere: the operator has set it."""

    def __init__(self, pool: Pool, resolver: Resolver, proxies: Proxies) -> None:
        self._pool, self._proxies = pool, proxies
        self._resolver, self._proxy_resolver = resolver, Resolver()
        self._tls = trusting()

    async def connect(self, key: Key, url: httpx.URL, seconds: float | None) -> Connection:
        """Make a connection that is ready for a request, within so many seconds.

        Raises:
            httpx.ConnectTimeout: it took too long.
            httpx.ConnectError: it cannot be made.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                connection = await self._opened(url, limit)
        except TimeoutError as failure:
            raise httpx.ConnectTimeout(str(failure) or f"no connection within {seconds} s") from failure
        except (OSError, ValueError, OverflowError, httpx.TransportError) as failure:
            raise httpx.ConnectError(str(failure)) from failure
        connection.key = key
        return connection

    async def _opened(self, url: httpx.URL, limit: asyncio.Timeout) -> Connection:
        if url.scheme not in _PORTS:
            raise ValueError(f"{url.scheme!r} is neither http nor https")
        host, port = url.raw_host.decode(), url.port or _PORTS[url.scheme]
        proxy = self._proxies.of(str(url))
        if proxy is None:
            connection = await self._dialled(self._resolver, host, port, limit)
        else:
            hop = urlsplit(proxy)
            connection = await self._dialled(self._proxy_resolver, hop.hostname or "", hop.port or 80, limit)
        try:
            if proxy is not None:
                await _introduce(connection, urlsplit(proxy), url, port)
            if url.scheme == "https":
                await connection.secure(self._tls, host.rstrip("."))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _dialled(self, resolver: Resolver, host: str, port: int, limit: asyncio.Timeout) -> Connection:
        """Try a host's addresses in order. None takes the time of those behind it: one that is dead may not answer."""
        failure: Exception = OSError(f"{host} has no address")
        addresses = await resolver.resolve(host)
        for number, address in enumerate(addresses):
            try:
                async with asyncio.timeout_at(_share(limit, len(addresses) - number)):
                    return await self._reached(address, port)
            except OSError as failed:
                failure = failed
        raise failure

    async def _reached(self, address: str, port: int) -> Connection:
        connection = self._pool.make()
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, address, port)
        except BaseException:
            connection.close()
            raise
        return connection


async def _introduce(connection: Connection, proxy: SplitResult, url: httpx.URL, port: int) -> None:
    """Tell a proxy who asks, and for https to let us through to the host; ConnectError when it does not."""
    fields = _credentials(proxy)
    if url.scheme == "http":
        connection.way = Way(absolute=True, fields=fields)
        return
    name = url.raw_host.decode()
    there = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    lines = [f"CONNECT {there} HTTP/1.1".encode(), b"Host: " + there.encode(), *(b"%b: %b" % field for field in fields)]
    answer = connection.ask("CONNECT", b"\r\n".join((*lines, b"", b"")), None)
    await answer.head()
    if not answer.status // 100 == 2:  # noqa: PLR2004 - each of them lets us through
        raise httpx.ConnectError(f"the proxy refused the connection with status {answer.status}")


def _credentials(proxy: SplitResult) -> tuple[tuple[bytes, bytes], ...]:
    if proxy.username is None:
        return ()
    said = b"%b:%b" % (unquote_to_bytes(proxy.username), unquote_to_bytes(proxy.password or ""))
    return ((b"Proxy-Authorization", b"Basic " + base64.b64encode(said)),)


def _share(limit: asyncio.Timeout, attempts: int) -> float | None:
    """Give when an attempt has to end, so that as many have the same time."""
    when, now = limit.when(), asyncio.get_running_loop().time()
    return None if when is None or attempts == 1 else now + (when - now) / attempts


@cache
def trusting() -> ssl.SSLContext:
    """Make what TLS trusts, once: the system's certificates."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
