"""The thread that renews leases goes on whatever happens to one of its beats."""

import time

import pytest

from gateway.adapters.redis.heartbeat import Heartbeat
from gateway.adapters.redis.lease import Lease
from gateway.adapters.redis.names import Names
from tests import redis_servers
from tests.servers import wait_until

SHARD = 5
OWNERS = Names(SHARD).of("owners")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_servers.redis_alone(tmp_path_factory.mktemp("valkey")) as running:
        yield running


def test_a_beat_that_fails_is_told_and_is_not_the_last(server):
    url, node = server
    crashes, broken = [], [True]

    def places():
        if broken:
            raise RuntimeError("a defect")
        return [Names(SHARD)]

    lease, began = Lease(1.2), time.monotonic()
    with Heartbeat(url, "owner", places, crashes.append, lease=lease):
        wait_until(lambda: len(crashes) >= 2, what="the failed beats")
        assert node.ask("ZSCORE", OWNERS, "owner") is None
        assert not lease.covers(time.monotonic())
        broken.clear()
        wait_until(lambda: node.ask("ZSCORE", OWNERS, "owner") is not None, what="a lease")
        wait_until(lambda: lease.covers(time.monotonic()), what="the news of it")
        assert not lease.covers(began)
    assert {str(crash) for crash in crashes} == {"a defect"}
