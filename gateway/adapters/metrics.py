"""Every Prometheus metric of the gateway."""

from collections.abc import Callable, Iterator
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gateway import __version__

# A picture takes 10 to 70 s and may wait minutes for its turn.
SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 90, 120, 180, 300)


class Metrics:
    """One registry per process; no label has more values than catalog, accounts and routes define."""

    def __init__(self) -> None:
        cast("Callable[[], None]", disable_created_metrics)()  # a second series per child that nobody asks for
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("glm_gateway_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "glm_gateway_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=registry
        )
        self.upstream_calls = Counter(
            "glm_gateway_upstream_calls", "Upstream calls by end.", ["account", "model", "outcome"], registry=registry
        )
        self.upstream_seconds = Histogram(
            "glm_gateway_upstream_seconds", "Time of paid calls.", ["model"], buckets=SECONDS, registry=registry
        )
        self.pictures_delivered = Counter(
            "glm_gateway_pictures_delivered", "Pictures paid and downloaded.", ["model"], registry=registry
        )
        self.fetch_failures = Counter(
            "glm_gateway_fetch_failures", "Downloads that failed.", ["given_up"], registry=registry
        )
        self.store_failures = Counter(
            "glm_gateway_store_failures", "What the picture store could not do.", ["operation"], registry=registry
        )
        self.queue = QueueMetrics(registry)
        self.ledger_backlog = Gauge(
            "glm_gateway_ledger_backlog", "Usage records that wait for the database.", registry=registry
        )
        self.settlements_unsaved = Gauge(
            "glm_gateway_settlements_unsaved", "Settlements that are in memory only.", registry=registry
        )
        self.outages = Counter(
            "glm_gateway_outages", "Rounds of background work that a part did not answer.", ["part"], registry=registry
        )
        self.shadow_refusals = Counter(
            "glm_gateway_shadow_refusals", "Requests that a shadow limit would refuse.", ["limit"], registry=registry
        )
        self.lines_set_aside = Counter(
            "glm_gateway_ledger_lines_set_aside", "Usage records that SQL refused.", ["why"], registry=registry
        )
        self.limits_off = Gauge(
            "glm_gateway_limits_off", "1 while requests are served without limits, else 0.", registry=registry
        )
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


class QueueMetrics:
    """What waits for slots, and which keys of accounts are left alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.waiting = Gauge("glm_gateway_queued_pictures", "Pictures that wait for a slot.", registry=registry)
        self.length = Gauge(
            "glm_gateway_queue_length", "Pictures that wait for a slot, of all replicas.", ["model"], registry=registry
        )
        self.seconds = Histogram(
            "glm_gateway_queue_seconds", "Wait for a slot.", ["model"], buckets=SECONDS, registry=registry
        )
        self.parked = Gauge(
            "glm_gateway_upstream_parked", "1 while a key is left alone.", ["upstream", "model"], registry=registry
        )


class _Followed(Collector):
    """A counter that is read when it is asked for."""

    def __init__(self, name: str, said: str, count: Callable[[], float]) -> None:
        self._name, self._said, self._count = name, said, count

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._said, value=self._count())
