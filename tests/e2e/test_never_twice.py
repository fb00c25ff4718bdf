"""A picture is paid once, whatever clients and replicas do: joined, remembered, taken over, fetched after a death."""

import json
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import openai
import pytest

from tests import fleet as fleets
from tests import servers
from tests.fleet import at_once
from tests.servers import wait_until

SMALL = "512x512"


def fleet(tmp_path, simulator, size, **settings):
    # A hundred requests at once on a busy machine may keep Redis from answering in 0.9 s; how soon is no matter here.
    patient = {"GLM_GATEWAY_CACHE__SCOPE": "project", "GLM_GATEWAY_REDIS__RESERVE_DEADLINE": "10"}
    return fleets.fleet(tmp_path, simulator, size, **{**patient, **settings})


def outcomes(running, key_id, expected, seconds=15.0):
    """Wait for the ledger to say so of a key."""

    def found():
        return Counter(line["outcome"] for line in running.lines(key_id))

    wait_until(lambda: found() == expected, seconds, what=f"{expected}, found {found()},")


def pictures(content):
    return [item["b64_json"] for item in json.loads(content)["data"]]


@pytest.mark.parametrize("header", [{}, {"cache_control": "no-store"}])
def test_a_hundred_equal_requests_make_one_picture(tmp_path, header):
    with servers.simulator(tmp_path, latency=3) as slow, fleet(tmp_path, slow, 2) as running:
        key_id, secret = running.key()

        def send(number):
            gateway = running.gateways[number % 2]
            return gateway.post({"prompt": "one", "size": SMALL}, key=secret, timeout=60, **header)

        answers = at_once(100, send)
        assert {status for status, _, _ in answers} == {200}
        assert len({json.loads(content)["data"][0]["b64_json"] for _, _, content in answers}) == 1
        assert slow.stats()["images"] == 1
        said = Counter(headers["x-glm-cache"] for _, headers, _ in answers)
        assert said == ({"BYPASS": 100} if header else {"MISS": 1, "COALESCED": 99})
        outcomes(running, key_id, {"delivered": 1, "joined": 99})
        again = running.gateways[0].post({"prompt": "one", "size": SMALL}, key=secret)[1]["x-glm-cache"]
        assert again == ("MISS" if header else "HIT")


def test_a_hundred_different_requests_make_a_hundred_pictures(tmp_path, simulator):
    with fleet(tmp_path, simulator, 2) as running:
        _, secret = running.key()

        def send(number):
            gateway = running.gateways[number % 2]
            return gateway.post({"prompt": f"number {number}", "size": SMALL}, key=secret, timeout=60)

        answers = at_once(100, send)
        assert {status for status, _, _ in answers} == {200}
        assert len({json.loads(content)["data"][0]["b64_json"] for _, _, content in answers}) == 100
        assert simulator.stats()["images"] == 100


def client(gateway, secret, **options):
    return openai.OpenAI(base_url=gateway.base_url, api_key=secret, **options)


@pytest.mark.parametrize("cache", ["project", "off"])
def test_the_retries_of_an_sdk_are_paid_once(tmp_path, cache):
    with servers.simulator(tmp_path, latency=3) as slow, fleet(tmp_path, slow, 2) as running:
        key_id, secret = running.key("--cache", cache)
        impatient = client(running.gateways[0], secret, timeout=0.5, max_retries=2)
        with suppress(openai.APITimeoutError):  # on a slow machine the last try may meet the picture
            impatient.images.generate(model="glm-image", prompt="slow", size=SMALL)
        wait_until(lambda: running.charged(key_id) == 1, what="the charge")
        assert slow.stats()["images"] == 1
        if cache == "project":
            started = time.monotonic()
            impatient.with_options(timeout=2).images.generate(model="glm-image", prompt="slow", size=SMALL)
            assert time.monotonic() - started < 2
        assert slow.stats()["images"] == 1
        assert running.charged(key_id) == 1


def test_a_retry_gets_the_picture_of_the_first_try(tmp_path):
    with servers.simulator(tmp_path, latency=2) as slow, fleet(tmp_path, slow, 2) as running:
        key_id, secret = running.key("--cache", "off")
        patient = client(running.gateways[0], secret, timeout=1.5, max_retries=2)
        assert patient.images.generate(model="glm-image", prompt="slow", size=SMALL).data[0].b64_json
        assert slow.stats()["images"] == 1
        wait_until(lambda: running.charged(key_id) == 1, what="the charge")


def test_a_retry_after_a_refusal_is_a_new_request(tmp_path, simulator):
    with fleet(tmp_path, simulator, 1) as running:
        key_id, secret = running.key("--images-per-day", "0", "--cache", "off")
        [gateway] = running.gateways
        body = {"prompt": "refused first", "size": SMALL}
        assert gateway.post(body, key=secret)[0] == 429
        running.limit(key_id, "--images-per-day", "1")
        wait_until(lambda: gateway.post(body, key=secret, x_stainless_retry_count="1")[0] == 200, what="a new request")
        assert simulator.stats()["images"] == 1


def test_an_idempotency_key_is_answered_once(tmp_path, simulator):
    with fleet(tmp_path, simulator, 2) as running:
        key_id, secret = running.key("--cache", "off")
        one, other = running.gateways
        body = {"prompt": "once", "size": SMALL, "n": 2}
        first = one.post(body, key=secret, idempotency_key="order 1")
        again = other.post(body, key=secret, idempotency_key="order 1")
        assert first[0] == again[0] == 200
        assert pictures(first[2]) == pictures(again[2])
        assert json.loads(first[2])["created"] == json.loads(again[2])["created"]
        assert again[1]["idempotent-replayed"] == "true"
        assert first[1].get("idempotent-replayed") is None
        assert simulator.stats()["images"] == 2
        status, headers, content = one.post({**body, "prompt": "else"}, key=secret, idempotency_key="order 1")
        assert (status, headers["x-should-retry"]) == (400, "false")
        assert json.loads(content)["error"]["code"] == "idempotency_key_reuse"
        assert one.post(body, key=running.key("--cache", "off")[1], idempotency_key="order 1")[0] == 200
        assert simulator.stats()["images"] == 4
        outcomes(running, key_id, {"delivered": 1, "replayed": 1})


def test_equal_idempotency_keys_at_once_are_one_job(tmp_path):
    with servers.simulator(tmp_path, latency=1) as slow, fleet(tmp_path, slow, 2) as running:
        key_id, secret = running.key("--cache", "off")

        def send(number):
            gateway = running.gateways[number % 2]
            return gateway.post({"prompt": "once", "size": SMALL}, key=secret, idempotency_key="order 1")

        answers = at_once(10, send)
        assert [status for status, _, _ in answers] == [200] * 10
        assert slow.stats()["images"] == 1
        outcomes(running, key_id, {"delivered": 1, "joined": 9})


def test_more_pictures_of_a_plan_are_made_only_as_far_as_they_are_missing(tmp_path, simulator):
    with fleet(tmp_path, simulator, 1) as running:
        _, secret = running.key()
        [gateway] = running.gateways

        def make(n, **headers):
            status, said, content = gateway.post({"prompt": "variants", "size": SMALL, "n": n}, key=secret, **headers)
            assert status == 200, content
            return said, pictures(content)

        said, first = make(1)
        assert said["x-glm-cache"] == "MISS"
        said, three = make(3)
        assert (said["x-glm-cache"], three[0], len(set(three))) == ("MISS", first[0], 3)
        assert simulator.stats()["images"] == 3
        said, again = make(1)
        assert (said["x-glm-cache"], again) == ("HIT", first)
        assert int(said["age"]) >= 0
        said, fresh = make(1, cache_control="no-cache")
        assert said["x-glm-cache"] == "REFRESH"
        assert fresh[0] not in three
        assert make(4)[0]["x-glm-cache"] == "HIT"
        assert simulator.stats()["images"] == 4
        time.sleep(1.1)
        assert make(1, cache_control="max-age=1")[0]["x-glm-cache"] == "MISS"


def test_a_result_does_not_cross_its_scope(tmp_path, simulator):
    with fleet(tmp_path, simulator, 1, GLM_GATEWAY_CACHE__SCOPE="shared") as running:
        [gateway] = running.gateways
        made = servers.glm_gateway("projects", "create", "--name", "other", env=running.env)
        assert made.returncode == 0, made.stderr

        def cached(prompt, *options):
            _, secret = running.key(*options)
            return gateway.post({"prompt": prompt, "size": SMALL}, key=secret)[1]["x-glm-cache"]

        for scope, meant in {
            "shared": ["MISS", "HIT", "HIT"],
            "project": ["MISS", "HIT", "MISS"],
            "key": ["MISS", "MISS", "MISS"],
            "off": ["BYPASS", "BYPASS", "BYPASS"],
        }.items():
            said = [
                cached(scope, "--cache", scope),
                cached(scope, "--cache", scope),
                cached(scope, "--cache", scope, "--project", "other"),
            ]
            assert said == meant


def test_followers_of_a_killed_replica_get_a_picture(tmp_path):
    with (
        servers.simulator(tmp_path, latency=4) as slow,
        fleet(tmp_path, slow, 2, GLM_GATEWAY_QUOTA__LEASE="2") as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key()
        doomed, other = running.gateways
        body = {"prompt": "led by the dead", "size": SMALL}
        lost = clients.submit(doomed.post, body, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        followers = [clients.submit(other.post, body, key=secret, timeout=60) for _ in range(5)]
        time.sleep(0.5)
        doomed.process.stop(signal.SIGKILL)
        assert isinstance(lost.exception(), OSError)
        answers = [follower.result() for follower in followers]
        assert [status for status, _, _ in answers] == [200] * 5
        assert len({pictures(content)[0] for _, _, content in answers}) == 1
        assert slow.stats()["images"] <= 2
        wait_until(lambda: running.charged(key_id) == 1, what="the charge")
        wait_until(lambda: "abandoned" in {line["outcome"] for line in running.lines(key_id)}, what="the dead job")


def says(gateway, metric):
    return f"\nglm_gateway_{metric}\n" in gateway.get("/metrics")[2].decode()


def test_a_killed_replica_s_job_is_paid_once_more_for_all_who_repeat_it(tmp_path):
    """By one Idempotency-Key and without a cache: four who joined it, and one who comes when all is over."""
    with (
        servers.simulator(tmp_path, latency=4) as slow,
        fleet(tmp_path, slow, 2, GLM_GATEWAY_QUOTA__LEASE="2") as running,
        ThreadPoolExecutor() as clients,
    ):
        _, secret = running.key("--cache", "off")
        doomed, other = running.gateways

        def order(gateway):
            return gateway.post({"prompt": "ordered", "size": SMALL}, key=secret, idempotency_key="order 1")

        lost = clients.submit(order, doomed)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        joined = [clients.submit(order, other) for _ in range(4)]
        wait_until(lambda: says(other, "jobs_in_flight 4.0"), what="four who joined")
        doomed.process.stop(signal.SIGKILL)
        assert isinstance(lost.exception(), OSError)
        answers = [*(answer.result() for answer in joined), order(other)]
        assert [status for status, _, _ in answers] == [200] * 5
        assert len({pictures(content)[0] for _, _, content in answers}) == 1
        assert slow.stats()["images"] <= 2


def test_what_a_replica_that_stood_still_had_not_sent_is_not_paid_twice(tmp_path):
    """Its job waits for a slot while it is stopped; by the time it goes on, another replica has made the picture."""
    patient = {"GLM_GATEWAY_QUOTA__LEASE": "2", "ZHIPUAI_CONCURRENCY": "1"}
    with (
        servers.simulator(tmp_path, latency=3, concurrency=1) as slow,
        fleet(tmp_path, slow, 2, **patient) as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key()
        standing, other = running.gateways
        first = clients.submit(other.post, {"prompt": "first", "size": SMALL}, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        body = {"prompt": "led by who stands still", "size": SMALL}
        led = clients.submit(standing.post, body, key=secret)
        wait_until(lambda: says(standing, 'queue_length{model="glm-image"} 1.0'), what="the job in the queue")
        follower = clients.submit(other.post, body, key=secret)
        standing.process.popen.send_signal(signal.SIGSTOP)
        answers = [answer.result() for answer in (first, follower)]
        standing.process.popen.send_signal(signal.SIGCONT)
        answers.append(led.result())
        assert [status for status, _, _ in answers] == [200] * 3
        assert pictures(answers[1][2]) == pictures(answers[2][2])
        assert slow.stats()["images"] == 2
        wait_until(lambda: running.charged(key_id) == 2, what="two charges")


def test_what_a_dead_replica_has_paid_is_fetched_by_another(tmp_path):
    with (
        servers.simulator(tmp_path) as slow,
        fleet(tmp_path, slow, 2, GLM_GATEWAY_QUOTA__LEASE="2") as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key()
        doomed, other = running.gateways
        body = {"prompt": "paid by the dead", "size": SMALL}
        slow.fault("slow_cdn", seconds=8, times=1)
        lost = clients.submit(doomed.post, body, key=secret)
        wait_until(lambda: slow.stats()["images"] == 1, what="the paid picture")
        follower = clients.submit(other.post, body, key=secret, timeout=60)
        time.sleep(0.5)
        doomed.process.stop(signal.SIGKILL)
        assert isinstance(lost.exception(), OSError)
        assert follower.result()[0] == 200
        assert slow.stats()["images"] == 1
        outcomes(running, key_id, {"delivered": 1, "joined": 1})


def test_who_waits_for_a_picture_while_redis_is_emptied_gets_that_one(tmp_path):
    with (
        servers.simulator(tmp_path, latency=8) as slow,
        fleet(tmp_path, slow, 2) as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key()
        body = {"prompt": "in flight", "size": SMALL}
        first = clients.submit(running.gateways[0].post, body, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        others = [clients.submit(gateway.post, body, key=secret) for gateway in running.gateways]
        wait_until(lambda: command(running, "jobs", "list").count("queued") == 2, what="two who wait")
        servers.redis_command(running.redis_url, "FLUSHALL")
        answers = [answer.result() for answer in (first, *others)]
        assert {pictures(content)[0] for _, _, content in answers} == set(pictures(answers[0][2]))
        assert slow.stats()["images"] == 1
        wait_until(lambda: running.charged(key_id) == 1, what="the charge")


def test_who_waits_for_a_picture_while_redis_is_gone_for_good_is_told_so_and_nothing_is_paid_twice(tmp_path):
    with (
        servers.simulator(tmp_path, latency=3) as slow,
        fleet(tmp_path, slow, 2, GLM_GATEWAY_QUEUE__MAX_WAIT="3") as running,
        ThreadPoolExecutor() as clients,
    ):
        _, secret = running.key()
        body = {"prompt": "in flight", "size": SMALL}
        first = clients.submit(running.gateways[0].post, body, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        others = [clients.submit(gateway.post, body, key=secret, timeout=20) for gateway in running.gateways]
        wait_until(lambda: command(running, "jobs", "list").count("queued") == 2, what="two who wait")
        running.redis.kill()
        for answer in others:
            status, headers, content = answer.result()
            assert (status, json.loads(content)["error"]["code"]) == (503, "quota_store_unavailable")
            assert headers["x-should-retry"] == "false"
        assert first.result()[0] == 200
        assert slow.stats()["images"] == 1
        for gateway in running.gateways:
            gateway.process.stop(signal.SIGKILL)  # each would go on trying for 10 s to settle


def test_sigterm_lets_what_was_sent_end_also_without_a_client(tmp_path):
    with (
        servers.simulator(tmp_path, latency=3) as slow,
        fleet(tmp_path, slow, 2) as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key()
        stopping, other = running.gateways
        stay = [clients.submit(stopping.post, {"prompt": f"stay {i}", "size": SMALL}, key=secret) for i in range(5)]
        impatient = client(stopping, secret, timeout=0.5, max_retries=0)

        def leave(number):
            with pytest.raises(openai.APITimeoutError):
                impatient.images.generate(model="glm-image", prompt=f"leave {number}", size=SMALL)

        list(clients.map(leave, range(5)))
        wait_until(lambda: slow.stats()["calls"] == 10, what="ten calls")
        stopping.process.popen.send_signal(signal.SIGTERM)
        assert [answer.result()[0] for answer in stay] == [200] * 5
        assert stopping.process.popen.wait(20) == 0
        wait_until(lambda: running.charged(key_id) == 10, what="ten charges")
        for number in range(5):
            _, headers, _ = other.post({"prompt": f"leave {number}", "size": SMALL}, key=secret)
            assert headers["x-glm-cache"] == "HIT"
        assert slow.stats()["images"] == 10


def test_who_leaves_before_a_picture_is_sent_leaves_the_queue(tmp_path):
    one_at_a_time = {"ZHIPUAI_CONCURRENCY": "1", "GLM_GATEWAY_QUEUE__ABANDON_AFTER": "1"}
    with (
        servers.simulator(tmp_path, latency=4, concurrency=1) as slow,
        fleet(tmp_path, slow, 1, **one_at_a_time) as running,
        ThreadPoolExecutor() as clients,
    ):
        key_id, secret = running.key()
        [gateway] = running.gateways
        first = clients.submit(gateway.post, {"prompt": "sent", "size": SMALL}, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        with pytest.raises(openai.APITimeoutError):
            client(gateway, secret, timeout=0.5, max_retries=0).images.generate(
                model="glm-image", prompt="left", size=SMALL
            )
        assert first.result()[0] == 200
        outcomes(running, key_id, {"delivered": 1, "failed": 1})
        assert slow.stats()["calls"] == 1


def command(running, *words):
    done = servers.glm_gateway(*words, env=running.env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_operator_sees_and_cancels_jobs_and_purges_results(tmp_path):
    with (
        servers.simulator(tmp_path, latency=16, concurrency=1) as slow,
        fleet(tmp_path, slow, 1, ZHIPUAI_CONCURRENCY="1") as running,
        ThreadPoolExecutor() as clients,
    ):
        _, secret = running.key()
        [gateway] = running.gateways
        sent = clients.submit(gateway.post, {"prompt": "sent", "size": SMALL}, key=secret)
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        queued = clients.submit(gateway.post, {"prompt": "queued", "size": SMALL}, key=secret)

        states = {}

        def both_run():
            listed = json.loads(command(running, "jobs", "list", "--json"))
            states.update({job["state"]: job["job_id"] for job in listed})
            return {job["state"] for job in listed} == {"sent", "queued"}

        wait_until(both_run, what="two jobs")
        command(running, "jobs", "cancel", states["queued"])  # before the call has ended, however slow commands start
        status, headers, content = queued.result(timeout=5)
        assert (status, headers["x-should-retry"]) == (503, "false")
        assert json.loads(content)["error"]["code"] == "job_cancelled"
        assert sent.result()[0] == 200
        assert slow.stats()["calls"] == 1
        assert gateway.post({"prompt": "sent", "size": SMALL}, key=secret)[1]["x-glm-cache"] == "HIT"
        assert "1 prompt" in command(running, "cache", "purge", "--project", "default")
        assert gateway.post({"prompt": "sent", "size": SMALL}, key=secret)[1]["x-glm-cache"] == "MISS"
        unknown = servers.glm_gateway("jobs", "cancel", "nobody", env=running.env)
        assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)
