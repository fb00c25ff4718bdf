"""(i) How fast the ledger's lines get from Redis into SQL."""

import time
from datetime import UTC, datetime

import redis

from gateway.adapters.redis.names import Names, encode_event
from gateway.domain.usage import Outcome, UsageEvent
from tests import postgres_servers, servers
from tests.bench.cost import cpu_seconds

LINES, SHARD, BATCH = 50_000, 7, 1000
EVENTS = Names(SHARD).of("events")


def drained(stage, folder):
    """Give a line of the report for each database."""
    yield _measured(stage, "SQLite", None)
    with postgres_servers.postgres_server(folder / "postgres") as url:
        yield _measured(stage, "PostgreSQL", url)


def _measured(stage, name, url):
    gateway = stage.gateway("upstream", 0.0, url) if url else stage.gateway("upstream")
    with redis.Redis.from_url(gateway.env["REDIS_URL"]) as store:
        spent, began = cpu_seconds(gateway.process.popen.pid), time.perf_counter()
        _fill(store)
        servers.wait_until(lambda: not store.xlen(EVENTS), 300, "an empty stream")
    took, spent = time.perf_counter() - began, cpu_seconds(gateway.process.popen.pid) - spent
    return f"(i) ledger, {name}: {LINES / took:,.0f} lines/s, {spent / LINES * 1000:.3f} ms of CPU each"


def _fill(store):
    now = datetime.now(UTC)
    for first in range(0, LINES, BATCH):
        with store.pipeline(transaction=False) as pipeline:
            for number in range(first, first + BATCH):
                pipeline.xadd(EVENTS, {"event": encode_event(a_line(f"req_{now.timestamp()}{number}", now), now)})
            pipeline.execute()


def a_line(name, now):
    """Write the line of a picture as it was made."""
    return UsageEvent(
        event_id=name,
        request_id=name,
        outcome=Outcome.DELIVERED,
        time=now,
        project_id="proj_of_the_bench",
        key_id="key_of_the_bench",
        requested_model="glm-image",
        upstream_model="glm-image",
        upstream_account="zhipuai-1",
        size="1280x1280",
        pictures_requested=1,
        pictures_delivered=1,
        pictures_paid=1,
        cost=100_000,
        cost_currency="CNY",
        price=100_000,
        currency="CNY",
        latency_ms=20_000,
        status=200,
        prompt_hash="0" * 32,
    )
