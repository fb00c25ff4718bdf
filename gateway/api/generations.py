"""POST /v1/images/generations as an ASGI application of its own: OpenAI's words in, OpenAI's words out.

The framework's routing, requests and responses cost 0.1 ms of CPU each time, as much as all of this and more than the
rest of the gateway for a remembered picture (reference/performance.md, section 5).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, cast

from litestar.types import HTTPScope, Message, Receive, Scope, Send

from gateway.api import answers
from gateway.api.asked import asked_of
from gateway.api.auth import presented_key
from gateway.api.clients import answered, while_connected
from gateway.api.errors import encode_failure, encode_refusal, error_object, failure_headers, wire_of
from gateway.api.head import Head, head_of
from gateway.api.limits import limit_headers
from gateway.api.schema import image_request, read_body
from gateway.api.services import Services
from gateway.domain.errors import ClientLeft, GatewayError, MalformedBody, drop_tracebacks
from gateway.domain.records import record
from gateway.service.deliver import Delivery, Handover

PATH = "/v1/images/generations"
# Headers go out with the first event or after this time, and a comment after each further such time.
HEARTBEAT_SECONDS = 10.0
JSON, EVENTS = "application/json", "text/event-stream"


@record(frozen=True, slots=True)
class Answer:
    """What goes back: a body in one piece, or in pieces that are written as they come."""

    status: int
    media_type: str
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes]
    length: int | None = None  # of a body in pieces, when it is known


class BodyTooLarge(Exception):
    """More bytes came than a body may have."""


class Generations:
    """The route. `services` gives the use cases, `largest` is the most bytes that a body may have."""

    def __init__(self, services: Callable[[], Services], largest: int) -> None:
        self._services = services
        self._largest = largest

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope = cast("HTTPScope", scope)
        cast("dict[str, Any]", scope)["path_template"] = PATH  # for metrics
        if scope["method"] != "POST":
            return await _write(_not_allowed(scope), receive, send)
        state = scope.setdefault("state", {})
        try:
            answer = await self._answer(scope, receive, state)
        except GatewayError as failure:
            answer = _failed(failure, state)
        except BodyTooLarge:
            answer = Answer(413, JSON, {}, encode_refusal(413, "POST", PATH, self._largest))
        await _write(answer, receive, send)
        return None

    async def _answer(self, scope: HTTPScope, receive: Receive, state: dict[str, Any]) -> Answer:
        handover, echo = await self._started(head_of(scope), receive, state)
        generation = handover.generation
        answering = event_stream(handover, echo) if generation.order.stream else json_answer(handover, echo)
        if generation.there:
            return await answering
        return await answered(receive, generation, answering)

    async def _started(self, head: Head, receive: Receive, state: dict[str, Any]) -> tuple[Handover, dict[str, str]]:
        """Find the caller before the body is read, and start what it asks for; neither is kept while it is made."""
        services = self._services()
        state["address"] = address = head.client(services.trusted_proxies)
        state["caller"] = caller = await services.authenticate(presented_key(head), address)
        content = await _read(head, receive, self._largest)
        body = read_body(content)
        generation = await services.generate(caller, image_request(body), asked_of(head, content))
        state["generation"] = generation  # for the answer if no picture comes
        echo = {name: body[name] for name in ("safety_identifier",) if name in body}
        return Handover(services.deliver, generation, head.origin), echo


async def json_answer(handover: Handover, echo: dict[str, str]) -> Answer:
    """Answer when every picture is there."""
    generation = handover.generation
    answer = answers.JsonAnswer(
        order=generation.order,
        created=generation.created,
        pictures=await handover.all(),
        echo=echo,
    )
    headers = {**answer.headers(), **answers.cache_headers(generation), **limit_headers(generation.rooms)}
    whole = answer.whole()
    if whole is not None:
        return Answer(200, JSON, headers, whole)
    return Answer(200, JSON, headers, answer.pieces(), answer.length)


async def event_stream(handover: Handover, echo: dict[str, str]) -> Answer:
    """Answer with events; a failure before the first event or heartbeat is a plain HTTP error."""
    generation, pictures = handover.generation, handover.each()
    first = asyncio.ensure_future(anext(pictures))
    try:
        done, _ = await asyncio.wait({first}, timeout=HEARTBEAT_SECONDS)
    except asyncio.CancelledError:
        first.cancel()  # nobody would hear of its failure
        raise
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    headers |= answers.change_headers(generation.order.changes) | limit_headers(generation.rooms)
    if done:
        headers |= answers.cache_headers(generation)
        headers["x-glm-size"] = answers.size_of(generation.order, first.result())
    return Answer(200, EVENTS, headers, _events(handover, echo, first, pictures))


async def _events(
    handover: Handover,
    echo: dict[str, str],
    first: asyncio.Future[Delivery],
    pictures: AsyncIterator[Delivery],
) -> AsyncGenerator[bytes]:
    generation, upcoming = handover.generation, first
    wait, ended = 0.0, False  # the headers have waited for the first event already
    try:
        while True:
            await asyncio.wait({upcoming}, timeout=wait)
            wait = HEARTBEAT_SECONDS
            if not upcoming.done():
                yield answers.HEARTBEAT
                continue
            async for piece in answers.completed_event(generation.order, generation.created, upcoming.result(), echo):
                yield piece
            upcoming = asyncio.ensure_future(anext(pictures))
    except StopAsyncIteration:
        ended = True
        for failure in handover.failures():
            yield answers.comment(f"a picture failed: {failure.message}")
    except GatewayError as failure:
        ended = True
        drop_tracebacks(failure)
        yield answers.error_event(error_object(failure))
    finally:
        upcoming.cancel()
        del upcoming  # its StopAsyncIteration knows this frame, and the frame it
        if not ended:
            generation.left()


async def _read(head: Head, receive: Receive, largest: int) -> bytes:
    """Read a whole body.

    Raises:
        BodyTooLarge: it is not read further than that is known. MalformedBody: it broke off.
    """
    said = head.get("content-length")
    if said.isdigit() and (len(said) > len(str(largest)) or int(said) > largest):
        raise BodyTooLarge
    pieces, length, more = [], 0, True
    while more:
        message = cast("dict[str, Any]", await receive())
        if message["type"] == "http.disconnect":
            raise MalformedBody("The request's body broke off.")
        pieces.append(message["body"])
        length += len(message["body"])
        more = message["more_body"]
        if length > largest:
            raise BodyTooLarge
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _failed(failure: GatewayError, state: dict[str, Any]) -> Answer:
    state["failure"] = failure  # for the access log
    headers = failure_headers(failure, state.get("generation"))
    return Answer(wire_of(failure).status, JSON, headers, encode_failure(failure))


def _not_allowed(scope: HTTPScope) -> Answer:
    """Say which methods there are."""
    allow = {"allow": "OPTIONS, POST"}
    if scope["method"] == "OPTIONS":
        return Answer(204, JSON, allow, b"")
    return Answer(405, JSON, allow, encode_refusal(405, scope["method"], scope["path"]))


async def _write(answer: Answer, receive: Receive, send: Send) -> None:
    """Send an answer; pieces are made no longer than somebody reads them."""
    whole = answer.body if isinstance(answer.body, bytes) else None
    length = len(whole) if whole is not None else answer.length
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-type", answer.media_type.encode()))
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    await send(cast("Message", {"type": "http.response.start", "status": answer.status, "headers": headers}))
    if whole is not None:
        await send({"type": "http.response.body", "body": whole, "more_body": False})
        return
    try:
        await while_connected(receive, _send_pieces(cast("AsyncGenerator[bytes]", answer.body), send))
    except ClientLeft:
        return


async def _send_pieces(pieces: AsyncGenerator[bytes], send: Send) -> None:
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        await pieces.aclose()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
