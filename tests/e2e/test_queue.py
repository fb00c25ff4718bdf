"""Pictures wait their fair turn for an upstream slot, whatever replicas, clients and Redis do."""

import json
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests import servers
from tests.fleet import Fleet, at_once, fleet
from tests.servers import answers, http, redis_command, wait_until

SMALL = "512x512"
NARROW, WIDE = "glm-image", "cogview-4-250304"  # models of which one call, and five, may be in flight
TOO_WIDE = "cogview-3-flash"  # eight as configured, five in truth
LEASE, LONG = 2, 60
ACCOUNT = """
[[upstreams]]
name = "main"
api_key = "{key}"
base_url = "{base_url}"
concurrency = {{ "glm-image" = 1, "cogview-4-250304" = 5, "cogview-3-flash" = 8 }}
"""


@dataclass
class Installation:
    """Gateways in front of one account."""

    fleet: Fleet
    simulator: servers.Simulator

    def post(self, number, prompt, model=NARROW, **more):
        gateways = self.fleet.gateways
        return gateways[number % len(gateways)].post({"prompt": prompt, "size": SMALL, "model": model}, **more)

    def waiting(self):
        """The pictures that wait, as the replicas' metrics say."""
        found = 0
        for gateway in self.fleet.gateways:
            metrics = http("GET", f"{gateway.url}/metrics")[2].decode()
            found += float(re.findall(r"^glm_gateway_queued_pictures (\S+)$", metrics, re.MULTILINE)[0])
        return found

    def called(self):
        """The prompts of the calls upstream, in their order."""
        return [call["body"]["prompt"] for call in self.simulator.calls()]


@contextmanager
def installation(folder, size, **settings):
    with servers.simulator(folder, latency=0.2, concurrency=5) as upstream:
        config = folder / "gateway.toml"
        config.write_text(ACCOUNT.format(key=servers.UPSTREAM_KEY, base_url=upstream.base_url), "utf-8")
        settings |= {"GLM_GATEWAY_CONFIG": str(config), "ZHIPUAI_API_KEY": ""}
        with fleet(folder, upstream, size, **settings) as running:
            yield Installation(running, upstream)


@pytest.fixture(scope="module")
def three_replicas(tmp_path_factory):
    with installation(tmp_path_factory.mktemp("queue"), 3, GLM_GATEWAY_QUOTA__LEASE=str(LEASE)) as running:
        yield running


@pytest.fixture
def upstream(three_replicas):
    three_replicas.simulator.reset()
    return three_replicas.simulator


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_burst_waits_its_turn(three_replicas, upstream, replicas):
    began = time.monotonic()
    told = at_once(20, lambda number: three_replicas.post(number % replicas, f"burst {number}"))
    seconds = time.monotonic() - began
    assert [status for status, _, _ in told] == [200] * 20
    assert upstream.stats()["max_in_flight"] == 1
    assert seconds < 6
    waits = sorted(int(headers["x-glm-queue-ms"]) for _, headers, _ in told)
    assert waits[0] < 1000
    assert 3800 <= waits[-1] <= seconds * 1000


def test_all_slots_of_an_account_are_used(three_replicas, upstream):
    told = at_once(20, lambda number: three_replicas.post(number, f"wide {number}", WIDE))
    assert [status for status, _, _ in told] == [200] * 20
    assert upstream.stats()["max_in_flight"] == 5


def test_an_account_that_takes_fewer_calls_than_configured_refuses_a_few_times_and_no_client_sees_it(
    three_replicas, upstream
):
    told = at_once(24, lambda number: three_replicas.post(number, f"too wide {number}", TOO_WIDE))
    assert [status for status, _, _ in told] == [200] * 24
    stats = upstream.stats()
    assert stats["max_in_flight"] == 5
    assert stats["calls"] - stats["images"] <= 8


def test_who_comes_to_a_flooded_queue_waits_for_one_more_picture_at_most(three_replicas, upstream):
    made = servers.glm_gateway("projects", "create", "--name", "latecomer", env=three_replicas.fleet.env)
    assert made.returncode == 0, made.stderr
    _, latecomer = three_replicas.fleet.key("--project", "latecomer")
    upstream.fault("slow", seconds=2, times=1)
    upstream.fault("slow", seconds=0)
    with ThreadPoolExecutor(LONG) as clients:
        told = [clients.submit(three_replicas.post, 0, "running")]
        wait_until(lambda: upstream.stats()["calls"] == 1, what="the call")
        told += [clients.submit(three_replicas.post, number, f"flood {number}") for number in range(49)]
        wait_until(lambda: three_replicas.waiting() == 49, what="the flood")
        told += [clients.submit(three_replicas.post, 1, "late", key=latecomer)]
        assert {answer.result()[0] for answer in told} == {200}
    assert "late" in three_replicas.called()[1:3]
    assert upstream.stats()["max_in_flight"] == 1


def test_flooding_projects_get_their_shares_by_weight(three_replicas, upstream):
    """120 pictures of three projects at once; 60 of the calls in between, when all three still wait."""
    keys = {}
    for weight, name in enumerate(("light", "middle", "heavy"), 1):
        words = ("--name", name, "--weight", str(weight))
        made = servers.glm_gateway("projects", "create", *words, env=three_replicas.fleet.env)
        assert made.returncode == 0, made.stderr
        keys[name] = three_replicas.fleet.key("--project", name)[1]
    names = [*keys] * 40
    told = at_once(
        len(names),
        lambda number: three_replicas.post(number, f"{names[number]} {number}", WIDE, key=keys[names[number]]),
    )
    assert {answer[0] for answer in told} == {200}
    shares = Counter(prompt.partition(" ")[0] for prompt in three_replicas.called()[12:72])
    assert {name: shares[name] for name in keys} == pytest.approx({"light": 10, "middle": 20, "heavy": 30}, rel=0.1)


def test_the_slots_of_a_killed_replica_come_free_and_its_calls_trouble_nobody(three_replicas, upstream):
    doomed, *_ = three_replicas.fleet.gateways
    upstream.fault("slow", seconds=LEASE + 3, prompt_contains="ghost")
    with ThreadPoolExecutor(LONG) as clients:
        lost = [clients.submit(three_replicas.post, 0, f"ghost {number}", WIDE) for number in range(5)]
        wait_until(lambda: upstream.stats()["in_flight"] == 5, what="five calls")
        told = [clients.submit(three_replicas.post, 1 + number % 2, f"alive {number}", WIDE) for number in range(8)]
        wait_until(lambda: upstream.stats()["calls"] == 5, what="five calls and no more")
        doomed.process.stop(signal.SIGKILL)
        try:
            wait_until(lambda: upstream.stats()["calls"] > 5, LEASE + 3, what="a slot of the dead replica's")
            assert [answer.result()[0] for answer in told] == [200] * 8
            assert all(isinstance(answer.exception(), OSError) for answer in lost)
        finally:
            doomed.process.start()
            wait_until(lambda: answers(f"{doomed.url}/readyz"), what="the replica")
    assert upstream.stats()["max_in_flight"] == 5


def test_a_replica_that_stood_still_uses_no_slot_that_others_have_by_now(three_replicas, upstream):
    """Its lease ended meanwhile: what it was told before that it reads only now."""
    still, *_ = three_replicas.fleet.gateways
    upstream.fault("slow", seconds=1, times=1)
    with ThreadPoolExecutor(LONG) as clients:
        told = [clients.submit(three_replicas.post, 1, "runs")]
        wait_until(lambda: upstream.stats()["calls"] == 1, what="the call")
        told += [clients.submit(three_replicas.post, 0, f"still {number}") for number in range(2)]
        wait_until(lambda: three_replicas.waiting() == 2, what="two that wait at the replica")
        told += [clients.submit(three_replicas.post, 1 + number % 2, f"others {number}") for number in range(25)]
        wait_until(lambda: three_replicas.waiting() == 27, what="the others")
        still.process.popen.send_signal(signal.SIGSTOP)
        wait_until(lambda: upstream.stats()["calls"] > 2, what="what it held given to others")
        still.process.popen.send_signal(signal.SIGCONT)
        assert [answer.result()[0] for answer in told] == [200] * 28
    assert upstream.stats()["max_in_flight"] == 1


def test_when_redis_is_emptied_everybody_gets_a_picture_and_the_limit_holds_soon(three_replicas, upstream):
    with ThreadPoolExecutor(LONG) as clients:
        told = [clients.submit(three_replicas.post, number, f"emptied {number}") for number in range(24)]
        wait_until(lambda: upstream.stats()["images"] == 2, what="two pictures")
        redis_command(three_replicas.fleet.redis_url, "FLUSHALL")
        time.sleep(2.5)  # a look at the queue a second brings back what is lost
        seen = []
        wait_until(lambda: seen.append(upstream.stats()["in_flight"]) or all(answer.done() for answer in told), LONG)
        assert [answer.result()[0] for answer in told] == [200] * 24
        assert max(seen) == 1


def test_when_redis_stands_still_everybody_gets_a_picture(three_replicas, upstream):
    redis = three_replicas.fleet.redis
    with ThreadPoolExecutor(LONG) as clients:
        told = [clients.submit(three_replicas.post, number, f"stopped {number}") for number in range(12)]
        wait_until(lambda: upstream.stats()["images"] == 2, what="two pictures")
        redis.send_signal(signal.SIGSTOP)
        time.sleep(2)
        redis.send_signal(signal.SIGCONT)
        assert [answer.result()[0] for answer in told] == [200] * 12
        assert upstream.stats()["max_in_flight"] == 1


def test_who_cannot_be_served_in_time_is_told_so_and_a_stop_lets_nobody_wait(tmp_path):
    short = {"GLM_GATEWAY_QUEUE__MAX_WAIT": "2", "GLM_GATEWAY_QUEUE__MAX_LENGTH": "2"}
    with installation(tmp_path, 1, **short) as running, ThreadPoolExecutor(LONG) as clients:
        [gateway] = running.fleet.gateways
        running.simulator.fault("slow", seconds=5)
        sent = clients.submit(running.post, 0, "sent")
        wait_until(lambda: running.simulator.stats()["calls"] == 1, what="the call")
        began = time.monotonic()
        told = at_once(4, lambda number: (running.post(0, f"waits {number}"), time.monotonic() - began))
        for (status, headers, content), _ in told:
            assert (status, json.loads(content)["error"]["code"]) == (429, "rate_limit_exceeded")
            assert 1 <= int(headers["retry-after"]) <= 60
        seconds = sorted(after for _, after in told)
        assert seconds[1] < 2 <= seconds[2]  # two found no place, two waited in vain
        assert seconds[3] < 4
        waits = [clients.submit(running.post, 0, f"waits at the stop {number}") for number in range(2)]
        wait_until(lambda: running.waiting() == 2, what="two who wait")
        stopping = clients.submit(gateway.process.stop)
        for waiting in waits:
            status, headers, content = waiting.result()
            assert (status, json.loads(content)["error"]["code"]) == (503, "shutting_down")
            assert headers["retry-after"] == "1"
        assert not sent.done()
        assert sent.result()[0] == 200
        assert stopping.result() == 0
        assert running.called() == ["sent"]
