"""The head of a request, read once: what the routes ask of it, inside the framework and beside it."""

from functools import lru_cache
from typing import Any, cast

from litestar.types import HTTPScope, Scope

from gateway.domain.addresses import Address, Networks, client_address, parse_address
from gateway.domain.records import record

PEERS = 1024  # socket addresses whose reading is remembered: it costs 2 us


@record(frozen=True, slots=True)
class Head:
    """`headers` by their names in small letters; lines of one name are one list (RFC 9110 section 5.3).

    `peer` is the other end of the socket, `origin` the scheme, host and port by which the client reached us.
    """

    request_id: str
    headers: dict[str, str]
    peer: str | None
    origin: str

    def get(self, name: str) -> str:
        """Give a header, or nothing."""
        return self.headers.get(name, "")

    def client(self, trusted: Networks) -> Address | None:
        """Give the client's address: the socket's peer, or what trusted proxies say of it."""
        if not trusted:
            return _peer(self.peer)
        return client_address(self.peer, self.get("x-forwarded-for").split(","), trusted)


def head_of(scope: Scope) -> Head:
    """Read the head of a request that came through the Edge."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    peer, server = scope["client"], scope["server"] or ("", None)
    host = headers.get("host") or (f"{server[0]}:{server[1]}" if server[1] else server[0])
    return Head(
        request_id_of(scope), headers, peer[0] if peer else None, f"{cast('HTTPScope', scope)['scheme']}://{host}"
    )


def request_id_of(scope: Scope) -> str:
    """Give the id that the Edge made for a request."""
    request_id: str = cast("dict[str, Any]", scope)["request_id"]
    return request_id


@lru_cache(PEERS)
def _peer(host: str | None) -> Address | None:
    return parse_address(host) if host else None
