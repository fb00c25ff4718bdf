"""The ledger as operators meet it: SQL, Redis or the disk away, and what the lines say."""

import json
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

from tests import redis_servers, servers
from tests.servers import wait_until


def metric(gateway, name):
    """The value of a metric without labels; None when there is none."""
    status, _, content = gateway.get("/metrics")
    assert status == 200
    values = [line.split()[1] for line in content.decode().splitlines() if line.startswith(f"{name} ")]
    return float(values[0]) if values else None


def lines(gateway):
    """The ledger's lines, the oldest first."""
    with closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        database.row_factory = sqlite3.Row
        return database.execute("SELECT * FROM usage_events ORDER BY time").fetchall()


@contextmanager
def locked(gateway):
    """Keep everybody else from writing to the database; they can read."""
    with closing(sqlite3.connect(gateway.data_dir / "gateway.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def test_no_money_is_spent_while_the_ledger_is_too_far_behind(tmp_path, simulator):
    with (
        servers.simulator(tmp_path, latency=1) as slow,
        servers.gateway(tmp_path, slow, GLM_GATEWAY_LEDGER__MAX_BACKLOG="2") as gateway,
        ThreadPoolExecutor() as clients,
    ):
        with locked(gateway):
            before = [clients.submit(gateway.post, {"prompt": f"before {number}"}) for number in range(4)]
            wait_until(lambda: slow.stats()["calls"] == 4, what="the calls")
            assert [answer.result()[0] for answer in before] == [200] * 4
            wait_until(lambda: metric(gateway, "glm_gateway_ledger_backlog") == 4, what="the metric")
            status, headers, content = gateway.post({"prompt": "too many"})
            error = json.loads(content)["error"]
            assert (status, error["type"], error["code"]) == (503, "server_error", "ledger_behind")
            assert headers["retry-after"] == "30"
            assert "ledger.max_backlog (2)" in error["message"]
            assert "operator has to see to the database" in error["message"]
            assert slow.stats()["calls"] == 4
            assert lines(gateway) == []
        wait_until(lambda: gateway.post({"prompt": "again"})[0] == 200, what="recovery")
        wait_until(lambda: metric(gateway, "glm_gateway_ledger_backlog") == 0, what="the metric")
        wait_until(lambda: len(lines(gateway)) == 5, what="the ledger")
        assert slow.stats()["images"] == 5


@contextmanager
def one_settlement_in_memory(tmp_path):
    """Redis stands still, and a file is where the spool's folder should be: one paid picture is in memory only."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "spool").touch()
    with (
        servers.redis_server(tmp_path) as (url, redis),
        servers.simulator(tmp_path, latency=1) as slow,
        servers.gateway(tmp_path, slow, REDIS_URL=url, GLM_GATEWAY_LEDGER__PROMPTS="true") as gateway,
        ThreadPoolExecutor() as clients,
    ):
        answer = clients.submit(gateway.post, {"prompt": "a s3cret fox"})
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        redis.send_signal(signal.SIGSTOP)
        assert answer.result()[0] == 200
        wait_until(lambda: metric(gateway, "glm_gateway_settlements_unsaved") == 1, what="the metric")
        yield gateway, redis


def test_a_full_disk_loses_nothing(tmp_path):
    with one_settlement_in_memory(tmp_path) as (gateway, redis):
        assert '"event": "settlement_unsaved"' in gateway.process.output()
        redis.send_signal(signal.SIGCONT)
        wait_until(lambda: len(lines(gateway)) == 1, what="the ledger")
        [line] = lines(gateway)
        assert (line["outcome"], line["pictures_delivered"], line["price"]) == ("delivered", 1, 100_000)
        wait_until(lambda: metric(gateway, "glm_gateway_settlements_unsaved") == 0, what="the metric")


def test_what_a_stop_loses_is_in_the_log(tmp_path):
    with one_settlement_in_memory(tmp_path) as (gateway, _):
        assert gateway.process.stop(seconds=60) == 0
        logged = [json.loads(text) for text in gateway.process.output().splitlines() if text.startswith("{")]
        [lost] = [entry for entry in logged if entry["event"] == "settlement_lost"]
        assert (lost["level"], lost["charged"]) == ("error", 1)
        line = lost["line"]
        assert (line["project_id"], line["key_id"]) == ("proj_default", gateway.key.removeprefix("sk-glm-")[:12])
        assert (line["outcome"], line["pictures_delivered"], line["price"]) == ("delivered", 1, 100_000)
        assert (line["currency"], line["upstream_model"], line["prompt"]) == ("CNY", "glm-image", "[redacted]")
        [unsaved] = [entry for entry in logged if entry["event"] == "settlement_unsaved"]
        assert line["event_id"] == unsaved["event_id"]
        assert "s3cret" not in gateway.process.output()
        assert gateway.key not in gateway.process.output()
        with closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
            columns = {name for _, name, *_ in database.execute("PRAGMA table_info(usage_events)")}
        assert set(line) == columns


def test_reserves_that_no_replica_confirmed_are_counted(tmp_path, simulator):
    with (
        redis_servers.redis_replicated(tmp_path) as redis,
        servers.gateway(tmp_path, simulator, REDIS_URL=redis.url) as gateway,
    ):
        assert gateway.post({"prompt": "confirmed"})[0] == 200
        assert metric(gateway, "glm_gateway_quota_unconfirmed_total") == 0
        redis.nodes[1].send(redis_servers.STOP)
        assert gateway.post({"prompt": "unconfirmed"})[0] == 200
        assert metric(gateway, "glm_gateway_quota_unconfirmed_total") == 1
        redis.nodes[1].send(redis_servers.CONTINUE)
        wait_until(lambda: len(lines(gateway)) == 2, what="the ledger")


def test_a_line_tells_the_answer_the_wait_and_the_prompt_by_its_hash(tmp_path):
    with (
        servers.simulator(tmp_path, latency=1) as slow,
        servers.gateway(tmp_path, slow, ZHIPUAI_CONCURRENCY="1") as gateway,
        ThreadPoolExecutor() as clients,
    ):
        first = clients.submit(gateway.post, {"prompt": "a s3cret fox", "user": "a s3cret fox"})
        wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
        assert gateway.post({"prompt": "a s3cret fox"})[0] == first.result()[0] == 200
        slow.fault("moderation")
        refused, _, content = gateway.post({"prompt": "a s3cret wolf", "n": 2})
        wait_until(lambda: len(lines(gateway)) == 3, what="the ledger")
        one, two, three = lines(gateway)
        assert [(line["status"], line["error_code"]) for line in (one, two)] == [(200, "")] * 2
        assert (three["status"], three["error_code"]) == (refused, json.loads(content)["error"]["code"])
        assert (refused, three["error_code"]) == (400, "content_policy_violation")
        assert one["queue_ms"] < two["queue_ms"] <= two["latency_ms"]
        assert two["queue_ms"] > 100
        assert one["prompt_hash"] == two["prompt_hash"] != three["prompt_hash"]
        assert len(one["prompt_hash"]) == len(one["end_user_hash"]) == 32
        assert one["prompt_hash"] != one["end_user_hash"], "a label of its own"
        assert "s3cret" not in str([tuple(line) for line in (one, two, three)])


def test_prompts_are_in_the_ledger_only_if_the_setting_says_so(tmp_path, simulator):
    """Made, failed and remembered alike; a line has null from before and after the setting."""
    keeping = {"GLM_GATEWAY_LEDGER__PROMPTS": "true", "GLM_GATEWAY_CACHE__SCOPE": "project"}
    with servers.gateway(tmp_path, simulator, **keeping) as gateway:
        assert gateway.post({"prompt": "a fox\0"})[0] == 200
        wait_until(lambda: len(lines(gateway)) == 1, what="the ledger")
        assert gateway.post({"prompt": "a fox\0"})[0] == 200
        simulator.fault("moderation", times=1)
        assert gateway.post({"prompt": "a wolf"})[0] == 400
        wait_until(lambda: len(lines(gateway)) == 3, what="the ledger")
        said = {(line["outcome"], line["prompt"]) for line in lines(gateway)}
        assert said == {("delivered", "a fox\0"), ("hit", "a fox\0"), ("failed", "a wolf")}
    with servers.gateway(tmp_path, simulator) as gateway:
        assert gateway.post({"prompt": "a bear"})[0] == 200
        wait_until(lambda: len(lines(gateway)) == 4, what="the ledger")
        assert lines(gateway)[3]["prompt"] is None
