"""Who is calling: runs before a body is read."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.api.services import Services


async def require_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: put the Caller into the connection's state, or raise MissingKey or InvalidKey."""
    services: Services = connection.app.state.services
    connection.state.caller = await services.authenticate(presented_key(connection))


def presented_key(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """Read the key from `Authorization: Bearer`, `api-key` or `x-api-key`."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("api-key") or connection.headers.get("x-api-key")
