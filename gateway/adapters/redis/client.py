"""The one door to Redis, whatever its topology: the commands of one loop tick are sent together."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from redis._parsers.encoders import Encoder
from redis.asyncio.client import PubSub

from gateway.adapters.redis.discovery import discover
from gateway.adapters.redis.links import Command, Confirmed, Link, Topology
from gateway.adapters.redis.pipe import suits
from gateway.adapters.redis.urls import parse_redis_url


class _Encodes(Protocol):
    def encode(self, value: object) -> bytes: ...


_encoder = cast("Callable[..., _Encodes]", Encoder)("utf-8", "strict", decode_responses=False)
_Waiting = list[tuple[Command, asyncio.Future[Any]]]


class RedisClient:
    """Runs commands; what the servers are is asked at the first one. `where` is the URL without its secrets."""

    def __init__(self, url: str) -> None:
        self._address = parse_redis_url(url)
        self.where = self._address.where
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None
        self._waiting: dict[int, _Waiting] = {}  # by the number of replicas that have to confirm
        self._flushes: set[asyncio.Task[None]] = set()

    async def call(self, *command: Any) -> Any:  # noqa: ANN401 - a reply has the type that the command gives it
        """Run one command together with all others of this tick.

        Raises:
            redis.exceptions.RedisError: the server refused it or cannot be reached; links.TRANSIENT passes by itself.
        """
        return await self._enqueue(command, 0)

    def at_once(self, *command: Any) -> asyncio.Future[Any] | None:  # noqa: ANN401 - as for call
        """Send a command down the connection that is open for it; None where there is none."""
        pipe = self._link.pipe if self._link is not None else None
        return pipe.ask(command) if pipe is not None and suits(command) else None

    async def confirmed(self, replicas: int, *script: Any) -> Confirmed:  # noqa: ANN401 - as for call
        """Run EVALSHA or EVAL, and have what its connection wrote confirmed by so many replicas, or fewer in time.

        WAIT speaks for writes of its own connection only: a script that finds its work done already must still write
        something, or replicas confirm what they never got. After a redirection the script runs twice.
        """
        if not replicas:
            return Confirmed(await self._enqueue(script, 0), 0)
        confirmed: Confirmed = await self._enqueue(script, replicas)
        return confirmed

    async def topology(self) -> Topology:
        """Say what the servers are; RedisError while none answers."""
        return (await self._opened()).topology

    async def listener(self) -> AbstractAsyncContextManager[PubSub]:
        """Give a connection of its own that can listen to channels; RedisError while no server answers."""
        return (await self._opened()).listener()

    async def listeners(self, channel: str) -> int:
        """Say how many connections listen to a channel, of all processes; RedisError while a server does not answer."""
        return await (await self._opened()).listeners(channel)

    async def ping(self) -> None:
        """Raise RedisError unless a server answers."""
        await (await self._opened()).ping()

    async def answers(self, seconds: float = 1.5) -> bool:
        """Tell whether a server answers in time; one that stands still is not waited for any longer."""
        asking = asyncio.create_task(self.ping())
        asking.add_done_callback(_end_seen)
        try:
            await asyncio.wait({asking}, timeout=seconds)
            return asking.done() and _end_seen(asking)
        finally:
            asking.cancel()  # also when who asks is cancelled: nobody waits for it any more

    async def aclose(self) -> None:
        """Close the pool and every connection."""
        await asyncio.gather(*self._flushes, return_exceptions=True)
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._link is not None:
            await self._link.aclose()

    async def _enqueue(self, command: Command, replicas: int) -> Any:  # noqa: ANN401 - as for call
        if not replicas and (piped := self.at_once(*command)) is not None:
            return await piped
        for word in command:
            _encoder.encode(word)  # a word of a wrong type fails its own command only, not all of this tick
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.setdefault(replicas, []).append((command, reply))
        return await reply

    def _flush(self) -> None:
        """Send what waits: WAIT would hold up what need not be confirmed, so that goes on its own."""
        waiting, self._waiting = self._waiting, {}
        for replicas, batch in waiting.items():
            task = asyncio.create_task(self._send(batch, replicas))
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)

    async def _send(self, batch: _Waiting, replicas: int) -> None:
        try:
            link = self._link or await self._opened()
            replies = await link.send([command for command, _ in batch], replicas)
        except Exception as failure:  # noqa: BLE001 - whatever it is, those who wait have to hear of it
            replies = [failure] * len(batch)
        for (_, waiter), reply in zip(batch, replies, strict=True):
            if waiter.done():
                continue  # its caller has gone
            if isinstance(reply, Exception):
                waiter.set_exception(reply)
            else:
                waiter.set_result(reply)

    async def _opened(self) -> Link:
        """Find the servers once for all who wait; who comes after a failure tries anew."""
        if self._link is not None:
            return self._link
        if self._opening is None:
            self._opening = asyncio.create_task(discover(self._address))
            self._opening.add_done_callback(self._end_opening)
        return await asyncio.shield(self._opening)

    def _end_opening(self, opening: asyncio.Task[Link]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._link = opening.result()


def _end_seen(task: asyncio.Task[None]) -> bool:
    """Tell whether a task ended well; its failure counts as seen, or asyncio would log it as nobody's."""
    return not task.cancelled() and task.exception() is None
