"""Projects that flood the queue get their shares of an account's slots, over two replicas on one Redis."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.adapters.redis.changes import listen
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.redis.slots import RedisSlots, heard_grants
from gateway.adapters.system import SystemClock
from gateway.service.desk import Desk
from gateway.service.jobs import Jobs
from gateway.service.offers import Offers
from gateway.service.slots import Slots, Wish
from tests import servers
from tests.builders import an_account, an_offer
from tests.fakes import FakeObserver

pytestmark = pytest.mark.anyio
MODEL, WEIGHTS = "glm-image", {"light": 1, "middle": 2, "heavy": 3}
SLOTS, CLIENTS, CALLS = 4, 10, 300  # clients: of each project on each replica; calls: until it is counted


class Account:
    """What the upstream sees of an account: who calls, and how many at once."""

    def __init__(self):
        self.calls = []
        self.now = self.most = 0
        self.done = asyncio.Event()

    async def serve(self, project):
        self.calls.append(project)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.002)
        self.now -= 1
        if len(self.calls) >= CALLS:
            self.done.set()


@asynccontextmanager
async def beside(*work):
    """Let something go on while the block runs."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def replica(stack, url, name):
    """Slots of one replica, which hears what others' scripts give it."""
    client = RedisClient(url)
    stack.push_async_callback(client.aclose)
    clock, crashes = SystemClock(), []
    store = RedisSlots(Scripts(client), name, lease=30.0, longest=1000, longest_call=200.0, deadline=5.0)
    desk = Desk(store=store, clock=clock, errands=Jobs(crashes.append))
    slots = Slots(Offers(an_offer(an_account(concurrency=SLOTS))), desk, FakeObserver())
    hears = asyncio.Event()
    heard = {store.channel: lambda message: slots.granted(heard_grants(message))}
    await stack.enter_async_context(beside(listen(client, heard, hears.set)))
    stack.push_async_callback(desk.errands.drain, 10)
    await asyncio.wait_for(hears.wait(), 30)
    return slots, clock


async def flood(slots, clock, account, project, client):
    """Want one picture after the other."""
    number = 0
    while True:
        number += 1
        group = f"{client} {number}"
        wish = Wish(
            model=MODEL,
            project=project,
            weight=WEIGHTS[project],
            group=group,
            position=0,
            came=clock.now(),
            patience=120.0,
        )
        with await slots.take(wish):
            await account.serve(project)


async def test_flooding_projects_share_by_weight_over_two_replicas(tmp_path):
    account = Account()
    async with AsyncExitStack() as stack:
        url, _ = stack.enter_context(servers.redis_server(tmp_path))
        replicas = [await replica(stack, url, name) for name in ("one", "other")]
        floods = [
            flood(*replicas[client % 2], account, project, f"{project} {client}")
            for project in WEIGHTS
            for client in range(2 * CLIENTS)
        ]
        async with beside(*floods):
            await asyncio.wait_for(account.done.wait(), 60)
    shares = Counter(account.calls[:CALLS])
    for project, weight in WEIGHTS.items():
        assert shares[project] == pytest.approx(CALLS * weight / sum(WEIGHTS.values()), rel=0.1)
    assert account.most == SLOTS
