"""One in-memory implementation of each port of gateway.service.ports, and a server that behaves as it is told."""

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from gateway.domain.errors import DatabaseUnavailable, NameTaken
from gateway.domain.terms import with_changes
from gateway.service.desk import Desk
from gateway.service.dispatch import Dispatch
from gateway.service.jobs import Jobs
from gateway.service.keeping import Keeping
from gateway.service.offers import Offers
from gateway.service.slots import Slots, Wish
from tests.builders import NOW, a_paid_picture, a_plan, an_account, an_offer, an_order
from tests.fakes_store import FakeDownload, FakePictureStore
from tests.slots_memory import FakeSlots, SlotMemory


class FakeClock:
    """Stands still at `start`, except that a sleep takes its time at once; `step` seconds pass with each reading."""

    def __init__(self, step=0.0, start=NOW):
        self.start = start
        self.seconds = 0.0
        self.step = step
        self.slept = []

    def now(self):
        return self.start + timedelta(seconds=self.seconds)

    def monotonic(self):
        self.seconds += self.step
        return self.seconds

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


class FakeUpstream:
    """Makes a picture per call, or what `ends` says, in order: a PaidPicture, or an exception to raise.

    While `gate` is not set a call hangs in flight. With `task` a picture is ordered under that id and asked for.
    """

    def __init__(self, *ends):
        self.ends = list(ends)
        self.calls = []
        self.task = None
        self.resumed = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def make(self, account, plan, submitted):
        self.calls.append((account, plan))
        if self.task:
            await submitted(self.task)
        return await self._end(str(len(self.calls)))

    async def resume(self, account, task_id):
        self.resumed.append((account.name, task_id))
        return await self._end(task_id)

    async def _end(self, name):
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)  # what has a slot at the same time is sent at the same time
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        if self.ends and isinstance(self.ends[0], BaseException):
            raise self.ends.pop(0)  # not by a name of this frame, which its traceback would keep
        return self.ends.pop(0) if self.ends else a_paid_picture(name)


class FakeSource:
    """Gives bytes for every URL, or what `ends` says, in order; while `gate` is not set a download hangs."""

    def __init__(self, *ends):
        self.ends = list(ends)
        self.urls = []
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def fetch(self, url):
        self.urls.append(url)
        await self.gate.wait()
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, BaseException):
            raise end
        yield end or FakeDownload(url.encode())


class FakeKeys:
    """The list of keys; `lookups` are the ids that were asked for. While it is `down`, nothing can be read or written.

    While `gate` is not set, a look-up hangs after it was answered.
    """

    def __init__(self, *keys):
        self.keys = {key.id: key for key in keys}
        self.lookups = []
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, key_id):
        self.lookups.append(key_id)
        self._reach()
        found = self.keys.get(key_id)
        await self.gate.wait()
        await asyncio.sleep(0)
        return found

    async def add(self, key):
        self._reach()
        same = [one for one in self.keys.values() if (one.project.id, one.name) == (key.project.id, key.name)]
        if any(one.revoked_at is None for one in same):
            raise NameTaken(key.name)
        self.keys[key.id] = key

    async def list(self, project_id=None):
        self._reach()
        found = [key for key in self.keys.values() if project_id in {None, key.project.id}]
        return sorted(found, key=lambda key: key.created_at)

    async def change(self, key_id, changes):
        return self._replace(key_id, lambda key: with_changes(key, changes))

    async def replace_secret(self, key_id, digest, last_four, old_until):
        self._reach()
        if key_id not in self.keys or self.keys[key_id].revoked_at:
            return False
        new = {"digest": digest.value, "digested_with": digest.made_with}
        new |= {"last_four": last_four, "previous_until": old_until}
        return self._replace(key_id, lambda key: replace(key, previous_digest=key.digest if old_until else None, **new))

    async def revoke(self, key_id, at):
        return self._replace(key_id, lambda key: replace(key, revoked_at=key.revoked_at or at))

    async def touch(self, used):
        for key_id, at in used.items():
            self._replace(key_id, lambda key, at=at: replace(key, last_used_at=max(key.last_used_at or at, at)))

    def _replace(self, key_id, change):
        self._reach()
        if key_id in self.keys:
            self.keys[key_id] = change(self.keys[key_id])
        return key_id in self.keys

    def _reach(self):
        if self.down:
            raise DatabaseUnavailable("the database is down")


class FakeObserver:
    """Remembers what it is told: the name of each event, and everything that was said with it."""

    def __init__(self):
        self.told = []
        self.waiting = 0
        self.most_waiting = 0
        self.backlog = self.unsaved = 0
        self.reached = {}

    def call_failed(self, account, plan, fault, detail):
        self.told.append(("call_failed", account.name, plan.model, fault, detail))

    def picture_paid(self, account, plan, seconds):
        self.told.append(("picture_paid", account.name, plan.model, seconds))

    def fetch_failed(self, paid, reason, *, given_up):
        self.told.append(("fetch_failed", paid.url, reason, given_up))

    def picture_delivered(self, plan):
        self.told.append(("picture_delivered", plan.model))

    def store_failed(self, operation, reason):
        self.told.append(("store_failed", operation, reason))

    def queued(self, change):
        self.waiting += change
        self.most_waiting = max(self.most_waiting, self.waiting)

    def waited(self, model, seconds):
        self.told.append(("waited", model, seconds))

    def account_parked(self, account, park):
        self.told.append(("account_parked", account.name, park))

    def queue_looked_at(self, model, tended):
        self.told.append(("queue_looked_at", model, tended))

    def attached(self, model, *, cached, joined):
        self.told.append(("attached", model, cached, joined))

    def line_closed(self, line):
        self.told.append(("line_closed", line))

    def ledger_reached(self, shard, ended):
        self.reached[shard] = ended

    def ledger_backlog(self, lines):
        self.backlog = lines

    def settlement_unsaved(self, settlement, reason):
        self.told.append(("settlement_unsaved", settlement, reason))

    def settlements_unsaved(self, count):
        self.unsaved = count

    def settlement_stuck(self, settlement, reason):
        self.told.append(("settlement_stuck", settlement, reason))

    def outage(self, what, reason):
        self.told.append(("outage", what, reason))

    def settlement_lost(self, settlement):
        self.told.append(("settlement_lost", settlement))

    def crashed(self, failure):
        self.told.append(("crashed", failure))

    def all(self, event):
        """Everything that was said with this event."""
        return [said for name, *said in self.told if name == event]


class FakeProgress:
    """Notes how far a picture is."""

    def __init__(self):
        self.waits = []
        self.times_sent = 0
        self.senders = []
        self.tasks = []
        self.receipts = []

    def waited(self, seconds):
        self.waits.append(seconds)

    async def sent(self, account):
        self.senders.append(account.name)
        self.times_sent += 1

    def turned_away(self):
        self.times_sent -= 1

    async def submitted(self, account, task_id):
        self.tasks.append((account, task_id))

    async def paid(self, receipt):
        self.receipts.append(receipt)


def a_wish(group="job", **changes):
    wish = {"model": "glm-image", "project": "default", "weight": 1, "position": 0, "came": NOW, "patience": 30.0}
    return Wish(**{**wish, "group": group, **changes})


def slots_of(offers, clock, observer, *, max_length=1000, without=False):
    """Slots of one replica on a store in memory, and that store."""
    memory = SlotMemory(lambda: clock.now().timestamp(), longest=max_length)
    store = FakeSlots(memory)
    desk = Desk(store=store, clock=clock, errands=Jobs(observer.crashed), without=without)
    slots = Slots(offers, desk, observer)
    store.told = slots.granted
    return slots, store


class Workshop:
    """A Dispatch on fakes of everything that it needs; whoever waits does so in real seconds, at most `max_wait`."""

    def __init__(self, *ends, accounts=None, max_wait=30.0, max_length=1000):
        self.upstream = FakeUpstream(*ends)
        self.source = FakeSource()
        self.store = FakePictureStore()
        self.clock = FakeClock()
        self.observer = FakeObserver()
        self.progress = FakeProgress()
        self.max_wait = max_wait
        self.offers = Offers(an_offer(*(accounts or [an_account()])))
        self.slots, self.slot_store = slots_of(self.offers, self.clock, self.observer, max_length=max_length)
        self.keeping = Keeping(self.source, self.store, self.clock, self.observer)
        self.dispatch = Dispatch(self.upstream, self.keeping, self.slots, self.clock, self.observer, self.offers)
        self.made = 0

    def make(self, *, linked=False, **plan):
        self.made += 1
        order = an_order(plan=a_plan(**plan), linked=linked)
        wish = a_wish(f"job {self.made}", model=order.plan.model, came=self.clock.now(), patience=self.max_wait)
        return self.dispatch.make(order, wish, self.progress)


class Queue:
    """Slots with one account, and tasks that hold one each until told to let it go."""

    def __init__(self, concurrency=1, *, max_wait=30.0, max_length=100):
        self.observer = FakeObserver()
        self.clock = FakeClock()
        offers = Offers(an_offer(an_account(concurrency=concurrency)))
        self.slots, self.store = slots_of(offers, self.clock, self.observer, max_length=max_length)
        self.max_wait = max_wait
        self.served = []
        self.release = {}

    def one(self, name):
        return self.slots.take(a_wish(str(name), patience=self.max_wait))

    async def hold(self, name):
        self.release[name] = asyncio.Event()
        with await self.one(name):
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


class FakeServer:
    """Accepts connections on loopback, and reads each request to its end before it does what it is told."""

    def __init__(self, behave):
        self.behave = behave
        self.connections = 0
        self.requests = []
        self.writers = []

    async def serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in request.split(b"\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get(b"content-length", 0)))
                self.requests.append((request, body))
                await self.behave(self, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(behave):
    server = FakeServer(behave)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{server.port}/images/generations"
    try:
        yield server
    finally:
        listener.close()
        for writer in server.writers:
            writer.close()
        await listener.wait_closed()


def head(status="200 OK", length=None, *more):
    lines = [f"HTTP/1.1 {status}", *more, *([] if length is None else [f"Content-Length: {length}"])]
    return "\r\n".join([*lines, "", ""]).encode()


def answering(content, then=None):
    """Answer every request so; `then` may be `close` or `reset`."""

    async def behave(_, writer):
        writer.write(content)
        await writer.drain()
        if then == "reset":  # with linger on and at 0 s, a close sends RST instead of FIN
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, *[0] * 7]))
        if then:
            raise ConnectionError

    return behave
