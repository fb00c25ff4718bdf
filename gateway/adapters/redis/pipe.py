"""One connection to a server on which commands follow each other, and replies come in their order.

A command costs 0.02 ms of CPU here and 0.09 ms in a pipeline of redis-py, which packs words and reads replies in Python
(reference/performance.md, section 2b). redis-py still connects, so that URLs, passwords and TLS are its matter.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.adapters.redis.links import ANSWER_SECONDS, Command

CLOSE_SECONDS = 1.0  # TLS says goodbye
# Who asks these would keep all others waiting; redis-py takes apart those of several words.
_BLOCKING = frozenset({"BLPOP", "BRPOP", "BLMOVE", "BZPOPMIN", "XREAD", "XREADGROUP", "WAIT", "SUBSCRIBE", "MONITOR"})


def suits(command: Command) -> bool:
    """Tell whether a command may go down a pipe."""
    return bool(command) and type(command[0]) is str and command[0] not in _BLOCKING and " " not in command[0]


class Pipe(asyncio.Protocol):
    """A connection after its handshake. What is asked in one turn of the event loop goes out with one write.

    `callbacks` are redis-py's, which give a reply the form that the command promises.
    """

    def __init__(self, connection: Connection, callbacks: Mapping[str, Callable[[Any], Any]]) -> None:
        self._connection = connection  # it closes when nobody holds it
        self._callbacks = callbacks
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._waiting: deque[tuple[asyncio.Future[Any], str]] = deque()
        self._heard = 0.0  # when the server last said something, or was asked after a silence
        self._watch: asyncio.TimerHandle | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._failure: Exception = RedisConnectionError("the server has closed the connection")
        self.open = True
        self._transport = cast("asyncio.Transport", connection._writer.transport)  # type: ignore[union-attr]  # noqa: SLF001 - it has no other door
        self._transport.set_protocol(self)

    def ask(self, command: Command) -> asyncio.Future[Any]:
        """Send a command and give its reply, or fail as redis-py would."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        try:
            packed = hiredis.pack_command(command)
        except (TypeError, ValueError) as failure:
            reply.set_exception(DataError(str(failure)))
            return reply
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(packed)
        self._waiting.append((reply, command[0]))
        return reply

    async def aclose(self) -> None:
        """Close the connection; what waits fails."""
        self._end()
        await self._connection.disconnect(nowait=True)
        await asyncio.wait({self._lost}, timeout=CLOSE_SECONDS)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who wait for them."""
        self._heard = self._loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if not isinstance(reply, hiredis.PushNotification):  # nobody has asked for those
                    self._answer(reply)
        except (InvalidResponse, IndexError) as failure:  # the latter: nobody has asked for this
            self._abort(RedisConnectionError(f"the server does not speak Redis' protocol: {failure}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits: it may have been done."""
        if exc is not None:
            self._failure = RedisConnectionError(str(exc))
        self._end()
        if not self._lost.done():
            self._lost.set_result(None)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not unsent or not self.open:
            return
        if self._watch is None:
            self._heard = self._loop.time()
            self._watch = self._loop.call_later(ANSWER_SECONDS, self._look)
        self._transport.write(b"".join(unsent))

    def _answer(self, reply: Any) -> None:  # noqa: ANN401 - a reply
        waiter, name = self._waiting.popleft()
        if waiter.done():
            return  # its caller has gone
        if isinstance(reply, Exception):
            waiter.set_exception(reply)
        else:
            formed = self._callbacks.get(name)
            waiter.set_result(reply if formed is None else formed(reply))

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


async def open_pipe(server: Redis) -> Pipe:
    """Connect as redis-py's client does; RedisError or OSError when that fails."""
    # redis-py leaves both untyped.
    connection = cast("Connection", server.connection_pool.make_connection())  # type: ignore[no-untyped-call]
    await connection.connect()  # type: ignore[no-untyped-call]
    return Pipe(connection, cast("Mapping[str, Callable[[Any], Any]]", server.response_callbacks))
