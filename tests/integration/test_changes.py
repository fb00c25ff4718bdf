"""What one process says of a change reaches all that listen, also after the server was away."""

import asyncio
import subprocess
import time

import pytest

from gateway.adapters.redis.changes import RedisAnnouncer, listen
from tests import servers

pytestmark = pytest.mark.anyio


class Listener:
    """Hears in the background; `resumed` counts how often something may have gone unheard."""

    def __init__(self, url):
        self.heard = []
        self.resumed = 0
        self._task = asyncio.create_task(listen(url, self.heard.append, self._resume))

    def _resume(self):
        self.resumed += 1

    async def __aenter__(self):
        await until(lambda: self.resumed)
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_every_listener_hears_every_change(tmp_path):
    failures = []
    with servers.redis_server(tmp_path) as (url, _):
        announcer = RedisAnnouncer(url, failures.append)
        async with Listener(url) as one, Listener(url) as two:
            for number in range(100):
                await announcer.announce(f"id-{number}")
            await until(lambda: len(one.heard) == len(two.heard) == 100)
            assert one.heard == two.heard == [f"id-{number}" for number in range(100)]
        await announcer.aclose()
    assert failures == []


async def test_a_listener_comes_back_and_says_that_it_was_away(tmp_path):
    failures = []
    with servers.redis_server(tmp_path) as (url, process):
        announcer = RedisAnnouncer(url, failures.append)
        async with Listener(url) as listener:
            process.kill()
            process.wait()
            await announcer.announce("unheard")
            assert len(failures) == 1
            again = await asyncio.to_thread(subprocess.Popen, process.args, stdout=subprocess.DEVNULL)
            try:
                await until(lambda: listener.resumed == 2)
                await announcer.announce("heard")
                await until(lambda: listener.heard == ["heard"])
            finally:
                again.kill()
                again.wait()
        await announcer.aclose()


async def test_silence_is_not_taken_for_a_break(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.redis.changes.SILENCE_SECONDS", 0.05)
    with servers.redis_server(tmp_path) as (url, _):
        async with Listener(url) as listener:
            await asyncio.sleep(0.5)
            assert listener.resumed == 1


async def test_a_server_that_hangs_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.redis.changes.SILENCE_SECONDS", 0.05)
    monkeypatch.setattr("gateway.adapters.redis.changes.ANSWER_SECONDS", 0.2)
    with servers.redis_server(tmp_path) as (url, process):
        async with Listener(url) as listener:
            process.send_signal(servers.signal.SIGSTOP)
            await asyncio.sleep(0.5)
            process.send_signal(servers.signal.SIGCONT)
            await until(lambda: listener.resumed == 2)
