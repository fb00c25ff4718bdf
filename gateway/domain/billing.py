"""What a generation costs, and its line in the ledger. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from gateway.domain.errors import GatewayError, ImageDownloadFailed, OutcomeUnknown
from gateway.domain.image import ImageOrder, Picture
from gateway.domain.keys import Caller
from gateway.domain.quota import MICROS
from gateway.domain.usage import Answer, Outcome, UsageEvent

End = Picture | GatewayError


def micros(price: Decimal) -> int:
    """Give a price in millionths."""
    return int((price * MICROS).to_integral_value(ROUND_HALF_UP))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What one picture costs, in millionths of a currency."""

    price: int
    currency: str

    @classmethod
    def of(cls, price: Decimal, currency: str) -> "Tariff":
        """Round a catalog's price once (design.md section 6, "Money")."""
        return cls(price=micros(price), currency=currency)


def opened(
    caller: Caller, order: ImageOrder, tariff: Tariff, *, request_id: str, now: datetime, prompt_hash: str
) -> UsageEvent:
    """Write the line that stands if the job's owner dies: nothing charged, and the most that it may have cost."""
    return UsageEvent(
        event_id=request_id,
        request_id=request_id,
        outcome=Outcome.ABANDONED,
        time=now,
        project_id=caller.project_id,
        key_id=caller.key_id,
        requested_model=order.requested_model,
        upstream_model=order.plan.model,
        size=order.plan.size,
        pictures_requested=order.n,
        cost=order.n * tariff.price,
        cost_currency=tariff.currency,
        cost_uncertain=True,
        currency=tariff.currency,
        end_user_hash=order.plan.user_id or "",
        prompt_hash=prompt_hash,
    )


def closed(
    line: UsageEvent, ends: Sequence[End], tariff: Tariff, *, latency_ms: int, queue_ms: int, answer: Answer
) -> UsageEvent:
    """Write the line of a job that has ended: what was delivered is charged, what was paid or may be is cost.

    `ends` are those of the pictures that the job made itself; without any, others made all that it gave.
    """
    pictures = [end for end in ends if isinstance(end, Picture)]
    lost = sum(isinstance(end, ImageDownloadFailed) for end in ends)
    unknown = sum(isinstance(end, OutcomeUnknown) for end in ends)
    paid = len(pictures) + lost
    return replace(
        line,
        outcome=_outcome(len(pictures), unknown, len(ends)),
        size=(pictures[0].size if pictures else "") or line.size,
        upstream_account=",".join(dict.fromkeys(picture.account for picture in pictures)),
        pictures_delivered=len(pictures),
        pictures_paid=paid,
        cost=(paid + unknown) * tariff.price,
        cost_uncertain=unknown > 0,
        price=len(pictures) * tariff.price,
        latency_ms=latency_ms,
        queue_ms=queue_ms,
        status=answer.status,
        error_code=answer.code,
    )


def _outcome(delivered: int, unknown: int, asked: int) -> Outcome:
    if not asked:
        return Outcome.JOINED
    if delivered:
        return Outcome.DELIVERED if delivered == asked else Outcome.PARTIAL
    return Outcome.UNKNOWN if unknown else Outcome.FAILED
