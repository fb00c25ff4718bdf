"""Everything that is measured, as processes: started when a scenario first asks for it, ended with the bench.

What is measured runs on core 0; what loads it and what it talks to run on core 1.
"""

import json
import os
import sys
from contextlib import ExitStack

from tests import redis_servers, servers
from tests.bench import peers
from tests.bench.load import Target

MEASURED, OTHERS = 0, 1
PATH = peers.PATH
ADMIN = {"authorization": f"Bearer {servers.ADMIN_KEY}"}
# High enough to let everything pass, so that each of them is counted.
LIMITS = {"requests-per-minute": 10**8, "images-per-minute": 10**8, "images-per-day": 10**9, "images-per-month": 10**9}
LIMITS |= {"concurrent": 10**5, "spend-per-month": 10**9}
UNKNOWN_KEY = "sk-glm-nobodyhaskey0000000000000000000000000000000039hmez"  # of the right form


class Stage:
    """What runs. `folder` takes the logs and data of all."""

    def __init__(self, folder, stack: ExitStack):
        self.folder = folder
        self._stack = stack
        self._numbers = 0
        self._made = {}
        os.sched_setaffinity(0, {OTHERS})  # of this process, and of what it starts unpinned

    def upstream(self, latency=0.0):
        """The instant upstream, or one that takes its time."""
        return self._once(self._upstream, latency)

    def gateway(self, urls="own", latency=0.0, database=None):
        """A gateway with everything on, whose only key has every limit, and its Redis."""
        return self._once(self._gateway, urls, latency, database)

    def redis(self, name):
        """A Redis of one gateway's own."""
        return self._once(self._redis, name)

    def limited(self, gateway):
        """A key whose limit of one picture a month is used up, and stays so."""
        return self._once(self._limited, gateway.url, gateway)

    def hello(self):
        """The floor: see hello.py."""
        return self._once(self._hello)

    def peer(self, name):
        """One of the peers; peers.Missing when it is not installed."""
        return self._once(self._peer, name)

    def _once(self, make, *words):
        known = (make.__name__, *map(str, words[:3]))
        if known not in self._made:
            self._made[known] = make(*words)
        return self._made[known]

    def target(self, gateway, name, *, key=None, **body):
        """Give a load of requests that are all different, or all the same where a prompt is given."""
        fields = {"model": "glm-image", **body}
        same = json.dumps(fields).encode() if "prompt" in fields else None
        headers = {"authorization": f"Bearer {key or gateway.key}"}
        number = peers.order("glm-image", **body)
        return Target(
            name, gateway.url + PATH, headers, (lambda _: same) if same else number, gateway.process.popen.pid
        )

    def _place(self, name):
        self._numbers += 1
        folder = self.folder / f"{name}-{self._numbers}"
        folder.mkdir()
        return folder

    def _redis(self, _):
        url, _ = self._stack.enter_context(redis_servers.redis_alone(self._place("redis")))
        return url

    def _upstream(self, latency):
        return self._stack.enter_context(peers.upstream(self._place("upstream"), latency=latency, core=OTHERS))

    def _gateway(self, urls, latency, database):
        env = {
            "REDIS_URL": self.redis(f"{urls}-{latency}-{database}"),
            "DATABASE_URL": database,
            "GLM_GATEWAY_SECRET_KEY": "a secret of the bench" if database else None,
            "ZHIPUAI_CONCURRENCY": "20000",
            "GLM_GATEWAY_CACHE__SCOPE": "project",
            "GLM_GATEWAY_CACHE__MAX_ENTRIES": "10000000",
            "GLM_GATEWAY_STORE__URLS": urls,
            "GLM_GATEWAY_QUEUE__MAX_JOBS": "20000",
            "GLM_GATEWAY_REDIS__RESERVE_DEADLINE": "10",  # other work on the machine is no outage
        }
        program = peers.pinned(servers.GATEWAY, MEASURED)
        upstream = self.upstream(latency)
        gateway = self._stack.enter_context(servers.gateway(self._place("gateway"), upstream, program=program, **env))
        [key] = json.loads(_command(gateway, "keys", "list", "--json"))
        _command(
            gateway,
            "keys",
            "limits",
            key["id"],
            *(word for name, most in LIMITS.items() for word in (f"--{name}", most)),
        )
        return gateway

    def _limited(self, _, gateway):
        secret = _command(gateway, "keys", "create", "--name", "limited", "--images-per-month", 1).strip()
        gateway.post({"prompt": "the only one", "response_format": "url"}, key=secret)
        return secret

    def _hello(self):
        port = servers.free_port()
        program = peers.pinned((sys.executable, "-m", "tests.bench.hello"), MEASURED)
        process = servers.Process([str(port)], servers.environment(), self.folder / "hello.log", program)
        url = f"http://127.0.0.1:{port}/"
        self._stack.enter_context(servers.running(process, f"{url}"))
        return Target("hello", url, {}, peers.order("glm-image"), process.popen.pid)

    def _peer(self, name):
        folder, upstream = self._place("peer"), self.upstream(0.0)
        if name == "portkey":
            return self._stack.enter_context(peers.portkey(folder, upstream, core=MEASURED))
        redis_url = self.redis("litellm") if name == "litellm with redis" else None
        return self._stack.enter_context(peers.litellm(folder, upstream, core=MEASURED, redis_url=redis_url))


def _command(gateway, *words):
    made = servers.glm_gateway(*map(str, words), env=gateway.env)
    assert made.returncode == 0, made.stderr
    return made.stdout
