"""A database that takes connections and never answers is treated as one that is away."""

import json
import signal
from contextlib import ExitStack

import pytest

from tests import servers
from tests.builders import a_secret
from tests.redis_servers import redis_alone

SECRET = "a" * 64


@pytest.fixture
def stand(tmp_path):
    """A gateway on PostgreSQL that has known its key for a moment."""
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.simulator(tmp_path))
        database = stack.enter_context(servers.postgres_server(tmp_path))
        redis, _ = stack.enter_context(redis_alone(tmp_path / "redis"))
        env = {"DATABASE_URL": database, "REDIS_URL": redis, "GLM_GATEWAY_SECRET_KEY": SECRET}
        gateway = stack.enter_context(servers.gateway(tmp_path, upstream, **env))
        assert generate(gateway)[0] == 200
        yield gateway


def generate(gateway, key=None):
    status, _, content = gateway.post({"prompt": "a fox", "response_format": "url"}, key=key)
    return status, json.loads(content)


def test_serving_goes_on_and_the_commands_end(stand, tmp_path):
    with servers.standing_still(tmp_path):
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


def test_a_gateway_stops_in_time_without_its_database(stand, tmp_path):
    with servers.standing_still(tmp_path):
        assert stand.process.stop(signal.SIGTERM, seconds=60) == 0
    assert "Traceback" not in stand.process.output()
