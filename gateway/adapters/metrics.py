"""Every Prometheus metric of the gateway."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.adapters.tallies import Count, Counts, Spread, Spreads
from gateway.domain.errors import Misconfigured

# A picture takes 10 to 70 s and may wait minutes for its turn.
SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 90, 120, 180, 300)
OWN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
By = Literal["none", "project", "key"]
Child = TypeVar("Child", Count, Spread)


class Children(dict[tuple[str, ...], Child]):
    """What is counted, by its labels."""

    def __init__(self, make: Callable[..., Child]) -> None:
        super().__init__()
        self._make: Callable[..., Child] = make

    def __missing__(self, labels: tuple[str, ...]) -> Child:
        child = self[labels] = self._make(*labels)
        return child


class Metrics:
    """One registry per process; no label has more values than catalog, accounts, routes and error codes define.

    `by` lets charged pictures and prices tell projects, or keys, apart: as many series as there are of them.
    """

    def __init__(self, now: Callable[[], datetime], by: By = "none") -> None:
        cast("Callable[[], None]", disable_created_metrics)()  # a second series per child that nobody asks for
        registry = self.registry = CollectorRegistry()
        self.http = HttpMetrics(registry)
        self.upstream = UpstreamMetrics(registry)
        self.pictures = PictureMetrics(registry, by)
        self.queue = QueueMetrics(registry)
        self.quotas = QuotaMetrics(registry)
        self.ledger = LedgerMetrics(registry, now)
        self.settings = SettingsMetrics(registry, now)
        self.part_up = Gauge("glm_gateway_part_up", "1 while a part is well, else 0.", ["part"], registry=registry)
        self.outages = Counter(
            "glm_gateway_outages", "Rounds of background work that a part did not answer.", ["part"], registry=registry
        )
        self.crashes = Counter("glm_gateway_crashes", "Defects met in background work.", registry=registry)
        self.alerts = Counter("glm_gateway_alert_posts", "Posts of alerts by end.", ["outcome"], registry=registry)
        build = Gauge("glm_gateway_build_info", "Always 1.", ["version"], registry=registry)
        build.labels(__version__).set(1)

    def follow(self, name: str, said: str, count: Callable[[], float]) -> None:
        """Show a count that is kept elsewhere and never falls."""
        self.registry.register(_Followed(name, said, count))

    def show(self, name: str, said: str, count: Callable[[], float]) -> None:
        """Show a count that is kept elsewhere and rises and falls."""
        Gauge(name, said, registry=self.registry).set_function(count)

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Give Prometheus its text on a port of its own, from a thread, until what is given back is called.

        Raises:
            Misconfigured: the port is taken.
        """
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as failure:
            raise Misconfigured(f"metrics.port: port {port} on {host} cannot be used ({failure.strerror}).") from None

        def close() -> None:
            server.shutdown()
            server.server_close()

        return close


class HttpMetrics:
    """What clients get, and how soon."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["route", "model", "status", "code"]
        self.requests = Children(Counts("glm_gateway_requests", "Requests answered.", labels, registry=registry).labels)
        self.seconds = Children(
            Spreads(
                "glm_gateway_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=registry
            ).labels
        )
        said = "Time to answer without queue, upstream and download."
        self.own_seconds = Children(
            Spreads("glm_gateway_own_seconds", said, ["route"], buckets=OWN_SECONDS, registry=registry).labels
        )
        self.under_way = 0
        in_flight = Gauge("glm_gateway_requests_in_flight", "Requests under way.", registry=registry)
        in_flight.set_function(lambda: self.under_way)


class UpstreamMetrics:
    """What the upstream is asked for, and which of its keys are left alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["account", "model", "outcome"]
        calls = Counts("glm_gateway_upstream_calls", "Upstream calls by end.", labels, registry=registry)
        said = "Time of paid calls."
        seconds = Spreads("glm_gateway_upstream_seconds", said, ["model"], buckets=SECONDS, registry=registry)
        self.calls, self.seconds = Children(calls.labels), Children(seconds.labels)
        self.parked = Gauge(
            "glm_gateway_upstream_parked", "1 while a key is left alone.", ["upstream", "model"], registry=registry
        )


class PictureMetrics:
    """What became of pictures, and what they cost."""

    def __init__(self, registry: CollectorRegistry, by: By) -> None:
        self._by = by

        def counter(name: str, said: str, *labels: str) -> Children[Count]:
            return Children(Counts(f"glm_gateway_{name}", said, labels, registry=registry).labels)

        self.made = counter("pictures_made", "Pictures that the upstream made and charges.", "model")
        self.delivered = counter("pictures_delivered", "Pictures paid and downloaded.", "model")
        self.cached = counter("pictures_cached", "Pictures given from memory.", "model")
        self.coalesced = counter("pictures_coalesced", "Pictures given that were made for another request.", "model")
        self.charged = counter("pictures_charged", "Pictures charged to keys.", "model", "project", "key")
        self.price = counter("price", "What keys are charged.", "model", "currency", "project", "key")
        self.cost = counter("cost", "The most that upstreams charge.", "model", "currency")
        self.jobs = counter("jobs", "Jobs by end, as the ledger says it.", "model", "outcome")
        self.fetch_failures = counter("fetch_failures", "Downloads that failed.", "given_up")
        self.store_failures = counter("store_failures", "What the picture store could not do.", "operation")

    def owner(self, project: str, key: str) -> tuple[str, str]:
        """Give the labels of who is charged, as far as the setting lets them be told apart."""
        return ("" if self._by == "none" else project, key if self._by == "key" else "")


class QueueMetrics:
    """What waits for slots."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.waiting = 0
        waiting = Gauge("glm_gateway_queued_pictures", "Pictures that wait for a slot.", registry=registry)
        waiting.set_function(lambda: self.waiting)
        self.length = Gauge(
            "glm_gateway_queue_length", "Pictures that wait for a slot, of all replicas.", ["model"], registry=registry
        )
        self.seconds = Children(
            Spreads(
                "glm_gateway_queue_seconds", "Wait for a slot.", ["model"], buckets=SECONDS, registry=registry
            ).labels
        )


class QuotaMetrics:
    """What limits do, and what is reserved under them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refusals = Children(
            Counts("glm_gateway_quota_refusals", "Requests that a limit refused.", ["limit"], registry=registry).labels
        )
        self.shadow_refusals = Counter(
            "glm_gateway_shadow_refusals", "Requests that a shadow limit would refuse.", ["limit"], registry=registry
        )
        self.reserved = Gauge("glm_gateway_reservations_open", "Reservations of this replica.", registry=registry)
        self.expired = Counter(
            "glm_gateway_reservations_expired", "Reservations of dead replicas given back here.", registry=registry
        )
        self.off = Gauge(
            "glm_gateway_limits_off", "1 while requests are served without limits, else 0.", registry=registry
        )


class LedgerMetrics:
    """How far the ledger is behind."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], datetime]) -> None:
        self._now = now
        self._reached: dict[int, datetime] = {}
        self.backlog = Gauge(
            "glm_gateway_ledger_backlog", "Usage records that wait for the database.", registry=registry
        )
        lag = Gauge("glm_gateway_ledger_lag_seconds", "Age of the oldest usage record that waits.", registry=registry)
        lag.set_function(self._lag)
        self.unsaved = Gauge(
            "glm_gateway_settlements_unsaved", "Settlements that are in memory only.", registry=registry
        )
        self.set_aside = Counter(
            "glm_gateway_ledger_lines_set_aside", "Usage records that SQL refused.", ["why"], registry=registry
        )

    def reached(self, shard: int, ended: datetime | None) -> None:
        """Note when the oldest job of a shard ended whose line waits."""
        if ended is None:
            self._reached.pop(shard, None)
        else:
            self._reached[shard] = ended

    def _lag(self) -> float:
        oldest = min(tuple(self._reached.values()), default=None)
        return (self._now() - oldest).total_seconds() if oldest else 0.0


class SettingsMetrics:
    """What became of reloads."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], datetime]) -> None:
        self._now = now
        self._reloads = Counter("glm_gateway_config_reloads", "Reloads by end.", ["outcome"], registry=registry)
        self._time = Gauge(
            "glm_gateway_config_loaded_timestamp_seconds", "When the settings in force were read.", registry=registry
        )
        self._refused = Gauge("glm_gateway_config_refused", "1 while the last reload was refused.", registry=registry)
        for outcome in ("loaded", "refused"):
            self._reloads.labels(outcome)
        self._time.set(now().timestamp())

    def loaded(self) -> None:
        """Count settings that are in force from now on."""
        self._reloads.labels("loaded").inc()
        self._time.set(self._now().timestamp())
        self._refused.set(0)

    def refused(self) -> None:
        """Count settings that were not taken."""
        self._reloads.labels("refused").inc()
        self._refused.set(1)


class _Followed(Collector):
    """A counter that is read when it is asked for."""

    def __init__(self, name: str, said: str, count: Callable[[], float]) -> None:
        self._name, self._said, self._count = name, said, count

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._said, value=self._count())
