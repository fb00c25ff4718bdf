"""UsageEvent: one line of the ledger per job (design.md section 6, "One line per job"). Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain.records import record


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


@record(frozen=True, slots=True)
class Answer:
    """What a client gets for a job: the HTTP status, and OpenAI's code of a failure."""

    status: int = 200
    code: str = ""


@record(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """What was done for whom, and what it costs.

    `cost` is the most that the upstream may charge and `price` what the key is charged, both in millionths of their
    currency; `cost_uncertain` says that the upstream's part was not seen. Times are UTC, durations milliseconds:
    `latency_ms` until every picture had ended, `queue_ms` until the first one had its slot. `status` and `error_code`
    are those of the answer, 0 and empty when there was none. `account_costs` as billing.encode_costs writes it. The
    prompt itself is never here.
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
    account_costs: str = ""

    def is_told_by(self, outcome: Outcome | None) -> bool:
        """Tell whether a line of this job with this outcome, if there is one, leaves nothing to be told by this one."""
        return outcome is not None and RANKS[outcome] >= RANKS[self.outcome]

    @property
    def ended(self) -> datetime:
        """When every picture had ended."""
        return self.time + timedelta(milliseconds=self.latency_ms)


@record(frozen=True, slots=True)
class Used:
    """What a key was charged for in a period: pictures, and their price in millionths."""

    project_id: str
    key_id: str
    pictures: int
    price: int


@record(frozen=True, slots=True, kw_only=True)
class Tally:
    """What every key was charged for in a day and in a month; `ended`: lately ended jobs in these, with projects."""

    today: Sequence[Used]
    month: Sequence[Used]
    ended: Sequence[tuple[str, str]]
