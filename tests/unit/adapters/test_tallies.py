"""Counters without locks show what prometheus_client's own would."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from gateway.adapters.metrics import Children
from gateway.adapters.tallies import Counts, Spreads

LABELS = ("route", "model")
BOUNDS = (0.005, 0.5, 1, 30)
amounts = st.floats(min_value=0, max_value=1e9) | st.sampled_from(BOUNDS) | st.integers(0, 40)
labels = st.tuples(st.sampled_from(["/v1", "/v2"]), st.sampled_from(["glm-image", 'a"b\\c\n']))
steps = st.lists(st.tuples(labels, amounts), max_size=20)


@given(steps=steps)
def test_counters_and_histograms_are_shown_as_prometheus_clients(steps):
    disable_created_metrics()
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    counter = Counter("a", "Counted.", LABELS, registry=theirs)
    histogram = Histogram("b_seconds", "Seen.", LABELS, buckets=BOUNDS, registry=theirs)
    counts = Children(Counts("a", "Counted.", LABELS, registry=ours).labels)
    spreads = Children(Spreads("b_seconds", "Seen.", LABELS, buckets=BOUNDS, registry=ours).labels)
    for names, amount in steps:
        counter.labels(*names).inc(amount)
        histogram.labels(*names).observe(amount)
        counts[names].inc(amount)
        spreads[names].observe(amount)
    assert generate_latest(ours) == generate_latest(theirs)


def test_a_single_metric_can_be_asked_for():
    registry = CollectorRegistry()
    Counts("a", "Counted.", LABELS, registry=registry).labels("/v1", "glm-image").inc()
    Spreads("b_seconds", "Seen.", LABELS, buckets=BOUNDS, registry=registry).labels("/v1", "glm-image").observe(1)
    assert b'a_total{model="glm-image",route="/v1"} 1.0' in generate_latest(registry.restricted_registry(["a_total"]))
    assert generate_latest(registry.restricted_registry(["b_seconds_count"])).count(b"b_seconds_count{") == 1
