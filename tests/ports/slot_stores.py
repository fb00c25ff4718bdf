"""Slot stores under test: in memory, and on real servers, where a test moves the time all the same."""

from contextlib import asynccontextmanager
from uuid import uuid4

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.collector import Collector
from gateway.adapters.redis.names import ModelNames
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.redis.slots import RedisSlots, heard_grants
from gateway.domain.slots import Seat
from tests.ports.quota_stores import START
from tests.slots_memory import FakeSlots, SlotMemory

LONGEST, LONGEST_CALL, LEASE = 20, 100.0, 30.0


def a_seat(name="main", limit=1, **changes):
    return Seat(**{"name": name, "account": name, "limit": limit, "weight": 1, "fingerprint": f"key {name}", **changes})


class MemoryShop:
    """The fake."""

    def __init__(self):
        self.seconds = START.timestamp()
        self.memory = SlotMemory(lambda: self.seconds, longest=LONGEST, longest_call=LONGEST_CALL)
        self.model = "glm-image"
        self.told = {}

    def replica(self, owner="owner"):
        store = FakeSlots(self.memory, owner)
        store.told = self.told.setdefault(owner, {}).update
        return store

    async def heard(self, owner):
        """The grants that an owner was told of, since it was asked last."""
        found, self.told[owner] = self.told[owner], {}
        self.memory.owners[owner].told = self.told[owner].update
        return found

    async def advance(self, seconds):
        self.seconds += seconds

    async def die(self, owner):
        """Let the lease of an owner end."""
        self.memory.dead.add(owner)

    async def lose(self):
        self.memory.lose()


class RedisShop:
    """A real server; the model is the test's own."""

    def __init__(self, client):
        self.client = client
        self.scripts = Scripts(client)
        self.model = f"model-{uuid4().hex}"
        self.names = ModelNames(self.model)
        self.listeners = {}

    async def open(self):
        await self.client.call("SET", self.names.of("clock"), round(START.timestamp() * 1000))
        for owner in ("owner", "other"):
            listener = await self.client.listener()
            await listener.subscribe(self.replica(owner).channel)
            while (await listener.get_message(timeout=5))["type"] != "subscribe":
                pass
            self.listeners[owner] = listener

    def replica(self, owner="owner"):
        mine = f"{owner}-{self.model}"
        return RedisSlots(self.scripts, mine, lease=LEASE, longest=LONGEST, longest_call=LONGEST_CALL, deadline=5)

    async def heard(self, owner):
        found = {}
        while (message := await self.listeners[owner].get_message(timeout=0.3)) is not None:
            if message["type"] == "message":
                found |= heard_grants(message["data"].decode())
        return found

    async def advance(self, seconds):
        await self.client.call("INCRBY", self.names.of("clock"), round(seconds * 1000))

    async def die(self, owner):
        for name in ("owner", "other"):
            if name != owner:
                await Collector(self.scripts, f"{name}-{self.model}", lease=10**6).renew([self.names])
        await self.replica("undertaker").bury(self.model, [])  # notes when it ran
        await self.client.call("ZADD", self.names.of("owners"), 1, f"{owner}-{self.model}")

    async def lose(self):
        keys = await self.client.call(
            "EVAL", "return redis.call('KEYS', ARGV[1])", 1, self.names.of("clock"), self.names.of("*")
        )
        clock = await self.client.call("GET", self.names.of("clock"))
        for key in keys:
            await self.client.call("DEL", key.decode())
        await self.client.call("SET", self.names.of("clock"), clock)

    async def aclose(self):
        for listener in self.listeners.values():
            await listener.aclose()


@asynccontextmanager
async def memory_shop():
    yield MemoryShop()


@asynccontextmanager
async def redis_shop(url):
    client = RedisClient(url)
    try:
        shop = RedisShop(client)
        await shop.open()
        yield shop
        await shop.aclose()
    finally:
        await client.aclose()
