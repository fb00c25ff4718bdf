"""A Redis Cluster: scripts of one tick go to each node as one pipeline; redis-py finds the way for all the rest."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster
from redis.exceptions import AskError, ClusterDownError, RedisError, TryAgainError
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from gateway.adapters.redis.links import (
    FAILOVER_SECONDS,
    REPLICA_MILLISECONDS,
    Command,
    Confirmed,
    Topology,
    confirmations,
    lost_connections,
    no_retry,
    timeouts,
)
from gateway.adapters.redis.urls import RedisAddress
from gateway.domain.errors import Misconfigured

CONNECTIONS = 100  # of one node; redis-py refuses to open more instead of waiting
AT_ONCE = 64  # commands and pipelines under way, so fewer than that
LESSON_SECONDS = 0.1  # between two questions who owns which slot, while nodes do not answer
_SCRIPTS = frozenset({"EVALSHA", "EVAL"})
# The node did not run the command: its slot is elsewhere, or on the way there.
_ELSEWHERE = (AskError, ClusterDownError, TryAgainError)
_DEAD = (RedisConnectionError, RedisTimeoutError, OSError)


class ClusterLink:
    """Routes scripts by their first key; the server refuses one whose keys lie in several slots."""

    pipe = None  # whom to ask depends on the command

    def __init__(self, cluster: RedisCluster, topology: Topology) -> None:
        self.topology = topology
        self._cluster = cluster
        self._room = asyncio.Semaphore(AT_ONCE)
        self._next_lesson = 0.0

    async def send(self, commands: Sequence[Command], replicas: int) -> list[Any]:
        """Run commands at once; those that are to be confirmed must be scripts."""
        shares: dict[ClusterNode | int, list[int]] = {}
        for position, command in enumerate(commands):
            shares.setdefault(self._owner(command) or position, []).append(position)
        replies: list[Any] = [None] * len(commands)

        async def run(node: ClusterNode | int, positions: list[int]) -> None:
            share = [commands[position] for position in positions]
            for position, reply in zip(positions, await self._share(node, share, replicas), strict=True):
                replies[position] = reply

        await asyncio.gather(*(run(node, positions) for node, positions in shares.items()))
        return replies

    async def ping(self) -> None:
        """Raise unless some node answers: one dead node does not stop the projects of the others."""
        failure: Exception = RedisConnectionError("no node of the Cluster is known")
        for node in self._cluster.get_nodes():
            try:
                with lost_connections():
                    await node.execute_command("PING")
            except (RedisError, OSError) as unanswered:
                failure = unanswered
            else:
                return
        raise failure

    def listener(self) -> PubSub:
        """Give a connection that can listen to channels; what is said on one node is heard on all."""
        return self._cluster.pubsub()

    async def aclose(self) -> None:
        """Close the connections to all nodes."""
        await self._cluster.aclose()

    def _owner(self, command: Command) -> ClusterNode | None:
        """Find who owns a script's slot; None for other commands, and while no owner is known."""
        if command[0] not in _SCRIPTS or not command[2]:
            return None
        owners = self._cluster.nodes_manager.slots_cache.get(self._cluster.keyslot(command[3]))
        return owners[0] if owners else None

    async def _share(self, node: ClusterNode | int, commands: list[Command], replicas: int) -> list[Any]:
        """Run what goes to one node; follow what has moved away from it."""
        async with self._room:
            if not isinstance(node, ClusterNode):
                return [await self._follow(command, replicas) for command in commands]
            replies = await self._pipeline(node, commands, replicas)
            for position, reply in enumerate(replies):
                if isinstance(reply, _ELSEWHERE):
                    replies[position] = await self._follow(commands[position], replicas)
            return replies

    async def _pipeline(self, node: ClusterNode, commands: list[Command], replicas: int) -> list[Any]:
        """Run scripts on one connection of one node, with WAIT after them on that same connection."""
        waits = [("WAIT", replicas, REPLICA_MILLISECONDS)] if replicas else []
        sent = [PipelineCommand(position, *command) for position, command in enumerate([*commands, *waits])]
        try:
            with lost_connections():
                await node.execute_pipeline(sent)
        except _DEAD as failure:
            replies: list[Any] = [failure] * len(sent)
        else:
            replies = [command.result for command in sent]
        if any(isinstance(reply, _DEAD) for reply in replies):
            await self._learn(node)
        return confirmations(replies) if replicas else replies

    async def _follow(self, command: Command, replicas: int) -> Any:  # noqa: ANN401 - a reply, or why there is none
        """Let redis-py follow redirections and remember them; then a script runs again, where WAIT can follow it."""
        try:
            with lost_connections():
                _ = await self._cluster.initialize()  # it can be awaited again, to no purpose
                reply = await self._cluster.execute_command(*command)
        except (RedisError, OSError) as failure:
            return failure
        owner = self._owner(command)
        if not replicas or owner is None:
            return Confirmed(reply, 0) if replicas else reply
        [again] = await self._pipeline(owner, [command], replicas)
        return Confirmed(reply, 0) if isinstance(again, _ELSEWHERE) else again

    async def _learn(self, failed: ClusterNode) -> None:
        """Ask the other nodes who owns which slot now, not too often: each answer renews all connections."""
        now = asyncio.get_running_loop().time()
        if now < self._next_lesson:
            return
        self._next_lesson = now + LESSON_SECONDS
        with suppress(RedisError, OSError), lost_connections():
            await self._cluster.nodes_manager.initialize(last_failed_node_name=failed.name)


async def open_cluster(address: RedisAddress) -> ClusterLink:
    """Learn the Cluster's nodes from those that are named.

    Raises:
        Misconfigured: the URL asks for what a Cluster does not have.
    """
    if not address.nodes or address.options.get("db"):
        raise Misconfigured(
            "REDIS_URL leads to a Redis Cluster: it needs redis:// or rediss://, and no database but 0."
        )
    cluster: RedisCluster = RedisCluster(
        startup_nodes=[ClusterNode(*node) for node in address.nodes],
        require_full_coverage=False,  # a shard without a node stops its own projects only
        max_connections=CONNECTIONS,
        retry=no_retry(),
        **{**timeouts(FAILOVER_SECONDS), **address.shared_options, "ssl": address.encrypted},
    )
    with lost_connections():
        _ = await cluster.initialize()
        known = await cluster.execute_command("CLUSTER NODES")
    return ClusterLink(cluster, Topology(fails_over=True, replicated=_replicated(known.values())))


def _replicated(nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether every master with slots has a replica, be it up or down just now."""
    followed = {node["master_id"] for node in nodes}
    return all(node["node_id"] in followed for node in nodes if node["slots"])
