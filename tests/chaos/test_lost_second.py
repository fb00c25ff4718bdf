"""A Redis whose machine dies comes back without its last second: what was settled in it is settled again."""

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from gateway.adapters.redis.names import Names
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import shard_of
from tests import redis_servers, servers
from tests.fleet import fleet_on
from tests.servers import wait_until

LINES = Names(shard_of(DEFAULT_ID)).of("events")


@pytest.fixture
def fragile(tmp_path):
    """A gateway on one Redis that writes what it is told to a file; a picture takes some seconds."""
    with (
        servers.simulator(tmp_path, latency=3) as slow,
        redis_servers.redis_alone(tmp_path / "redis", appendonly="yes", appendfsync="always") as (url, node),
        fleet_on(url, node, tmp_path, slow, 1) as running,
    ):
        yield running, slow


@contextmanager
def losing_what_comes(node):
    """Let the server forget at the end of the block what it was told within."""
    files, saved = node.folder / "appendonlydir", node.folder / "saved"
    shutil.copytree(files, saved)
    yield
    node.kill()
    shutil.rmtree(files)
    saved.rename(files)
    node.start().wait_ready()


@pytest.mark.parametrize("carried", [True, False])
def test_a_settlement_that_redis_has_lost_is_made_again(fragile, carried):
    """Also when the ledger has its line: the reservation would count as running for ever."""
    running, slow = fragile
    [gateway] = running.gateways
    key_id, secret = running.key("--images-per-day", "3", "--concurrent", "1")
    with (
        ThreadPoolExecutor() as clients,
        sqlite3.connect(running.database, isolation_level=None, check_same_thread=False) as database,
    ):
        lost = clients.submit(gateway.post, {"prompt": "lost", "n": 2}, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 2, what="the calls")
        with losing_what_comes(running.redis):
            if not carried:
                database.execute("BEGIN IMMEDIATE")
            assert lost.result()[0] == 200
            if carried:
                wait_until(lambda: running.charged(key_id) == 2, what="the ledger")
            else:
                wait_until(lambda: running.redis.ask("XLEN", LINES) == 1, what="the settlement")
        if not carried:
            database.execute("COMMIT")
        wait_until(lambda: running.charged(key_id) == 2, what="the ledger")
        wait_until(lambda: gateway.post({"prompt": "last"}, key=secret)[0] == 200, what="its turn")
        refused = gateway.post({"prompt": "too many"}, key=secret)
        assert refused[0] == 429
        assert b"images_per_day" in refused[2]
        wait_until(lambda: running.charged(key_id) == 3, what="the ledger")
        assert sorted(line["outcome"] for line in running.lines(key_id)) == ["delivered", "delivered"]
