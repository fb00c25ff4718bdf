"""One connection to a server on which commands follow each other, and replies come in their order.

A command costs 0.02 ms of CPU here and 0.09 ms in a pipeline of redis-py, which packs words and reads replies in Python
(reference/performance.md, section 2b). redis-py still connects, so that URLs, passwords and TLS are its matter.
"""

import asyncio
from collections import deque
from typing import Any, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.connection import Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.adapters.redis.links import ANSWER_SECONDS, Command

# Those of our commands whose replies we read as they come.
_KEYS = ("GET", "HGET", "HMGET", "HDEL", "HEXISTS", "SADD", "SMISMEMBER")
_STREAMS = ("XADD", "XDEL", "XLEN", "XRANGE")
PIPED = frozenset({"EVALSHA", "EVAL", "PUBLISH", *_KEYS, *_STREAMS})


class Pipe(asyncio.Protocol):
    """A connection after its handshake. What is asked in one turn of the event loop goes out with one write."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection  # it closes when nobody holds it
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._heard = 0.0  # when the server last said something, or was asked after a silence
        self._watch: asyncio.TimerHandle | None = None
        self._failure: Exception = RedisConnectionError("the server has closed the connection")
        self.open = True
        self._transport = cast("asyncio.Transport", connection._writer.transport)  # type: ignore[union-attr]  # noqa: SLF001 - it has no other door
        self._transport.set_protocol(self)

    def ask(self, command: Command) -> asyncio.Future[Any]:
        """Send a command and give its reply, or fail as redis-py would."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        try:
            packed = hiredis.pack_command(command)
        except TypeError as failure:
            reply.set_exception(DataError(str(failure)))
            return reply
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(packed)
        self._waiting.append(reply)
        return reply

    async def aclose(self) -> None:
        """Close the connection; what waits fails."""
        self._end()
        await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who wait for them."""
        self._heard = self._loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._answer(reply)
        except (InvalidResponse, IndexError) as failure:  # the latter: nobody has asked for this
            self._abort(RedisConnectionError(f"the server does not speak Redis' protocol: {failure}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits: it may have been done."""
        if exc is not None:
            self._failure = RedisConnectionError(str(exc))
        self._end()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not unsent or not self.open:
            return
        if self._watch is None:
            self._heard = self._loop.time()
            self._watch = self._loop.call_later(ANSWER_SECONDS, self._look)
        self._transport.write(b"".join(unsent))

    def _answer(self, reply: Any) -> None:  # noqa: ANN401 - a reply
        waiter = self._waiting.popleft()
        if waiter.done():
            return  # its caller has gone
        if isinstance(reply, Exception):
            waiter.set_exception(reply)
        else:
            waiter.set_result(reply)

    def _look(self) -> None:
        """Give a silent server up."""
        self._watch = None
        if not self._waiting:
            return
        left = ANSWER_SECONDS - (self._loop.time() - self._heard)
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._abort(RedisTimeoutError(f"no answer within {ANSWER_SECONDS:g} s"))

    def _abort(self, failure: Exception) -> None:
        self._failure = failure
        self._end()
        self._transport.abort()

    def _end(self) -> None:
        self.open = False
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            self._answer(self._failure)


async def open_pipe(pool: ConnectionPool) -> Pipe:
    """Connect as the pool does; RedisError or OSError when that fails."""
    # The third version of the protocol lets a server speak unasked.
    connection = cast("Connection", pool.connection_class(**{**pool.connection_kwargs, "protocol": 2}))
    await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    return Pipe(connection)
