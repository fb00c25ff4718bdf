"""What in a Redis server's configuration endangers the counts of limits."""

import asyncio
from contextlib import suppress

from redis.exceptions import RedisError

from gateway.adapters.redis.client import RedisClient

SECONDS = 2.0


async def concerns(client: RedisClient) -> list[str]:
    """Give a sentence for each; nothing for what the server does not tell, as hosted ones often do not."""
    said = []
    if await _configured(client, "appendonly") == "no":
        said.append("Redis has no append-only file: after a crash old counts pass for true ones. Set appendonly yes.")
    policy = await _configured(client, "maxmemory-policy")
    if policy not in {None, "noeviction"}:
        said.append(f"Redis drops counts when its memory is full (maxmemory-policy {policy}). Set noeviction.")
    return said


async def _configured(client: RedisClient, name: str) -> str | None:
    """Ask for a directive; None when the server does not tell."""
    with suppress(RedisError, OSError):
        async with asyncio.timeout(SECONDS):
            reply = await client.call("CONFIG GET", name)
        values = list(reply.values()) if isinstance(reply, dict) else reply[1::2]
        for value in values:
            return value.decode() if isinstance(value, bytes) else str(value)
    return None
