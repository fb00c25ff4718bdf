"""One replica at a time carries a shard's lines into the ledger, over a real Redis; another goes on when it dies."""

import asyncio
import subprocess
import sys
import time
import uuid
from contextlib import asynccontextmanager

import pytest

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.names import Names, encode_event
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.quota import SHARDS, shard_of
from gateway.service.metering import Backlog, Metering
from tests import redis_servers, servers
from tests.builders import a_line
from tests.fakes import FakeObserver

pytestmark = pytest.mark.anyio
LINES = 40
# A replica that has its turn and dies, without giving anything back.
DOOMED = """
import asyncio, sys
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.scripts import Scripts

async def hold(url, shard):
    async with RedisUsageStream(Scripts(RedisClient(url)), "doomed", turn=3).turn(shard) as turn:
        print(turn.ours, flush=True)
        await asyncio.sleep(600)

asyncio.run(hold(sys.argv[1], int(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with redis_servers.redis_alone(tmp_path_factory.mktemp("valkey")) as (url, _):
        yield url


class Records:
    """A ledger that is slow, and knows who wrote what; all replicas share `written`."""

    def __init__(self, who, written, seconds, began):
        self.who, self.written, self.seconds, self.began = who, written, seconds, began

    async def write(self, events):
        self.began.set()
        await asyncio.sleep(self.seconds)
        self.written += [(event.event_id, self.who) for event in events]


class Replica:
    """The metering of one replica."""

    def __init__(self, url, who, written, seconds=0.2, turn=1.5):
        self.client = RedisClient(url)
        self.stream = RedisUsageStream(Scripts(self.client), who, turn=turn)
        self.backlog = Backlog(10**6, FakeObserver())
        self.began = asyncio.Event()  # the first write
        records = Records(who, written, seconds, self.began)
        self.metering = Metering(self.stream, records, self.backlog, FakeObserver(), list)


@asynccontextmanager
async def replicas(url, *names, **more):
    written = []
    opened = [Replica(url, name, written, **more) for name in names]
    try:
        yield written, *opened
    finally:
        for replica in opened:
            await replica.client.aclose()


async def fill(replica, count=LINES):
    """Put lines of one project into its stream; give their shard and ids."""
    project = f"proj_{uuid.uuid4().hex}"
    lines = [a_line(f"{project}-{number}", project_id=project) for number in range(count)]
    events = Names(shard_of(project)).of("events")
    await asyncio.gather(
        *(replica.client.call("XADD", events, "*", "event", encode_event(line, line.time)) for line in lines)
    )
    return shard_of(project), sorted(line.event_id for line in lines)


async def test_no_line_is_written_by_two_replicas(url):
    async with replicas(url, "one", "other") as (written, one, other):
        for _ in range(5):
            written.clear()
            shard, ids = await fill(one)
            while await one.stream.backlog(shard):
                await asyncio.gather(one.metering.drain(), other.metering.drain())
            assert sorted(event_id for event_id, _ in written) == ids


async def test_who_works_longer_than_a_turn_keeps_it(url):
    """One slow write: a turn lasts 0.6 s and is renewed meanwhile."""
    async with replicas(url, "one", "other", seconds=2.0, turn=0.6) as (written, one, other):
        _, ids = await fill(one)
        working = asyncio.create_task(one.metering.drain())
        await asyncio.wait_for(one.began.wait(), 20)
        while not working.done():
            await other.metering.drain()
            await asyncio.wait({working}, timeout=0.05)
        await other.metering.drain()
        assert [who for _, who in written] == ["one"] * len(ids)


async def test_another_goes_on_when_the_holder_dies(url):
    async with replicas(url, "heir", seconds=0) as (written, heir):
        shard, ids = await fill(heir)
        command = [sys.executable, "-c", DOOMED, url, str(shard)]
        doomed = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=servers.ROOT)
        assert await doomed.stdout.readline() == b"True\n"
        assert await heir.metering.drain() == 0
        assert heir.backlog.lines == len(ids)
        doomed.kill()
        await doomed.wait()
        assert await heir.metering.drain() == 0, "the turn of the dead lasts a while"
        assert written == []
        deadline = time.monotonic() + 20
        while not written:
            assert time.monotonic() < deadline
            await heir.metering.drain()
            await asyncio.sleep(0.05)
        assert sorted(event_id for event_id, _ in written) == ids


async def test_a_turn_is_given_back_when_the_work_is_done_and_when_it_failed(url):
    async with replicas(url, "one", "other", seconds=0) as (_, one, other):
        shard, _ = await fill(one)
        await one.metering.drain()
        assert not await one.client.call("EXISTS", Names(shard).of("drain"))
        with pytest.raises(RuntimeError):
            async with one.stream.turn(shard):
                raise RuntimeError
        async with other.stream.turn(shard) as turn:
            assert turn.ours
            async with one.stream.turn(shard) as second:
                assert not second.ours
            assert turn.ours, "who did not get it must not give it back"
            assert await one.client.call("GET", Names(shard).of("drain")) == b"other"


async def test_an_idle_installation_is_asked_one_command_a_shard(url):
    async with replicas(url, "one") as (_, one):
        await one.metering.drain()
        before = await calls(one.client)
        await one.metering.drain()
        after = await calls(one.client)
        asked = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
        asked.pop("client|setinfo", None)  # of a connection that is opened beside
        assert asked == {"xlen": SHARDS, "info": 1}


async def calls(client):
    """How often each command was called."""
    stats = await client.call("INFO", "commandstats")
    return {name.removeprefix("cmdstat_"): said["calls"] for name, said in stats.items()}
