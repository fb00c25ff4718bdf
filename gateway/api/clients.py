"""Whether the client is still there: what runs for it does not depend on that, what is kept for it does."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar.types import Receive

from gateway.domain.errors import ClientLeft
from gateway.service.generation import Generation

Result = TypeVar("Result")
# A watch takes 8 us, and what is remembered is answered in less: who hangs up before is noticed then.
UNWATCHED_SECONDS = 0.05


async def answered(receive: Receive, generation: Generation, answer: Coroutine[Any, Any, Result]) -> Result:
    """Wait for the answer of a generation; a client that hangs up is noted as gone.

    Raises:
        ClientLeft: nobody waits for an answer any more.
    """
    try:
        return await while_connected(receive, answer)
    except ClientLeft:
        generation.left()
        raise


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for work whose request's body has been read; it is cancelled when its client hangs up.

    Raises:
        ClientLeft: nobody waits for an answer any more.
    """
    watch = _Watch(receive)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.called_off():
            raise ClientLeft("The client hung up before its answer was there.") from None
        raise
    finally:
        watch.end()


class _Watch:
    """Cancels the task that makes it when its client hangs up, and never after `end`."""

    def __init__(self, receive: Receive) -> None:
        self._task = asyncio.current_task()
        self._left = False
        self._receive = receive
        self._leaving: asyncio.Future[None] | None = None
        self._beginning = asyncio.get_running_loop().call_later(UNWATCHED_SECONDS, self._begin)

    def called_off(self) -> bool:
        """Tell whether a cancellation is ours and nobody else's, and take it back then."""
        return self._left and self._task is not None and self._task.uncancel() == 0

    def end(self) -> None:
        """Watch no more."""
        self._task = None
        self._beginning.cancel()
        if self._leaving is not None:
            self._leaving.cancel()

    def _begin(self) -> None:
        self._leaving = asyncio.ensure_future(_leaving(self._receive))
        self._leaving.add_done_callback(self._call_off)

    def _call_off(self, leaving: asyncio.Future[None]) -> None:
        if self._task is not None and not leaving.cancelled():
            self._left = True
            self._task.cancel()


async def _leaving(receive: Receive) -> None:
    """Wait until the connection ends; after the body, ASGI has nothing else to say."""
    while (await receive())["type"] != "http.disconnect":
        pass
