"""Stores under test, one shard each: in memory, and on real servers, where a test can move the time all the same."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from gateway.adapters.redis import quota
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.collector import Collector
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.names import Names
from gateway.adapters.redis.quota import RedisQuotas
from gateway.adapters.redis.reserving import Rules
from gateway.adapters.redis.scripts import Scripts
from tests.fakes import FakeClock
from tests.fakes_quota import FakeQuotas
from tests.quota_memory import Memory

# The store's clock never runs back: so far ahead of real time it stands until it is moved.
START = datetime(2096, 11, 23, 12, tzinfo=UTC)
LEASE = 30.0

# KEYS 1 a key of the shard   ARGV 1 pattern of all its keys
WIPE = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end"

# Keys whose end matters end by the clock that is moved, and not by real time.
# KEYS 1 clock   2 ends of reservations by that clock (zset, ms)
# ARGV 1, 2 the clock before and after, ms   3 pattern of all reservations
ADVANCE = """
for _, key in ipairs(redis.call('KEYS', ARGV[3])) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    local whole = math.floor(left / 10000 + 0.5) * 10000 -- some of it has run down in real time
    redis.call('ZADD', KEYS[2], string.format('%.0f', ARGV[1] + whole), key)
    redis.call('PERSIST', key)
  end
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2])) do
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[2], key)
end
redis.call('SET', KEYS[1], ARGV[2])
"""


class MemoryStore:
    """The fake."""

    def __init__(self, shard, clock):
        self.clock = clock
        self._memory = Memory(clock)
        self._number = shard

    @property
    def shard(self):
        return self._memory.shards[self._number]

    def replica(self, owner="owner", lease=LEASE, **more):
        """The store as one replica of the gateway sees it."""
        return FakeQuotas(self._memory, owner, lease, **more)

    async def line(self, project):
        """The requests that wait for a place, in their order."""
        return [taken.claim.request_id for taken in self.shard.line if taken.claim.project_id == project]

    async def renew(self, owner="owner", lease=LEASE):
        self.shard.renew(owner, lease)

    async def collect(self):
        """Run the collector; the number of reservations that it gave back."""
        return self.shard.collect()

    async def lines(self):
        """What is settled and not in the ledger yet."""
        return list(self.shard.lines)

    async def advance(self, seconds):
        """Let time pass, for the store and for its replicas."""
        self.clock.seconds += seconds

    async def lose(self):
        """Lose everything, as a server that starts empty."""
        self._memory.lose(self._number)


class RedisStore:
    """A real server, in real time."""

    def __init__(self, url, shard):
        self.client = RedisClient(url)
        self.scripts = Scripts(self.client)
        self.names = Names(shard)
        self.stream = RedisUsageStream(self.scripts, "drain")
        self.shard = shard

    def replica(self, owner="owner", lease=LEASE, **more):
        return RedisQuotas(self.scripts, UTC, Rules(**{"owner": owner, "lease": lease, "deadline": 5, **more}))

    async def renew(self, owner="owner", lease=LEASE):
        await Collector(self.scripts, owner, lease=lease).renew([Names(self.shard)])

    async def collect(self):
        return await Collector(self.scripts, "collector", lease=LEASE)._collect_shard(self.shard)

    async def line(self, project):
        members = await self.client.call("ZRANGE", self.names.of("waiting", project), 0, -1)
        return [member.decode().split(" ")[1] for member in members]

    async def lines(self):
        return [line for _, line in await self.stream.pending(self.shard)]

    async def lose(self):
        await self.client.call("EVAL", WIPE, 1, self.names.of("clock"), self.names.of("*"))


class MovedRedisStore(RedisStore):
    """A real server whose time passes when the test says so; `skew` seconds are its replicas' clocks ahead of it."""

    def __init__(self, url, shard, clock):
        super().__init__(url, shard)
        self.clock = clock
        self.skew = 0

    async def advance(self, seconds):
        before = self._now()
        self.clock.seconds += seconds
        keys = [self.names.of("clock"), self.names.of("test:ends")]
        await self.client.call("EVAL", ADVANCE, 2, *keys, before, self._now(), self.names.of("reservation:*"))

    async def lose(self):
        await super().lose()
        await self.client.call("SET", self.names.of("clock"), self._now())

    def _now(self):
        return round(self.clock.now().timestamp() * 1000)

    # What the adapter asks the module `time` for.

    def time_ns(self):
        return (self._now() + self.skew * 1000) * 1_000_000

    def monotonic(self):
        return self.clock.monotonic()


@asynccontextmanager
async def memory_store(shard):
    yield MemoryStore(shard, FakeClock(start=START))


@asynccontextmanager
async def moved_redis_store(url, shard):
    store = MovedRedisStore(url, shard, FakeClock(start=START))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quota, "time", store)
        await store.lose()
        try:
            yield store
        finally:
            await RedisStore.lose(store)  # nothing is left to the next test, which may be one in real time
            await store.client.aclose()


@asynccontextmanager
async def redis_store(url, shard):
    store = RedisStore(url, shard)
    try:
        yield store
    finally:
        await store.client.aclose()
