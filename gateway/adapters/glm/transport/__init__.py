"""httpx's transport seam over sockets of our own: the one place where a connection to the upstream is made.

httpx's own pool costs 10 ms of CPU a request at 64 in flight, aiohttp's client 0.1. And whether anything was sent
decides here whether a picture may be paid twice: ConnectError and ConnectTimeout say that nothing was, every other
failure that it may have been.
"""

import httpx

from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport.answer import Answer
from gateway.adapters.glm.transport.connecting import Connector
from gateway.adapters.glm.transport.connection import Connection
from gateway.adapters.glm.transport.names import PublicResolver, Resolver
from gateway.adapters.glm.transport.pool import Pool

__all__ = ["HttpTransport", "PublicResolver"]


class HttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests over HTTP/1.1, without cookies, redirects or decompression.

    `resolver` is asked for the hosts that are reached without a proxy: a proxy resolves names itself.
    """

    def __init__(self, *, resolver: Resolver | None = None, proxies: Proxies | None = None) -> None:
        self._pool = Pool()  # without a limit: the slots and the jobs bound the connections
        self._connector = Connector(self._pool, resolver or Resolver(), proxies or Proxies({}))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose body is in memory; the answer's body is streamed."""
        timeout, url = request.extensions.get("timeout", {}), request.url
        key = (url.scheme, url.netloc)
        connection = self._pool.take(key) or await self._connector.connect(key, url, timeout.get("connect"))
        answer = _asked(connection, request, timeout.get("read"))
        try:
            await answer.head()
        except BaseException:
            await answer.aclose()
            raise
        return httpx.Response(answer.status, headers=answer.headers, stream=answer, request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


def _asked(connection: Connection, request: httpx.Request, seconds: float | None) -> Answer:
    try:
        return connection.ask(request.method, _written(request, connection), seconds)
    except BaseException:  # nothing was written
        connection.close()
        raise


def _written(request: httpx.Request, connection: Connection) -> bytes:
    """Give a request as it goes over the wire: bodies are prompts, and go out with the head in one piece."""
    url, way = request.url, connection.way
    target = b"http://%b%b" % (url.netloc, url.raw_path) if way.absolute else url.raw_path
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target)]
    lines += [b"%b: %b" % field for field in (*request.headers.raw, *way.fields)]
    head = b"\r\n".join((*lines, b"", b""))
    if not head.count(b"\n") == head.count(b"\r") == len(lines) + 1 or b"\0" in head:
        raise httpx.ConnectError("a header or the URL has a line break or a NUL in it; nothing was sent")
    return head + request.read()
