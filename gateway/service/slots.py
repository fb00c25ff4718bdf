"""The queue in front of the upstream: pictures wait their fair turn for an account that makes their model."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from gateway.domain.errors import GatewayError, ShuttingDown
from gateway.domain.records import record
from gateway.domain.slots import Gone, Granted, Park, Seat, Tended, Ticket, late
from gateway.domain.upstream import Account, unusable
from gateway.service.desk import Desk
from gateway.service.model_queue import ModelQueue
from gateway.service.offers import Offers
from gateway.service.ports import Observer
from gateway.service.ports_slots import SlotsUnavailable


@record(frozen=True, slots=True, kw_only=True)
class Wish:
    """A picture that is to be made, the one at `position` of its request `group`.

    It has `patience` seconds since the request `came` to be sent.
    """

    model: str
    project: str
    weight: int
    group: str
    position: int
    came: datetime
    patience: float

    def left(self, now: datetime) -> float:
        """Give the seconds that it may still wait."""
        return self.patience - (now - self.came).total_seconds()


@dataclass(slots=True, kw_only=True, eq=False)
class Slot:
    """A call that may be made on an account, given back at the end of a `with` block.

    `place`: where its ticket may come back to. `queue`: where the slot belongs.
    """

    account: Account
    place: int
    ticket: str
    queue: ModelQueue
    how: str = "none"
    seconds: float = 0.0

    def went(self, how: str, seconds: float = 0.0) -> None:
        """Say how the call went, as Gone has it."""
        self.how, self.seconds = how, seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.queue.give(Gone(ticket=self.ticket, how=self.how, seconds=self.seconds))


class Slots:
    """The queues of all models on offer."""

    def __init__(self, offers: Offers, desk: Desk, observer: Observer) -> None:
        self._offers = offers
        self._desk = desk
        self._store = desk.store
        self._clock = desk.clock
        self._observer = observer
        self._tickets = 0
        self._closed = False
        self._queues: dict[str, ModelQueue] = {}
        self._seat()

    async def take(self, wish: Wish, *, place: int = 0, waited: Callable[[float], None] | None = None) -> Slot:
        """Wait for a slot; `place` is where the picture stood before. `waited` is told the seconds, also if in vain.

        Raises:
            QueueTimedOut, AccountUnusable, QuotaStoreDown: as ModelQueue.take says.
            ShuttingDown: nothing new is sent.
        """
        if self._closed:
            raise shutting_down()
        queue = self._queues.get(wish.model)
        if queue is None:
            raise unusable(())
        asked = self._clock.monotonic()
        try:
            return await self._slot(queue, wish, place)
        finally:
            if waited is not None:
                waited(self._clock.monotonic() - asked)

    def offered_anew(self) -> None:
        """Let who waits go to the accounts that are on offer now, at once where there is room."""
        before = {model: _limits(queue) for model, queue in self._queues.items()}
        self._seat()
        for model, queue in self._queues.items():
            known = before.get(model, {})
            raised = [name for name, limit in _limits(queue).items() if limit > known.get(name, limit)]
            _ = self._desk.errands.start(self._open_up(model, raised))

    def close(self) -> None:
        """Hand out nothing more, and release all who wait: what was not sent is not sent any more."""
        self._closed = True
        for queue in self._queues.values():
            queue.refuse(shutting_down)

    async def park(self, account: Account, model: str, park: Park) -> None:
        """Leave a key or an account alone, for the model or for all that it serves.

        An account of one key goes by that key: who replaces the key has another account behind the same name.
        """
        keys = sum(one.account == account.account for one in self._offers.now.accounts)
        park = replace(park, whole=park.whole and keys > 1)
        self._observer.account_parked(account, park)
        models = [name for name in self._queues if account.serves(name)] if park.everywhere else [model]
        parking = [(self._queues[name], name) for name in models if name in self._queues]
        await asyncio.gather(*(queue.park(park, seat_of(account, name)) for queue, name in parking))

    def has_other(self, model: str, account: Account) -> bool:
        """Tell whether another key or account makes the model too, as far as none has to be left alone."""
        queue = self._queues.get(model)
        return queue is not None and queue.has_other(account.name)

    def granted(self, grants: Mapping[str, Granted]) -> None:
        """Take note of slots that other replicas' scripts gave to tickets of this one."""
        for ticket, grant in grants.items():
            if queue := self._queues.get(_model_of(ticket)):
                queue.granted({ticket: grant})

    async def tend(self) -> None:
        """Look after all queues: slots that came free by time, accounts that were parked, replicas that died."""
        await asyncio.gather(*map(self._tend, self._queues))

    async def tend_one(self, model: str) -> None:
        """Look after a queue of which something was heard."""
        if queue := self._queues.get(model):
            with suppress(SlotsUnavailable):
                await queue.tend()

    @property
    def standings(self) -> Mapping[str, Tended]:
        """Tell how each model stood when it was last looked at."""
        return {model: queue.standing for model, queue in self._queues.items()}

    def _seat(self) -> None:
        """Give each model's queue the accounts that make it; one that nobody makes any more lets go those who wait."""
        offer = self._offers.now
        for model in {**offer.catalog.models, **self._queues}:
            made = [one for one in offer.accounts if one.serves(model) and model in offer.catalog.models]
            seats = [seat_of(account, model) for account in made]
            if model in self._queues:
                self._queues[model].seats = seats
            elif seats:
                self._queues[model] = ModelQueue(model, seats, self._desk)

    async def _open_up(self, model: str, raised: Sequence[str]) -> None:
        """Hand out what came free; where the operator has raised a limit, what calls taught before is over."""
        with suppress(SlotsUnavailable):
            await asyncio.gather(*(self._store.unlearn(model, account) for account in raised))
        await self.tend_one(model)

    async def _tend(self, model: str) -> None:
        queue = self._queues[model]
        await queue.bury()
        await queue.tend()
        self._observer.queue_looked_at(model, queue.standing)
        if not queue.seats and queue.idle:  # a reload has taken the model away
            del self._queues[model]

    async def _slot(self, queue: ModelQueue, wish: Wish, place: int) -> Slot:
        """Wait for a slot; one of an account that a reload has taken away meanwhile goes back."""
        while True:
            ticket = self._ticket(wish, place)
            seat, place = await self._wait(queue, ticket, wish)
            account = self._offers.now.account(seat.name, seat.fingerprint)
            if account is not None:
                return Slot(account=account, place=place, ticket=ticket.id, queue=queue)
            queue.give(Gone(ticket=ticket.id))

    async def _wait(self, queue: ModelQueue, ticket: Ticket, wish: Wish) -> tuple[Seat, int]:
        asked = self._clock.monotonic()
        self._observer.queued(1)
        try:
            seat = await queue.take(ticket, wish.left(self._clock.now()))
        except TimeoutError:
            raise late(await self._foreseen(wish.model, queue, ticket), wish.patience) from None
        finally:
            self._observer.queued(-1)
        self._observer.waited(wish.model, self._clock.monotonic() - asked)
        return seat

    async def _foreseen(self, model: str, queue: ModelQueue, ticket: Ticket) -> float | None:
        """Say how long a picture like this would wait if it came now; None where that cannot be told."""
        with suppress(SlotsUnavailable):
            return await self._store.foresee(model, queue.seats, ticket)
        return None

    def _ticket(self, wish: Wish, place: int) -> Ticket:
        self._tickets += 1
        return Ticket(
            id=f"{wish.model} {wish.group} {wish.position} {self._tickets}",
            project=wish.project,
            weight=wish.weight,
            group=wish.group,
            patience=max(wish.left(self._clock.now()), 0.001),
            place=place,
        )


def seat_of(account: Account, model: str) -> Seat:
    """Say what an account is to a model's queue."""
    return Seat(
        name=account.name,
        account=account.account,
        limit=account.limit(model),
        weight=account.weight,
        fingerprint=account.fingerprint,
    )


def _limits(queue: ModelQueue) -> dict[str, int]:
    return {seat.account: seat.limit for seat in queue.seats}


def shutting_down() -> GatewayError:
    """Say that nothing new is taken."""
    return ShuttingDown("The gateway is shutting down. Nothing was sent and nothing was charged; try again.")


def _model_of(ticket: str) -> str:
    return ticket.partition(" ")[0]
