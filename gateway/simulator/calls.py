"""One call as it came in, and the key id and prompt that decide which faults strike it."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import msgspec

from gateway.simulator.faults import Fault
from gateway.simulator.keys import claimed_key_id
from gateway.simulator.switchboard import Switchboard

F = TypeVar("F", bound=Fault)
_BEIJING = timezone(timedelta(hours=8))


def new_id(moment: float) -> str:
    """14 digits of Beijing time and 16 hex digits (section 1.3)."""
    return datetime.fromtimestamp(moment, _BEIJING).strftime("%Y%m%d%H%M%S") + secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to the API; `body` is its JSON, or its text when it is no JSON; `key_id` is claimed, not verified."""

    path: str
    headers: Mapping[str, str]
    body: object
    started: float
    id: str
    key_id: str | None
    switchboard: Switchboard

    @property
    def asynchronous(self) -> bool:
        """Whether it came to the async twin."""
        return "/async/" in self.path

    @property
    def prompt(self) -> str:
        """Its prompt; empty when there is none that could be read."""
        prompt = self.body.get("prompt") if isinstance(self.body, dict) else None
        return prompt if isinstance(prompt, str) else ""

    @property
    def request_id(self) -> str:
        """What the answer carries: the caller's own, when there is one ([INF], section 1.3), or the call's id."""
        supplied = self.body.get("request_id") if isinstance(self.body, dict) else None
        return supplied if isinstance(supplied, str) and supplied else self.id

    def take(self, kind: type[F], when: Callable[[F], bool] = lambda _: True) -> F | None:
        """The fault of this kind that strikes this call now."""
        return self.switchboard.take(kind, self.prompt, self.key_id, when)

    def record(self) -> dict[str, Any]:
        """What is remembered of it; a key is never repeated, only its id."""
        headers = dict(self.headers)
        if "authorization" in headers:
            headers["authorization"] = self.key_id or ""
        return {"path": self.path, "headers": headers, "body": self.body}


def read_call(path: str, headers: Mapping[str, str], content: bytes, switchboard: Switchboard) -> Call:
    """The call as it arrived now."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = content.decode(errors="replace")
    now = time.time()
    return Call(
        path=path,
        headers=headers,
        body=body,
        started=now,
        id=new_id(now),
        key_id=claimed_key_id(headers.get("authorization")),
        switchboard=switchboard,
    )
