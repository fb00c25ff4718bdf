"""An answer as it comes over the wire: its head, and a body that is taken piece by piece."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Those of GLM and its CDN have some 20 fields in 1 KB. The bytes are also the most that may stand between two pieces
# of a body, and in all interim answers together.
MOST_HEAD_BYTES = 64 * 1024
MOST_FIELDS = 128
_FIRST_STATUS, _FIRST_FINAL_STATUS = 100, 200
Field = tuple[bytes, bytes]


class Wire(Protocol):
    """The connection that an answer comes on."""

    def close(self) -> None:
        """Close it: nobody wants the rest."""

    def expect(self) -> None:
        """Begin a wait for the next piece."""

    def resume(self) -> None:
        """Read on: what had come was taken."""


class Answer(httpx.AsyncByteStream):
    """What the server says to one request; httptools calls the `on_` methods."""

    def __init__(self, wire: Wire, method: str) -> None:
        self.status = 0  # until the head is there
        self.headers: list[Field] = []
        self.ended = False
        self.held = 0  # bytes of the body that came and were not taken
        self._wire, self._method = wire, method
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._failure: httpx.TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._kept = self._surplus = False
        self._fields = self._field_bytes = self._between = 0

    @property
    def over(self) -> bool:
        """Whether nothing more of it is to come."""
        return self.ended or self._failure is not None

    @property
    def leaves_usable(self) -> bool:
        """Whether its connection may carry another request."""
        return self.ended and self._kept and not self._surplus

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for more of it."""
        return self._waiter is not None

    async def head(self) -> None:
        """Wait until status and headers are there."""
        while not self.status:
            await self._more()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the body, in pieces as large as they came."""
        while self._pieces or not self.ended:
            if self._pieces:
                yield self._taken()
            else:
                await self._more()

    async def aclose(self) -> None:
        """Let the rest go, and the connection with it; once nothing is to come, that may carry another request."""
        if not self.over:
            self._wire.close()

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._between += len(data)
        before = len(self._pieces)
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as failure:  # the latter is 101, which nobody has asked for
            self._surplus = True
            self.fail(httpx.RemoteProtocolError(f"the answer is no HTTP: {failure}"))
        if len(self._pieces) > before + 1:  # small chunks: an object for each would need 40 times their memory
            fresh = [self._pieces.pop() for _ in range(len(self._pieces) - before)]
            self._pieces.append(b"".join(reversed(fresh)))
        if self._between > MOST_HEAD_BYTES:
            self.fail(httpx.RemoteProtocolError("the answer's head, or what stands within its body, is too long"))
        self._settle()

    def end(self) -> None:
        """The server says nothing more: where no length was told, the body ends so."""
        if self.status and _ends_with_connection(self.headers):
            self.ended = True
        self.fail(httpx.RemoteProtocolError("the server closed the connection before its answer was whole"))

    def fail(self, failure: httpx.TransportError) -> None:
        """Raise this where the answer is read; what came before is still given."""
        if not self.over:
            self._failure = failure
        self._settle()

    def on_message_begin(self) -> None:
        """Note a second answer, which nobody has asked for."""
        self._surplus = self.ended

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a field of the head; those behind a body are only counted."""
        self._fields += 1
        self._field_bytes += len(name) + len(value)
        if self._fields > MOST_FIELDS or self._field_bytes > MOST_HEAD_BYTES:
            self.fail(httpx.RemoteProtocolError("the answer has too many or too long headers"))
        elif not self.status:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status, unless it is an interim one."""
        if self.over or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < _FIRST_STATUS:
            self.fail(httpx.RemoteProtocolError(f"status {status}"))
        elif status < _FIRST_FINAL_STATUS:
            self.headers.clear()
        else:
            self.status = status
            self._kept = self._method == "CONNECT" or self._parser.should_keep_alive()
            self.ended = self._method in {"CONNECT", "HEAD"}

    def on_body(self, body: bytes) -> None:
        """Hold a piece of the body."""
        if self.ended:  # of an answer that has none
            self._surplus = True
        elif self.status:
            self._between = 0
            self.held += len(body)
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note the end, unless of an interim answer."""
        if self.status and not self.over:
            self.ended = True

    async def _more(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._wire.expect()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _taken(self) -> bytes:
        """Give a piece as it came, without a copy."""
        piece = self._pieces.popleft()
        self.held -= len(piece)
        if not self.over and not self._pieces:
            self._wire.resume()
        return piece

    def _settle(self) -> None:
        """Wake who waits, if there is something for him."""
        if self.over:
            self._parser = None  # it holds this answer: only the garbage collector would find them
        if (self.status or self.over) and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _ends_with_connection(headers: list[Field]) -> bool:
    fields = {name.lower(): value.strip().lower() for name, value in headers}
    return b"content-length" not in fields and not fields.get(b"transfer-encoding", b"").endswith(b"chunked")
