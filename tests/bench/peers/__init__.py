"""What the gateway is measured beside, as processes: the instant upstream, and other gateways in front of it.

    with peers.upstream(folder, core=1) as upstream, peers.litellm(folder, upstream, core=0) as target:
        servers.http("POST", target.url, body=target.body(1), headers=target.headers)

Each is ready when the block begins, has made a picture, and ends with the block. `folder` takes their logs and
settings; `core` is the one that a process is pinned to. What is given is the target of a load (tests/bench/load.py),
whose pid is the root of a process tree. A peer that is not installed raises Missing: `.ci/setup bench` installs both
into environments of their own.
"""

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests import servers
from tests.bench.load import Target

HOME = servers.ROOT / "tests" / "bench" / "peers"
LITELLM = servers.ROOT / ".venv-litellm"
PORTKEY = HOME / "node_modules"
PATH = "/v1/images/generations"
KEY = "sk-key-of-the-bench"
START_SECONDS = 120.0  # LiteLLM imports for 10 s on an idle core
FIRST_SECONDS = 60.0


class Missing(Exception):
    """A peer that is not installed; the bench says so and goes on without it."""


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The instant upstream under way; see tests/bench/upstream.py."""

    url: str
    pid: int

    @property
    def base_url(self):
        """Where GLM's words are spoken, for ZHIPUAI_BASE_URL."""
        return f"{self.url}/api/paas/v4"

    @property
    def openai_url(self):
        return f"{self.url}/v1"

    def stats(self):
        """Count what it was asked for: `calls` and `pictures`."""
        return json.loads(servers.http("GET", f"{self.url}/stats")[2])


def pinned(command, core):
    """Give the command that runs another one on one core; without a core, that one itself."""
    return command if core is None else ("taskset", "-c", str(core), *command)


def order(model, **more):
    """Give what writes the n-th order of a picture: no two have the same prompt."""
    fields = {"model": model, "size": "1280x1280", **more}
    return lambda number: json.dumps({**fields, "prompt": f"picture {number}"}).encode()


@contextmanager
def upstream(folder, *, latency=0.0, core=None):
    """Run the instant upstream; `latency` is what a generation takes, in seconds."""
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}"
    program = pinned((sys.executable, "-m", "tests.bench.upstream"), core)
    arguments = ["--port", str(port), "--latency", str(latency)]
    process = servers.Process(arguments, servers.environment(), folder / f"upstream-{port}.log", program)
    with servers.running(process, f"{url}/stats", START_SECONDS):
        yield Upstream(url=url, pid=process.popen.pid)


@contextmanager
def litellm(folder, upstream, *, core=None, redis_url=None):
    """Run LiteLLM with its master key alone, its lightest mode; with a Redis it caches there and keeps metrics."""
    _installed("LiteLLM", LITELLM / ".installed-litellm.lock", HOME / "litellm.lock")
    name = "LiteLLM with Redis and Prometheus" if redis_url else "LiteLLM"
    port = servers.free_port()
    config = folder / f"litellm-{port}.yaml"
    config.write_text(json.dumps(_litellm_config(upstream, redis_url)), "utf-8")  # YAML contains JSON
    program = pinned((str(LITELLM / "bin" / "litellm"),), core)
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = servers.Process(arguments, _litellm_environment(), config.with_suffix(".log"), program)
    headers = {"Authorization": f"Bearer {KEY}"}
    with _target(name, port, "/health/liveliness", headers, process) as target:
        yield target


@contextmanager
def portkey(folder, upstream, *, core=None):
    """Run Portkey, which is told with each request where to go."""
    _installed("Portkey", PORTKEY / ".installed", HOME / "package-lock.json")
    port = servers.free_port()
    program = pinned((servers.node(), str(PORTKEY / "@portkey-ai/gateway/build/start-server.js")), core)
    env = servers.environment(NODE_ENV="production", TRUSTED_CUSTOM_HOSTS="127.0.0.1")
    process = servers.Process([f"--port={port}", "--headless"], env, folder / f"portkey-{port}.log", program)
    headers = {
        "Authorization": f"Bearer {KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": upstream.openai_url,
    }
    with _target("Portkey", port, "/", headers, process) as target:
        yield target


def _litellm_config(upstream, redis_url):
    way = {"model": "openai/dall-e-3", "api_base": upstream.openai_url, "api_key": KEY}
    config = {
        "model_list": [{"model_name": "glm-image", "litellm_params": way}],
        "general_settings": {"master_key": KEY},
    }
    if redis_url:
        store = urlsplit(redis_url)
        cache = {"type": "redis", "host": store.hostname, "port": store.port}
        config["litellm_settings"] = {"cache": True, "cache_params": cache, "callbacks": ["prometheus"]}
    return config


def _litellm_environment():
    """As its manual wants it in production, with bytecode, and without a look at the internet for prices."""
    kind = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    env = servers.environment(**kind, NO_PROXY="127.0.0.1")
    return {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _installed(name, mark, lock):
    if not mark.is_file() or mark.read_bytes() != lock.read_bytes():
        raise Missing(f"{name} is not installed: run .ci/setup bench")


@contextmanager
def _target(name, port, ready_path, headers, process):
    """Run a peer until the block ends, once it has made a picture."""
    url = f"http://127.0.0.1:{port}"
    with servers.running(process, url + ready_path, START_SECONDS):
        body = order("glm-image")
        status, _, content = servers.http("POST", url + PATH, body=body(0), headers=headers, timeout=FIRST_SECONDS)
        assert status == 200, content
        assert json.loads(content)["data"][0]["url"]
        yield Target(name=name, url=url + PATH, headers=headers, body=body, pid=process.popen.pid)
