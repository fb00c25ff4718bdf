"""The pictures of one model that this replica makes or wants to make, and their slots."""

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from gateway.domain.errors import AccountUnusable, GatewayError, QuotaStoreDown
from gateway.domain.slots import (
    Gone,
    Granted,
    Park,
    Seat,
    Standing,
    Tended,
    Ticket,
    crowded,
    spread,
    unparked,
    usable,
    with_room,
)
from gateway.domain.upstream import unusable
from gateway.service.desk import Desk
from gateway.service.ports_slots import SlotsUnavailable
from gateway.service.returns import Returns
from gateway.service.waiter import Waiter

LOCAL_PAUSE = 0.05  # seconds between looks for a slot while the store is away
FOREIGN_PAUSE = 1.0  # seconds until a slot is asked for again, when the one given is of a key not known here


class ModelQueue:
    """Asks the store for slots in batches, one call for all that comes in one turn of the event loop."""

    def __init__(self, model: str, seats: Sequence[Seat], desk: Desk) -> None:
        self._model = model
        self._seats = {seat.name: seat for seat in seats}
        self._store = desk.store
        self._clock = desk.clock
        self._errands = desk.errands
        self._without = desk.without
        self._trust = desk.trust
        self._waiting: dict[str, Waiter] = {}
        self._running: dict[str, Ticket] = {}
        self._entering: list[Waiter] = []
        self._returns = Returns(self._leave, self._given_back, self._running, desk)
        self._strangers = False  # the store held more tickets than are known here when it was asked last
        self._looking = False  # a look after a pause is under way
        self._looked = desk.clock.monotonic()  # when the last look began
        self.standing = Tended()

    async def take(self, ticket: Ticket, seconds: float) -> tuple[Seat, int]:
        """Wait for a slot, at most so long; gives its seat, and the place to which the ticket may come back.

        Raises:
            TimeoutError: none came free in time.
            QueueTimedOut: none would.
            AccountUnusable: no account can be used for the model.
            QuotaStoreDown: slots cannot be counted.
        """
        if seconds <= 0:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        waiter = Waiter(ticket, loop.create_future())
        late = loop.call_later(seconds, waiter.fail, TimeoutError())  # asyncio.timeout takes three times as long
        try:
            if ticket.place:
                async with asyncio.timeout(seconds):
                    await self._returns.taught(without=self._without)
            self._waiting[ticket.id] = waiter
            self._enter(waiter)
            return await waiter.slot
        except BaseException:
            self._withdraw(waiter)
            raise
        finally:
            late.cancel()

    def give(self, gone: Gone) -> None:
        """Give a slot back; that is not waited for."""
        if self._running.pop(gone.ticket, None) is not None:
            self._returns.add(gone)

    async def park(self, park: Park, seat: Seat) -> None:
        """Leave a key or an account alone. This replica does so also while the store is away."""
        if park.whole or any(
            one.fingerprint == seat.fingerprint for one in self.seats
        ):  # else it has another key by now
            self.standing = replace(self.standing, parked=(*self.standing.parked, *spread(park, self.seats)))
        with suppress(SlotsUnavailable):  # the next call on it will tell again
            await self._store.park(self._model, seat, park)

    def has_other(self, name: str) -> bool:
        """Tell whether a seat of another name is left alone by nobody."""
        return any(seat.name != name for seat in unparked(self.seats, self.standing.parked, self._clock.now()))

    def refuse(self, reason: Callable[[], GatewayError]) -> None:
        """Let all who wait go, with a failure."""
        for waiter in tuple(self._waiting.values()):
            waiter.fail(reason())

    def granted(self, grants: Mapping[str, Granted], asked: float | None = None) -> None:
        """Take note of slots that the store gave; one that nobody waits for any more goes back.

        `asked`: when the store was asked; it may also say so by itself. While this process stood still (SIGSTOP, a
        machine put to sleep), its lease may have ended: then what it was given is not its own any more.
        """
        stale = self._clock.monotonic() - (self._looked if asked is None else asked) > self._trust
        for ticket_id, grant in grants.items():
            if ticket_id in self._running:
                continue
            waiter = self._waiting.get(ticket_id)
            if waiter is None or waiter.slot.done():
                self._returns.add(Gone(ticket=ticket_id))
            elif stale:
                waiter.entered = True
                self._look_after(0.0)
            elif (seat := self._seats.get(grant.seat)) is not None and seat.fingerprint == grant.fingerprint:
                self._seated(waiter, seat, grant.place)
            else:
                _ = self._errands.start(self._ask_again(waiter, grant.place))

    async def tend(self) -> None:
        """See to it that store and replica agree, and let those go for whom no account is left; SlotsUnavailable."""
        entered = [waiter.ticket.id for waiter in self._waiting.values() if waiter.entered]
        known, asked = len(self._running) + len(entered), self._clock.monotonic()
        with self._here_when_away():
            tended = await self._store.tend(self._model, self.seats, entered, names=self._strangers)
        self.standing, self._looked = tended, asked
        self.granted(tended.granted, asked)
        self._bring_back(tended, entered)
        for name in tended.names:
            if name not in self._running and name not in self._waiting:
                self._returns.add(Gone(ticket=name))
        self._strangers = tended.held > known
        if not tended.usable:
            self.refuse(self.unusable)

    async def bury(self) -> None:
        """Free what dead replicas held; SlotsUnavailable."""
        with self._here_when_away():
            await self._store.bury(self._model, self.seats)

    def unusable(self) -> AccountUnusable:
        """Say why no account can be used."""
        return unusable(self.standing.parked)

    @property
    def seats(self) -> Sequence[Seat]:
        """Give all seats that serve the model; when others are put in their place, who waits goes to those."""
        return tuple(self._seats.values())

    @seats.setter
    def seats(self, seats: Sequence[Seat]) -> None:
        self._seats = {seat.name: seat for seat in seats}

    @property
    def idle(self) -> bool:
        """Tell whether nobody waits, holds a slot or gives one back."""
        return not (self._waiting or self._running or self._returns.under_way or self._entering)

    def _bring_back(self, tended: Tended, entered: Sequence[str]) -> None:
        """Enter again what the store has lost: who waits keeps the place, who holds a slot keeps that."""
        found = [self._waiting[ticket_id] for ticket_id in tended.missing if ticket_id in self._waiting]
        lost = [waiter for waiter in found if waiter.entered]
        short = tended.held < len(self._running) + len(entered) - len(tended.missing)
        if lost or short:
            _ = self._errands.start(self._enter_again(tuple(self._running.values()) if short else (), lost))

    async def _enter_again(self, running: Sequence[Ticket], waiting: Sequence[Waiter]) -> None:
        """Take the slots that are in use first, so that none of them is given to one who waits."""
        try:
            if running:
                await self._store.enter(self._model, self.seats, running)
        except SlotsUnavailable:
            return  # the next look finds them missing once more
        self._returns.add(*(Gone(ticket=ticket.id) for ticket in running if ticket.id not in self._running))
        for waiter in waiting:
            if waiter.entered and not waiter.slot.done():
                self._enter(waiter)

    def _enter(self, waiter: Waiter) -> None:
        waiter.entered = False
        self._entering.append(waiter)
        if len(self._entering) == 1:
            _ = self._errands.start(self._enter_all())

    async def _enter_all(self) -> None:
        """Enter what came since the event loop's last turn."""
        batch, self._entering = self._entering, []
        batch = [waiter for waiter in batch if not waiter.slot.done()]
        if not batch:
            return
        asked = self._clock.monotonic()
        try:
            standing = await self._store.enter(self._model, self.seats, [waiter.ticket for waiter in batch])
        except SlotsUnavailable:
            for waiter in batch:
                self._unanswered(waiter)
            return
        self._entered(batch, standing, asked)

    def _entered(self, batch: Sequence[Waiter], standing: Standing, asked: float) -> None:
        for waiter in batch:
            ticket = waiter.ticket
            if ticket.id in self._running:
                continue  # another replica's script was faster to give it a slot than this answer
            if not standing.usable:
                self.standing = replace(self.standing, parked=standing.parked, usable=False)
                waiter.fail(self.unusable())
            elif ticket.group in standing.refused and ticket.id not in {*standing.granted, *standing.waiting}:
                waiter.fail(crowded(standing.refused[ticket.group]))
            elif waiter.slot.done():
                self._returns.add(Gone(ticket=ticket.id))
            elif ticket.id in standing.waiting:
                waiter.entered = True
                waiter.ticket = replace(ticket, place=standing.waiting[ticket.id])
        self.granted({name: grant for name, grant in standing.granted.items() if name in self._waiting}, asked)
        self._look_after(standing.pause)

    @contextmanager
    def _here_when_away(self) -> Generator[None]:
        """Let those who wait in a store that is away wait here, if that may be."""
        try:
            yield
        except SlotsUnavailable:
            for waiter in tuple(self._waiting.values()) if self._without else ():
                if waiter.entered:
                    waiter.entered = False
                    self._unanswered(waiter)
            raise

    def _unanswered(self, waiter: Waiter) -> None:
        """The store may have taken the ticket all the same: it goes back as soon as that can be said.

        One that has waited there already waits on: the next look tells how it stands.
        """
        if waiter.ticket.place and not self._without:
            waiter.entered = True
            return
        self._returns.add(Gone(ticket=waiter.ticket.id))
        if self._without and not waiter.slot.done():
            _ = self._errands.start(self._take_here(waiter))
            return
        waiter.fail(QuotaStoreDown("The gateway cannot reach its queue. Nothing was charged; try again after a wait."))

    async def _take_here(self, waiter: Waiter) -> None:
        """Find a slot by what this replica has in flight, and by what it knows of parks."""
        while not waiter.slot.done():
            seats = usable(self.seats, self.standing.parked, self._clock.now())
            if not seats:
                waiter.fail(self.unusable())
            elif seat := with_room(seats, self._running.values()):
                self._seated(waiter, seat, waiter.ticket.place)
            else:
                await self._clock.sleep(LOCAL_PAUSE)

    def _seated(self, waiter: Waiter, seat: Seat, place: int) -> None:
        self._waiting.pop(waiter.ticket.id, None)
        self._running[waiter.ticket.id] = replace(waiter.ticket, seat=seat, place=place)
        waiter.slot.set_result((seat, place))

    async def _ask_again(self, waiter: Waiter, place: int) -> None:
        """Give back what another release's settings gave, and come back to the same place a little later."""
        waiter.entered = False
        self._returns.add(Gone(ticket=waiter.ticket.id))
        await self._clock.sleep(FOREIGN_PAUSE)
        waiter.ticket = replace(waiter.ticket, place=place)
        if not waiter.slot.done():
            self._enter(waiter)

    def _withdraw(self, waiter: Waiter) -> None:
        """Leave the queue; what has not been answered yet leaves when its answer comes."""
        self._waiting.pop(waiter.ticket.id, None)
        if not waiter.slot.cancel() and not waiter.slot.cancelled():
            waiter.slot.exception()  # seen: it would be logged as lost otherwise
        held = self._running.pop(waiter.ticket.id, None)
        if waiter.entered or held is not None:
            self._returns.add(Gone(ticket=waiter.ticket.id))

    async def _leave(self, gone: Sequence[Gone]) -> Standing:
        return await self._store.leave(self._model, self.seats, gone)

    def _given_back(self, standing: Standing, asked: float) -> None:
        self.granted(standing.granted, asked)
        self._look_after(standing.pause)

    def _look_after(self, pause: float | None) -> None:
        """Come back when an account that is left alone may be asked again."""
        if pause is not None and self._waiting and not self._looking:
            self._looking = True
            _ = self._errands.start(self._tend_in(pause))

    async def _tend_in(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._looking = False
        with suppress(SlotsUnavailable):  # the next regular look will do
            await self.tend()
