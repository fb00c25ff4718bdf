"""What an operator sees while Redis is away: /readyz and the metric say whether limits hold."""

import json
import re
import secrets
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests import servers
from tests.redis_servers import CONTINUE, STOP, Node, redis_alone
from tests.servers import http, wait_until

STOPPED, KILLED = "stopped", "killed"
PROMPT = 4  # seconds; a server that stands still is waited for longer


@dataclass
class Guarded:
    """A gateway, its Redis, and a key with one picture a day."""

    gateway: servers.Gateway
    redis: Node
    key: str

    def generate(self):
        return self.gateway.post({"prompt": secrets.token_hex(8)}, key=self.key)[0]

    def says(self, timeout=PROMPT):
        """What /readyz answers, says of Redis and of limits, and the metric of limits."""
        status, _, content = http("GET", f"{self.gateway.url}/readyz", timeout=timeout)
        said = json.loads(content)
        assert said["ready"] == (status == 200)
        metrics = http("GET", f"{self.gateway.url}/metrics")[2].decode()
        [off] = re.findall(r"^glm_gateway_limits_off (\S+)$", metrics, re.MULTILINE)
        return status, said["parts"]["redis"], said["limits"], float(off)

    def lose_redis(self, how):
        self.redis.kill() if how == KILLED else self.redis.send(STOP)

    def bring_redis_back(self, how):
        self.redis.start() if how == KILLED else self.redis.send(CONTINUE)


@contextmanager
def guarded(tmp_path, simulator, on_outage):
    settings = {"GLM_GATEWAY_QUOTA__ON_OUTAGE": on_outage}
    with (
        redis_alone(tmp_path / "redis") as (url, redis),
        servers.gateway(tmp_path, simulator, REDIS_URL=url, **settings) as running,
    ):
        words = ("keys", "create", "--name", secrets.token_hex(8), "--images-per-day", "1")
        key = servers.glm_gateway(*words, env=running.env).stdout.strip()
        yield Guarded(running, redis, key)


@pytest.mark.parametrize("how", [STOPPED, KILLED])
def test_allow_serves_and_says_that_limits_are_off(tmp_path, simulator, how):
    with guarded(tmp_path, simulator, "allow") as running:
        assert running.says() == (200, "ok", "on", 0)
        assert [running.generate(), running.generate()] == [200, 429]
        running.lose_redis(how)
        wait_until(lambda: running.says() == (200, "failing", "off", 1), what="limits to be off")
        assert running.generate() == 200
        running.bring_redis_back(how)
        wait_until(lambda: running.says() == (200, "ok", "on", 0), what="limits to be on")
        assert running.generate() == 429
        log = running.gateway.process.output()
        assert 0 < log.index("limits_off") < log.index("limits_on")


@pytest.mark.parametrize("how", [STOPPED, KILLED])
def test_refuse_is_not_ready_and_lets_nothing_through(tmp_path, simulator, how):
    with guarded(tmp_path, simulator, "refuse") as running:
        assert running.says() == (200, "ok", "on", 0)
        running.lose_redis(how)
        wait_until(lambda: running.says() == (503, "failing", "on", 0), what="the outage")
        assert running.generate() == 503
        running.bring_redis_back(how)
        wait_until(lambda: running.says() == (200, "ok", "on", 0), what="recovery")
        assert [running.generate(), running.generate()] == [200, 429]


def test_a_redis_that_answers_and_takes_no_writes_is_an_outage(tmp_path, simulator):
    with guarded(tmp_path, simulator, "refuse") as running:
        running.redis.ask("CONFIG", "SET", "maxmemory", "1")
        assert running.generate() == 503
        wait_until(lambda: running.says() == (503, "failing", "on", 0), what="the outage")
        running.redis.ask("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: running.says() == (200, "ok", "on", 0), what="recovery")
        assert [running.generate(), running.generate()] == [200, 429]


def test_a_database_that_takes_no_lines_is_told_now_and_then(tmp_path, simulator):
    with guarded(tmp_path, simulator, "refuse") as running:
        with sqlite3.connect(running.gateway.data_dir / "gateway.db", isolation_level=None) as database:
            database.execute("BEGIN IMMEDIATE")
            assert running.generate() == 200
            wait_until(lambda: "LedgerUnavailable" in running.gateway.process.output(), what="the log")
            database.execute("COMMIT")
        metrics = http("GET", f"{running.gateway.url}/metrics")[2].decode()
        [rounds] = re.findall(r'^glm_gateway_outages_total{part="LedgerUnavailable"} (\S+)$', metrics, re.MULTILINE)
        assert float(rounds) >= running.gateway.process.output().count("LedgerUnavailable")
