"""One in-memory implementation of each port of gateway.service.ports."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from gateway.domain.image import PictureBytes
from gateway.service.dispatch import Dispatch, Slots
from tests.builders import NOW, a_paid_picture, a_plan, an_account


class FakeClock:
    """Stands still, except that a sleep takes its time at once; `step` seconds pass with each monotonic reading."""

    def __init__(self, step=0.0):
        self.seconds = 0.0
        self.step = step
        self.slept = []

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self):
        self.seconds += self.step
        return self.seconds

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


class FakeUpstream:
    """Makes a picture per call, or what `ends` says, in order: a PaidPicture, or an exception to raise.

    While `gate` is not set a call hangs in flight.
    """

    def __init__(self, *ends):
        self.ends = list(ends)
        self.calls = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def make(self, account, plan):
        self.calls.append((account, plan))
        number = len(self.calls)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        end = self.ends.pop(0) if self.ends else a_paid_picture(str(number))
        if isinstance(end, BaseException):
            raise end
        return end


class FakeSource:
    """Gives bytes for every URL, or what `ends` says, in order; while `gate` is not set a download hangs."""

    def __init__(self, *ends):
        self.ends = list(ends)
        self.urls = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, url):
        self.urls.append(url)
        await self.gate.wait()
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, BaseException):
            raise end
        return end or PictureBytes(content=url.encode(), media="png", width=1280, height=1280)


class FakeKeys:
    """The list of keys; `lookups` are the ids that were asked for."""

    def __init__(self, *keys):
        self.keys = {key.id: key for key in keys}
        self.lookups = []

    async def get(self, key_id):
        self.lookups.append(key_id)
        await asyncio.sleep(0)
        return self.keys.get(key_id)

    async def add(self, key):
        self.keys[key.id] = key

    async def list(self):
        return sorted(self.keys.values(), key=lambda key: key.created_at)

    async def revoke(self, key_id, at):
        if key_id not in self.keys:
            return False
        key = self.keys[key_id]
        self.keys[key_id] = replace(key, revoked_at=key.revoked_at or at)
        return True


class FakeObserver:
    """Remembers what it is told: the name of each event, and everything that was said with it."""

    def __init__(self):
        self.told = []
        self.waiting = 0
        self.most_waiting = 0

    def call_failed(self, account, plan, fault, detail):
        self.told.append(("call_failed", account.name, plan.model, fault, detail))

    def picture_paid(self, account, plan, seconds):
        self.told.append(("picture_paid", account.name, plan.model, seconds))

    def fetch_failed(self, paid, reason, *, given_up):
        self.told.append(("fetch_failed", paid.url, reason, given_up))

    def picture_delivered(self, plan):
        self.told.append(("picture_delivered", plan.model))

    def queued(self, change):
        self.waiting += change
        self.most_waiting = max(self.most_waiting, self.waiting)

    def all(self, event):
        """Everything that was said with this event."""
        return [said for name, *said in self.told if name == event]


class Workshop:
    """A Dispatch on fakes of everything that it needs."""

    def __init__(self, *ends, accounts=None, max_wait=30.0, max_length=1000):
        self.upstream = FakeUpstream(*ends)
        self.source = FakeSource()
        self.clock = FakeClock()
        self.observer = FakeObserver()
        self.slots = Slots(accounts or [an_account()], max_wait=max_wait, max_length=max_length)
        self.dispatch = Dispatch(self.upstream, self.source, self.slots, self.clock, self.observer)

    def make(self, **plan):
        return self.dispatch.make(a_plan(**plan))


class Queue:
    """Slots with one account, and tasks that hold one each until told to let it go."""

    def __init__(self, concurrency=1, **limits):
        limits = {"max_wait": 30.0, "max_length": 100, **limits}
        self.slots = Slots([an_account(concurrency=concurrency)], **limits)
        self.observer = FakeObserver()
        self.served = []
        self.release = {}

    async def hold(self, name):
        self.release[name] = asyncio.Event()
        async with self.slots.one(self.observer):
            self.served.append(name)
            await self.release[name].wait()

    def enter(self, *names):
        return [asyncio.create_task(self.hold(name)) for name in names]


async def serve_out(queue, tasks, names):
    for name in names:
        queue.release[name].set()
        await settle()
    await asyncio.gather(*tasks)


async def settle(ticks=20):
    """Let everything run that can run now."""
    for _ in range(ticks):
        await asyncio.sleep(0)
