"""One connection to an upstream or a proxy: it carries one request after the other."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httpx

from gateway.adapters.glm.transport.answer import Answer

MOST_HELD = 64 * 1024  # bytes of a body that wait to be taken before no more is read; uvloop reads 250 KiB at once
Key = tuple[str, bytes]  # scheme, and host with port: what connections have in common


@dataclass(frozen=True, slots=True)
class Way:
    """What a proxy in between wants of each request: the whole URL, and its password."""

    absolute: bool = False
    fields: tuple[tuple[bytes, bytes], ...] = ()


class Connection(asyncio.Protocol):
    """Writes a request and hands what comes to its answer. `kept` is told when the next one may follow."""

    def __init__(self, kept: "Callable[[Connection], None]", ended: "Callable[[Connection], None]") -> None:
        self.key: Key | None = None  # until it can carry requests
        self.way = Way()
        self.idle_since = 0.0
        self._kept, self._ended = kept, ended
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._seconds: float | None = None  # that a piece of the answer may take
        self._heard = 0.0  # when the last one came, or the wait for the next one began
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    @property
    def usable(self) -> bool:
        """Whether a request may be written: the server has neither closed it nor said anything unasked."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, method: str, request: bytes, seconds: float | None) -> Answer:
        """Write a request; each piece of its answer may take so many seconds."""
        if self._transport is None or self._transport.is_closing():
            raise httpx.ConnectError("the server closed the connection before anything was sent")
        self._answer, self._seconds = Answer(self, method), seconds
        self._transport.write(request)
        self.expect()
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._look)
        return self._answer

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """Go on in TLS; OSError when the server is not who it should be."""
        if self._transport is None:
            raise ConnectionAbortedError("the server closed the connection")
        secured = await self._loop.start_tls(self._transport, self, context, server_hostname=name)
        self._transport = secured

    def close(self) -> None:
        """Close at once; what is unanswered fails."""
        transport, self._transport = self._transport, None
        self._leave(httpx.ReadError("the connection was closed"))
        if transport is not None:
            transport.abort()  # without TLS's last words, for which it would wait up to 30 s
        self._ended(self)

    def expect(self) -> None:
        """Begin a wait for the next piece."""
        self._heard = self._loop.time()

    def resume(self) -> None:
        """Read on: what had come was taken."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand it to the answer; what comes unasked ends the connection."""
        answer = self._answer
        if answer is None:
            self.close()
            return
        self._heard = self._loop.time()
        answer.feed(data)
        if answer.over:
            self._finish(answer)
        elif answer.held > MOST_HELD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Close: the server says nothing more."""
        if self._answer is not None:
            self._answer.end()
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is unanswered: it may have been done."""
        self._leave(httpx.ReadError(f"the connection broke: {exc}"))
        self.close()

    def _finish(self, answer: Answer) -> None:
        """Keep the connection where the answer leaves it usable, and the request was written to its end."""
        self._leave(httpx.ReadError("the connection was closed"))
        if answer.leaves_usable and self._transport is not None and not self._transport.get_write_buffer_size():
            self._kept(self)
        else:
            self.close()

    def _leave(self, failure: httpx.TransportError) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._answer is not None:
            self._answer.fail(failure)
            self._answer = None

    def _look(self) -> None:
        """Give a silent server up, when somebody waits for it; who takes nothing is not its fault."""
        answer, self._timer = self._answer, None
        if answer is None or self._seconds is None:
            return
        left = self._seconds - (self._loop.time() - self._heard) if answer.awaited else self._seconds
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            answer.fail(httpx.ReadTimeout(f"no answer within {self._seconds:g} s"))
            self.close()
