"""A load of HTTP requests from one process: closed loop (so many at once), or open loop (so many a second).

The client costs some 30 us a request, so that it is not what is measured.
"""

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded: the URL of a POST, and the headers and the body of the request of a number."""

    name: str
    url: str
    headers: dict[str, str] | Callable[[int], dict[str, str]]
    body: Callable[[int], bytes]
    pid: int

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def request(self, number: int) -> bytes:
        """Write a request down as it goes over the wire."""
        parts, body = urlsplit(self.url), self.body(number)
        headers = self.headers(number) if callable(self.headers) else self.headers
        lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


@dataclass(slots=True)
class Answers:
    """What came of a load: the seconds that each answer took, counted by status, and the whole time."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    took: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Note an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.append(seconds)

    @property
    def count(self) -> int:
        """The number of answers."""
        return len(self.seconds)

    def percentile(self, percent: int) -> float:
        """Give the milliseconds within which so many percent were answered."""
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1] * 1000


class Connection(asyncio.Protocol):
    """A kept connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[int] | None = None
        self._parser: httptools.HttpResponseParser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = transport

    async def ask(self, request: bytes) -> int:
        """Send a request and give the status of its whole answer."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        return await self._waiter

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Tell that an answer is there."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("closed without an answer"))

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


async def connect(target: Target) -> Connection:
    """Open a connection."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, *target.address)
    return connection


class Load:
    """Loads a target over connections that stay; requests are numbered from `first`, so that each may be its own."""

    def __init__(self, target: Target, first: int = 0) -> None:
        self._target = target
        self._next = first
        self._idle: list[Connection] = []
        self._answers = Answers()

    async def closed(self, at_once: int, seconds: float) -> Answers:
        """Have so many requests under way at every moment."""
        began = perf_counter()
        await asyncio.gather(*(self._keep_asking(began + seconds) for _ in range(at_once)))
        return self._end(began)

    async def bursts(self, at_once: int, often: int) -> Answers:
        """Send so many requests at once, and no more until all have been answered; so often."""
        began = perf_counter()
        for _ in range(often):
            now = perf_counter()
            await asyncio.gather(*(self._ask(now) for _ in range(at_once)))
        return self._end(began)

    async def open(self, per_second: float, seconds: float) -> Answers:
        """Send a request at every moment that is due, whatever is still under way.

        Its time counts from the moment when it was due: a target that stalls delays what is sent meanwhile.
        """
        began, asking = perf_counter(), set[asyncio.Task[None]]()
        for number in range(int(per_second * seconds)):
            due = began + number / per_second
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            asking.add(asyncio.create_task(self._ask(due)))
        await asyncio.gather(*asking)
        return self._end(began)

    @property
    def asked(self) -> int:
        """Give the number of the last request."""
        return self._next

    def close(self) -> None:
        """Hang up everywhere."""
        while self._idle:
            self._idle.pop().close()

    async def _keep_asking(self, until: float) -> None:
        while perf_counter() < until:
            await self._ask(perf_counter())

    async def _ask(self, due: float) -> None:
        connection = self._idle.pop() if self._idle else await connect(self._target)
        self._next += 1
        status = await connection.ask(self._target.request(self._next))
        self._answers.add(status, perf_counter() - due)
        self._idle.append(connection)

    def _end(self, began: float) -> Answers:
        answers, self._answers = self._answers, Answers(took=0.0)
        answers.took = perf_counter() - began
        return answers
