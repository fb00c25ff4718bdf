"""Answers on the wire, whole or broken; the one place that knows how to end a connection under an ASGI server."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from litestar.types import Receive, Scope, Send

JSON = "application/json"
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers and a body in pieces; a body shorter than `length` ends in a closed connection.

    Without `length` the body is chunked; `pause` is slept before each piece.
    """

    status: int = 200
    content_type: str | None = JSON
    headers: Headers = ()
    pieces: Iterable[bytes] = ()
    length: int | None = None
    pause: float = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self._raw_headers()})
        sent = 0
        for piece in self.pieces:
            await asyncio.sleep(self.pause)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent += len(piece)
        if self.length is not None and sent < self.length:
            await hang_up(receive)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _raw_headers(self) -> list[tuple[bytes, bytes]]:
        headers = list(self.headers)
        if self.content_type is not None:
            headers.append(("content-type", self.content_type))
        if self.length is not None:
            headers.append(("content-length", str(self.length)))
        return [(name.encode(), value.encode()) for name, value in headers]


def whole(body: bytes, *, status: int = 200, content_type: str | None = JSON, headers: Headers = ()) -> Answer:
    """An answer that says what it means to say."""
    return Answer(status=status, content_type=content_type, headers=headers, pieces=(body,), length=len(body))


def as_json(body: object, *, status: int = 200, headers: Headers = ()) -> Answer:
    """JSON as the service writes it: raw UTF-8, keys in the order given."""
    return whole(msgspec.json.encode(body), status=status, headers=headers)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No answer: ends the connection at once, or never."""

    hang: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Ends the connection, or waits until the caller does."""
        if self.hang:
            await _gone(receive)
        else:
            await hang_up(receive)


async def hang_up(receive: Receive) -> None:
    """Ends the connection after what was sent, or raises ConnectionAbortedError where the server has no way to.

    ASGI has no word for it; under uvicorn `receive` is a method of the object that holds the transport.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionAbortedError("the simulated fault ends the connection")
    transport.close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
