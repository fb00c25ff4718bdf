"""What the use cases report, as metrics and log events. Prompts never reach the log."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.adapters.metrics import Metrics
from gateway.domain.image import ImagePlan, PaidPicture
from gateway.domain.limits import Room
from gateway.domain.quota import MICROS
from gateway.domain.slots import Park, Tended
from gateway.domain.upstream import Account, Fault
from gateway.domain.usage import UsageEvent
from gateway.domain.webhooks import Delivery
from gateway.service.ports import Settlement
from gateway.service.ports_requests import Finished

OUTAGE_SECONDS = 10.0  # between two lines of the log about the same part: background work comes by twice a second


class MetricsAndLog:
    """The observer ports."""

    def __init__(
        self, metrics: Metrics, log: FilteringBoundLogger, access: Callable[[Finished], None] | None = None
    ) -> None:
        self._metrics = metrics
        self._log = log
        self._access = access
        self._upstreams: dict[str, set[str]] = {}  # their names by model
        self._outages: dict[str, float] = {}  # when an outage of each part was logged last

    def call_failed(self, account: Account, plan: ImagePlan, fault: Fault, detail: str) -> None:
        """Count and log a call that gave no picture, with the upstream's own text."""
        self._metrics.upstream.calls[account.name, plan.model, fault.name.lower()].inc()
        event = {"account": account.name, "model": plan.model, "fault": fault.name, "detail": detail}
        self._log.warning("upstream_call_failed", **event)

    def picture_paid(self, account: Account, plan: ImagePlan, seconds: float) -> None:
        """Count a paid call and its time."""
        self._metrics.upstream.calls[account.name, plan.model, "paid"].inc()
        self._metrics.upstream.seconds[plan.model,].observe(seconds)
        self._metrics.pictures.made[plan.model,].inc()

    def fetch_failed(self, paid: PaidPicture, reason: str, *, given_up: bool) -> None:
        """Count a failed download; a picture that is given up is named by the upstream's request id."""
        self._metrics.pictures.fetch_failures[str(given_up).lower(),].inc()
        tell = self._log.error if given_up else self._log.warning
        where = paid.url.partition("?")[0]  # the rest is its signature
        tell("picture_download_failed", upstream_request=paid.request_id, url=where, reason=reason, given_up=given_up)

    def picture_delivered(self, plan: ImagePlan) -> None:
        """Count a picture whose bytes are here."""
        self._metrics.pictures.delivered[plan.model,].inc()

    def store_failed(self, operation: str, reason: str) -> None:
        """Count and log what the store of pictures could not do."""
        self._metrics.pictures.store_failures[operation,].inc()
        self._log.error("picture_store_failed", operation=operation, reason=reason)

    def queued(self, change: int) -> None:
        """Follow the length of the queue."""
        self._metrics.queue.waiting += change

    def waited(self, model: str, seconds: float) -> None:
        """Observe how long a picture waited for its slot."""
        self._metrics.queue.seconds[model,].observe(seconds)

    def account_parked(self, account: Account, park: Park) -> None:
        """Log that an account is left alone, and why."""
        ends = (
            datetime.fromtimestamp(park.until / 1000, UTC).isoformat(timespec="seconds") if park.until else "a change"
        )
        self._log.error("account_parked", account=account.account, upstream=park.seat, code=park.code, until=ends)

    def show_upstreams(self, accounts: Sequence[Account], models: Iterable[str]) -> None:
        """Say which upstreams there are: whether all of a model are left alone can be seen only where all are shown."""
        gone = {(name, model) for model, names in self._upstreams.items() for name in names}
        self._upstreams = {model: {one.name for one in accounts if one.serves(model)} for model in models}
        for name, model in gone:
            if name not in self._upstreams.get(model, ()):
                self._metrics.upstream.parked.remove(name, model)

    def queue_looked_at(self, model: str, tended: Tended) -> None:
        """Show how long a queue is and which accounts are left alone, as all replicas see it."""
        self._metrics.queue.length.labels(model).set(tended.length)
        parked = {park.seat: park.code for park in tended.parked}
        for seat in self._upstreams.get(model, ()):
            self._metrics.upstream.parked.labels(seat, model).set(seat in parked)

    def ledger_backlog(self, lines: int) -> None:
        """Follow how far the ledger is behind."""
        self._metrics.ledger.backlog.set(lines)

    def settlement_unsaved(self, settlement: Settlement, reason: str) -> None:
        """Log that a settlement is in memory only."""
        self._log.error("settlement_unsaved", event_id=settlement.event.event_id, reason=reason)

    def settlements_unsaved(self, count: int) -> None:
        """Follow how many settlements are in memory only."""
        self._metrics.ledger.unsaved.set(count)

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
        """Count and log a defect in a job that nobody may be waiting for."""
        self._metrics.crashes.inc()
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
        self._metrics.quotas.shadow_refusals.labels(room.limit.value).inc()
        whose, _, identity = room.subject.partition(".")
        event = {whose: identity, "limit": room.limit.value, "value": room.value, "used": room.used}
        self._log.warning("shadow_limit_reached", **event)

    def line_set_aside(self, why: str, position: str, reason: str) -> None:
        """Count and log a line of usage that will not come into the ledger by itself."""
        self._metrics.ledger.set_aside.labels(why).inc()
        self._log.error("ledger_line_set_aside", why=why, position=position, reason=reason)

    def redis_concerns(self, concerns: Iterable[str]) -> None:
        """Log what in the quota store's configuration endangers the counts."""
        for concern in concerns:
            self._log.warning("redis_may_lose_counts", concern=concern)

    def limits_switched(self, off: bool) -> None:  # noqa: FBT001 - a callback
        """Show that requests are served without limits, or with them again."""
        self._metrics.quotas.off.set(off)
        self._log.warning("limits_off" if off else "limits_on")

    def request_began(self) -> None:
        """Count a request under way."""
        self._metrics.http.under_way += 1

    def request_finished(self, finished: Finished) -> None:
        """Count an answered request and its time, and write its line."""
        http, status = self._metrics.http, f"{finished.status // 100}xx"
        http.under_way -= 1
        http.requests[finished.route, finished.model, status, finished.code].inc()
        http.seconds[finished.route,].observe(finished.seconds)
        if finished.own_seconds is not None:
            http.own_seconds[finished.route,].observe(finished.own_seconds)
        if finished.limit:
            self._metrics.quotas.refusals[finished.limit,].inc()
        if self._access:
            self._access(finished)

    def attached(self, model: str, *, cached: int, joined: int) -> None:
        """Count pictures that are not made for the request that gets them."""
        self._metrics.pictures.cached[model,].inc(cached)
        self._metrics.pictures.coalesced[model,].inc(joined)

    def line_closed(self, line: UsageEvent) -> None:
        """Count a job, what its key is charged and what it costs."""
        pictures, model = self._metrics.pictures, line.upstream_model
        owner = pictures.owner(line.project_id, line.key_id)
        pictures.jobs[model, line.outcome.value].inc()
        pictures.charged[model, *owner].inc(line.pictures_delivered)
        pictures.price[model, line.currency, *owner].inc(line.price / MICROS)
        pictures.cost[model, line.cost_currency].inc(line.cost / MICROS)

    def ledger_reached(self, shard: int, ended: datetime | None) -> None:
        """Follow how old the oldest line is that waits for the ledger."""
        self._metrics.ledger.reached(shard, ended)

    def follow_reserved(self, count: Callable[[], int]) -> None:
        """Show how many reservations of this replica are open."""
        self._metrics.quotas.reserved.set_function(count)

    def settings_loaded(self, fixed: Sequence[str]) -> None:
        """Count and log that settings were read anew; name those that take a restart."""
        self._metrics.settings.loaded()
        self._log.info("settings_reloaded")
        if fixed:
            advice = "Restart the gateway for these; all the rest is in place."
            self._log.warning("settings_need_restart", settings=list(fixed), advice=advice)

    def settings_refused(self, reason: str) -> None:
        """Count and log that settings were not taken, and what to do."""
        self._metrics.settings.refused()
        advice = "The settings from before stay. Set it right, see 'glm-gateway config check', and reload again."
        self._log.error("settings_refused", reason=reason, advice=advice)

    def reservations_expired(self, count: int) -> None:
        """Count reservations of dead replicas that were given back."""
        self._metrics.quotas.expired.inc(count)

    def parts(self, parts: Mapping[str, bool]) -> None:
        """Show which parts are well."""
        for part, well in parts.items():
            self._metrics.part_up.labels(part).set(well)

    def alert_tried(self, delivery: Delivery) -> None:
        """Count a post to a webhook, and log one that was not taken; what it said is nobody's."""
        taken = delivery.state == "delivered"
        self._metrics.alerts.labels("delivered" if taken else "failed").inc()
        if not taken:
            event = {"project": delivery.project_id, "id": delivery.id, "tries": delivery.tries}
            given_up = delivery.state == "failed"
            self._log.warning("alert_not_taken", **event, reason=delivery.last_error, given_up=given_up)
