"""How the upstream says no: the one place that knows the shape of an error body (glm-image-api.md section 1.4)."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gateway.simulator.options import Language
from gateway.simulator.texts import TABLE


@dataclass(frozen=True, slots=True)
class Finding:
    """What the content filter found, and in whose words; level 0 is the most severe (section 1.3)."""

    role: str
    level: int

    def as_json(self) -> dict[str, Any]:
        """The finding with its keys in the wire's order."""
        return {"level": self.level, "role": self.role}


@dataclass(slots=True, eq=False)
class Refusal(Exception):
    """The service does not do what was asked; status and words come from the table unless they are given."""

    code: str
    status: int | None = None
    message: str | None = None
    finding: Finding | None = None
    places: dict[str, str] = field(default_factory=dict)

    @property
    def http_status(self) -> int:
        """The status on the wire."""
        return self.status or TABLE[self.code].status

    def body(self, language: Language, request_id: str, *, int_code: bool = False) -> dict[str, Any]:
        """The error object: `contentFilter` only on moderation, `request_id` only on 1234 (section 1.4)."""
        body: dict[str, Any] = {}
        if self.finding is not None:
            body["contentFilter"] = [self.finding.as_json()]
        body["error"] = {"code": int(self.code) if int_code else self.code, "message": self.text(language, request_id)}
        if self.code == "1234":
            body["request_id"] = request_id
        return body

    def text(self, language: Language, request_id: str) -> str:
        """The message, with the places of its template filled in."""
        if self.message is not None:
            return self.message
        entry = TABLE[self.code]
        template = entry.zh if language == "zh" else entry.en
        places = {"request_id": request_id, "next_flush_time": "2030-01-01 00:00:00", "model": "glm-image"}
        return template.format_map(defaultdict(str, places | self.places))


def invalid(name: str) -> Refusal:
    """A parameter outside its documented values."""
    return Refusal("1214", places={"field": name})


def missing(name: str) -> Refusal:
    """A required parameter that is absent or empty."""
    return Refusal("1213", places={"field": name})
