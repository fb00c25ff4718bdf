"""Examines a Redis: its version, what it may lose, whether it lets scripts write, its topology and its clock."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.concerns import concerns
from gateway.adapters.redis.names import VERSION
from gateway.domain.checkup import Finding, clocks, warning, well, wrong

OLDEST = (7, 0)  # the command set that the scripts use
PART = "redis"
# What the scripts need: to write under a name of ours, to look at the clock, and to publish.
TRY = """redis.call('TIME')
redis.call('SET', KEYS[1], '1', 'PX', 10000)
redis.call('PUBLISH', KEYS[1], '')
return redis.call('DEL', KEYS[1])"""


async def version(client: RedisClient) -> Finding:
    """Tell whether the server is new enough."""
    return judged(await _facts(client, "server"), client.where)


def judged(facts: Mapping[str, Any], where: str) -> Finding:
    """Judge a version by what INFO says of the server."""
    name = str(facts.get("server_name") or "redis").capitalize()
    said = str(facts.get("valkey_version") or facts.get("redis_version") or "")
    # Valkey's redis_version is that of the Redis which it is compatible with.
    compatible = str(facts.get("redis_version") or said).split(".")
    if not said:
        return warning(PART, f"The server at {where} does not tell its version.", "See to it that it is 7.0 or newer.")
    if tuple(int(part) for part in compatible[:2] if part.isdigit()) < OLDEST:
        return wrong(PART, f"{name} {said} at {where} is too old.", "Use Redis 7.0 or newer, or Valkey.")
    return well(PART, f"{name} {said} answers at {where}.")


async def durability(client: RedisClient) -> list[Finding]:
    """Tell whether the server may lose or drop counts."""
    found = [warning("redis counts", *_sentences(concern)) for concern in await concerns(client)]
    return found or [well("redis counts", "It is not known to lose or drop counts.")]


async def writing(client: RedisClient) -> Finding:
    """Tell whether scripts may run and write."""
    part, key = "redis scripts", f"{VERSION}:doctor:{secrets.token_hex(8)}"
    try:
        await client.call("EVAL", TRY, 1, key)
    except NoPermissionError as refused:
        advice = f"Let the user of REDIS_URL run and write: ACL SETUSER <user> ~{VERSION}:* &{VERSION}:* +@all -@admin."
        return wrong(part, f"The server does not let this user run scripts that write: {refused}.", advice)
    except RedisError as refused:
        said = f"The server takes no writes from scripts: {refused}."
        return wrong(part, said, "See its log: it may be full, a replica, or unable to save.")
    return well(part, "Scripts run and write.")


async def topology(client: RedisClient, wait_replicas: int) -> Finding:
    """Tell what the servers are, and whether as many replicas can confirm as are wanted (-1: as it fits)."""
    part, known = "redis topology", await client.topology()
    if (await _facts(client, "cluster")).get("cluster_enabled"):
        state = await client.call("CLUSTER INFO")
        if (state or {}).get("cluster_state") != "ok":
            advice = "See CLUSTER NODES: a shard without a node refuses its projects."
            return wrong(part, f"A Cluster whose state is {(state or {}).get('cluster_state')!r}.", advice)
        said = "A Cluster, each master with a replica." if known.replicated else "A Cluster."
    else:
        said = "Sentinels choose the server." if known.fails_over else "One server."
    if wait_replicas > 0 and not known.replicated:
        advice = "Add replicas, or set redis.wait_replicas to 0 or -1."
        return warning(part, f"{said} redis.wait_replicas is {wait_replicas}, and not every server has one.", advice)
    return well(part, said)


async def clock(client: RedisClient) -> Finding:
    """Compare the server's clock with this machine's."""
    before = _now()
    seconds, microseconds = await client.call("TIME")
    middle = before + (_now() - before) / 2
    there = datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))
    return clocks("redis clock", there - middle)


async def _facts(client: RedisClient, section: str) -> Mapping[str, Any]:
    """Ask a server for a section of INFO; nothing when it does not let us."""
    try:
        facts = await client.call("INFO", section)
    except NoPermissionError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _sentences(concern: str) -> tuple[str, str]:
    """Part what is the case from what to do, which comes last."""
    said, _, advice = concern.rstrip(".").rpartition(". ")
    return f"{said}.", f"{advice}."


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - what is examined is this machine's clock itself
