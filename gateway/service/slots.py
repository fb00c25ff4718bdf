"""The queue in front of the upstream: pictures wait their fair turn for an account that makes their model."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.errors import GatewayError, ShuttingDown
from gateway.domain.slots import Gone, Granted, Park, Seat, Tended, Ticket
from gateway.domain.upstream import Account, unusable
from gateway.service.model_queue import Desk, ModelQueue
from gateway.service.ports import Observer
from gateway.service.ports_slots import SlotsUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
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
    """A call that may be made on an account. `place`: where its ticket may come back to."""

    account: Account
    place: int
    ticket: str
    how: str = "none"
    seconds: float = 0.0

    def went(self, how: str, seconds: float = 0.0) -> None:
        """Say how the call went, as Gone has it."""
        self.how, self.seconds = how, seconds

    @property
    def gone(self) -> Gone:
        """Say what is given back."""
        return Gone(ticket=self.ticket, how=self.how, seconds=self.seconds)


class Slots:
    """The queues of all models."""

    def __init__(self, accounts: Sequence[Account], models: Sequence[str], desk: Desk, observer: Observer) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._store = desk.store
        self._clock = desk.clock
        self._observer = observer
        self._tickets = 0
        self._closed = False
        seats = {model: [seat_of(one, model) for one in accounts if one.serves(model)] for model in models}
        self._queues = {model: ModelQueue(model, some, desk) for model, some in seats.items() if some}

    @asynccontextmanager
    async def one(self, wish: Wish, *, place: int = 0) -> AsyncGenerator[Slot]:
        """Hold a slot; `place` is where the picture stood before.

        Raises:
            QueueTimedOut, AccountUnusable, QuotaStoreDown: as ModelQueue.take says.
            ShuttingDown: nothing new is sent.
        """
        if self._closed:
            raise shutting_down()
        queue = self._queues.get(wish.model)
        if queue is None:
            raise unusable(())
        ticket = self._ticket(wish, place)
        seat, place = await self._wait(queue, ticket, wish)
        slot = Slot(account=self._accounts[seat.name], place=place, ticket=ticket.id)
        try:
            yield slot
        finally:
            queue.give(slot.gone)

    def close(self) -> None:
        """Hand out nothing more, and release all who wait: what was not sent is not sent any more."""
        self._closed = True
        for queue in self._queues.values():
            queue.refuse(shutting_down)

    async def park(self, account: Account, model: str, park: Park) -> None:
        """Leave a key or an account alone: a key for all its models, since it opens none of them."""
        self._observer.account_parked(account, park)
        models = [model] if park.whole else [name for name in self._queues if account.serves(name)]
        with suppress(SlotsUnavailable):  # the next call on it will tell again
            await asyncio.gather(*(self._store.park(name, seat_of(account, name), park) for name in models))

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

    async def _tend(self, model: str) -> None:
        queue = self._queues[model]
        await queue.bury()
        await queue.tend()
        self._observer.queue_looked_at(model, queue.standing)

    async def _wait(self, queue: ModelQueue, ticket: Ticket, wish: Wish) -> tuple[Seat, int]:
        asked = self._clock.monotonic()
        self._observer.queued(1)
        try:
            seat = await queue.take(ticket, wish.left(self._clock.now()))
        finally:
            self._observer.queued(-1)
        self._observer.waited(wish.model, self._clock.monotonic() - asked)
        return seat

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


def shutting_down() -> GatewayError:
    """Say that nothing new is taken."""
    return ShuttingDown("The gateway is shutting down. Nothing was sent and nothing was charged; try again.")


def _model_of(ticket: str) -> str:
    return ticket.partition(" ")[0]
