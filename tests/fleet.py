"""Several gateways of one installation, and what their keys are charged in the ledger."""

import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import servers

SECRET = "the secret of the replicas"


@dataclass
class Fleet:
    """Gateways on one Redis, one database and one store."""

    gateways: list
    redis_url: str
    database: Path
    redis: object
    settings: dict

    def key(self, *limits):
        """Make a key; give its id and secret."""
        made = servers.glm_gateway("keys", "create", "--name", f"key {time.time_ns()}", "--json", *limits, env=self.env)
        assert made.returncode == 0, made.stderr
        key = json.loads(made.stdout)
        return key["id"], key["key"]

    @property
    def env(self):
        return self.gateways[0].env

    def lines(self, key_id):
        """The ledger's lines of a key."""
        with sqlite3.connect(self.database) as database:
            database.row_factory = sqlite3.Row
            return database.execute("SELECT * FROM usage_events WHERE key_id = ?", (key_id,)).fetchall()

    def limit(self, key_id, *limits):
        """Change limits of a key under way."""
        done = servers.glm_gateway("keys", "limits", key_id, *limits, env=self.env)
        assert done.returncode == 0, done.stderr

    def charged(self, key_id):
        return sum(line["pictures_delivered"] for line in self.lines(key_id))


def at_once(count, send):
    """Run send(0), send(1), ... all at the same moment; give what they give."""
    barrier = threading.Barrier(count)

    def one(number):
        barrier.wait()
        return send(number)

    with ThreadPoolExecutor(count) as clients:
        return list(clients.map(one, range(count)))


@contextmanager
def fleet(tmp_path, simulator, size, **settings):
    """Run gateways on a Redis that is made for them."""
    with (
        servers.redis_server(tmp_path) as (url, redis),
        fleet_on(url, redis, tmp_path, simulator, size, **settings) as running,
    ):
        yield running


@contextmanager
def fleet_on(url, redis, tmp_path, simulator, size, **settings):
    """Run gateways on a Redis of the test's own."""
    database = tmp_path / "shared.db"
    env = {
        "REDIS_URL": url,
        "DATABASE_URL": f"sqlite:///{database}",
        "GLM_GATEWAY_SECRET_KEY": SECRET,
        "GLM_GATEWAY_STORE__URL": (tmp_path / "pictures").as_uri(),
        "GLM_GATEWAY_QUEUE__MAX_LENGTH": "5000",
        **settings,
    }
    with ExitStack() as stack:
        gateways = []
        for number in range(size):
            folder = tmp_path / str(number)
            folder.mkdir()
            gateways.append(stack.enter_context(servers.gateway(folder, simulator, **env)))
        yield Fleet(gateways, url, database, redis, env)
