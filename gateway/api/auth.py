"""Who is calling: runs before a body is read."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.api.head import Head, head_of
from gateway.api.services import Services
from gateway.domain.audit import Actor
from gateway.domain.errors import InvalidKey

LONGEST_USER_AGENT = 500  # characters that the audit log keeps of it
DOTS_OF_A_JWT = 2  # header.payload.signature; our own keys have none


async def require_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: put the Caller into the connection's state, or raise MissingKey, InvalidKey or AddressNotAllowed."""
    head = head_of(connection.scope)
    await _admit(connection, head, presented_key(head))


async def require_raw_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of GLM's own path, where a key may come without `Bearer` too; a JWT made of a key is refused: InvalidKey.

    To check its signature we would need the key itself, and only digests are kept (design.md section 6).
    """
    head = head_of(connection.scope)
    secret = presented_key(head) or head.get("authorization").strip()
    if secret.count(".") == DOTS_OF_A_JWT:
        raise InvalidKey(
            "This gateway takes its keys as they are, and no JWT made of one. With zai-sdk and zhipuai pass "
            "disable_token_cache=True (their default); other clients send 'Authorization: Bearer sk-glm-...'.",
        )
    await _admit(connection, head, secret or None)


async def require_admin_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of the administration API: put the Actor into the state, or raise MissingKey, InvalidKey or NotAllowed."""
    services: Services = connection.app.state.services
    head = head_of(connection.scope)
    key = await services.administration.authenticate(presented_key(head))
    connection.state.actor = Actor(
        kind="admin_key",
        id=key.id,
        name=key.name,
        address=str(head.client(services.trusted_proxies) or ""),
        user_agent=head.get("user-agent")[:LONGEST_USER_AGENT],
        request_id=head.request_id,
    )


async def _admit(connection: ASGIConnection[Any, Any, Any, Any], head: Head, secret: str | None) -> None:
    services: Services = connection.app.state.services
    connection.state.address = address = head.client(services.trusted_proxies)
    connection.state.caller = await services.authenticate(secret, address)


def presented_key(head: Head) -> str | None:
    """Read the key from `Authorization: Bearer`, `api-key` or `x-api-key`."""
    scheme, _, token = head.get("authorization").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return head.headers.get("api-key") or head.headers.get("x-api-key")
