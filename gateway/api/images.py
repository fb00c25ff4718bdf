"""/v1/images/*: OpenAI's words in, OpenAI's words out."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

from litestar import Request, Response, post
from litestar.response import Stream

from gateway.api import answers
from gateway.api.auth import require_key
from gateway.api.errors import error_object
from gateway.api.limits import given_back, limit_headers
from gateway.api.middleware import request_id_of
from gateway.api.schema import errors, image_request, read_body
from gateway.api.services import Services
from gateway.domain.errors import GatewayError, RetiredEndpoint, UnsupportedEndpoint
from gateway.domain.image import Picture
from gateway.service.generate import Generation

REFUSALS = errors(400, 401, 404, 413, 429, 500, 502, 503, 504)

# Headers go out with the first event or after this time, and a comment after each further such time.
HEARTBEAT_SECONDS = 10.0
_STRICT = re.compile(r'(^|[,;\s])handling="?strict"?($|[,;\s])', re.IGNORECASE)


@post("/v1/images/generations", status_code=200, guards=[require_key], responses=REFUSALS)
async def generations(request: Request[Any, Any, Any]) -> Response[Any]:
    """Create pictures from a prompt."""
    services: Services = request.app.state.services
    body = read_body(await request.body())
    generation = await services.generate(
        request.state.caller,
        image_request(body),
        request_id=request_id_of(request),
        strict=asks_for_strict(request),
    )
    request.state.rooms = given_back(generation.rooms, generation.order.n)  # for the answer if no picture comes
    echo = {name: body[name] for name in ("safety_identifier",) if name in body}
    if generation.order.stream:
        return await event_stream(generation, echo)
    answer = answers.JsonAnswer(
        order=generation.order,
        created=generation.created,
        pictures=await generation.all(),
        echo=echo,
    )
    lost = generation.order.n - len(answer.pictures)
    headers = {**answer.headers(), **limit_headers(given_back(generation.rooms, lost))}
    return Stream(_each(answer.pieces()), media_type="application/json", headers=headers)


@post("/v1/images/edits", status_code=200, guards=[require_key], responses=errors(400, 401))
async def edits() -> None:
    """Refuse: GLM-Image's hosted API takes no pictures (glm-image-api.md section 1.2)."""
    raise UnsupportedEndpoint(
        "GLM-Image makes pictures from text only; it cannot edit one. Use POST /v1/images/generations.",
    )


@post("/v1/images/variations", status_code=200, guards=[require_key], responses=errors(401, 410))
async def variations() -> None:
    """Refuse: OpenAI has withdrawn this endpoint as well (openai-images-api.md section 2.4)."""
    raise RetiredEndpoint("This endpoint has been retired. Use POST /v1/images/generations.")


def asks_for_strict(request: Request[Any, Any, Any]) -> bool:
    """Tell whether the client sent `Prefer: handling=strict` (RFC 7240)."""
    return any(_STRICT.search(value) for value in request.headers.getall("prefer", []))


async def event_stream(generation: Generation, echo: dict[str, str]) -> Stream:
    """Answer with events; a failure before the first event or heartbeat is a plain HTTP error."""
    pictures = generation.each()
    first = asyncio.ensure_future(anext(pictures))
    done, _ = await asyncio.wait({first}, timeout=HEARTBEAT_SECONDS)
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **answers.change_headers(generation.order)}
    headers |= limit_headers(generation.rooms)
    if done:
        headers["x-glm-size"] = first.result().size
    events = _events(generation, echo, first, pictures)
    return Stream(events, media_type="text/event-stream", headers=headers)


async def _events(
    generation: Generation,
    echo: dict[str, str],
    first: asyncio.Future[Picture],
    pictures: AsyncIterator[Picture],
) -> AsyncGenerator[bytes]:
    upcoming = first
    wait = 0.0  # the headers have waited for the first event already
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=wait)
            wait = HEARTBEAT_SECONDS
            if not done:
                yield answers.HEARTBEAT
                continue
            yield answers.completed_event(generation.order, generation.created, upcoming.result(), echo)
            upcoming = asyncio.ensure_future(anext(pictures))
    except StopAsyncIteration:
        for failure in generation.failures():
            yield answers.comment(f"a picture failed: {failure.message}")
    except GatewayError as failure:
        yield answers.error_event(error_object(failure))
    finally:
        upcoming.cancel()


async def _each(pieces: Iterable[bytes]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece
