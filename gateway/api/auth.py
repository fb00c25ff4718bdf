"""Who is calling: runs before a body is read."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.api.services import Services
from gateway.domain.addresses import Address, Networks, client_address


async def require_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: put the Caller into the connection's state, or raise MissingKey, InvalidKey or AddressNotAllowed."""
    services: Services = connection.app.state.services
    address = client_of(connection, services.trusted_proxies)
    connection.state.caller = await services.authenticate(presented_key(connection), address)


def client_of(connection: ASGIConnection[Any, Any, Any, Any], trusted: Networks) -> Address | None:
    """Give the client's address: the socket's peer, or what trusted proxies say of it."""
    lines = connection.headers.getall("x-forwarded-for", [])
    entries = [entry for line in lines for entry in line.split(",")]
    return client_address(connection.client.host if connection.client else None, entries, trusted)


def presented_key(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """Read the key from `Authorization: Bearer`, `api-key` or `x-api-key`."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("api-key") or connection.headers.get("x-api-key")
