"""The embedded server's parent: `python -m gateway.adapters.redis.supervisor DATA_DIR BINARY`."""

import ctypes
import fcntl
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from gateway.adapters.redis.embedded import STOP_SECONDS, EmbeddedServer, arguments

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
RESTART_SECONDS = 0.2
LEAST_LIFE_SECONDS = 1.0  # a server that gives up sooner at its first start never worked: restarting is no help


class Supervisor:
    """Keeps the server running until SIGTERM, or until nobody holds the users' lock any more."""

    def __init__(self, server: EmbeddedServer, binary: str) -> None:
        self._server = server
        self._command = arguments(server, binary)
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def run(self) -> None:
        """Run to the end: start, restart after a crash, stop.

        One lock says that this server has a supervisor; the server shares the other, so that none begins beside one
        whose supervisor was killed, and which has not ended yet.
        """
        with self._server.supervision.open("w") as lock, self._server.alive.open("w") as alive:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(alive, fcntl.LOCK_EX)
            self._supervise(alive.fileno())

    def _supervise(self, alive: int) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._watch_users, daemon=True).start()
        started = time.monotonic()
        while not self._stopping.is_set():
            self._child = subprocess.Popen(  # noqa: S603 - as found
                self._command,
                pass_fds=[alive],
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - it calls prctl and nothing else
            )
            if self._stopping.is_set():
                self._child.terminate()
            by_itself = self._child.wait() >= 0  # a signal's number is negative: it was killed, and may work again
            if by_itself and time.monotonic() - started < LEAST_LIFE_SECONDS:
                break
            self._stopping.wait(RESTART_SECONDS)
        self._server.socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """Ask the server to end; SIGKILL it when it does not."""
        self._stopping.set()
        child = self._child
        if child is None:
            return
        child.terminate()
        threading.Thread(target=_kill_later, args=(child,), daemon=True).start()

    def _watch_users(self) -> None:
        """Block until the lock is free; the kernel frees a dead process's share, so a SIGKILL is noticed too."""
        with self._server.users.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.stop()
            while True:  # hold the lock to the end: a newcomer has to wait until the server has gone
                time.sleep(STOP_SECONDS)


def _die_with_parent() -> None:
    """Ask Linux to end the server when its supervisor is killed: a server without one would be nobody's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_later(child: subprocess.Popen[bytes]) -> None:
    time.sleep(STOP_SECONDS)
    if child.poll() is None:
        child.kill()


if __name__ == "__main__":
    data_dir, server_binary = sys.argv[1:]
    Supervisor(EmbeddedServer(Path(data_dir)), server_binary).run()
