"""Whether the client is still there: what runs for it does not depend on that, what is kept for it does."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request

from gateway.domain.errors import ClientLeft
from gateway.service.generation import Generation

Result = TypeVar("Result")


async def while_connected(request: Request[Any, Any, Any], work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for work whose request's body has been read; it is cancelled when its client hangs up.

    Raises:
        ClientLeft: nobody waits for an answer any more.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leaving(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft("The client hung up before its answer was there.")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def answered(
    request: Request[Any, Any, Any], generation: Generation, answer: Coroutine[Any, Any, Result]
) -> Result:
    """Wait for the answer of a generation; a client that hangs up is noted as gone."""
    request.state.generation = generation  # for the answer if no picture comes
    try:
        return await while_connected(request, answer)
    except ClientLeft:
        generation.left()
        raise


async def _leaving(request: Request[Any, Any, Any]) -> None:
    """Wait until the connection ends; after the body, ASGI has nothing else to say."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
