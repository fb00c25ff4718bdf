"""Counters and histograms of one thread, for what is counted with every request.

prometheus_client's own take a lock for every figure: 1 us each on the machine of the README's table, and a new picture
has a dozen. These are changed by the event loop alone; a thread that shows them may see one of two figures that belong
together.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Count:
    """A figure that never falls."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add to it."""
        self.value += amount


class Counts(Collector):
    """A counter by its labels."""

    def __init__(self, name: str, said: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self._about = name, said, None, labels
        self._children: dict[Labels, Count] = {}
        registry.register(self)

    def labels(self, *labels: str) -> Count:
        """Give the figure of these labels, which is shown from now on."""
        return self._children.setdefault(labels, Count())

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Say what there is, without figures."""
        yield CounterMetricFamily(*self._about)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give all figures."""
        family = CounterMetricFamily(*self._about)
        for labels, child in list(self._children.items()):
            family.add_metric(labels, child.value)
        yield family


class Spread:
    """How many observations fell under which bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add an observation; a bound is part of what lies under it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Give each bound with the number of observations up to it, and all."""
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))


class Spreads(Collector):
    """A histogram by its labels."""

    def __init__(
        self, name: str, said: str, labels: Sequence[str], *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._about = name, said, None, None, labels
        self._bounds = buckets
        self._children: dict[Labels, Spread] = {}
        registry.register(self)

    def labels(self, *labels: str) -> Spread:
        """Give the histogram of these labels, which is shown from now on."""
        return self._children.setdefault(labels, Spread(self._bounds))

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Say what there is, without figures."""
        yield HistogramMetricFamily(*self._about)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give all figures."""
        family = HistogramMetricFamily(*self._about)
        for labels, child in list(self._children.items()):
            family.add_metric(labels, child.buckets(), child.total)
        yield family
