"""Alerts: how far limits are used is read from the ledger, beside the requests, and what is reached is written down."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

from gateway.domain.alerts import Crossing, Use, body_of, crossings, periods_at, type_of
from gateway.domain.limits import Limit
from gateway.domain.projects import Project
from gateway.domain.quota import Period
from gateway.domain.reports import Group, Question
from gateway.domain.webhooks import Delivery, Webhook
from gateway.service.ports import Clock
from gateway.service.ports_alerts import AlertOutbox, Told, WebhookStore
from gateway.service.ports_reports import UsageReports

REST, LONGEST_REST = (
    20,
    300.0,
)  # times as long as a look took nobody looks again, so that long sums do not keep the database busy
ID_LENGTH = 24


def new_delivery(project_id: str, kind: str, body: str, now: datetime, random_text: Callable[[int], str]) -> Delivery:
    """Make an event that is due at once."""
    name = f"msg_{random_text(ID_LENGTH)}"
    return Delivery(id=name, project_id=project_id, type=kind, body=body, created_at=now, next_try_at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where a look finds what it needs; `zone` is that of days and months, `currency` that of prices."""

    webhooks: WebhookStore
    outbox: AlertOutbox
    reports: UsageReports
    zone: tzinfo
    currency: str


class WatchThresholds:
    """Writes each threshold that a project reaches into the outbox, once a period; two that look do no harm."""

    def __init__(self, facts: Facts, clock: Clock, random_text: Callable[[int], str]) -> None:
        self._facts = facts
        self._clock = clock
        self._random_text = random_text
        self._rests_until = 0.0

    async def look(self) -> None:
        """Look once, unless the last look took so long that this one can wait; DatabaseUnavailable when SQL is away."""
        began = self._clock.monotonic()
        if began < self._rests_until:
            return
        watched = await self._facts.webhooks.watched()
        if watched:
            await self._look_at(watched)
        ended = self._clock.monotonic()
        self._rests_until = ended + min(REST * (ended - began), LONGEST_REST)

    async def _look_at(self, watched: Sequence[tuple[Webhook, Project]]) -> None:
        now, ids = self._clock.now(), [project.id for _, project in watched]
        periods = [
            (limit, period)
            for limit, period in periods_at(now, self._facts.zone)
            if any(project.limits.value(limit) for _, project in watched)
        ]
        used = {period: await self._used(ids, period) for period in dict.fromkeys(period for _, period in periods)}
        told = _by_place(await self._facts.outbox.told(ids, [period.name for period in used]))
        found = [
            self._event(crossing, project, now)
            for webhook, project in watched
            for limit, period in periods
            if period.ends > webhook.created_at.timestamp() * 1000
            for crossing in crossings(
                project.limits,
                webhook.thresholds,
                Use(limit=limit, period=period, used=used[period][limit].get(project.id, 0)),
                told[project.id, limit, period.name],
            )
        ]
        await self._facts.outbox.add(found)

    async def _used(self, ids: Sequence[str], period: Period) -> Mapping[Limit, Mapping[str, int]]:
        """Sum the ledger's lines of a period: pictures that were charged, and their price."""
        start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (period.starts, period.ends))
        only = {Group.PROJECT: ids}
        sums = await self._facts.reports.sums(Question(start=start, end=end, by=(Group.PROJECT,), only=only))
        pictures, spend = defaultdict[str, int](int), defaultdict[str, int](int)
        for row in sums:
            pictures[str(row.group[Group.PROJECT])] += row.delivered
            spend[str(row.group[Group.PROJECT])] += row.price
        return {Limit.IMAGES_PER_DAY: pictures, Limit.IMAGES_PER_MONTH: pictures, Limit.SPEND_PER_MONTH: spend}

    def _event(self, crossing: Crossing, project: Project, now: datetime) -> Delivery:
        body = body_of(crossing, project, self._facts.currency, now)
        return replace(
            new_delivery(project.id, type_of(crossing.limit), body, now, self._random_text),
            limit=crossing.limit.value,
            period=crossing.period,
            period_ends=crossing.period_ends,
            threshold=crossing.threshold,
            amount=crossing.amount,
            used=crossing.used,
        )


def _by_place(told: Sequence[Told]) -> Mapping[tuple[str, Limit, str], dict[int, int]]:
    """Give for each project, limit and period the most that was used when each threshold was told."""
    places = defaultdict[tuple[str, Limit, str], dict[int, int]](dict)
    for one in told:
        place = places[one.project_id, one.limit, one.period]
        place[one.threshold] = max(one.used, place.get(one.threshold, 0))
    return places
