"""glm-gateway reconcile: Redis, the ledger and bills, compared and set right while gateways serve."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import redis

from gateway.adapters.redis.names import Names
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import shard_of
from tests import postgres_servers, servers
from tests.fleet import SECRET, fleet
from tests.servers import wait_until

NAMES = Names(shard_of(DEFAULT_ID))


def reconcile(running, *words, code=0):
    done = servers.glm_gateway("reconcile", "--format", "json", *words, env=running.env)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def audit(running):
    return json.loads(servers.glm_gateway("audit", "--format", "json", env=running.env).stdout)


def counters(running, kind, subject):
    """The names of a subject's counters of this day or month."""
    with redis.Redis.from_url(running.redis_url, decode_responses=True) as store:
        return store.keys(NAMES.of(kind, subject, "*"))


def redis_cli(running, *words):
    with redis.Redis.from_url(running.redis_url) as store:
        return store.execute_command(*words)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        more = {}
        if request.param == "postgresql":
            more["DATABASE_URL"] = stack.enter_context(postgres_servers.postgres_server(folder))
        upstream = stack.enter_context(servers.simulator(folder))
        yield stack.enter_context(fleet(folder, upstream, 1, **more))


def a_key_that_used(running, pictures, *limits):
    key_id, secret = running.key(*limits)
    for number in range(pictures):
        assert running.gateways[0].post({"prompt": f"{key_id} {number}"}, key=secret)[0] == 200
    return key_id, secret


def test_what_was_tampered_with_is_found_repaired_and_found_no_more(running):
    key_id, secret = a_key_that_used(running, 2, "--images-per-day", "3", "--spend-per-month", "0.4")
    assert reconcile(running)["redis"]["differences"] == []
    [day] = counters(running, "day", f"key.{key_id}")
    [month] = counters(running, "month", f"key.{key_id}")
    redis_cli(running, "SET", day, 0)
    redis_cli(running, "HSET", month, "spend", "1.5", "images", 7)
    common = {"project_id": DEFAULT_ID, "key_id": key_id}
    found = [
        {**common, "counter": "images_today", "redis": 0, "ledger": 2},
        {**common, "counter": "images_this_month", "redis": 7, "ledger": 2},
        {**common, "counter": "spend_this_month", "redis": None, "ledger": "0.20"},
    ]
    assert reconcile(running, code=1)["redis"]["differences"] == found
    repaired = reconcile(running, "--repair")["redis"]
    assert (repaired["differences"], repaired["left"]) == (found, [])
    [repair] = [line for line in audit(running) if line["type"] == "counters.repaired"]
    assert repair["counters.repaired"]["after"][f"key.{key_id} images_today"] == 2
    assert reconcile(running)["redis"]["differences"] == []
    assert redis_cli(running, "PTTL", day) > 0, "a window ends by itself"
    statuses = [running.gateways[0].post({"prompt": f"more {at}"}, key=secret)[0] for at in range(2)]
    assert statuses == [200, 429]


def test_a_lost_redis_is_repaired_and_limits_hold(running):
    key_id, secret = a_key_that_used(running, 2, "--images-per-day", "3")
    assert reconcile(running)["redis"]["differences"] == []
    redis_cli(running, "FLUSHALL")
    repaired = reconcile(running, "--repair")["redis"]
    assert repaired["left"] == []
    again = reconcile(running)["redis"]
    assert (again["differences"], again["emptied"]) == ([], False)
    [day] = counters(running, "day", f"key.{key_id}")
    assert redis_cli(running, "GET", day) == b"2"
    statuses = [running.gateways[0].post({"prompt": f"more {at}"}, key=secret)[0] for at in range(2)]
    assert statuses == [200, 429]


def test_a_system_that_works_shows_no_difference_and_a_repair_lets_nothing_over_a_limit(tmp_path):
    """While 60 pictures are asked for and some fail, counters are made wrong and set right under way."""
    with (
        servers.simulator(tmp_path, latency=0.5) as slow,
        fleet(tmp_path, slow, 2) as running,
        ThreadPoolExecutor(20) as clients,
    ):
        key_id, secret = running.key("--images-per-day", "40")
        slow.fault("moderation", times=5)

        def ask(number):
            return running.gateways[number % 2].post({"prompt": f"busy {number}"}, key=secret)[0]

        answers = [clients.submit(ask, number) for number in range(60)]
        wait_until(lambda: slow.stats()["calls"] > 5, what="calls")
        assert reconcile(running)["redis"]["differences"] == []
        [day] = counters(running, "day", f"key.{key_id}")
        redis_cli(running, "INCRBY", day, 5)
        [found] = reconcile(running, "--repair")["redis"]["differences"]
        assert (found["counter"], found["redis"] - found["ledger"]) == ("images_today", 5)
        statuses = [answer.result() for answer in answers]
        statuses += [ask(number) for number in range(60, 110)]
        assert statuses.count(200) == 40
        wait_until(lambda: running.charged(key_id) == 40, what="the ledger")
        told = reconcile(running)["redis"]
        assert (told["differences"], told["running_images"]) == ([], 0)


def test_what_cannot_be_compared_is_said_in_a_sentence(tmp_path):
    bill = tmp_path / "bill.csv"
    bill.write_text("date,account,model,images,amount\n2026-11-23,main,glm-image,1,1\n2026-11-23,main,glm-image,x,1\n")
    env = servers.environment(GLM_GATEWAY_DATA_DIR=str(tmp_path / "data"), GLM_GATEWAY_SECRET_KEY=SECRET)
    nowhere = {"REDIS_URL": f"redis://127.0.0.1:{servers.free_port()}/0"}
    for words, more, said in (
        (("--bill", str(bill)), {}, "line 3, column 'images': 'x' is not a whole number"),
        (("--bill", str(tmp_path / "none.csv")), {}, "none.csv"),
        ((), nowhere, "Redis"),
        ((), {"DATABASE_URL": f"postgresql://x@127.0.0.1:{servers.free_port()}/x"}, "database"),
    ):
        done = servers.glm_gateway("reconcile", *words, env={**env, **more})
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr.splitlines()[-1]
