"""What clients send, as events of level debug; the log hides prompts, keys and signatures in them."""

from typing import Any

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send


def logging_requests(app: ASGIApp) -> ASGIApp:
    """Log the head of each request that an application gets, and its body when it is JSON in one piece."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            _log_head(scope)
            receive = _logging_body(receive)
        await app(scope, receive, send)

    return logged


def _log_head(scope: HTTPScope) -> None:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    said = {"path": scope["path"], "query": scope["query_string"].decode("latin-1"), "headers": headers}
    structlog.get_logger().debug("request_received", method=scope["method"], **said)


def _logging_body(receive: Receive) -> Receive:
    async def received() -> Any:  # noqa: ANN401 - ASGI's messages
        message = await receive()
        if message["type"] == "http.request" and (content := message["body"]) and not message["more_body"]:
            structlog.get_logger().debug("request_body", body=_readable(content))
        return message

    return received


def _readable(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return f"{len(content)} bytes that are no JSON"
