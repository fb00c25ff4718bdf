"""UsageEvent: one line of the ledger per job (design.md section 6, "One line per job"). Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """How a job ended. A known outcome replaces `unknown`, which replaces `abandoned`; nothing else changes a line."""

    DELIVERED = "delivered"
    PARTIAL = "partial"
    FAILED = "failed"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"
    HIT = "hit"
    JOINED = "joined"
    REPLAYED = "replayed"
    REFUSED = "refused"


# What may replace what: a higher rank replaces a lower one.
RANKS = {outcome: {Outcome.ABANDONED: 0, Outcome.UNKNOWN: 1}.get(outcome, 2) for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets for a job: the HTTP status, and OpenAI's code of a failure."""

    status: int = 200
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """What was done for whom, and what it costs.

    `cost` is the most that the upstream may charge and `price` what the key is charged, both in millionths of their
    currency; `cost_uncertain` says that the upstream's part was not seen. Times are UTC, durations milliseconds:
    `latency_ms` until every picture had ended, `queue_ms` until the first one had its slot. `status` and `error_code`
    are those of the answer, 0 and empty when there was none. The prompt itself is never here.
    """

    event_id: str
    request_id: str
    outcome: Outcome
    time: datetime
    project_id: str
    key_id: str
    requested_model: str
    upstream_model: str
    upstream_account: str = ""
    size: str = ""
    source: str = "image.generation"
    pictures_requested: int
    pictures_delivered: int = 0
    pictures_paid: int = 0
    cache: str = "MISS"
    cost: int = 0
    cost_currency: str
    cost_uncertain: bool = False
    price: int = 0
    currency: str
    latency_ms: int = 0
    queue_ms: int = 0
    status: int = 0
    error_code: str = ""
    end_user_hash: str = ""
    prompt_hash: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """What a key was charged for in a period: pictures, and their price in millionths."""

    project_id: str
    key_id: str
    pictures: int
    price: int
