"""One project with one key in a quota store, and what may be asked of them."""

import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from gateway.domain.limits import Limit
from gateway.domain.quota import Claim, Limits, Subject, calendar_of, shard_of, subject_names
from gateway.domain.usage import Outcome, UsageEvent
from tests.ports.quota_stores import START, redis_store

PRICE = 100_000
NOTHING = Limits()
ONE_EACH = {limit: Limits(**{limit.value: PRICE if limit is Limit.SPEND_PER_MONTH else 1}) for limit in Limit}
MINUTE = Limits(requests_per_minute=100, images_per_minute=100)
CALENDAR = calendar_of(round(START.timestamp() * 1000), UTC)
COLLECTED_EVERY = 4  # seconds; longer gaps are taken for a standstill of the store


def event(request_id, project, outcome=Outcome.DELIVERED, **more):
    """A ledger line of the project's only key, which has the project's name."""
    return UsageEvent(
        event_id=request_id, request_id=request_id, outcome=outcome, time=datetime(2026, 11, 23, tzinfo=UTC),
        project_id=project, key_id=project, requested_model="glm-image", upstream_model="glm-image",
        pictures_requested=1, cost_currency="CNY", currency="CNY", **more,
    )  # fmt: skip


class Shop:
    """A project, and `quotas`, the store as one replica sees it."""

    def __init__(self, store, project):
        self.store = store
        self.quotas = store.replica()
        self.project = project
        self.shard = shard_of(project)
        self.subjects = subject_names(project, project)

    def claim(self, pictures=1, *, key=NOTHING, project=NOTHING, request_id=None, price=PRICE):
        request_id = request_id or uuid.uuid4().hex
        return Claim(
            project_id=self.project,
            subjects=(Subject(name=self.subjects[0], limits=key), Subject(name=self.subjects[1], limits=project)),
            pictures=pictures,
            price=price,
            abandoned=event(request_id, self.project, Outcome.ABANDONED),
        )

    async def reserve(self, pictures=1, **more):
        return await self.quotas.reserve(self.claim(pictures, **more))

    async def settle(self, reservation, charged):
        await self.quotas.settle(reservation, charged, event(reservation.claim.request_id, self.project))

    async def probe(self, limit, subject=0):
        """Be refused by a limit of 0: the refusal says how much of it is used, and takes nothing."""
        limits = [NOTHING, NOTHING]
        limits[subject] = Limits(**{limit.value: 0})
        return await self.reserve(key=limits[0], project=limits[1])

    async def used(self, limit, *, subject=0):
        return (await self.probe(limit, subject)).room.used

    async def lines(self):
        return [line for line in await self.store.lines() if line.project_id == self.project]

    async def open(self):
        """Begin as an installation that never charged anything."""
        await self.quotas.refill(self.shard, CALENDAR, {}, fresh=True)

    async def live(self, seconds):
        """Let time pass while the collector runs; the number of reservations that it gave back."""
        collected = await self.store.collect()
        while seconds > 0:
            step = min(seconds, COLLECTED_EVERY)
            seconds -= step
            await self.store.advance(step)
            collected += await self.store.collect()
        return collected


@asynccontextmanager
async def shop(open_store):
    """Open a shop in a store of its own; `open_store` takes the number of a shard."""
    project = f"proj_{uuid.uuid4().hex}"
    async with open_store(shard_of(project)) as store:
        opened = Shop(store, project)
        await opened.open()
        yield opened


def real_shop(url):
    """Open a shop on a real server in real time."""
    return shop(lambda shard: redis_store(url, shard))
