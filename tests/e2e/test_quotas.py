"""Limits as clients and operators meet them, over replicas and through crashes."""

import json
import signal
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.adapters.redis.names import Names
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import shard_of
from tests import servers
from tests.fleet import fleet
from tests.servers import wait_until


def burst(fleet, secret, count, workers=64, what="picture"):
    """Send requests with distinct prompts to all gateways at once; give the answers."""

    def one(number):
        gateway = fleet.gateways[number % len(fleet.gateways)]
        return gateway.post({"prompt": f"{what} {number}", "size": "512x512"}, key=secret, timeout=60)

    with ThreadPoolExecutor(workers) as clients:
        return list(clients.map(one, range(count)))


@pytest.mark.parametrize("limit", ["--images-per-day", "--images-per-minute"])
def test_two_replicas_grant_exactly_the_limit(tmp_path, simulator, limit):
    with fleet(tmp_path, simulator, 2) as running:
        key_id, secret = running.key(limit, "50")
        answers = burst(running, secret, 400)
        assert Counter(status for status, _, _ in answers) == {200: 50, 429: 350}
        assert simulator.stats()["images"] == 50
        wait_until(lambda: running.charged(key_id) == 50, seconds=10, what="the ledger")
        refused = next((headers, content) for status, headers, content in answers if status == 429)
        check_refusal(limit, *refused)


def check_refusal(limit, headers, content):
    error = json.loads(content)["error"]
    assert limit.removeprefix("--").replace("-", "_") in error["message"]
    assert "50" in error["message"]
    if limit == "--images-per-day":
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
        assert headers["x-should-retry"] == "false"
        assert "retry-after" not in headers
    else:
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert 1 <= int(headers["retry-after"]) <= 60
        assert 0 < int(headers["retry-after-ms"]) <= 60_000
    assert headers["x-ratelimit-limit-images"] == "50"
    assert headers["x-ratelimit-remaining-images"] == "0"


def test_what_fails_upstream_is_given_back(tmp_path, simulator):
    with fleet(tmp_path, simulator, 1) as running:
        key_id, secret = running.key("--images-per-day", "2", "--spend-per-month", "0.20")
        [gateway] = running.gateways
        simulator.fault("moderation")
        assert gateway.post({"prompt": "no", "n": 2}, key=secret)[0] == 400
        simulator.reset()
        status, headers, _ = gateway.post({"prompt": "yes", "n": 2}, key=secret)
        assert status == 200
        assert headers["x-ratelimit-remaining-images"] == "0"
        assert gateway.post({"prompt": "more"}, key=secret)[0] == 429
        wait_until(lambda: len(running.lines(key_id)) == 2, what="the ledger")
        assert sorted((line["outcome"], line["price"]) for line in running.lines(key_id)) == [
            ("delivered", 200_000),
            ("failed", 0),
        ]


def test_above_the_concurrent_limit_requests_take_turns(tmp_path):
    """Over two replicas, whose account would take all at once."""
    with (
        servers.simulator(tmp_path, latency=0.2) as upstream,
        fleet(tmp_path, upstream, 2) as running,
    ):
        key_id, secret = running.key("--concurrent", "1")
        assert [status for status, _, _ in burst(running, secret, 5)] == [200] * 5
        assert upstream.stats()["max_in_flight"] == 1
        wait_until(lambda: len(running.lines(key_id)) == 5, seconds=15, what="the ledger")
        assert max(line["queue_ms"] for line in running.lines(key_id)) >= 600


def test_a_killed_replica_gives_back_what_it_held(tmp_path, simulator):
    with (
        servers.simulator(tmp_path, latency=5) as slow,
        fleet(tmp_path, slow, 2, GLM_GATEWAY_QUOTA__LEASE="2") as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key("--images-per-day", "2", "--concurrent", "1", "--requests-per-minute", "2")
        doomed, other = running.gateways
        lost = clients.submit(doomed.post, {"prompt": "lost", "n": 2}, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 2, what="the calls")
        doomed.process.stop(signal.SIGKILL)
        assert isinstance(lost.exception(), OSError)
        assert other.post({"prompt": "refused", "n": 2}, key=secret)[0] == 429
        wait_until(lambda: len(running.lines(key_id)) == 1, seconds=15, what="the abandoned line")
        [line] = running.lines(key_id)
        assert (line["outcome"], line["price"], line["pictures_delivered"]) == ("abandoned", 0, 0)
        assert (line["cost"], line["cost_uncertain"]) == (200_000, 1)
        status, headers, _ = other.post({"prompt": "again", "n": 2}, key=secret)
        assert status == 200
        assert headers["x-ratelimit-remaining-requests"] == "0"  # the lost request stays counted


def test_an_emptied_redis_grants_not_one_picture_more(tmp_path, simulator):
    with fleet(tmp_path, simulator, 2) as running:
        key_id, secret = running.key("--images-per-day", "20")
        assert Counter(status for status, _, _ in burst(running, secret, 12)) == {200: 12}
        assert servers.redis_command(running.redis_url, "FLUSHALL") == b"+OK"
        answers = burst(running, secret, 30, what="other")
        assert Counter(status for status, _, _ in answers) == {200: 8, 429: 22}
        assert simulator.stats()["images"] == 20
        wait_until(lambda: running.charged(key_id) == 20, seconds=10, what="the ledger")


def test_an_emptied_redis_counts_what_is_running(tmp_path, simulator):
    with (
        servers.simulator(tmp_path, latency=2) as slow,
        fleet(tmp_path, slow, 2) as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key("--images-per-day", "10")
        before = [clients.submit(running.gateways[0].post, {"prompt": f"b{n}"}, key=secret) for n in range(6)]
        wait_until(lambda: slow.stats()["calls"] == 6, what="the calls")
        assert servers.redis_command(running.redis_url, "FLUSHALL") == b"+OK"
        after = burst(running, secret, 20)
        assert [answer.result()[0] for answer in before] == [200] * 6
        assert Counter(status for status, _, _ in after) == {200: 4, 429: 16}
        wait_until(lambda: running.charged(key_id) == 10, seconds=10, what="the ledger")


def test_a_replica_that_starts_does_not_open_a_store_that_was_emptied_under_others(tmp_path):
    """Nothing was ever charged, and yet six pictures are under way."""
    with (
        servers.simulator(tmp_path, latency=8) as slow,
        fleet(tmp_path, slow, 1) as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key("--images-per-day", "10")
        before = [clients.submit(running.gateways[0].post, {"prompt": f"b{n}"}, key=secret) for n in range(6)]
        wait_until(lambda: slow.stats()["calls"] == 6, what="the calls")
        assert servers.redis_command(running.redis_url, "FLUSHALL") == b"+OK"
        folder = tmp_path / "second"
        folder.mkdir()
        with servers.gateway(folder, slow, **running.settings) as second:
            after = list(clients.map(lambda n: second.post({"prompt": f"a{n}"}, key=secret), range(8)))
        assert [answer.result()[0] for answer in before] == [200] * 6
        assert Counter(status for status, _, _ in after) == {200: 4, 429: 4}
        wait_until(lambda: running.charged(key_id) == 10, seconds=10, what="the ledger")


def test_lines_that_are_written_while_redis_is_emptied_are_counted_once(tmp_path, simulator):
    """The refill reads the ledger before they are committed; after it they are known there."""
    with fleet(tmp_path, simulator, 1) as running, ThreadPoolExecutor() as clients:
        [gateway] = running.gateways
        key_id, secret = running.key("--images-per-day", "10")
        with sqlite3.connect(running.database, isolation_level=None) as database:
            database.execute("BEGIN IMMEDIATE")
            answers = [gateway.post({"prompt": f"a{n}"}, key=secret)[0] for n in range(6)]
            assert answers == [200] * 6
            time.sleep(1)  # the drain has taken them up and waits for the database
            assert servers.redis_command(running.redis_url, "FLUSHALL") == b"+OK"
            first = clients.submit(gateway.post, {"prompt": "first"}, key=secret)
            epoch = Names(shard_of(DEFAULT_ID)).of("epoch")
            wait_until(lambda: servers.redis_command(running.redis_url, "EXISTS", epoch) == b":1", what="the refill")
            database.execute("COMMIT")
        rest = [gateway.post({"prompt": f"b{n}"}, key=secret)[0] for n in range(9)]
        assert Counter([first.result()[0], *rest]) == {200: 4, 429: 6}
        wait_until(lambda: running.charged(key_id) == 10, seconds=10, what="the ledger")


def test_the_settlement_of_an_idle_project_reaches_the_ledger_though_redis_was_emptied(tmp_path):
    with (
        servers.simulator(tmp_path, latency=2) as slow,
        fleet(tmp_path, slow, 1) as running,
        ThreadPoolExecutor() as clients,
    ):
        [gateway] = running.gateways
        key_id, secret = running.key("--images-per-day", "10")
        under_way = clients.submit(gateway.post, {"prompt": "x", "n": 3}, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 3, what="the calls")
        assert servers.redis_command(running.redis_url, "FLUSHALL") == b"+OK"
        assert under_way.result()[0] == 200
        wait_until(lambda: running.charged(key_id) == 3, what="the ledger")
        wait_until(lambda: not list(gateway.data_dir.glob("spool/*.json")), what="the spool")


def test_an_outage_of_redis_that_is_allowed(tmp_path, simulator):
    with fleet(tmp_path, simulator, 1, GLM_GATEWAY_QUOTA__ON_OUTAGE="allow") as running:
        key_id, secret = running.key("--images-per-day", "5")
        [gateway] = running.gateways
        assert gateway.post({"prompt": "before"}, key=secret)[0] == 200
        running.redis.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        assert gateway.post({"prompt": "during"}, key=secret)[0] == 200
        assert time.monotonic() - started < 3
        running.redis.send_signal(signal.SIGCONT)
        wait_until(lambda: gateway.post({"prompt": "after"}, key=secret)[0] == 200, seconds=10, what="recovery")
        wait_until(lambda: running.charged(key_id) == 3, seconds=15, what="the ledger")
        rest = [gateway.post({"prompt": f"rest {n}"}, key=secret)[0] for n in range(6)]
        assert rest.count(200) == 2
