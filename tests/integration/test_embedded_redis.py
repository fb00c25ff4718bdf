"""The embedded server in the hands of one process: what its watch does when starting or looking fails."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from gateway.adapters.redis import embedded
from gateway.adapters.redis.embedded import EmbeddedServer
from tests.e2e.test_lifecycle import processes_of
from tests.servers import wait_until

# The supervisor is nobody's child for long: it outlives the process that starts it.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def kill_supervisor(data_dir):
    for pid, words in processes_of(data_dir):
        if "gateway.adapters.redis.supervisor" in words:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def server(tmp_path):
    server = EmbeddedServer(tmp_path / "data")
    with server.in_use():
        yield server
    wait_until(lambda: processes_of(tmp_path / "data") == [], seconds=10, what="the supervisor's end")


@pytest.mark.parametrize("seconds", [0.1, 0.8])
def test_a_server_that_ends_soon_is_tried_ever_more_seldom(server, tmp_path, monkeypatch, seconds):
    binary, tries = tmp_path / "binary", tmp_path / "tries"
    tries.touch()
    binary.write_text(f"#!/bin/sh\necho try >> {tries}\nsleep {seconds}\nexit 1\n")
    binary.chmod(0o700)
    real = embedded.find_server()
    monkeypatch.setattr(embedded, "find_server", lambda: str(binary))
    kill_supervisor(tmp_path / "data")
    time.sleep(8)
    assert 2 <= tries.read_text().count("try") <= 5
    monkeypatch.setattr(embedded, "find_server", lambda: real)
    wait_until(server.running_url, seconds=15, what="the server's return")


def test_a_look_that_fails_does_not_end_the_watch(server, tmp_path, monkeypatch):
    opened, failed = Path.open, []

    def refused(path, *arguments, **more):
        if path == server.supervision and not failed:
            failed.append(path)
            raise OSError(errno.EMFILE, "too many open files")
        return opened(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", refused)
    wait_until(lambda: failed, what="a look")
    kill_supervisor(tmp_path / "data")
    wait_until(lambda: not server.running_url(), what="the server's end")
    wait_until(server.running_url, seconds=10, what="the server's return")
