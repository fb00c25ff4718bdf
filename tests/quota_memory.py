"""What a quota store does, in memory: a log of all that was taken, and windows that are sums over that log."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC

from gateway.domain.limits import Limit, Room
from gateway.domain.quota import SHARDS, Claim, Refusal, Reservation, calendar_of
from gateway.service.ports import QuotaEmptied, QuotaRestoring, QuotaUnavailable

# design.md section 6; times in milliseconds, the window in seconds.
WINDOW = 61  # a second counts until nothing in it can be less than a minute old
REMEMBERED = 600_000  # how long a request id is known after its end
RESTORE = 3_000  # until a refilled store grants
LONGEST_GAP = 5_000  # between two runs of the collector, above which every lease is lengthened

READY = 0  # the epoch of a store that grants; None: it was emptied; else until when it is being refilled, ms
MINUTE = (Limit.REQUESTS_PER_MINUTE, Limit.IMAGES_PER_MINUTE)


def needs(claim):
    """What a claim takes of every limit, in the order in which limits are looked at."""
    amounts = dict.fromkeys(Limit, claim.pictures)
    ones = {Limit.REQUESTS_PER_MINUTE: 1, Limit.CONCURRENT: 1}
    return amounts | ones | {Limit.SPEND_PER_MONTH: claim.pictures * claim.price}


@dataclass(eq=False)
class Taken:
    """A request and the pictures that it holds now: those reserved, then those charged.

    `state` is held, settled, abandoned, or released, as is one that never took anything. `counted` are the subjects
    whose minute it is in. While it `waits` it stands in line, and is held without a place under `concurrent`. `moment`
    and `forgotten` are milliseconds since 1970.
    """

    claim: Claim
    owner: str = ""
    state: str = "released"
    moment: int = 0
    day: str = ""
    month: str = ""
    pictures: int = 0
    counted: frozenset[str] = frozenset()
    grant: Reservation | None = None
    waits: bool = False
    forgotten: float = math.inf

    @property
    def second(self):
        return self.moment // 1000

    @property
    def queue(self):
        """Whose line it stands in: first come, first served."""
        return self.claim.project_id, self.claim.subjects[0].name


@dataclass
class Shard:
    """One shard. `refilled` is what a subject had used of a day or month when the store was lost."""

    number: int
    clock: object
    zone: object = UTC
    epoch: int | None = None
    log: list = field(default_factory=list)
    known: dict = field(default_factory=dict)
    leases: dict = field(default_factory=dict)
    lines: list = field(default_factory=list)
    line: list = field(default_factory=list)  # who waits for a place, in order
    refilled: Counter = field(default_factory=Counter)
    counted: frozenset = frozenset()
    collected: int | None = None

    def now(self):
        return round(self.clock.now().timestamp() * 1000)

    def reserve(self, claim, owner, lease, *, most_waiting=1000, again=False):
        """Take all or nothing, unless it is taken `again`. `lease` is in seconds.

        Where only `concurrent` stands in the way, all is taken but a place, unless as many as may wait for one already.
        """
        if taken := self._find(claim.request_id):
            if taken.grant is None:
                raise QuotaUnavailable("the request was released before it was reserved")
            return taken.grant
        self._grant_now(again=again)
        rooms = [(room, subject.limits.shadow) for subject in claim.subjects for room in self._look(claim, subject)]
        over = [room for room, shadow in rooms if room.used > room.value and not shadow]
        refused = [room for room in over if room.limit is not Limit.CONCURRENT or room.value == 0]
        bounds = [room for room, shadow in rooms if room.limit is Limit.CONCURRENT and not shadow]
        waits = bool(over) or (bool(bounds) and any(one.queue == Taken(claim).queue for one in self.line))
        if waits and not refused and len(self._line_of(claim.project_id)) >= most_waiting:
            refused = over or bounds
        if refused and not again:
            return Refusal(room=replace(refused[0], used=refused[0].used - needs(claim)[refused[0].limit]))
        self.renew(owner, lease)
        return self._take(claim, owner, rooms, waits=waits and not again)

    def assumed(self, claim):
        """Say what a reserve would take from now."""
        day, month = self._period(Limit.IMAGES_PER_DAY).name, self._period(Limit.IMAGES_PER_MONTH).name
        return Reservation(claim=claim, day=day, month=month, moment=self.now())

    def take_again(self, claim, owner, lease):
        """Take what was lost with the store, over a limit if need be."""
        lost = self._find(claim.request_id) is None and claim.request_id not in self.counted
        if self.epoch is not None and lost:
            self.reserve(claim, owner, lease, again=True)

    def settle(self, reservation, charged, line):
        """Charge what was delivered, also for what was given back before or is not known: the pictures exist."""
        taken = self._find(reservation.claim.request_id)
        if taken is None and self.epoch is None:
            raise QuotaEmptied(self.number)
        if taken is None and reservation.claim.request_id in self.counted:
            taken = self._remember(Taken(reservation.claim, state="settled"))
        taken = taken or self._remember(Taken(reservation.claim))
        if taken.state != "settled":
            if taken.grant and (taken.day, taken.month) != (reservation.day, reservation.month):
                line = replace(line, time=taken.grant.time)
            taken.day, taken.month = taken.day or reservation.day, taken.month or reservation.month
            taken.state, taken.pictures = "settled", charged
            self.lines.append(line)
            self._let_in(taken)
        taken.forgotten = self.now() + REMEMBERED

    def release(self, claim):
        """Give back what is held; a request that is not known may still be on its way, and will take nothing."""
        taken = self._find(claim.request_id) or self._remember(Taken(claim))
        if taken.state == "held":
            taken.state, taken.pictures = "released", 0
            self._let_in(taken)
        taken.forgotten = self.now() + REMEMBERED

    def renew(self, owner, lease):
        """Lengthen an owner's lease, never shorten it."""
        self.leases[owner] = max(self.leases.get(owner, 0), self.now() + round(lease * 1000))

    def collect(self):
        """Give back what owners hold whose lease has ended; the number of reservations."""
        now, last = self.now(), self.collected
        self.collected = now
        if last is None or now - last > LONGEST_GAP:  # nobody could renew either
            self.leases = {owner: end + now - (last or now) for owner, end in self.leases.items()}
            return 0
        dead = [taken for taken in self.log if taken.state == "held" and self.leases[taken.owner] < now]
        for taken in dead:
            taken.state, taken.pictures, taken.forgotten = "abandoned", 0, now + REMEMBERED
            self.lines.append(replace(taken.claim.abandoned, time=taken.grant.time))
            self._let_in(taken)
        return len(dead)

    def refill(self, calendar, counts, counted=(), *, fresh):
        """Take the counts of an emptied shard, once, and what is in them."""
        if self.epoch is not None or (counts and self.now() >= calendar.days[0].ends):
            return
        self.counted = frozenset(counted)
        self.epoch = READY if fresh else self.now() + RESTORE
        day, month = calendar.days[0].name, calendar.months[0].name
        for subject, count in counts.items():
            self.refilled[subject, day, "pictures"] = count.images_today
            self.refilled[subject, month, "pictures"] = count.images_this_month
            self.refilled[subject, month, "spend"] = count.spend

    def state(self, request_id):
        """What is known of a request."""
        taken = self._find(request_id)
        return taken.state if taken else None

    def used(self, subject, limit):
        """How much of a limit is used now."""
        if limit in MINUTE:
            return sum(self._minute(subject, limit).values())
        if limit is Limit.CONCURRENT:
            return sum(taken.state == "held" and not taken.waits for taken in self._of(subject))
        period = self._period(limit).name
        counted = [taken for taken in self._of(subject) if period in {taken.day, taken.month}]
        if limit is Limit.SPEND_PER_MONTH:
            return self.refilled[subject, period, "spend"] + sum(one.pictures * one.claim.price for one in counted)
        return self.refilled[subject, period, "pictures"] + sum(one.pictures for one in counted)

    def _period(self, limit):
        calendar = calendar_of(self.now(), self.zone)
        return (calendar.days if limit is Limit.IMAGES_PER_DAY else calendar.months)[0]

    def _grant_now(self, *, again):
        """Raise what keeps this shard from granting; what is taken again does not wait for the end of the refill."""
        if self.epoch is None:
            raise QuotaEmptied(self.number)
        if self.now() < self.epoch and not again:
            raise QuotaRestoring((self.epoch - self.now()) / 1000)
        self.epoch = self.epoch if again else READY

    def _look(self, claim, subject):
        """Give every limit of a subject as it is used with this claim."""
        for limit, needed in needs(claim).items():
            value = subject.limits.value(limit)
            if value is not None:
                used = self.used(subject.name, limit)
                wait = self._resets_in(subject.name, limit, value - used, needed)
                if (
                    wait == 0 and needed and (subject.limits.shadow or used + needed <= value)
                ):  # it is the oldest itself
                    wait = (self.now() // 1000 + WINDOW) * 1000 - self.now()
                yield Room(subject=subject.name, limit=limit, value=value, used=used + needed, resets_in=wait)

    def _take(self, claim, owner, rooms, *, waits):
        told = [(_unplaced(room) if waits else room, shadow and room.used > room.value) for room, shadow in rooms]
        grant = replace(
            self.assumed(claim),
            rooms=tuple(room for room, _ in told),
            shadowed=tuple(room for room, shadowed in told if shadowed),
            waits=waits,
        )
        counted = {one.name for one in claim.subjects if any(one.limits.value(limit) is not None for limit in MINUTE)}
        taken = Taken(
            claim, owner, "held", self.now(), grant.day, grant.month, claim.pictures, frozenset(counted), grant
        )
        taken.waits = waits
        self._remember(taken)
        if waits:
            self.line.append(taken)
        return grant

    def _line_of(self, project):
        return [taken for taken in self.line if taken.claim.project_id == project]

    def _let_in(self, ended):
        """Give places to who has waited longest: in order within a key, and at the project's limit altogether."""
        self.line = [taken for taken in self.line if taken is not ended]
        full = set()
        for taken in self._line_of(ended.claim.project_id):
            stop = next(
                (name for name, limit in _places(taken.claim) if self.used(name, Limit.CONCURRENT) >= limit), None
            )
            if taken.queue in full or stop == taken.queue[1]:
                full.add(taken.queue)
            elif stop is not None:
                return
            else:
                self.line.remove(taken)
                taken.waits = False

    def _remember(self, taken):
        self.log.append(taken)
        self.known[taken.claim.request_id] = taken
        return taken

    def _find(self, request_id):
        taken = self.known.get(request_id)
        return taken if taken and self.now() < taken.forgotten else None

    def _of(self, subject):
        return [taken for taken in self.log if any(one.name == subject for one in taken.claim.subjects)]

    def _minute(self, subject, limit):
        """Count by second what is in a subject's minute."""
        counts, second = Counter(), self.now() // 1000
        for taken in self._of(subject):
            if subject in taken.counted and second - taken.second < WINDOW:
                counts[taken.second] += 1 if limit is Limit.REQUESTS_PER_MINUTE else taken.pictures
        return +counts

    def _resets_in(self, subject, limit, free, needed):
        """Milliseconds until `needed` fit, and some of what is used is free."""
        if limit is Limit.CONCURRENT:
            return 1000
        if limit not in MINUTE:
            return self._period(limit).ends - self.now()
        wait = 0
        for second, count in sorted(self._minute(subject, limit).items()):
            if wait and free >= needed:
                break
            free += count
            wait = (second + WINDOW) * 1000 - self.now()
        return wait


def _unplaced(room):
    """What is used of a limit by a claim that waits: it has no place yet."""
    return room._replace(used=room.used - 1) if room.limit is Limit.CONCURRENT else room


def _places(claim):
    """The places that a claim needs, with their limits."""
    for subject in claim.subjects:
        if subject.limits.concurrent is not None and not subject.limits.shadow:
            yield subject.name, subject.limits.concurrent


class Memory:
    """All shards, ready to grant; the replicas of a gateway share it. Time is the clock's that it is given."""

    def __init__(self, clock, zone=UTC):
        self.clock = clock
        self._zone = zone
        self.shards = [Shard(number, clock, zone, READY) for number in range(SHARDS)]

    def lose(self, shard):
        """Lose everything that a shard holds."""
        self.shards[shard] = Shard(shard, self.clock, self._zone)
