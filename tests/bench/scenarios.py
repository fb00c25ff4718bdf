"""What is measured: each scenario says what it asks for, and how the load comes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench.cost import cpu_seconds, watching
from tests.bench.load import Load
from tests.bench.stage import UNKNOWN_KEY

AT_ONCE = 64
CROWD = 5000
SLOW, LONG = 0.25, 10.0  # seconds that an upstream takes
WARM_SECONDS = 1.0
FASTEST = 3000  # requests a second that this client sends at even times
SETTLE_SECONDS = 1.0  # until what was asked before is in the ledger


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`make` gives the target of a load; `status` is what every answer has to have.

    `burst`: so many requests at once and no more until all have been answered, instead of so many at every moment;
    so often.
    `calm`: whether latency is measured too, at half the rate. `direct`: it is what the gateway adds to an upstream's.
    """

    name: str
    title: str
    make: Callable
    status: int = 200
    burst: int = 0
    often: int = 1
    calm: bool = True
    direct: bool = False


@dataclass(kw_only=True)
class Figures:
    """One round of a scenario: answers a second, CPU and latency in milliseconds, memory in MB."""

    per_second: float
    cpu_ms: float
    rss: float
    rss_growth: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    more: dict = field(default_factory=dict)


def _linked(stage):
    return stage.gateway("upstream")


def joined(stage):
    """All of a burst want one picture."""
    gateway = stage.gateway("upstream", SLOW)
    target = stage.target(gateway, "joined", response_format="url")
    return target.__class__(target.name, target.url, target.headers, lambda n: target.body(n // AT_ONCE), target.pid)


SCENARIOS = (
    Scenario(
        name="hello",
        title="raw ASGI application on uvicorn",
        make=lambda stage: stage.hello(),
    ),
    Scenario(
        name="a",
        title="miss, the upstream's URL",
        make=lambda stage: stage.target(_linked(stage), "a", response_format="url"),
        direct=True,
    ),
    Scenario(
        name="a2",
        title="miss, own URL, 2 MB fetched and stored",
        make=lambda stage: stage.target(stage.gateway(), "a2", response_format="url"),
        direct=True,
    ),
    Scenario(
        name="b",
        title="miss, b64, 2 MB fetched and stored",
        make=lambda stage: stage.target(stage.gateway(), "b", response_format="b64_json"),
        direct=True,
    ),
    Scenario(
        name="c",
        title="remembered, own URL",
        make=lambda stage: stage.target(stage.gateway(), "c", prompt="the same", response_format="url"),
    ),
    Scenario(
        name="d",
        title="remembered, b64 of 2 MB",
        make=lambda stage: stage.target(stage.gateway(), "d", prompt="the same", response_format="b64_json"),
    ),
    Scenario(
        name="e",
        title=f"joined, {AT_ONCE} at once",
        make=joined,
        burst=AT_ONCE,
        often=20,
        calm=False,
    ),
    Scenario(
        name="f",
        title="refused by a limit",
        make=lambda stage: stage.target(_linked(stage), "f", key=stage.limited(_linked(stage))),
        status=429,
    ),
    Scenario(
        name="g",
        title="unknown key",
        make=lambda stage: stage.target(_linked(stage), "g", key=UNKNOWN_KEY),
        status=401,
    ),
    Scenario(
        name="h",
        title=f"{CROWD} in flight for {LONG:.0f} s each",
        make=lambda stage: stage.target(stage.gateway("upstream", LONG), "h", response_format="url"),
        burst=CROWD,
        calm=False,
    ),
)
PEERS = tuple(
    Scenario(name=name, title=f"miss, {said}", make=lambda stage, name=name: stage.peer(name), direct=True, calm=False)
    for name, said in {
        "portkey": "Portkey",
        "litellm": "LiteLLM",
        "litellm with redis": "LiteLLM with Redis and Prometheus",
    }.items()
)


class Round:
    """Measures scenarios one after the other; no two requests of a bench have the same number."""

    def __init__(self, stage, seconds, *, calm=True):
        self._stage = stage
        self._seconds = seconds
        self._calm_too = calm
        self._asked = 0

    async def measure(self, scenario):
        """Measure one scenario once."""
        target = scenario.make(self._stage)
        load = Load(target, self._asked - self._asked % AT_ONCE + AT_ONCE - 1)
        try:
            return await self._figures(scenario, target, load)
        finally:
            self._asked = load.asked
            load.close()

    async def _figures(self, scenario, target, load):
        if not scenario.burst:
            await load.closed(AT_ONCE, WARM_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        spent = cpu_seconds(target.pid)
        async with watching(target.pid) as peak:
            answers = await self._loaded(scenario, load)
        await asyncio.sleep(SETTLE_SECONDS)  # what the answers leave to be done is part of their cost
        spent = cpu_seconds(target.pid) - spent
        assert set(answers.statuses) == {scenario.status}, f"{scenario.name}: {answers.statuses}"
        figures = Figures(
            per_second=answers.count / answers.took,
            cpu_ms=spent / answers.count * 1000,
            rss=peak.most,
            rss_growth=peak.growth,
            more={"answers": answers.count},
        )
        if scenario.calm and self._calm_too:
            await self._calm(scenario, target, load, figures)
        return figures

    async def _loaded(self, scenario, load):
        if scenario.burst:
            return await load.bursts(scenario.burst, scenario.often)
        return await load.closed(AT_ONCE, self._seconds)

    async def _calm(self, scenario, target, load, figures):
        """Measure latency at half the rate, and what of it the upstream takes alone."""
        rate = min(figures.per_second / 2, FASTEST)
        answers = await load.open(rate, self._seconds)
        alone = dict.fromkeys((50, 95, 99), 0.0)
        if scenario.direct:
            direct = Load(self._upstream_of(target))
            said = await direct.open(rate, self._seconds)
            alone = {percent: said.percentile(percent) for percent in alone}
            direct.close()
        figures.p50, figures.p95, figures.p99 = (
            max(0.0, answers.percentile(percent) - alone[percent]) for percent in alone
        )

    def _upstream_of(self, target):
        url = f"{self._stage.upstream().base_url}/images/generations"
        return target.__class__("upstream", url, {}, target.body, target.pid)
