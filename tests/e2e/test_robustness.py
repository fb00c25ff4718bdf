"""What an adversary, a careless operator and a bad day do to a running gateway."""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import HTTPConnection

import psutil
import pytest

from tests import servers
from tests.e2e.test_lifecycle import assert_nothing_left, processes_of, redis_pid, sentence_of, serve
from tests.servers import ROOT, answers, environment, free_port, http, wait_until


def supervisors(data_dir):
    return [pid for pid, words in processes_of(data_dir) if "gateway.adapters.redis.supervisor" in words]


def supervisor_pid(data_dir):
    [pid] = supervisors(data_dir)
    return pid


def test_sigterm_finishes_what_was_sent_and_releases_the_rest(tmp_path):
    with (
        servers.simulator(tmp_path, latency=3, concurrency=1) as slow,
        servers.gateway(tmp_path, slow, ZHIPUAI_CONCURRENCY="1") as running,
        ThreadPoolExecutor() as clients,
    ):
        sent = clients.submit(running.post, {"prompt": "sent"})
        wait_until(lambda: slow.stats()["in_flight"] == 1, what="the call")
        queued = [clients.submit(running.post, {"prompt": f"queued {number}"}) for number in range(3)]
        time.sleep(0.5)
        running.process.popen.send_signal(signal.SIGTERM)
        for released in queued:
            check_shutting_down(*released.result(timeout=2))
        check_shutting_down(*running.post({"prompt": "new"}))
        assert [closes(running, path) for path in ("/v1", "/api/paas/v4")] == [True, True]
        assert http("GET", running.url + "/readyz")[0] == 503
        assert sent.result()[0] == 200
        assert running.process.popen.wait(10) == 0
        assert slow.stats()["images"] == 1


def test_what_was_refused_is_not_kept(gateway):
    """Garbage is looked for twice a minute: until then a body that only garbage knows would stay."""
    process, body = psutil.Process(gateway.process.popen.pid), json.dumps({"prompt": "x" * 900_000})
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    with closing(HTTPConnection(gateway.url.removeprefix("http://"), timeout=10)) as kept:

        def refused(times):
            for _ in range(times):
                kept.request("POST", "/v1/images/generations", body, headers)
                with kept.getresponse() as answer:
                    assert (answer.status, json.load(answer)["error"]["code"]) == (400, "string_above_max_length")
            return process.memory_info().rss

        before = refused(20)
        assert refused(200) - before < 50 * len(body)


def closes(gateway, path):
    """Whether a client that keeps its connection is told to make another one, which a balancer leads elsewhere."""
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    with closing(HTTPConnection(gateway.url.removeprefix("http://"), timeout=10)) as kept:
        body = json.dumps({"model": "glm-image", "prompt": "new"})
        kept.request("POST", f"{path}/images/generations", body, headers)
        answer = kept.getresponse()
        return answer.getheader("x-request-id") is not None and answer.getheader("connection") == "close"


def check_shutting_down(status, headers, content):
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(content)["error"]["code"] == "shutting_down"


def test_a_drain_that_is_too_short_says_what_is_not_known(tmp_path):
    short = {"GLM_GATEWAY_UPSTREAM__TIMEOUT": "1.5", "GLM_GATEWAY_SERVER__DRAIN_SECONDS": "1.5"}
    with servers.simulator(tmp_path, latency=1) as slow, servers.gateway(tmp_path, slow, **short) as running:
        slow.fault("hang")
        with ThreadPoolExecutor() as clients:
            sent = clients.submit(running.post, {"prompt": "sent"})
            wait_until(lambda: slow.stats()["calls"] == 1, what="the call")
            running.process.popen.send_signal(signal.SIGTERM)
            status, _, content = sent.result()
        assert status == 504
        assert json.loads(content)["error"]["code"] == "upstream_outcome_unknown"
        assert running.process.popen.wait(10) == 0


def test_a_killed_supervisor_takes_its_server_along_and_another_comes(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as running:
        killed = supervisor_pid(running.data_dir), redis_pid(running.data_dir)
        os.kill(killed[0], signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(killed[1]), seconds=5)
        wait_until(lambda: answers(running.url + "/readyz"), seconds=10, what="readiness")
        assert running.post({"prompt": "a fox"})[0] == 200
    assert running.process.popen.returncode == 0
    assert processes_of(running.data_dir) == []


def test_a_server_that_outlives_its_supervisor_gets_no_rival_beside_it(tmp_path, simulator):
    """Two servers would write one file, and the first one take the second one's socket away as it ends."""
    with servers.gateway(tmp_path, simulator) as running:
        standing = psutil.Process(redis_pid(running.data_dir))
        standing.suspend()
        killed = supervisor_pid(running.data_dir)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: supervisors(running.data_dir) not in ([], [killed]), what="another supervisor")
        time.sleep(1)
        assert redis_pid(running.data_dir) == standing.pid
        standing.resume()
        wait_until(lambda: answers(running.url + "/readyz"), seconds=10, what="readiness")
        assert redis_pid(running.data_dir) != standing.pid
    assert processes_of(running.data_dir) == []


def test_a_gateway_goes_on_when_another_ends_with_all_processes_that_it_began(tmp_path, simulator):
    """As systemd and containers end: the server that both use is among them. Its counts are still there."""
    with servers.gateway(tmp_path, simulator) as first:
        began = [supervisor_pid(first.data_dir), redis_pid(first.data_dir)]
        key = servers.glm_gateway("keys", "create", "--name", "two", "--images-per-day", "2", env=first.env)
        ask = partial(first.post, key=key.stdout.strip())
        port = str(free_port())
        second = servers.Process(["serve"], {**first.env, "PORT": port}, tmp_path / "second.log")
        with servers.running(second, f"http://127.0.0.1:{port}/readyz"):
            assert ask({"prompt": "one"})[0] == 200
            assert first.process.stop() == 0
            for pid in began:
                os.kill(pid, signal.SIGKILL)
            first.url = f"http://127.0.0.1:{port}"
            wait_until(lambda: ask({"prompt": "two"})[0] == 200, seconds=10, what="the server's return")
            assert ask({"prompt": "three"})[0] == 429
    assert_nothing_left(first.data_dir)


def test_a_server_that_cannot_start_is_tried_ever_more_seldom_and_comes_back_when_it_can(tmp_path, simulator):
    """Each try starts a Python: four a second took a third of a core."""
    with servers.gateway(tmp_path, simulator) as running:
        home = running.data_dir / "redis"
        [written] = home.glob("appendonlydir/*.incr.aof")
        content, log = written.read_bytes(), home / "server.log"
        written.write_bytes(b"garbage" + content)
        before = log.read_text().count("is starting")
        for pid in (supervisor_pid(running.data_dir), redis_pid(running.data_dir)):
            os.kill(pid, signal.SIGKILL)
        time.sleep(6)
        assert 1 <= log.read_text().count("is starting") - before <= 6
        assert not answers(running.url + "/readyz")
        written.write_bytes(content)
        wait_until(lambda: answers(running.url + "/readyz"), seconds=15, what="the server's return")
        assert running.post({"prompt": "a fox"})[0] == 200
    assert_nothing_left(running.data_dir)


def test_a_server_that_stands_still_does_not_get_a_rival(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as running:
        standing = psutil.Process(redis_pid(running.data_dir))
        standing.suspend()
        second = servers.Process(["serve"], {**running.env, "PORT": str(free_port())}, tmp_path / "second.log").start()
        time.sleep(3)
        assert redis_pid(running.data_dir) == standing.pid
        standing.resume()
        wait_until(lambda: answers(f"http://127.0.0.1:{second.env['PORT']}/readyz"), what="the second gateway")
        assert second.stop() == 0
        wait_until(lambda: answers(running.url + "/readyz"), seconds=10, what="the first gateway again")
    assert_nothing_left(running.data_dir)


def test_a_relative_data_directory_works(tmp_path):
    env = environment(GLM_GATEWAY_DATA_DIR="relative", PORT=str(free_port()), ZHIPUAI_API_KEY=servers.UPSTREAM_KEY)
    command = [sys.executable, "-m", "gateway", "serve"]
    process = subprocess.Popen(command, env={**env, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{env['PORT']}/readyz"), what="readiness")
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert_nothing_left(tmp_path / "relative")


def test_files_of_the_data_directory_are_their_owners_alone(tmp_path, simulator):
    (tmp_path / "data").mkdir(mode=0o755)
    with servers.gateway(tmp_path, simulator) as running:
        for path in running.data_dir.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.is_socket(), path


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"], ids=["empty", "binary"])
def test_a_damaged_secret_is_one_clear_sentence(tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_bytes(content)
    assert "secret" in sentence_of(serve(tmp_path))


def test_a_database_of_a_newer_release_is_one_clear_sentence(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as running:
        pass
    with sqlite3.connect(running.data_dir / "gateway.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.execute("UPDATE installation SET value = '9998' WHERE name = 'schema_serves'")
    database.close()
    assert "newer release" in sentence_of(serve(tmp_path))


def test_endless_headers_are_refused(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        try:
            for _ in range(100):
                connection.sendall(b"a" * 65536)
        except OSError:
            pass
        else:
            assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
    assert http("GET", gateway.url + "/healthz")[0] == 200


def test_a_body_that_breaks_off_is_no_crash(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
        connection.sendall(head.encode() + b"Content-Length: 100\r\n\r\n{")
    time.sleep(0.3)
    assert "request_crashed" not in gateway.process.output()


def test_what_may_have_been_paid_is_not_hidden_by_another_failure(gateway, simulator):
    simulator.fault("cut", times=1)
    simulator.fault("moderation", times=2)
    status, headers, content = gateway.post({"prompt": "mixed", "n": 3})
    assert (status, headers["x-should-retry"]) == (504, "false")
    assert json.loads(content)["error"]["code"] == "upstream_outcome_unknown"
