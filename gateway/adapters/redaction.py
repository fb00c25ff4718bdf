"""What never reaches a log: prompts, keys, signatures and passwords, wherever in an event they stand."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

HIDDEN = "[redacted]"
# By their names: what clients and upstreams send under them is secret as a whole.
NAMES = {"prompt", "authorization", "proxy-authorization", "api-key", "x-api-key", "cookie", "signature", "user"}
# By their forms, in any text.
FORMS = (
    (re.compile(r"\bsk-(glm|admin)-[A-Za-z0-9_-]{4,}"), rf"sk-\1-{HIDDEN}"),  # our own keys
    (re.compile(r"\b[0-9A-Fa-f]{16,}\.[A-Za-z0-9]{8,}\b"), HIDDEN),  # the upstream's: <id>.<secret>
    (re.compile(r"(?i)\b(bearer|basic) +[^\s\"',]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)([?&;](?:signature|token|key|sig|[a-z-]*signature)=)[^&\s\"']+"), rf"\1{HIDDEN}"),
    (re.compile(r"(://[^/\s:@]*:)[^@\s/]+@"), rf"\1{HIDDEN}@"),  # passwords of URLs
)


def redacted(text: str) -> str:
    """Hide what has the form of a secret."""
    for form, instead in FORMS:
        text = form.sub(instead, text)
    return text


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secrets in an event of structlog, in its values' depths as well."""
    for name, value in event.items():
        event[name] = _hidden(name, value)
    return event


def _hidden(name: str, value: object) -> object:
    if name.lower() in NAMES and value is not None:
        return HIDDEN
    match value:
        case str():
            return redacted(value)
        case Mapping():
            return {inner: _hidden(str(inner), part) for inner, part in value.items()}
        case list() | tuple():
            return [_hidden("", part) for part in value]
        case _:
            return value
