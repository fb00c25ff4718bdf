"""Which thresholds of a project's limits are reached, which of them are news, and what is said of it. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from gateway.domain.limits import Limit
from gateway.domain.projects import Project
from gateway.domain.quota import Limits, Period, calendar_of
from gateway.domain.terms import money_text

LATE = timedelta(minutes=10)  # after a period its last lines may still be on their way into the ledger
_OF_MONTHS = (Limit.IMAGES_PER_MONTH, Limit.SPEND_PER_MONTH)
WATCHED = (Limit.IMAGES_PER_DAY, *_OF_MONTHS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How far a limit is used in a period: pictures, or millionths of money."""

    limit: Limit
    period: Period
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A threshold, in percent, that `used` has reached: `amount` of the limit's `value`. Money in millionths."""

    limit: Limit
    period: str
    period_ends: datetime
    threshold: int
    amount: int
    value: int
    used: int


def periods_at(now: datetime, zone: tzinfo) -> list[tuple[Limit, Period]]:
    """Give the periods of each watched limit that lines may still come into, the earliest first."""
    found: dict[tuple[Limit, Period], None] = {}
    for at in (now - LATE, now):
        calendar = calendar_of(int(at.timestamp() * 1000), zone)
        found |= dict.fromkeys([(Limit.IMAGES_PER_DAY, calendar.days[0])])
        found |= dict.fromkeys((limit, calendar.months[0]) for limit in _OF_MONTHS)
    return list(found)


def crossings(limits: Limits, thresholds: Sequence[int], use: Use, told: Mapping[int, int]) -> list[Crossing]:
    """Give the thresholds that are reached and are news; `told`: what was used when each was told in this period.

    A threshold that was told is news again when the limit was raised so far that it lies above all that was told.
    """
    value = limits.value(use.limit)
    if not value:
        return []
    amounts = {threshold: -(-threshold * value // 100) for threshold in thresholds}
    return [
        Crossing(
            limit=use.limit,
            period=use.period.name,
            period_ends=datetime.fromtimestamp(use.period.ends / 1000, UTC),
            threshold=threshold,
            amount=amount,
            value=value,
            used=use.used,
        )
        for threshold, amount in amounts.items()
        if use.used >= amount and (threshold not in told or amount > max(told.values()))
    ]


def type_of(limit: Limit) -> str:
    """Name the event."""
    return "spend.threshold_reached" if limit is Limit.SPEND_PER_MONTH else "images.threshold_reached"


def body_of(crossing: Crossing, project: Project, currency: str, now: datetime) -> str:
    """Write the event as JSON; money is a text, so that no program rounds it."""
    money = crossing.limit is Limit.SPEND_PER_MONTH
    data: dict[str, Any] = {
        "project_id": project.id,
        "project": project.name,
        "limit": crossing.limit.value,
        "value": money_text(crossing.value) if money else crossing.value,
        "used": money_text(crossing.used) if money else crossing.used,
        **({"currency": currency} if money else {}),
        "threshold": crossing.threshold,
        "period": crossing.period,
        "period_ends": _said(crossing.period_ends),
    }
    return event(type_of(crossing.limit), data, now)


def event(kind: str, data: Mapping[str, Any], now: datetime) -> str:
    """Write an event in the form of Standard Webhooks."""
    return json.dumps({"type": kind, "timestamp": _said(now), "data": data}, ensure_ascii=False)


def _said(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
