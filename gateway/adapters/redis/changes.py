"""Says to all gateways, and hears from all, what has changed: ids, each kind on a channel of its own."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.links import lost_connections
from gateway.adapters.redis.names import CHANGES

Heard = Mapping[str, Callable[[str], None]]
SILENCE_SECONDS = 5.0  # after so much silence the server is asked whether it is still there
RECONNECT_SECONDS = 0.2


class RedisAnnouncer:
    """Tells every gateway; `failed` is told what was not announced."""

    def __init__(self, redis: RedisClient, failed: Callable[[str], None]) -> None:
        self._redis = redis
        self._failed = failed

    async def announce(self, subject_id: str) -> None:
        """Say that a key or project has changed."""
        try:
            await self._redis.call("PUBLISH", CHANGES, subject_id)
        except (RedisError, OSError) as failure:
            self._failed(str(failure))


async def listen(redis: RedisClient, heard: Heard, resumed: Callable[[], None]) -> None:
    """Pass on every id to its channel's listener until cancelled, on one connection.

    `resumed` is called whenever something may have gone unheard before.
    """
    while True:
        try:
            with lost_connections():
                async with await redis.listener() as channel:
                    await channel.subscribe(*heard)
                    await _hear(channel, heard, resumed)
        except (RedisError, OSError):
            await asyncio.sleep(RECONNECT_SECONDS)
            await _look_around(redis)


async def _look_around(redis: RedisClient) -> None:
    """Ask for the channel's name as if it were a key: in a Cluster that teaches who owns its slot now."""
    with suppress(RedisError, OSError):
        await redis.call("EXISTS", CHANGES)


async def _hear(channel: PubSub, heard: Heard, resumed: Callable[[], None]) -> None:
    """Pass messages on; raise when the connection breaks, or a server does not answer that it is there."""
    asked = False
    while not _cancelled():
        message: dict[str, Any] | None = await channel.get_message(timeout=SILENCE_SECONDS)
        if message is None:
            if asked:
                raise TimeoutError
            await channel.ping()
        asked = message is None
        match message:
            case {"type": "subscribe", "data": count} if count == len(heard):
                resumed()
            case {"type": "message", "channel": bytes(name), "data": bytes(spoken_id)}:
                heard[name.decode()](spoken_id.decode("utf-8", "replace"))
            case _:
                pass
    raise asyncio.CancelledError


def _cancelled() -> bool:
    """Tell whether this task has been cancelled, even if redis-py does not say so.

    It sends with asyncio.wait_for, which until Python 3.12 swallows a cancellation that meets its success
    (python/cpython#86296).
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
