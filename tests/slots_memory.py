"""What the scripts of the slots do, said once more in memory: turns, places, parks, and limits that are learned."""

from dataclasses import dataclass, field, replace
from math import ceil

from gateway.domain.slots import Granted, Seen, Standing, Tended
from gateway.service.ports_slots import SlotsUnavailable

STEP, GHOST_PAUSE, FIRST_PAUSE, LONGEST_PAUSE, NEW_SHARE = 60.0, 0.5, 0.5, 8.0, 0.1


@dataclass
class Held:
    """A ticket in the store."""

    owner: str
    project: str
    weight: int
    place: int
    seat: object = None


@dataclass
class Line:
    """One model. Times are seconds of `now`."""

    tickets: dict = field(default_factory=dict)
    past: dict = field(default_factory=dict)
    starts: dict = field(default_factory=dict)  # of the next picture of each project that waits
    weights: dict = field(default_factory=dict)  # of projects that wait, as the last to come said
    turn: float = 0.0
    rota: dict = field(default_factory=dict)
    rota_turn: float = 0.0
    parked: dict = field(default_factory=dict)
    learned: dict = field(default_factory=dict)
    pauses: dict = field(default_factory=dict)
    ghosts: dict = field(default_factory=dict)
    pace: float = 0.0
    places: int = 0

    def waiting(self, project=None):
        found = [
            (held.place, ticket_id, held)
            for ticket_id, held in self.tickets.items()
            if held.seat is None and project in {None, held.project}
        ]
        return sorted(found, key=lambda entry: entry[:2])

    def calls(self, account):
        return sum(held.seat is not None and held.seat.account == account for held in self.tickets.values())


class SlotMemory:
    """All models, for all replicas. `now` gives seconds since 1970.."""

    def __init__(self, now, *, longest=1000, longest_call=200.0):
        self.now = now
        self.longest = longest
        self.longest_call = longest_call
        self.models = {}
        self.owners = {}
        self.dead = set()

    def line(self, model):
        return self.models.setdefault(model, Line())

    def lose(self):
        self.models.clear()


class FakeSlots:
    """The slot store as one replica sees it; while it is `down`, it does not answer."""

    def __init__(self, memory, owner="owner"):
        self.memory = memory
        self.owner = owner
        self.told = {}.update
        self.down = False
        memory.owners[owner] = self

    async def enter(self, model, seats, tickets):
        line = self._reach(model)
        parked = self._survey(line, seats)[1]
        if tickets[0].seat is None and len(shut(parked, seats)) == len(seats):
            return Standing(usable=False, parked=tuple(parked.values()))
        sizes = {}
        for ticket in tickets:
            sizes[ticket.group] = sizes.get(ticket.group, 0) + 1
        refused = {}
        for ticket in tickets:
            if ticket.id in line.tickets:
                continue
            if not ticket.place and ticket.group not in refused:
                refused[ticket.group] = self._refusal(line, seats, ticket, sizes[ticket.group])
            if not ticket.place and refused[ticket.group] is not None:
                continue
            self._let_in(line, ticket)
            sizes[ticket.group] -= 1
        self._serve(line, seats)
        mine = {ticket.id: line.tickets[ticket.id] for ticket in tickets if ticket.id in line.tickets}
        return Standing(
            granted={name: granted(held) for name, held in mine.items() if held.seat},
            waiting={name: held.place for name, held in mine.items() if not held.seat},
            refused={group: wait for group, wait in refused.items() if wait is not None},
            pause=self._pause(line, seats),
        )

    async def foresee(self, model, seats, ticket):
        return self._expected(self._reach(model), seats, ticket)

    async def leave(self, model, seats, gone):
        line = self._reach(model)
        for one in gone:
            held = line.tickets.get(one.ticket)
            if held is None:
                continue
            in_flight = line.calls(held.seat.account) if held.seat else 0
            self._drop(line, one.ticket)
            if held.seat:
                self._learn(line, seats, held.seat.account, in_flight, one)
        return Standing(granted=self._serve(line, seats), pause=self._pause(line, seats))

    async def tend(self, model, seats, waiting, *, names=False):
        line = self._reach(model)
        self._serve(line, seats)
        parked = self._survey(line, seats)[1]
        known = {name: line.tickets.get(name) for name in waiting}
        mine = tuple(name for name, held in line.tickets.items() if held.owner == self.owner)
        return Tended(
            granted={name: granted(held) for name, held in known.items() if held and held.seat},
            missing=tuple(name for name, held in known.items() if held is None),
            parked=tuple(parked.values()),
            usable=len(shut(parked, seats)) < len(seats),
            pause=self._pause(line, seats),
            names=mine if names else (),
            held=len(mine),
            length=len(line.waiting()),
        )

    async def park(self, model, seat, park):
        self._reach(model).parked[_names(seat)[park.whole]] = park

    async def unpark(self, model, seat):
        parked = self._reach(model).parked
        known = [parked.pop(name, None) for name in _names(seat)]
        return any(known)

    async def unlearn(self, model, account):
        self._reach(model).learned.pop(account, None)

    async def look(self, model, seats):
        line = self._reach(model)
        parked = self._survey(line, seats)[1]
        return [
            Seen(
                seat=seat.name,
                limit=self._limit(line, seat),
                in_flight=line.calls(seat.account),
                park=parked.get(seat.name),
            )
            for seat in seats
        ]

    async def bury(self, model, _seats):
        line = self._reach(model)
        for name, held in tuple(line.tickets.items()):
            if held.owner in self.memory.dead:
                self._drop(line, name)
                if held.seat:
                    line.ghosts[held.seat.account] = self.memory.now() + self.memory.longest_call

    def _reach(self, model):
        if self.down:
            raise SlotsUnavailable("down")
        return self.memory.line(model)

    def _survey(self, line, seats):
        """What is free of each account, and the park of each seat that is left alone."""
        now, free, parked = self.memory.now(), {}, {}
        for seat in seats:
            for name in _names(seat):
                park = line.parked.get(name)
                if park and park.until and park.until <= now * 1000:
                    del line.parked[name]
                elif park and (seat.name not in parked or parked[seat.name].lenient):
                    parked[seat.name] = replace(park, seat=seat.name)
            paused = line.pauses.get(seat.account, (0, 0))[0] > now
            free[seat.account] = 0 if paused else max(0, self._limit(line, seat) - line.calls(seat.account))
        return free, parked

    def _limit(self, line, seat):
        if seat.account not in line.learned:
            return seat.limit
        limit, since = line.learned[seat.account]
        limit += int((self.memory.now() - since) // STEP)
        if limit >= seat.limit:
            del line.learned[seat.account]
        return min(seat.limit, limit)

    def _pause(self, line, seats):
        now = self.memory.now()
        ends = [line.pauses.get(seat.account, (0, 0))[0] - now for seat in seats]
        return min((end for end in ends if end > 0), default=None)

    def _sum(self, line, seats, numbers):
        _, parked = self._survey(line, seats)
        closed = shut(parked, seats)
        return sum({seat.account: numbers(seat) for seat in seats if seat.name not in closed}.values())

    def _refusal(self, line, seats, ticket, size):
        free, _ = self._survey(line, seats)
        waiting, room = len(line.waiting()), self._sum(line, seats, lambda seat: free[seat.account])
        if waiting + size <= room:
            return None
        if waiting + size - room > self.memory.longest:
            return self._expected(line, seats, ticket) or 0
        if not ticket.patience or waiting < room:
            return None
        wait = self._expected(line, seats, ticket)
        return wait - ticket.patience if wait is not None and wait > ticket.patience else None

    def _expected(self, line, seats, ticket):
        slots = self._sum(line, seats, lambda seat: self._limit(line, seat))
        if not line.pace or not slots:
            return None
        own = sum(name != ticket.id for _, name, _ in line.waiting(ticket.project))
        start, before = self._start(line, ticket.project) + own / ticket.weight, own
        for project, first in line.starts.items():
            if project != ticket.project:
                before += max(0, min(ceil((start - first) * line.weights[project]), len(line.waiting(project))))
        return line.pace * (before + 0.5) / slots

    def _start(self, line, project):
        return line.starts.get(project, max(line.turn, line.past.get(project, 0.0)))

    def _let_in(self, line, ticket):
        place = ticket.place or max(int(self.memory.now() * 1000) * 1000, line.places + 1)
        line.places = max(line.places, place)
        held = Held(self.owner, ticket.project, ticket.weight, place, ticket.seat)
        if ticket.seat is None:
            line.starts.setdefault(ticket.project, self._start(line, ticket.project))
            line.weights[ticket.project] = ticket.weight
        line.tickets[ticket.id] = held

    def _drop(self, line, name):
        held = line.tickets.pop(name)
        if held.seat is None and not line.waiting(held.project):
            del line.starts[held.project]

    def _serve(self, line, seats):
        mine = {}
        while line.starts:
            seat = self._next_seat(line, seats)
            if seat is None:
                break
            start, _, project = min((start, line.waiting(name)[0][0], name) for name, start in line.starts.items())
            _, name, held = line.waiting(project)[0]
            held.seat = seat
            line.turn, line.past[project] = start, start + 1 / held.weight
            if line.waiting(project):
                line.starts[project] = line.past[project]
            else:
                del line.starts[project]
            grant = {name: granted(held)}
            if held.owner == self.owner:
                mine |= grant
            else:
                self.memory.owners[held.owner].told(grant)
        return mine

    def _next_seat(self, line, seats):
        free, parked = self._survey(line, seats)
        closed = shut(parked, seats)
        usable = [seat for seat in seats if seat.name not in closed and free[seat.account] > 0]
        if len(seats) == 1 or not usable:
            return usable[0] if usable else None
        starts = {seat.name: max(line.rota_turn, line.rota.get(seat.name, 0.0)) for seat in usable}
        best = min(usable, key=lambda seat: starts[seat.name])
        line.rota[best.name], line.rota_turn = starts[best.name] + 1 / best.weight, starts[best.name]
        return best

    def _learn(self, line, seats, account, in_flight, gone):
        now = self.memory.now()
        if gone.how == "made":
            line.pace += (gone.seconds - line.pace) * NEW_SHARE if line.pace else gone.seconds
            line.pauses.pop(account, None)
        elif gone.how == "cut":
            line.ghosts[account] = now + gone.seconds
        elif gone.how == "rate" and line.ghosts.get(account, 0) > now:
            line.pauses[account] = (now + GHOST_PAUSE, 0)
        elif gone.how == "rate" and in_flight > 1:
            limits = [self._limit(line, seat) for seat in seats if seat.account == account]
            line.learned[account] = (min(in_flight - 1, *limits), now)
        elif gone.how == "rate":
            times = line.pauses.get(account, (0, 0))[1]
            line.pauses[account] = (now + min(LONGEST_PAUSE, FIRST_PAUSE * 2**times), times + 1)


def shut(parked, seats):
    """The seats that may not be used: lenient parks keep nobody out where all are parked."""
    return {name for name, park in parked.items() if not park.lenient or len(parked) < len(seats)}


def granted(held):
    return Granted(seat=held.seat.name, place=held.place, fingerprint=held.seat.fingerprint)


def _names(seat):
    return f"key:{seat.fingerprint}", f"account:{seat.account}"
