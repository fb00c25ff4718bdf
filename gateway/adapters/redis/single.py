"""One server, fixed or the master that Sentinels name: what one tick asks goes out as one pipeline."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import redis.asyncio as aioredis
from redis.asyncio.client import PubSub
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from gateway.adapters.redis.links import (
    ANSWER_SECONDS,
    FAILOVER_SECONDS,
    REPLICA_MILLISECONDS,
    Command,
    Topology,
    confirmations,
    lost_connections,
    no_retry,
    timeouts,
)
from gateway.adapters.redis.pipe import Pipe, open_pipe
from gateway.adapters.redis.urls import RedisAddress

CONNECTIONS = 20  # pipelines under way at once; further ones wait for a free connection


class _Pipeline(Protocol):
    def execute_command(self, *command: object) -> object: ...

    async def execute(self, *, raise_on_error: bool) -> list[Any]: ...


class SingleLink:
    """Pipelines to one server. A round trip costs 0.3 ms of CPU alone and 0.09 ms in a shared pipeline.

    `piped`: most commands need not go by pipelines, but by a pipe that is opened beside whenever the server answers.
    """

    def __init__(
        self,
        server: "aioredis.Redis",
        topology: Topology,
        sentinel: Sentinel | None = None,
        *,
        piped: bool = False,
    ) -> None:
        self.topology = topology
        self._redis = server
        self._sentinel = sentinel
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._piped = piped
        self._pipe: Pipe | None = None
        self._opening: asyncio.Task[None] | None = None

    @property
    def pipe(self) -> Pipe | None:
        """Give the pipe while it is open."""
        return self._pipe if self._pipe is not None and self._pipe.open else None

    async def send(self, commands: Sequence[Command], replicas: int) -> list[Any]:
        """Run commands in one pipeline; one WAIT at its end speaks for all of them."""
        pipeline = cast("_Pipeline", self._redis.pipeline(transaction=False))
        for command in commands:
            pipeline.execute_command(*command)
        if replicas:
            pipeline.execute_command("WAIT", replicas, REPLICA_MILLISECONDS)
        try:
            async with self._room:
                with lost_connections():
                    replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as failure:
            return [failure] * len(commands)
        self._open_pipe()
        return confirmations(replies) if replicas else replies

    async def ping(self) -> None:
        """Raise unless the server answers."""
        [reply] = await self.send([("PING",)], 0)
        if isinstance(reply, Exception):
            raise reply

    def listener(self) -> PubSub:
        """Give a connection that can listen to channels."""
        return self._redis.pubsub()

    async def aclose(self) -> None:
        """Close the pool and every connection."""
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._pipe is not None:
            await self._pipe.aclose()
        await self._redis.aclose()
        await self._redis.connection_pool.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    def _open_pipe(self) -> None:
        """Begin to open the pipe, unless it is open or about to be."""
        if self._piped and self.pipe is None and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._opened())

    async def _opened(self) -> None:
        with suppress(RedisError, OSError):  # pipelines serve meanwhile, and the next one tries again
            broken, self._pipe = self._pipe, None
            if broken is not None:
                await broken.aclose()
            self._pipe = await open_pipe(self._redis)


def fixed_server(address: RedisAddress) -> SingleLink:
    """Go to one server by its address."""
    options: dict[str, Any] = {
        **timeouts(ANSWER_SECONDS),
        **address.options,
        "max_connections": CONNECTIONS,
        "retry": no_retry(),
    }
    pool = aioredis.ConnectionPool(**options)
    return SingleLink(aioredis.Redis.from_pool(pool), Topology(fails_over=False, replicated=False), piped=True)


def sentinel_master(address: RedisAddress, master: str) -> SingleLink:
    """Go to the server that the Sentinels know by this name, and to its successor after a failover."""
    options = {**timeouts(FAILOVER_SECONDS), **address.shared_options, "retry": no_retry()}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        address.nodes,
        sentinel_kwargs={**timeouts(FAILOVER_SECONDS), **address.sentinel_options, "retry": no_retry()},
        **options,
        db=address.options["db"],
    )
    server = sentinel.master_for(master, max_connections=CONNECTIONS)
    return SingleLink(server, Topology(fails_over=True, replicated=True), sentinel)
