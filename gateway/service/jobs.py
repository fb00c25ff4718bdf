"""Work that belongs to the gateway, not to a connection: a client that leaves changes nothing."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from gateway.domain.errors import GatewayError, ShuttingDown

Result = TypeVar("Result")
DEAF_SECONDS = 3.0  # after which a task is told again


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, more than once if need be.

    Before Python 3.12 asyncio.wait_for, which stores send with, may swallow a cancellation (python/cpython#86296).
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=DEAF_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)  # seen: what failed was told when it came up


class Jobs:
    """Keeps every running job referenced until it ends, and waits for them at shutdown.

    `crashed` is told of every failure that is not one of ours: a defect that nobody else may be left to see.
    """

    def __init__(self, crashed: Callable[[BaseException], None]) -> None:
        self._crashed = crashed
        self.closing = False  # nothing new is to be started
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def obstacle(self) -> GatewayError | None:
        """Give what keeps a new job from being started."""
        if self.closing:
            return ShuttingDown(
                "The gateway is shutting down. Nothing was sent and nothing was charged; try again.",
            )
        return None

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run work to its end, whoever still waits for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    async def drain(self, seconds: float) -> int:
        """Wait for what runs and for what that starts, at most so long; cancel the rest and give its number."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running:
                    await asyncio.wait(self._running)
        late = [task for task in self._running if not task.done()]
        await end(*late)
        return len(late)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, GatewayError):
            self._crashed(failure)
