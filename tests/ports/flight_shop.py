"""A project and its keys on one or more replicas, for tests of jobs, flights and remembered pictures."""

import asyncio
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from gateway.adapters.redis.board import RedisJobBoard
from gateway.adapters.redis.changes import listen
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.collector import Collector
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.flights import RedisFlights
from gateway.adapters.redis.lease import Lease
from gateway.adapters.redis.names import CANCELS, JOBS, Names
from gateway.adapters.redis.quota import RedisQuotas
from gateway.adapters.redis.reserving import Rules
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.caching import Sought, plan_name
from gateway.domain.flights import End, Ending, Receipt
from gateway.domain.quota import Claim, Limits, Subject, shard_of, subject_names
from gateway.domain.usage import Answer, Outcome, UsageEvent
from tests.builders import a_paid_picture, a_picture, a_plan

PRICE = 100_000
FOREVER = 10.0**6
NOTHING = Limits()
ANSWERED = Answer()


def a_new_plan():
    return plan_name(a_plan(prompt=uuid.uuid4().hex))


def sought(plan="", scope="project", **more):
    return Sought(plan=plan, scope=scope, **more)


def picture(name="one"):
    return End(picture=a_picture(content=b"", name=name))


def url(end):
    return end.picture.paid.url


def receipt(name="one"):
    return Receipt(paid=a_paid_picture(name), account="main")


class Replica:
    """One gateway's view of the store."""

    def __init__(self, server, *, lease=FOREVER, owner=None, patience=180.0):
        self.client = RedisClient(server)
        self.scripts = Scripts(self.client)
        self.owner = owner or f"owner-{uuid.uuid4().hex}"
        self.quotas = RedisQuotas(self.scripts, UTC, Rules(owner=self.owner, lease=lease, deadline=5.0))
        self.lease = Lease(lease)
        self.flights = RedisFlights(self.scripts, self.quotas.holdings, self.lease, patience=patience)
        self.board = RedisJobBoard(self.scripts)
        self.stream = RedisUsageStream(self.scripts, "drain")
        self.orphans = []
        self.cancelled = []
        self.collector = Collector(
            self.scripts, self.owner, lease=FOREVER, rescue=self.orphans.append, shards=self.quotas.shards
        )

    async def listen(self):
        subscribed = asyncio.Event()
        heard = {JOBS: self.flights.heard, CANCELS: self.cancelled.append}
        self._listening = asyncio.create_task(listen(self.client, heard, subscribed.set))
        await subscribed.wait()

    async def aclose(self):
        if hasattr(self, "_listening"):
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self.client.aclose()


class Project:
    """A project with some keys, asking on some replica."""

    def __init__(self, replicas):
        self.replicas = replicas
        self.at = replicas[0]
        self.id = f"proj_{uuid.uuid4().hex}"
        self.names = Names(shard_of(self.id))

    async def open(self):
        await self.at.client.call("SET", self.names.of("epoch"), "ready")
        await self.at.collector._collect_shard(self.names.shard)  # after a standstill this only lengthens leases
        return self

    def claim(self, wanted=None, *, n=1, key="key", limits=NOTHING, all_limits=NOTHING, request_id=None):
        request_id = request_id or uuid.uuid4().hex
        key_id = f"{key}-{self.id}"
        names = subject_names(key_id, self.id)
        line = UsageEvent(
            event_id=request_id, request_id=request_id, outcome=Outcome.ABANDONED,
            time=datetime(2026, 11, 23, tzinfo=UTC), project_id=self.id, key_id=key_id, requested_model="glm-image",
            upstream_model="glm-image", pictures_requested=n, cost=n * PRICE, cost_uncertain=True, cost_currency="CNY",
            currency="CNY",
        )  # fmt: skip
        return Claim(
            project_id=self.id,
            subjects=(Subject(name=names[0], limits=limits), Subject(name=names[1], limits=all_limits)),
            pictures=n, price=PRICE, abandoned=line, sought=wanted,
        )  # fmt: skip

    async def ask(self, wanted=None, *, on=None, **more):
        """Reserve and attach."""
        return await (on or self.at).quotas.reserve(self.claim(wanted, **more))

    async def settle(
        self, reservation, *ends, on=None, outcome=Outcome.DELIVERED, replayable=True, answer=ANSWERED, **by_position
    ):
        """End a job; `ends` are those of what it leads, in order."""
        told = {lead.index: end for lead, end in zip(reservation.leads, ends, strict=False)}
        told |= {int(position.removeprefix("p")): end for position, end in by_position.items()}
        delivered = sum(end.picture is not None for index, end in told.items() if _leads(reservation, index))
        done = replace(
            reservation.claim.abandoned, outcome=outcome, cost=delivered * PRICE, cost_uncertain=False,
            pictures_delivered=delivered, price=delivered * PRICE, status=answer.status, error_code=answer.code,
        )  # fmt: skip
        ending = Ending(ends=told, replayable=replayable)
        await (on or self.at).quotas.settle(reservation, delivered, done, ending)

    async def made(self, wanted, name="one", **more):
        """Ask for one picture and make it."""
        reservation = await self.ask(wanted, **more)
        await self.settle(reservation, *(picture(f"{name}{lead.index or ''}") for lead in reservation.leads))
        return reservation

    async def lines(self):
        pending = await self.at.stream.pending(shard_of(self.id))
        return [line for _, line in pending if line.project_id == self.id]

    async def images(self):
        """What the project's windows hold: pictures of the month, millionths, jobs that run."""
        month = next(iter(await self._keys("month")), None)
        counts = await self.at.client.call("HMGET", month, "images", "spend") if month else (0, 0)
        running = await self.at.client.call("SCARD", self.names.of("running", f"project.{self.id}"))
        return int(counts[0] or 0), int(counts[1] or 0), running

    async def requests(self, key="key"):
        """What the key's minute holds; it is counted only when the key has a limit."""
        raw = await self.at.client.call("HGETALL", self.names.of("minute", f"key.{key}-{self.id}"))
        pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
        return sum(int(count) for name, count in pairs if name.startswith(b"r"))

    async def _keys(self, kind):
        now = datetime.now(UTC)
        return [self.names.of(kind, f"project.{self.id}", f"{now:%Y-%m}")]


def _leads(reservation, index):
    return any(lead.index == index for lead in reservation.leads)


@asynccontextmanager
async def project(server, *, replicas=1, listening=False, lease=FOREVER):
    """Open a project on some replicas; the first of them has the given lease, the others live for ever."""
    async with AsyncExitStack() as stack:
        opened = [Replica(server, lease=FOREVER if number else lease) for number in range(replicas)]
        for replica in opened:
            stack.push_async_callback(replica.aclose)
            if listening:
                await replica.listen()
        yield await Project(opened).open()
