"""An account that is asked for results: a picture is paid once, also when the gateway dies while it is made."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from tests import servers
from tests.fleet import fleet
from tests.servers import answers, wait_until

BODY = {"prompt": "ordered", "size": "512x512"}
SECONDS = 60.0  # a lease, the rest of the picture's time, and the collector's and the drain's turns


@pytest.fixture
def slow(tmp_path):
    with servers.simulator(tmp_path, latency=6) as slow:
        yield slow


def ordering(tmp_path, upstream):
    """The settings of an account in async mode, instead of that of the environment."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[[upstreams]]\nname = "ordering"\nbase_url = "{upstream.base_url}"\n'
        f'api_key = "{servers.UPSTREAM_KEY}"\nmode = "async"\nconcurrency = 10\n'
        'price = 0.015\ncurrency = "USD"\n',
        "utf-8",
    )
    return {
        "GLM_GATEWAY_CONFIG": str(config),
        "ZHIPUAI_API_KEY": "",
        "GLM_GATEWAY_CACHE__SCOPE": "project",
        "GLM_GATEWAY_QUOTA__LEASE": "2",
    }


def has_noted_an_order(running):
    with Redis.from_url(running.redis_url) as store:
        hashes = [key for key in store.scan_iter("*") if store.type(key) == b"hash"]
        return any(store.hexists(key, "task:0") for key in hashes)


def outcomes(running, key_id):
    return sorted(line["outcome"] for line in running.lines(key_id))


def test_a_picture_is_ordered_and_delivered(tmp_path, simulator):
    with fleet(tmp_path, simulator, 1, **ordering(tmp_path, simulator)) as running:
        key_id, secret = running.key()
        assert running.gateways[0].post(BODY, key=secret)[0] == 200
        assert [call["path"].rsplit("/v4/")[1] for call in simulator.calls()] == ["async/images/generations"]
        wait_until(lambda: running.charged(key_id) == 1, what="the charge")
        [line] = running.lines(key_id)
        assert (line["upstream_account"], line["pictures_paid"]) == ("ordering", 1)
        assert (line["cost"], line["cost_currency"], line["cost_uncertain"]) == (15_000, "USD", 0)
        assert (line["price"], line["currency"]) == (100_000, "CNY")


def test_another_replica_asks_for_what_the_dead_one_had_ordered(tmp_path, slow):
    with fleet(tmp_path, slow, 2, **ordering(tmp_path, slow)) as running, ThreadPoolExecutor() as clients:
        key_id, secret = running.key()
        doomed, other = running.gateways
        lost = clients.submit(doomed.post, BODY, key=secret)
        wait_until(lambda: has_noted_an_order(running), what="the order")
        follower = clients.submit(other.post, BODY, key=secret, timeout=SECONDS)
        doomed.process.stop(signal.SIGKILL)
        assert isinstance(lost.exception(), OSError)
        assert follower.result()[0] == 200
        assert slow.stats()["images"] == 1
        wait_until(lambda: outcomes(running, key_id) == ["delivered", "joined"], SECONDS, what="two lines")
        assert running.charged(key_id) == 1


def test_a_replica_that_is_back_asks_for_what_it_had_ordered(tmp_path, slow):
    with fleet(tmp_path, slow, 1, **ordering(tmp_path, slow)) as running, ThreadPoolExecutor() as clients:
        key_id, secret = running.key()
        [gateway] = running.gateways
        lost = clients.submit(gateway.post, BODY, key=secret)
        wait_until(lambda: has_noted_an_order(running), what="the order")
        gateway.process.stop(signal.SIGKILL)
        assert isinstance(lost.exception(), OSError)
        gateway.process.start()
        wait_until(lambda: answers(f"{gateway.url}/readyz"), what="the gateway")
        wait_until(lambda: outcomes(running, key_id) == ["delivered"], SECONDS, what="the line")
        assert gateway.post(BODY, key=secret)[1]["x-glm-cache"] == "HIT"
        assert slow.stats()["calls"] == slow.stats()["images"] == 1
