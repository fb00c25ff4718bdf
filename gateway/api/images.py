"""/v1/images/*: OpenAI's words in, OpenAI's words out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from litestar import Request, Response, post
from litestar.response import Stream

from gateway.api import answers
from gateway.api.asked import asked_of
from gateway.api.auth import require_key
from gateway.api.clients import answered
from gateway.api.errors import error_object
from gateway.api.files import origin_of
from gateway.api.limits import limit_headers
from gateway.api.schema import errors, image_request, read_body
from gateway.api.services import Services
from gateway.domain.errors import GatewayError, RetiredEndpoint, UnsupportedEndpoint
from gateway.service.deliver import Delivery, Handover

REFUSALS = errors(400, 401, 404, 413, 429, 500, 502, 503, 504)

# Headers go out with the first event or after this time, and a comment after each further such time.
HEARTBEAT_SECONDS = 10.0


@post("/v1/images/generations", status_code=200, guards=[require_key], responses=REFUSALS)
async def generations(request: Request[Any, Any, Any]) -> Response[Any]:
    """Create pictures from a prompt."""
    services: Services = request.app.state.services
    content = await request.body()
    body = read_body(content)
    asked = asked_of(request, content)
    generation = await services.generate(request.state.caller, image_request(body), asked)
    echo = {name: body[name] for name in ("safety_identifier",) if name in body}
    handover = Handover(services.deliver, generation, origin_of(request))
    answer = event_stream if generation.order.stream else json_answer
    return await answered(request, generation, answer(handover, echo))


async def json_answer(handover: Handover, echo: dict[str, str]) -> Stream:
    """Answer when every picture is there."""
    generation = handover.generation
    answer = answers.JsonAnswer(
        order=generation.order,
        created=generation.created,
        pictures=await handover.all(),
        echo=echo,
    )
    headers = {**answer.headers(), **answers.cache_headers(generation), **limit_headers(generation.rooms)}
    return Stream(answer.pieces(), media_type="application/json", headers=headers)


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


async def event_stream(handover: Handover, echo: dict[str, str]) -> Stream:
    """Answer with events; a failure before the first event or heartbeat is a plain HTTP error."""
    generation, pictures = handover.generation, handover.each()
    first = asyncio.ensure_future(anext(pictures))
    try:
        done, _ = await asyncio.wait({first}, timeout=HEARTBEAT_SECONDS)
    except asyncio.CancelledError:
        first.cancel()  # nobody would hear of its failure
        raise
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **answers.change_headers(generation.order)}
    headers |= limit_headers(generation.rooms)
    if done:
        headers |= answers.cache_headers(generation)
        headers["x-glm-size"] = answers.size_of(generation.order, first.result())
    events = _events(handover, echo, first, pictures)
    return Stream(events, media_type="text/event-stream", headers=headers)


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
            done, _ = await asyncio.wait({upcoming}, timeout=wait)
            wait = HEARTBEAT_SECONDS
            if not done:
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
        yield answers.error_event(error_object(failure))
    finally:
        upcoming.cancel()
        if not ended:
            generation.left()
