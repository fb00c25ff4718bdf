"""Says to all gateways, and hears from all, that a key or project has changed: its id, on one channel."""

import asyncio
from collections.abc import Callable
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

CHANNEL = "g1:changes"
ANSWER_SECONDS = 5.0
SILENCE_SECONDS = 5.0  # after so much silence the server is asked whether it is still there
RECONNECT_SECONDS = 0.2


class RedisAnnouncer:
    """Tells every gateway; `failed` is told what was not announced."""

    def __init__(self, url: str, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._redis = _connected(url)

    async def announce(self, subject_id: str) -> None:
        """Say that a key or project has changed."""
        try:
            await self._redis.publish(CHANNEL, subject_id)
        except (RedisError, OSError) as failure:
            self._failed(str(failure))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


async def listen(url: str, heard: Callable[[str], None], resumed: Callable[[], None]) -> None:
    """Pass on every id until cancelled; `resumed` is called whenever changes may have gone unheard before."""
    async with _connected(url) as redis:  # its own connection: one that listens can do nothing else
        while True:
            try:
                async with redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    await _hear(channel, heard, resumed)
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_SECONDS)


async def _hear(channel: PubSub, heard: Callable[[str], None], resumed: Callable[[], None]) -> None:
    """Pass messages on; raise when the connection breaks, or a server does not answer that it is there."""
    asked = False
    while True:
        message: dict[str, Any] | None = await channel.get_message(timeout=SILENCE_SECONDS)
        if message is None:
            if asked:
                raise TimeoutError
            await channel.ping()
        asked = message is None
        match message:
            case {"type": "subscribe"}:
                resumed()
            case {"type": "message", "data": bytes(subject_id)}:
                heard(subject_id.decode("utf-8", "replace"))
            case _:
                pass


def _connected(url: str) -> aioredis.Redis:
    """Make a client that connects when it is first used. Reconnecting is ours: what was said meanwhile is lost."""
    return aioredis.Redis.from_url(
        url,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
