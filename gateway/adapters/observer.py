"""What the use cases report, as metrics and log events. Prompts never reach the log."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.adapters.metrics import Metrics
from gateway.domain.image import ImagePlan, PaidPicture
from gateway.domain.limits import Room
from gateway.domain.slots import Park, Tended
from gateway.domain.upstream import Account, Fault
from gateway.service.ports import Settlement

OUTAGE_SECONDS = 10.0  # between two lines of the log about the same part: background work comes by twice a second


class MetricsAndLog:
    """The observer ports."""

    def __init__(self, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._log = log
        self._parked: dict[str, set[str]] = {}  # upstreams that were ever parked, by model
        self._outages: dict[str, float] = {}  # when an outage of each part was logged last

    def call_failed(self, account: Account, plan: ImagePlan, fault: Fault, detail: str) -> None:
        """Count and log a call that gave no picture, with the upstream's own text."""
        self._metrics.upstream_calls.labels(account.name, plan.model, fault.name.lower()).inc()
        event = {"account": account.name, "model": plan.model, "fault": fault.name, "detail": detail}
        self._log.warning("upstream_call_failed", **event)

    def picture_paid(self, account: Account, plan: ImagePlan, seconds: float) -> None:
        """Count a paid call and its time."""
        self._metrics.upstream_calls.labels(account.name, plan.model, "paid").inc()
        self._metrics.upstream_seconds.labels(plan.model).observe(seconds)

    def fetch_failed(self, paid: PaidPicture, reason: str, *, given_up: bool) -> None:
        """Count a failed download; a picture that is given up is named by the upstream's request id."""
        self._metrics.fetch_failures.labels(str(given_up).lower()).inc()
        tell = self._log.error if given_up else self._log.warning
        where = paid.url.partition("?")[0]  # the rest is its signature
        tell("picture_download_failed", upstream_request=paid.request_id, url=where, reason=reason, given_up=given_up)

    def picture_delivered(self, plan: ImagePlan) -> None:
        """Count a picture whose bytes are here."""
        self._metrics.pictures_delivered.labels(plan.model).inc()

    def store_failed(self, operation: str, reason: str) -> None:
        """Count and log what the store of pictures could not do."""
        self._metrics.store_failures.labels(operation).inc()
        self._log.error("picture_store_failed", operation=operation, reason=reason)

    def queued(self, change: int) -> None:
        """Follow the length of the queue."""
        self._metrics.queue.waiting.inc(change)

    def waited(self, model: str, seconds: float) -> None:
        """Observe how long a picture waited for its slot."""
        self._metrics.queue.seconds.labels(model).observe(seconds)

    def account_parked(self, account: Account, park: Park) -> None:
        """Log that an account is left alone, and why."""
        ends = (
            datetime.fromtimestamp(park.until / 1000, UTC).isoformat(timespec="seconds") if park.until else "a change"
        )
        self._log.error("account_parked", account=account.account, upstream=park.seat, code=park.code, until=ends)

    def queue_looked_at(self, model: str, tended: Tended) -> None:
        """Show how long a queue is and which accounts are left alone, as all replicas see it."""
        self._metrics.queue.length.labels(model).set(tended.length)
        parked = {park.seat: park.code for park in tended.parked}
        known = self._parked.setdefault(model, set())
        for seat in known | parked.keys():
            self._metrics.queue.parked.labels(seat, model).set(seat in parked)
        known |= parked.keys()

    def ledger_backlog(self, lines: int) -> None:
        """Follow how far the ledger is behind."""
        self._metrics.ledger_backlog.set(lines)

    def settlement_unsaved(self, settlement: Settlement, reason: str) -> None:
        """Log that a settlement is in memory only."""
        self._log.error("settlement_unsaved", event_id=settlement.event.event_id, reason=reason)

    def settlements_unsaved(self, count: int) -> None:
        """Follow how many settlements are in memory only."""
        self._metrics.settlements_unsaved.set(count)

    def settlement_stuck(self, settlement: Settlement, reason: str) -> None:
        """Count and log that the disk does not let go of a settlement."""
        self._metrics.outages.labels("spool").inc()
        self._log.error("settlement_stuck", event_id=settlement.event.event_id, reason=reason)

    def settlement_lost(self, settlement: Settlement) -> None:
        """Log the whole line that the ledger lacks, by its columns."""
        self._log.error("settlement_lost", charged=settlement.charged, line=msgspec.to_builtins(settlement.event))

    def follow_unconfirmed(self, count: Callable[[], int]) -> None:
        """Show how many reserves were not confirmed by as many replicas as should."""
        self._metrics.follow("glm_gateway_quota_unconfirmed", "Reserves that too few replicas confirmed.", count)

    def show_jobs(self, count: Callable[[], int]) -> None:
        """Show how many jobs this process has under way; replicas are added and removed by it."""
        self._metrics.show("glm_gateway_jobs_in_flight", "Jobs under way in this process, waiting ones too.", count)

    def crashed(self, failure: BaseException) -> None:
        """Log a defect in a job that nobody may be waiting for."""
        self._log.error("job_crashed", exc_info=failure)

    def outage(self, what: str, reason: str) -> None:
        """Count that a part could not be reached, and log it now and then."""
        self._metrics.outages.labels(what).inc()
        now = time.monotonic()
        if now - self._outages.get(what, -OUTAGE_SECONDS) >= OUTAGE_SECONDS:
            self._outages[what] = now
            self._log.warning("part_unreachable", part=what, reason=reason)

    def shadowed(self, room: Room) -> None:
        """Count and log what a limit would have refused if it did more than to count and report."""
        self._metrics.shadow_refusals.labels(room.limit.value).inc()
        whose, _, identity = room.subject.partition(".")
        event = {whose: identity, "limit": room.limit.value, "value": room.value, "used": room.used}
        self._log.warning("shadow_limit_reached", **event)

    def line_set_aside(self, why: str, position: str, reason: str) -> None:
        """Count and log a line of usage that will not come into the ledger by itself."""
        self._metrics.lines_set_aside.labels(why).inc()
        self._log.error("ledger_line_set_aside", why=why, position=position, reason=reason)

    def redis_concerns(self, concerns: Iterable[str]) -> None:
        """Log what in the quota store's configuration endangers the counts."""
        for concern in concerns:
            self._log.warning("redis_may_lose_counts", concern=concern)

    def limits_switched(self, off: bool) -> None:  # noqa: FBT001 - a callback
        """Show that requests are served without limits, or with them again."""
        self._metrics.limits_off.set(off)
        self._log.warning("limits_off" if off else "limits_on")

    def request_finished(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request and its time."""
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
