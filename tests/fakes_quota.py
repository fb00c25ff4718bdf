"""The ports behind limits and metering in memory, whole: the quota store, the spool, the ledger, the usage stream."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC
from functools import partial
from types import SimpleNamespace

from gateway.domain.limits import Limit
from gateway.domain.quota import Reservation, shard_of
from gateway.domain.usage import RANKS, Outcome, Tally, Used
from gateway.service.outbox import Outbox
from gateway.service.ports import LedgerUnavailable, LinesRefused, QuotaUnavailable
from gateway.service.ports_flights import NotLed
from gateway.service.refill import Refill
from gateway.service.settlements import Settlements
from tests.fakes import FakeClock
from tests.quota_memory import Memory


class FakeQuotas:
    """The quota store of one replica, `owner`, over a Memory that others may share. A lease is in seconds.

    While it is `down` nothing is done; while it is `mute` everything is done and no answer is seen; in both cases
    QuotaUnavailable is raised. While `gate` is not set, a reserve hangs before it takes anything. `troubles` are raised
    by the next reserves. `found` is what requests attach to, by their ids: fields of their Reservation. `asked` is all
    that was asked for, `refills` what the store was refilled with.
    """

    def __init__(self, memory=None, owner="owner", lease=30.0, most_waiting=1000):
        self.memory = memory or Memory(FakeClock())
        self.owner = owner
        self.lease = lease
        self.most_waiting = most_waiting
        self.asked = []
        self.down = self.mute = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.troubles = []
        self.found = {}
        self.refills = []
        self._mine = set()
        self._open = {}
        self.endings = {}
        self.led = {}  # by jobs that were settled

    async def reserve(self, claim):
        self.asked.append(("reserve", claim.request_id))
        await self.gate.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        if claim.sought is not None and not claim.sought.lead:
            raise NotLed
        self._mine.add(shard_of(claim.project_id))
        reserve = partial(self._shard(claim.project_id).reserve, most_waiting=self.most_waiting)
        answer = self._answer(reserve, claim, self.owner, self.lease)
        if isinstance(answer, Reservation):
            self._open[claim.request_id] = claim
            answer = replace(answer, **self.found.pop(claim.request_id, {}))
        return answer

    async def settle(self, reservation, charged, event, ending=None):
        self.endings[event.event_id] = ending
        self.led[event.event_id] = reservation.leads
        self.asked.append(("settle", event.event_id))
        line = replace(event, time=reservation.time)
        self._answer(self._shard(event.project_id).settle, reservation, charged, line)
        self._open.pop(event.event_id, None)

    async def release(self, claim):
        self.asked.append(("release", claim.request_id))
        self._answer(self._shard(claim.project_id).release, claim)
        self._open.pop(claim.request_id, None)

    def assumed(self, claim):
        return self._shard(claim.project_id).assumed(claim)

    async def now(self, shard):
        return self._answer(self.memory.shards[shard].now)

    async def refill(self, shard, calendar, counts, counted=(), *, fresh):
        self._answer(partial(self.memory.shards[shard].refill, calendar, counts, counted, fresh=fresh))
        self.refills.append((shard, calendar, dict(counts), fresh))

    async def losses(self):
        mine = [self.memory.shards[shard] for shard in sorted(self._mine)]
        return self._answer(lambda: [(shard.number, str(shard.epoch)) for shard in mine if shard.epoch])

    async def take_again(self, claim):
        self.asked.append(("take_again", claim.request_id))
        self._answer(self._shard(claim.project_id).take_again, claim, self.owner, self.lease)

    def held(self, shard):
        return [claim for claim in self._open.values() if shard_of(claim.project_id) == shard]

    async def lost(self, settlements):
        return self._answer(lambda: [one for one in settlements if self._state(one.event) != "settled"])

    def _state(self, event):
        return self._shard(event.project_id).state(event.event_id)

    @property
    def holding(self):
        """The claims that hold something, by request id."""
        return {taken.claim.request_id: taken.claim for taken in self._log() if taken.state == "held"}

    @property
    def claims(self):
        """The claims of every request, by request id."""
        return {taken.claim.request_id: taken.claim for taken in self._log()}

    @property
    def states(self):
        """What became of every request: held, settled, released or abandoned."""
        return {taken.claim.request_id: taken.state for taken in self._log()}

    @property
    def charged(self):
        """How many pictures of each request were charged."""
        return {taken.claim.request_id: taken.pictures for taken in self._log() if taken.state == "settled"}

    @property
    def events(self):
        """The lines that were settled."""
        return [line for shard in self.memory.shards for line in shard.lines]

    def used(self, subject):
        """How much of each limit a subject has used."""
        return {limit: sum(shard.used(subject, limit) for shard in self.memory.shards) for limit in Limit}

    def _shard(self, project_id):
        return self.memory.shards[shard_of(project_id)]

    def _log(self):
        return [taken for shard in self.memory.shards for taken in shard.log]

    def _answer(self, work, *words):
        if self.down:
            raise QuotaUnavailable("the store is down")
        answer = work(*words)
        if self.mute:
            raise QuotaUnavailable("the answer was lost")
        return answer


class FakeSpool:
    """Settlements that wait, the oldest first; `read`: how many were given."""

    def __init__(self, *settlements):
        self.settlements = list(settlements)
        self.read = 0

    async def put(self, settlement):
        self.settlements.append(settlement)

    async def waiting(self):
        return self._given([one for one in self.settlements if not one.confirmed])

    async def confirmed(self, most):
        return self._given([one for one in self.settlements if one.confirmed][:most])

    def _given(self, settlements):
        self.read += len(settlements)
        return settlements

    async def remove(self, settlement):
        if settlement in self.settlements:
            self.settlements.remove(settlement)


class FakeLedger:
    """Lines by their id; numbers as large as SQL's. While it is `down`, nothing can be read or written."""

    def __init__(self, *lines):
        self.lines = {line.event_id: line for line in lines}
        self.down = False
        self.questions = []

    async def write(self, events):
        self._reach()
        refused = {line.event_id: "too large" for line in events if max(line.cost, abs(line.latency_ms)) >= 2**63}
        for event in (line for line in events if line.event_id not in refused):
            known = self.lines.get(event.event_id)
            if known is None or RANKS[event.outcome] > RANKS[known.outcome]:
                self.lines[event.event_id] = event
        if refused:
            raise LinesRefused(refused)

    async def known(self, event_ids):
        self._reach()
        return {event_id: self.lines[event_id].outcome for event_id in event_ids if event_id in self.lines}

    async def tally(self, day, month, ended):
        self._reach()
        known = [line for line in self.lines.values() if RANKS[line.outcome] == RANKS[Outcome.DELIVERED]]
        return Tally(
            today=await self.used_since(day),
            month=await self.used_since(month),
            ended=[(line.event_id, line.project_id) for line in known if line.ended >= ended],
        )

    async def used_since(self, start):
        self._reach()
        self.questions.append(start)
        sums = defaultdict(lambda: [0, 0])
        for line in self.lines.values():
            if line.time >= start and line.outcome in {Outcome.DELIVERED, Outcome.PARTIAL}:
                sums[line.project_id, line.key_id][0] += line.pictures_delivered
                sums[line.project_id, line.key_id][1] += line.price
        return [Used(*names, *amounts) for names, amounts in sums.items()]

    def _reach(self):
        if self.down:
            raise LedgerUnavailable("the database is down")


class FakeUsageStream:
    """The lines of each shard by their positions; a look gives at most `most`. `down` shards give no answer.

    Another replica has its turn at those that are `elsewhere`. `apart` are those that were put aside, by their
    ids, with the reasons; unless `refusals_known`, nobody can ask for these.
    """

    def __init__(self, *lines, most=2):
        self.lines = defaultdict(dict)
        self.most = most
        self.down = set()
        self.elsewhere = set()
        self.apart = {}
        self.forgets = True
        self.refusals_known = True
        for number, line in enumerate(lines):
            self.lines[shard_of(line.project_id)][f"{number}-0"] = line

    async def backlog(self, shard):
        self._reach(shard)
        return len(self.lines[shard])

    @asynccontextmanager
    async def turn(self, shard):
        self._reach(shard)
        yield SimpleNamespace(ours=shard not in self.elsewhere)

    async def pending(self, shard):
        self._reach(shard)
        return list(self.lines[shard].items())[: self.most]

    async def remove(self, shard, positions):
        self._reach(shard)
        if not self.forgets:
            raise QuotaUnavailable("the store went down before it could forget")
        for position in positions:
            del self.lines[shard][position]

    async def put_aside(self, shard, reasons):
        self._reach(shard)
        for position, reason in reasons.items():
            self.apart[self.lines[shard].pop(position).event_id] = reason

    async def refused(self, shard, event_ids):
        self._reach(shard)
        if not self.refusals_known:
            raise QuotaUnavailable("the store went down before it could tell")
        return {event_id for event_id in event_ids if event_id in self.apart}

    def all(self):
        """Every line that is not forgotten."""
        return [line for lines in self.lines.values() for line in lines.values()]

    def _reach(self, shard):
        if shard in self.down:
            raise QuotaUnavailable("the store is down")


class Books:
    """A replica's settlements, outbox and refill, over a quota store, a ledger and a stream. `most` are in memory."""

    def __init__(self, store, spool, backlog, observer, *, zone=UTC, most=1000):
        self.ledger, self.stream = FakeLedger(), FakeUsageStream()
        self.clock = store.memory.clock if isinstance(store, FakeQuotas) else FakeClock()
        self.first = False
        self.outbox = Outbox(store, self.ledger, self.stream, spool, self.clock, most=most)
        self.refill = Refill(store, self.ledger, self.outbox, self.clock, zone, self._is_first)
        self.settlements = Settlements(store, spool, backlog, observer, self.outbox, self.refill)

    async def _is_first(self):
        return self.first


def settlements_on(store, spool, backlog, observer):
    """The settlements of a test that is about something else."""
    return Books(store, spool, backlog, observer).settlements
