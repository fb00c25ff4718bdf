"""What one process says of a change reaches all that listen, also after the server was away."""

import asyncio
import subprocess
import time
from contextlib import aclosing

import pytest

from gateway.adapters.redis.changes import RedisAnnouncer, listen
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.names import CHANGES, JOBS
from tests import redis_servers, servers

pytestmark = pytest.mark.anyio


class Listener:
    """Hears in the background; `resumed` counts how often something may have gone unheard."""

    def __init__(self, url):
        self.heard = []
        self.jobs = []
        self.resumed = 0
        self._redis = RedisClient(url)
        self._task = asyncio.create_task(
            listen(self._redis, {CHANGES: self.heard.append, JOBS: self.jobs.append}, self._resume)
        )

    def _resume(self):
        self.resumed += 1

    async def __aenter__(self):
        await until(lambda: self.resumed)
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()


async def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture(params=["alone", "cluster", "sentinel"])
def url(request, tmp_path):
    start = {
        "alone": redis_servers.redis_alone,
        "cluster": redis_servers.redis_cluster,
        "sentinel": redis_servers.redis_sentinel,
    }[request.param]
    with start(tmp_path) as running:
        yield running[0] if request.param == "alone" else running.url


async def test_every_listener_hears_every_change(url):
    failures = []
    async with aclosing(RedisClient(url)) as redis, Listener(url) as one, Listener(url) as two:
        announcer = RedisAnnouncer(redis, failures.append)
        for number in range(100):
            await announcer.announce(f"id-{number}")
        await until(lambda: len(one.heard) == len(two.heard) == 100)
        assert set(one.heard) == set(two.heard) == {f"id-{number}" for number in range(100)}
    assert failures == []


async def test_each_channel_has_its_own_listener(url):
    async with aclosing(RedisClient(url)) as redis, Listener(url) as listener:
        await redis.call("PUBLISH", JOBS, "a job")
        await redis.call("PUBLISH", CHANGES, "a key")
        await until(lambda: listener.heard == ["a key"] and listener.jobs == ["a job"])
        assert listener.resumed == 1


async def test_a_listener_comes_back_and_says_that_it_was_away(tmp_path):
    failures = []
    with servers.redis_server(tmp_path) as (url, process):
        async with aclosing(RedisClient(url)) as redis, Listener(url) as listener:
            announcer = RedisAnnouncer(redis, failures.append)
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


async def test_silence_is_not_taken_for_a_break(url, monkeypatch):
    monkeypatch.setattr("gateway.adapters.redis.changes.SILENCE_SECONDS", 0.05)
    async with Listener(url) as listener:
        await asyncio.sleep(0.5)
        assert listener.resumed == 1


async def test_a_listener_ends_whenever_it_is_told_to(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.redis.changes.SILENCE_SECONDS", 0.0001)  # asks nearly without a pause
    with servers.redis_server(tmp_path) as (url, _):
        async with aclosing(RedisClient(url)) as redis:
            for moment in range(100):
                subscribed = asyncio.Event()
                listening = asyncio.create_task(listen(redis, {CHANGES: lambda _: None}, subscribed.set))
                await subscribed.wait()
                await asyncio.sleep(moment / 10_000)
                listening.cancel()
                await asyncio.wait([listening], timeout=5)
                assert listening.cancelled()


async def test_a_server_that_hangs_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.redis.changes.SILENCE_SECONDS", 0.05)
    with servers.redis_server(tmp_path) as (url, process):
        async with Listener(url) as listener:
            process.send_signal(servers.signal.SIGSTOP)
            await asyncio.sleep(0.5)
            process.send_signal(servers.signal.SIGCONT)
            await until(lambda: listener.resumed == 2)


async def test_when_the_node_of_the_channel_dies_its_successor_carries_the_news(tmp_path):
    with redis_servers.redis_cluster(tmp_path) as cluster:
        async with aclosing(RedisClient(cluster.url)) as redis, Listener(cluster.url) as listener:
            announcer = RedisAnnouncer(redis, lambda _: None)
            cluster.master_of(CHANGES).kill()
            await until(lambda: listener.resumed == 2, 20)
            await announcer.announce("first")  # may meet the dead node, and learns of it
            await announcer.announce("second")
            await until(lambda: "second" in listener.heard)
