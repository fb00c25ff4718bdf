"""The gateway on PostgreSQL: the ledger is complete, and a server that stands still is treated as one that is away."""

import asyncio
import json
import signal
from contextlib import ExitStack

import asyncpg
import pytest

from gateway.adapters.redis.names import Names, encode_event
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import shard_of
from tests import postgres_servers, servers
from tests.builders import NOW, a_line, a_secret
from tests.redis_servers import redis_alone

SECRET = "a" * 64


@pytest.fixture
def stand(tmp_path):
    """A gateway on PostgreSQL that has known its key for a moment."""
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.simulator(tmp_path))
        database = stack.enter_context(postgres_servers.postgres_alone(tmp_path))
        redis, node = stack.enter_context(redis_alone(tmp_path / "redis"))
        env = {"DATABASE_URL": database.url, "REDIS_URL": redis, "GLM_GATEWAY_SECRET_KEY": SECRET}
        gateway = stack.enter_context(servers.gateway(tmp_path, upstream, **env))
        assert generate(gateway)[0] == 200
        gateway.redis, gateway.database = node, database
        yield gateway


def lines_of(gateway):
    """What the ledger has."""

    async def read():
        connection = await asyncpg.connect(gateway.env["DATABASE_URL"])
        try:
            return [dict(row) for row in await connection.fetch("SELECT * FROM usage_events")]
        finally:
            await connection.close()

    return asyncio.run(read())


def generate(gateway, key=None):
    status, _, content = gateway.post({"prompt": "a fox", "response_format": "url"}, key=key)
    return status, json.loads(content)


def test_an_emptied_redis_is_refilled(stand):
    made = servers.glm_gateway("keys", "create", "--name", "daily", "--images-per-day", "2", env=stand.env)
    key = made.stdout.strip()
    assert generate(stand, key)[0] == 200
    servers.wait_until(lambda: len(lines_of(stand)) == 2, what="the ledger")
    servers.redis_command(stand.env["REDIS_URL"], "FLUSHALL")
    assert [generate(stand, key)[0] for _ in range(2)] == [200, 429]


def test_a_line_that_postgresql_refuses_holds_up_no_other(stand):
    node = stand.redis
    poison = encode_event(a_line("poison", requested_model="a\0b"), NOW)
    node.ask("XADD", Names(shard_of(DEFAULT_ID)).of("events"), "*", "event", poison)
    assert generate(stand)[0] == 200
    servers.wait_until(lambda: len(lines_of(stand)) == 2, what="the ledger")
    servers.wait_until(lambda: "ledger_line_set_aside" in stand.process.output(), what="the refused line")
    metrics = stand.get("/metrics")[2].decode()
    assert 'glm_gateway_ledger_lines_set_aside_total{why="refused"} 1.0' in metrics
    assert "poison" not in {line["event_id"] for line in lines_of(stand)}


def test_a_model_whose_name_postgresql_cannot_hold_is_not_found(stand):
    status, _, content = stand.post({"prompt": "a fox", "model": "gpt-image-\0x"})
    assert (status, json.loads(content)["error"]["code"]) == (404, "model_not_found")


def test_serving_goes_on_and_the_commands_end(stand):
    with stand.database.standing_still():
        assert generate(stand)[0] == 200
        status, _, content = stand.get("/readyz")
        assert (status, json.loads(content)["parts"]["sql"]) == (503, "failing"), content
        status, answer = generate(stand, key=a_secret())
        assert (status, answer["error"]["code"]) == (503, "database_unavailable")
        listing = servers.glm_gateway("keys", "list", env=stand.env)
        assert listing.returncode == 1
        assert "no answer in time" in listing.stderr
        assert listing.stderr.count("\n") == 1
    servers.wait_until(lambda: stand.get("/readyz")[0] == 200, what="the database")
    assert generate(stand)[0] == 200


def test_a_gateway_stops_in_time_without_its_database(stand):
    with stand.database.standing_still():
        assert stand.process.stop(signal.SIGTERM, seconds=60) == 0
    assert "Traceback" not in stand.process.output()
