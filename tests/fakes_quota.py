"""The ports behind limits and metering in memory, whole: the quota store, the spool, the ledger, the usage stream."""

import asyncio
from collections import Counter, defaultdict

from gateway.domain.limits import SHORT, Limit, Room
from gateway.domain.quota import Refusal, Reservation, shard_of
from gateway.domain.usage import RANKS, Outcome, Used
from gateway.service.ports import LedgerUnavailable, LinesRefused, QuotaEmptied, QuotaUnavailable, Settlement


class FakeQuotas:
    """Counts without end: no window is ever over.

    While it is `down` nothing is done; while it is `mute` everything is done and no answer is seen; in both cases
    QuotaUnavailable is raised. While `gate` is not set, a reserve hangs before it takes anything. `troubles` are raised
    by the next reserves. What is in a shard of `emptied` is refused until that is refilled. `asked` is all that was
    asked for.
    """

    def __init__(self):
        self.used = defaultdict(Counter)
        self.states = {}
        self.charged = {}
        self.events = []
        self.asked = []
        self.down = self.mute = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.troubles = []
        self.emptied = set()
        self.refills = []
        self.lost = []
        self.holding = {}
        self.settlements = []
        self._grants = {}

    async def reserve(self, claim):
        self.asked.append(("reserve", claim.request_id))
        await self.gate.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        shard = shard_of(claim.project_id)
        if shard in self.emptied:
            raise QuotaEmptied(shard)
        return self._answer(self._reserve, claim)

    async def settle(self, reservation, charged, event):
        self.asked.append(("settle", event.event_id))
        if shard_of(event.project_id) in self.emptied and event.event_id not in self.states:
            raise QuotaUnavailable("the store was emptied and is not refilled yet")
        self._answer(self._settle, reservation, charged, event)

    async def release(self, claim):
        self.asked.append(("release", claim.request_id))
        self._answer(self._release, claim)

    async def refill(self, shard, calendar, counts, *, fresh):
        self._answer(self.refills.append, (shard, calendar, dict(counts), fresh))
        self.emptied.discard(shard)

    async def losses(self):
        return self._answer(lambda: list(self.lost))

    async def take_again(self, claim):
        self.asked.append(("take_again", claim.request_id))
        self._answer(self._take, claim)

    def assumed(self, claim):
        return Reservation(claim=claim, day="2026-11-23", month="2026-11", second=1_795_435_200)

    def held(self, shard):
        claims = [claim for claim in self.holding.values() if shard_of(claim.project_id) == shard]
        return claims, [done for done in self.settlements if shard_of(done.event.project_id) == shard]

    def _answer(self, work, *words):
        if self.down:
            raise QuotaUnavailable("the store is down")
        answer = work(*words)
        if self.mute:
            raise QuotaUnavailable("the answer was lost")
        return answer

    def _reserve(self, claim):
        if self.states.get(claim.request_id) == "released":
            raise QuotaUnavailable("the request was released before it was reserved")
        if claim.request_id in self._grants:
            return self._grants[claim.request_id]
        rooms = [room for subject in claim.subjects for room in self._rooms(claim, subject)]
        for room, strict in rooms:
            if strict and room.used > room.value:
                return Refusal(room=self._without(claim, room))
        grant = Reservation(
            claim=claim,
            day="2026-11-23",
            month="2026-11",
            second=1_795_435_200,
            rooms=tuple(room for room, _ in rooms),
            shadowed=tuple(self._without(claim, room) for room, _ in rooms if room.used > room.value),
        )
        self._grants[claim.request_id] = grant
        self._take(claim)
        return grant

    def _take(self, claim):
        if claim.request_id not in self.holding:
            self.states[claim.request_id] = "held"
            self.holding[claim.request_id] = claim
            self._count(claim, 1, _needs(claim))

    def _settle(self, reservation, charged, event):
        claim = reservation.claim
        if self.states.get(event.event_id) == "settled":
            return
        self._give_back(claim)
        self._count(claim, 1, _pictures(charged, claim.price))
        self.states[event.event_id] = "settled"
        self.charged[event.event_id] = charged
        self.events.append(event)
        self.settlements.append(Settlement(reservation=reservation, charged=charged, event=event))

    def _release(self, claim):
        if self.states.get(claim.request_id) != "settled":
            self._give_back(claim)
            self.states[claim.request_id] = "released"

    def _give_back(self, claim):
        if self.holding.pop(claim.request_id, None):
            self._count(claim, -1, {**_pictures(claim.pictures, claim.price), Limit.CONCURRENT: 1})

    def _count(self, claim, sign, amounts):
        for subject in claim.subjects:
            for limit, amount in amounts.items():
                self.used[subject.name][limit] += sign * amount

    def _rooms(self, claim, subject):
        for limit, need in _needs(claim).items():
            value = subject.limits.value(limit)
            if value is not None:
                used = self.used[subject.name][limit] + need
                resets_in = 1_000 if limit in SHORT else 3_600_000
                room = Room(subject=subject.name, limit=limit, value=value, used=used, resets_in=resets_in)
                yield room, not subject.limits.shadow

    def _without(self, claim, room):
        used = room.used - _needs(claim)[room.limit]
        return Room(subject=room.subject, limit=room.limit, value=room.value, used=used, resets_in=room.resets_in)


def _pictures(number, price):
    images = dict.fromkeys((Limit.IMAGES_PER_MINUTE, Limit.IMAGES_PER_DAY, Limit.IMAGES_PER_MONTH), number)
    return {**images, Limit.SPEND_PER_MONTH: number * price}


def _needs(claim):
    return {Limit.REQUESTS_PER_MINUTE: 1, Limit.CONCURRENT: 1, **_pictures(claim.pictures, claim.price)}


class FakeSpool:
    """Settlements that wait, the oldest first."""

    def __init__(self, *settlements):
        self.settlements = list(settlements)

    async def put(self, reservation, charged, event):
        self.settlements.append(Settlement(reservation=reservation, charged=charged, event=event))

    async def waiting(self):
        return list(self.settlements)

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
        return {event_id for event_id in event_ids if event_id in self.lines}

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

    `apart` are the lines that were put aside, by their ids, with the reasons.
    """

    def __init__(self, *lines, most=2):
        self.lines = defaultdict(dict)
        self.most = most
        self.down = set()
        self.apart = {}
        self.forgets = True
        for number, line in enumerate(lines):
            self.lines[shard_of(line.project_id)][f"{number}-0"] = line

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

    def all(self):
        """Every line that is not forgotten."""
        return [line for lines in self.lines.values() for line in lines.values()]

    def _reach(self, shard):
        if shard in self.down:
            raise QuotaUnavailable("the store is down")
