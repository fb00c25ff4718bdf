"""The headers of a generation -> Asked (design.md section 5, "Request headers")."""

import hashlib
import re

from gateway.api.head import Head
from gateway.domain.asked import Asked
from gateway.domain.errors import InvalidValue, TextTooLong

LONGEST_IDEMPOTENCY_KEY = 255
LONGEST_AGE = 2**31  # seconds; RFC 9111 section 1.2.2 lets a larger number be read as this one
_STRICT = re.compile(r'(^|[,;\s])handling="?strict"?($|[,;\s])', re.IGNORECASE)
# A quoted text where a name should be, or a name with what it may be set to; a stray semicolon parts them as commas do.
_DIRECTIVE = re.compile(r'"[^"]*"?|([^\s,;="]+)(?:=("[^"]*"|[^\s,;"]*))?')


def asked_of(head: Head, body: bytes) -> Asked:
    """Read the headers.

    Raises:
        InvalidRequest: an Idempotency-Key that is empty or too long.
    """
    directives = cache_directives(head)
    return Asked(
        request_id=head.request_id,
        strict=asks_for_strict(head),
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
        max_age=_seconds(directives["max-age"]) if "max-age" in directives else None,
        body=hashlib.sha256(body).hexdigest(),
        idempotency_key=_idempotency_key(head),
        retry=_retries(head) > 0,
        user_agent=head.get("user-agent"),
    )


def asks_for_strict(head: Head) -> bool:
    """Tell whether the client sent `Prefer: handling=strict` (RFC 7240)."""
    return "prefer" in head.headers and _STRICT.search(head.get("prefer")) is not None


def cache_directives(head: Head) -> dict[str, str]:
    """Read Cache-Control: the directives by their names, of equal ones the first, with what they are set to."""
    if "cache-control" not in head.headers:
        return {}
    found: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(head.get("cache-control")):
        if match[1]:
            found.setdefault(match[1].lower(), (match[2] or "").strip('"'))
    return found


def _seconds(said: str) -> int:
    """Read how old an answer may be; what is no number counts as 0 (RFC 9111 section 4.2.1: then it is stale)."""
    number = said.isascii() and said.isdigit()
    return min(int(said[:18]), LONGEST_AGE) if number else 0  # int() refuses thousands of digits


def _idempotency_key(head: Head) -> str:
    key = head.headers.get("idempotency-key")
    if key is None:
        return ""
    if not key.strip():
        raise InvalidValue("The Idempotency-Key header is empty. Send a value of your own, or leave it out.")
    if len(key) > LONGEST_IDEMPOTENCY_KEY:
        raise TextTooLong(f"The Idempotency-Key header is longer than {LONGEST_IDEMPOTENCY_KEY} characters.")
    return key


def _retries(head: Head) -> int:
    """Read how often the SDK has sent this before; what is no small number is no SDK's."""
    said = head.get("x-stainless-retry-count")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 3 else 0  # noqa: PLR2004 - digits
