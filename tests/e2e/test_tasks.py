"""Asynchronous tasks of GLM's own path: on every replica, without a client, through deaths and restarts."""

import json
import signal
import socket

from tests import fleet as fleets
from tests import servers
from tests.servers import wait_until

ASYNC, RESULT = "/api/paas/v4/async/images/generations", "/api/paas/v4/async-result/"
SMALL = "512x512"


def submitted(gateway, prompt, secret=None):
    body = {"model": "glm-image", "prompt": prompt, "size": SMALL}
    status, _, content = gateway.post(body, path=ASYNC, key=secret)
    assert status == 200, content
    answer = json.loads(content)
    assert answer["task_status"] == "PROCESSING"
    return answer["id"]


def polled(gateway, task, secret=None):
    sent = {"Authorization": f"Bearer {secret or gateway.key}"}
    status, _, content = servers.http("GET", gateway.url + RESULT + task, headers=sent)
    assert status == 200, content
    return json.loads(content)


def ended(gateway, task, secret=None):
    wait_until(lambda: polled(gateway, task, secret)["task_status"] != "PROCESSING", 90, what=f"the end of {task}")
    return polled(gateway, task, secret)


def commands_about(redis_url, word, work):
    """Do something, and count the commands that name a word meanwhile, as MONITOR tells them.

    What asks two seconds after a settlement whether it is there still (HGET) is not counted.
    """
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].partition(":")
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as told:
        connection.sendall(b"MONITOR\r\n")
        assert told.readline() == b"+OK\r\n"
        work()
        servers.redis_command(redis_url, "ECHO", "end-of-the-work")
        seen = []
        for line in iter(told.readline, b""):
            if b"end-of-the-work" in line:
                return sum(word.encode() in one and b'"HGET"' not in one for one in seen)
            seen.append(line)
    raise AssertionError("the server stopped to tell")


def state(running, task):
    """What the operator is told of a task."""
    listed = servers.glm_gateway("jobs", "list", "--json", env=running.env)
    assert listed.returncode == 0, listed.stderr
    return next((job["state"] for job in json.loads(listed.stdout) if job["job_id"] == task), None)


def is_a_picture(url):
    status, _, content = servers.http("GET", url)
    return status == 200 and content.startswith(b"\x89PNG")


def test_every_replica_knows_every_task(tmp_path):
    with servers.simulator(tmp_path, latency=1) as slow, fleets.fleet(tmp_path, slow, 2) as running:
        key_id, secret = running.key()
        one, other = running.gateways
        tasks = [submitted(one, f"number {number}", secret) for number in range(5)]
        results = [ended(other, task, secret) for task in tasks]
        assert {result["task_status"] for result in results} == {"SUCCESS"}
        assert all(is_a_picture(result["image_result"][0]["url"]) for result in results)
        wait_until(lambda: running.charged(key_id) == 5, what="five charges")
        assert {line["outcome"] for line in running.lines(key_id)} == {"delivered"}


def test_a_task_keeps_its_place_in_the_queue_though_nobody_waits_for_it(tmp_path):
    one_at_a_time = {"ZHIPUAI_CONCURRENCY": "1", "GLM_GATEWAY_QUEUE__ABANDON_AFTER": "0.2"}
    with (
        servers.simulator(tmp_path, latency=2, concurrency=1) as slow,
        servers.gateway(tmp_path, slow, **one_at_a_time) as gateway,
    ):
        tasks = [submitted(gateway, f"number {number}") for number in range(3)]
        assert [ended(gateway, task)["task_status"] for task in tasks] == ["SUCCESS"] * 3
        assert slow.stats()["images"] == 3


def test_results_outlive_a_restart(tmp_path, simulator):
    with fleets.fleet(tmp_path, simulator, 1) as running:
        [gateway] = running.gateways
        task = submitted(gateway, "a fox")
        assert ended(gateway, task)["task_status"] == "SUCCESS"
        gateway.process.stop()
        with servers.running(gateway.process, f"{gateway.url}/readyz"):
            assert is_a_picture(polled(gateway, task)["image_result"][0]["url"])


def test_a_task_that_was_paid_by_a_dead_replica_succeeds(tmp_path):
    with servers.simulator(tmp_path) as slow, fleets.fleet(tmp_path, slow, 2, GLM_GATEWAY_QUOTA__LEASE="2") as running:
        key_id, secret = running.key()
        doomed, other = running.gateways
        slow.fault("slow_cdn", seconds=40, times=1)
        task = submitted(doomed, "paid by the dead", secret)
        wait_until(lambda: slow.stats()["images"] == 1, what="the paid picture")
        wait_until(lambda: state(running, task) == "fetched", what="the receipt")
        doomed.process.stop(signal.SIGKILL)
        assert polled(other, task, secret)["task_status"] == "PROCESSING"
        assert ended(other, task, secret)["task_status"] == "SUCCESS"
        assert slow.stats()["images"] == 1
        wait_until(lambda: running.charged(key_id) == 1, what="the charge")


def test_a_task_whose_replica_died_before_it_was_paid_fails(tmp_path):
    with (
        servers.simulator(tmp_path, latency=30) as slow,
        fleets.fleet(tmp_path, slow, 2, GLM_GATEWAY_QUOTA__LEASE="2") as running,
    ):
        _, secret = running.key()
        doomed, other = running.gateways
        task = submitted(doomed, "led by the dead", secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        doomed.process.stop(signal.SIGKILL)
        answer = ended(other, task, secret)
        assert (answer["task_status"], answer["error"]["code"]) == ("FAIL", "1234")


def test_a_task_that_was_not_sent_when_its_gateway_stopped_says_so(tmp_path):
    with (
        servers.simulator(tmp_path, latency=3, concurrency=1) as slow,
        fleets.fleet(tmp_path, slow, 2, ZHIPUAI_CONCURRENCY="1") as running,
    ):
        _, secret = running.key()
        stopping, other = running.gateways
        sent = submitted(stopping, "sent", secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        queued = submitted(stopping, "queued", secret)
        assert stopping.process.stop(signal.SIGTERM) == 0
        assert polled(other, sent, secret)["task_status"] == "SUCCESS"
        answer = polled(other, queued, secret)
        assert (answer["task_status"], answer["error"]["code"]) == ("FAIL", "1302")
        assert "submit it again" in answer["error"]["message"]


def test_polls_cost_one_command_and_no_quota(tmp_path, simulator):
    with fleets.fleet(tmp_path, simulator, 1) as running:
        _, secret = running.key("--requests-per-minute", "1")
        [gateway] = running.gateways
        task = submitted(gateway, "a fox", secret)
        ended(gateway, task, secret)
        polls = commands_about(running.redis_url, task, lambda: [polled(gateway, task, secret) for _ in range(20)])
        assert polls == 20


def test_while_redis_is_away_a_poll_is_told_to_come_again(tmp_path, simulator):
    with fleets.fleet(tmp_path, simulator, 1) as running:
        [gateway] = running.gateways
        task = submitted(gateway, "a fox")
        ended(gateway, task)
        running.redis.send_signal(signal.SIGSTOP)
        try:
            sent = {"Authorization": f"Bearer {gateway.key}"}
            status, headers, content = servers.http("GET", gateway.url + RESULT + task, headers=sent)
        finally:
            running.redis.send_signal(signal.SIGCONT)
        assert (status, json.loads(content)["error"]["code"]) == (429, "1305")
        assert headers["retry-after"] == "2"
        assert ended(gateway, task)["task_status"] == "SUCCESS"
