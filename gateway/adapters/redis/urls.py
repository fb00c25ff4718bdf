"""Reads REDIS_URL, in every form that it may have (design.md section 5)."""

import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote

from redis.asyncio.connection import Connection, SSLConnection, parse_url

from gateway.domain.errors import Misconfigured

FORMS = (
    "redis://host:6379/0, rediss://..., unix:///path, redis://node,node,node for a Cluster, "
    "or redis+sentinel://sentinel,sentinel/master/0"
)
SENTINEL = "redis+sentinel"
OF_SENTINELS = ("sentinel_username=", "sentinel_password=")  # the other user and password are the servers'
PORT, SENTINEL_PORT = 6379, 26379
_NODE = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]@#]+)(:(?P<port>[0-9]{1,5}))?")

Node = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is: `nodes` are servers or, when `master` names what to ask them for, Sentinels.

    `options` are what redis-py's connections take, `sentinel_options` what those to Sentinels take beside their own
    host; `where` is the URL without its secrets.
    """

    nodes: tuple[Node, ...]
    master: str | None
    options: dict[str, Any]
    where: str
    sentinel_options: dict[str, str] = field(default_factory=dict)

    @property
    def encrypted(self) -> bool:
        """Tell whether connections use TLS."""
        return self.options.get("connection_class") is SSLConnection

    @property
    def shared_options(self) -> dict[str, Any]:
        """What every server of this address is reached with, whatever its host."""
        own = {"host", "port", "db", "path", "connection_class"}
        return {name: value for name, value in self.options.items() if name not in own}


def parse_redis_url(url: str) -> RedisAddress:
    """Take a URL apart.

    Raises:
        Misconfigured: it has none of the forms; the message does not repeat it, since it may hold a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    socket = rest.partition("?")[0].rpartition("@")[2]
    if scheme == "unix" and socket.startswith("/"):
        return _address((), None, url.strip(), f"unix://{socket}")
    if scheme not in {"redis", "rediss", SENTINEL} or not separator:
        raise Misconfigured(f"REDIS_URL has to be {FORMS}.")
    return _on_network(scheme, rest)


def _on_network(scheme: str, rest: str) -> RedisAddress:
    """Read a list of nodes, with one user and password for all; every node may repeat the scheme."""
    rest, _, query = rest.partition("?")
    listed, _, path = rest.replace(f",{scheme}://", ",").partition("/")
    parts = [part.rpartition("@") for part in listed.split(",")]
    users = {user for user, at, _ in parts if at}
    if "#" in rest or "@" in path or len(users) > 1:
        raise Misconfigured("REDIS_URL needs one user and password for all nodes, special characters as %23 and so on.")
    nodes = tuple(_node(host, SENTINEL_PORT if scheme == SENTINEL else PORT) for _, _, host in parts)
    master, database = _path(scheme, path)
    credentials = f"{users.pop()}@" if users else ""
    where = f"{scheme}://{','.join(_host_port(node) for node in nodes)}/{path}".rstrip("/")
    server = f"{credentials}{_host_port(nodes[0])}/{database}"
    if scheme != SENTINEL:
        return _address(nodes, master, f"{scheme}://{server}?{query}", where)
    of_sentinels, query = _sentinel_options(query)
    return replace(_address(nodes, master, f"redis://{server}?{query}", where), sentinel_options=of_sentinels)


def _sentinel_options(query: str) -> tuple[dict[str, str], str]:
    """Take what the Sentinels are told out of the query; the rest is for the servers."""
    parts = query.split("&")
    own = [part for part in parts if part.startswith(OF_SENTINELS)]
    options = {name.removeprefix("sentinel_"): value for name, value in parse_qsl("&".join(own))}
    return options, "&".join(part for part in parts if part not in own)


def _path(scheme: str, path: str) -> tuple[str | None, str]:
    """Take the master's name, for Sentinels, and the number of the database."""
    master, _, database = path.partition("/") if scheme == SENTINEL else ("", "", path)
    if scheme == SENTINEL and not master:
        raise Misconfigured("REDIS_URL has to name the master: redis+sentinel://sentinel,sentinel/master/0.")
    if database and not re.fullmatch("[0-9]+", database):
        raise Misconfigured("REDIS_URL has to end with the number of a database, such as /0, or without one.")
    return unquote(master) or None, database or "0"


def _node(text: str, port: int) -> Node:
    found = _NODE.fullmatch(text)
    if found is None or int(found["port"] or port) not in range(1, 65536):
        raise Misconfigured("REDIS_URL names a node that is no host:port.")
    return found["host"].strip("[]"), int(found["port"] or port)


def _host_port(node: Node) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(nodes: tuple[Node, ...], master: str | None, url: str, where: str) -> RedisAddress:
    """Let redis-py read the rest, and try whether its connections know every option."""
    try:
        options: dict[str, Any] = dict(parse_url(url))
        given = {name: value for name, value in options.items() if name != "connection_class"}
        options.get("connection_class", Connection)(**given)
    except (TypeError, ValueError) as failure:
        raise Misconfigured("REDIS_URL has an option that is not known, or with a wrong value.") from failure
    return RedisAddress(nodes=nodes, master=master, options=options, where=where)
