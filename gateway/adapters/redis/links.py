"""What client.py needs from a topology, and what all topologies share."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Protocol

from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from gateway.domain.records import record

# What passes by itself, mostly within the seconds of a failover (parts.md section 2). MovedError is an AskError.
TRANSIENT = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    ClusterError,
    MasterDownError,
    AskError,
    TryAgainError,
    OSError,
)
ANSWER_SECONDS = 5.0  # a server that nobody replaces is waited for
FAILOVER_SECONDS = 1.0  # one that another replaces is not
REPLICA_MILLISECONDS = 200  # how long a write is waited for at replicas; they answer within one or two

Command = tuple[Any, ...]


@record(frozen=True, slots=True, kw_only=True)
class Topology:
    """What the servers are: whether another takes over when one dies, and whether each has a replica."""

    fails_over: bool
    replicated: bool


@record(frozen=True, slots=True)
class Confirmed:
    """A reply, and how many replicas have everything that it says was written."""

    reply: Any
    replicas: int


class Asks(Protocol):
    """A connection that takes single commands."""

    def ask(self, command: Command) -> asyncio.Future[Any]:
        """Send a command and give its reply; RedisError when it fails."""


class Link(Protocol):
    """A way to one topology. Failures are RedisError or OSError and nothing else."""

    topology: Topology

    @property
    def pipe(self) -> Asks | None:
        """Give the connection on which most commands cost less, while there is one."""

    async def send(self, commands: Sequence[Command], replicas: int) -> list[Any]:
        """Run commands at once and give, in their order, replies or exceptions.

        With `replicas`, each reply is a Confirmed: WAIT ran on the connection of its command, right after it.
        """

    async def ping(self) -> None:
        """Raise unless a server answers."""

    def listener(self) -> AbstractAsyncContextManager[PubSub]:
        """Give a connection that can listen to channels."""

    async def listeners(self, channel: str) -> int:
        """Say how many connections listen to a channel; PUBLISH counts those of one node of a Cluster."""

    async def aclose(self) -> None:
        """Close every connection."""


def no_retry() -> Retry:
    """Switch redis-py's own retry off: it runs a script twice unasked, and burns its tries before a failover ends."""
    return Retry(NoBackoff(), 0)


@contextmanager
def lost_connections() -> Generator[None]:
    """Say in redis-py's words what it says in others: RedisClusterException is not a RedisError.

    And it closes the idle connections of a node that has left while others take them: their write then meets no
    writer, or one that uvloop has closed.
    """
    try:
        yield
    except (RedisClusterException, AttributeError, RuntimeError) as failure:
        raise RedisConnectionError(str(failure)) from failure


def timeouts(seconds: float) -> dict[str, Any]:
    """Give the options of a connection that is given up after so long without an answer."""
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


def confirmations(replies: list[Any]) -> list[Any]:
    """Take WAIT's reply off the end and say it of all others; they failed when it did."""
    *replies, count = replies
    if isinstance(count, ResponseError) and str(count).startswith("UNBLOCKED"):
        count = RedisConnectionError("the server became a replica before its own replicas had the write")
    if isinstance(count, Exception):
        return [reply if isinstance(reply, Exception) else count for reply in replies]
    return [reply if isinstance(reply, Exception) else Confirmed(reply, count) for reply in replies]
