"""The headers of a generation -> Asked (design.md section 5, "Request headers")."""

import hashlib
import re
from typing import Any

from litestar import Request

from gateway.api.middleware import request_id_of
from gateway.domain.asked import Asked
from gateway.domain.errors import InvalidValue, TextTooLong

LONGEST_IDEMPOTENCY_KEY = 255
LONGEST_AGE = 2**31  # seconds; RFC 9111 section 1.2.2 lets a larger number be read as this one
_STRICT = re.compile(r'(^|[,;\s])handling="?strict"?($|[,;\s])', re.IGNORECASE)
_DIRECTIVE = re.compile(r'([A-Za-z-]+)(?:="?([0-9]+)"?)?')


def asked_of(request: Request[Any, Any, Any], body: bytes) -> Asked:
    """Read the headers.

    Raises:
        InvalidRequest: an Idempotency-Key that is empty or too long.
    """
    directives = cache_directives(request)
    max_age = directives.get("max-age")
    return Asked(
        request_id=request_id_of(request),
        strict=asks_for_strict(request),
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
        max_age=min(int(max_age[:18]), LONGEST_AGE) if max_age else None,  # int() refuses thousands of digits
        body=hashlib.sha256(body).hexdigest(),
        idempotency_key=_idempotency_key(request),
        retry=_retries(request) > 0,
        user_agent=request.headers.get("user-agent", ""),
    )


def asks_for_strict(request: Request[Any, Any, Any]) -> bool:
    """Tell whether the client sent `Prefer: handling=strict` (RFC 7240)."""
    return any(_STRICT.search(value) for value in request.headers.getall("prefer", []))


def cache_directives(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Read Cache-Control: the directives by their names, with the number of those that have one."""
    lines = ",".join(request.headers.getall("cache-control", []))
    found = (_DIRECTIVE.fullmatch(word.strip()) for word in lines.split(","))
    return {match[1].lower(): match[2] or "" for match in found if match}


def _idempotency_key(request: Request[Any, Any, Any]) -> str:
    key: str | None = request.headers.get("idempotency-key")
    if key is None:
        return ""
    if not key.strip():
        raise InvalidValue("The Idempotency-Key header is empty. Send a value of your own, or leave it out.")
    if len(key) > LONGEST_IDEMPOTENCY_KEY:
        raise TextTooLong(f"The Idempotency-Key header is longer than {LONGEST_IDEMPOTENCY_KEY} characters.")
    return key


def _retries(request: Request[Any, Any, Any]) -> int:
    """Read how often the SDK has sent this before; what is no small number is no SDK's."""
    said = request.headers.get("x-stainless-retry-count", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 3 else 0  # noqa: PLR2004 - digits
