"""Who is calling: runs before a body is read."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.api.middleware import request_id_of
from gateway.api.services import Services
from gateway.domain.addresses import Address, Networks, client_address
from gateway.domain.audit import Actor
from gateway.domain.errors import InvalidKey

LONGEST_USER_AGENT = 500  # characters that the audit log keeps of it
DOTS_OF_A_JWT = 2  # header.payload.signature; our own keys have none


async def require_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: put the Caller into the connection's state, or raise MissingKey, InvalidKey or AddressNotAllowed."""
    await _admit(connection, presented_key(connection))


async def require_raw_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of GLM's own path, where a key may come without `Bearer` too; a JWT made of a key is refused: InvalidKey.

    To check its signature we would need the key itself, and only digests are kept (design.md section 6).
    """
    secret = presented_key(connection) or connection.headers.get("authorization", "").strip()
    if secret.count(".") == DOTS_OF_A_JWT:
        raise InvalidKey(
            "This gateway takes its keys as they are, and no JWT made of one. With zai-sdk and zhipuai pass "
            "disable_token_cache=True (their default); other clients send 'Authorization: Bearer sk-glm-...'.",
        )
    await _admit(connection, secret or None)


async def require_admin_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of the administration API: put the Actor into the state, or raise MissingKey, InvalidKey or NotAllowed."""
    services: Services = connection.app.state.services
    key = await services.administration.authenticate(presented_key(connection))
    connection.state.actor = Actor(
        kind="admin_key",
        id=key.id,
        name=key.name,
        address=str(client_of(connection, services.trusted_proxies) or ""),
        user_agent=connection.headers.get("user-agent", "")[:LONGEST_USER_AGENT],
        request_id=request_id_of(connection),
    )


async def _admit(connection: ASGIConnection[Any, Any, Any, Any], secret: str | None) -> None:
    services: Services = connection.app.state.services
    address = client_of(connection, services.trusted_proxies)
    connection.state.address = address
    connection.state.caller = await services.authenticate(secret, address)


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
