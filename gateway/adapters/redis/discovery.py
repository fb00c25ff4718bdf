"""Finds out what the servers of an address are, by asking them."""

from dataclasses import replace
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError

from gateway.adapters.redis.cluster import open_cluster
from gateway.adapters.redis.links import Link, Topology
from gateway.adapters.redis.single import SingleLink, fixed_server, sentinel_master
from gateway.adapters.redis.urls import RedisAddress
from gateway.domain.errors import Misconfigured


async def discover(address: RedisAddress) -> Link:
    """Ask the first server that answers what it is, and open the way that suits it.

    Raises:
        Misconfigured: the URL does not suit what the servers are.
        RedisError: none of them answers.
    """
    if address.master is not None:
        return sentinel_master(address, address.master)
    failure: Exception = RedisConnectionError("no server is named")
    for one in _each(address):
        server = fixed_server(one)
        try:
            facts = await _facts(server)
        except (RedisError, OSError) as unanswered:
            failure = unanswered
            await server.aclose()
        else:
            return await _suited(server, facts, address)
    raise failure


def _each(address: RedisAddress) -> list[RedisAddress]:
    """Give the servers one by one; a socket's path is in its options."""
    options = address.options
    return [
        replace(address, nodes=((host, port),), options={**options, "host": host, "port": port})
        for host, port in address.nodes
    ] or [address]


async def _facts(server: SingleLink) -> dict[str, Any]:
    """Ask a server; one that does not let us is taken for an ordinary one."""
    [found] = await server.send([("INFO", "replication", "cluster")], 0)
    if isinstance(found, NoPermissionError):
        return {}
    if isinstance(found, Exception):
        raise found
    facts: dict[str, Any] = found
    return facts


async def _suited(server: SingleLink, facts: dict[str, Any], address: RedisAddress) -> Link:
    if not facts.get("cluster_enabled") and len(address.nodes) <= 1:
        server.topology = Topology(fails_over=False, replicated=bool(facts.get("connected_slaves")))
        return server
    await server.aclose()
    if not facts.get("cluster_enabled"):
        raise Misconfigured(
            "REDIS_URL names several servers, and they are no Redis Cluster: name one, or its Sentinels."
        )
    return await open_cluster(address)
