"""A generation under way, as the one who waits for it sees it: it runs to its end, whoever waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from gateway.domain.billing import Money
from gateway.domain.errors import GatewayError, drop_tracebacks
from gateway.domain.flights import End, Follow, Hit, Lead, Receipt, Replay
from gateway.domain.image import ImageOrder, Picture
from gateway.domain.job import Job
from gateway.domain.limits import Room, given_back
from gateway.domain.quota import Reservation
from gateway.domain.records import record
from gateway.service.worst import worst_of

GIVE_BACK_SECONDS = (
    1.0  # so long the answer of a failure waits for what it gives back; a store that is away gets it later
)
CacheStatus = Literal["HIT", "MISS", "COALESCED", "BYPASS", "REFRESH"]


@dataclass(slots=True, kw_only=True, eq=False)
class Promised:
    """The variants that one answer was to get from others. `attaching`: no two pictures of it find the same one."""

    variants: set[str] = field(default_factory=set)
    attaching: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """A job while it runs: one task per picture. `children` are runs for pictures that others did not give after all.

    `sent` are the positions whose upstream call has begun: they end, whatever happens. `receipts` are what was paid.
    `waits`: seconds that a picture, by position, waited for slots; one that is turned away waits again. `turned`: that
    the job waited for its turn before.
    `away`: seconds in which a picture, by position, was waited for: in the queue, upstream, at another job, downloaded.
    `left`: the client has gone. `answerable` is set when what failed is given back, so that a client that hears of it
    can ask again; `given_back` pictures of those that the limits were asked for. `promised`: shared with the children.
    `under_way`: so many of the pictures have not ended.
    `sources` are where its pictures come from (`joined`: of some, other jobs that run), `leads` the positions that it
    makes itself, but for those that it has lost to others while this replica stood still.
    """

    job: Job
    reservation: Reservation
    tasks: list[asyncio.Future[Picture]] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)
    receipts: dict[int, Receipt] = field(default_factory=dict)
    waits: dict[int, float] = field(default_factory=dict)
    turned: float = 0.0
    children: "list[Run]" = field(default_factory=list)
    answerable: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    given_back: int = 0
    away: dict[int, float] = field(default_factory=dict)
    promised: Promised = field(default_factory=Promised)
    withdrawn: GatewayError | None = None
    left: bool = False
    sources: Sequence[Hit | Follow | Lead | End] = field(init=False)
    leads: list[int] = field(init=False)
    joined: bool = field(init=False)
    under_way: int = 0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)  # for the end; an event would take 760 bytes

    def __post_init__(self) -> None:
        """Say where each picture comes from, and which this job makes itself."""
        self.sources = self._sources()
        kinds = list(map(type, self.sources))
        self.leads = [position for position, kind in enumerate(kinds) if kind is Lead]
        self.joined = Follow in kinds

    def begun(self, pictures: Iterable[asyncio.Future[Picture]]) -> None:
        """Take the pictures, as they are made or there."""
        self.tasks.extend(pictures)
        for task in self.tasks:
            if not task.done():
                self.under_way += 1
                task.add_done_callback(self._one_over)

    def _one_over(self, _: asyncio.Future[Picture]) -> None:
        self.under_way -= 1
        if self.under_way:
            return
        for waiter in self._waiting:
            if not waiter.done():  # who waits may be cancelled, others are not
                waiter.set_result(None)
        self._waiting.clear()

    async def until_answerable(self) -> None:
        """Wait until what failed is given back, but not for a quota store that does not answer."""
        await asyncio.wait({self.answerable}, timeout=GIVE_BACK_SECONDS)

    def _sources(self) -> Sequence[Hit | Follow | Lead | End]:
        """Give where each picture comes from, by position; all lead when the store could not be asked."""
        replay = self.reservation.replay
        if replay is not None and replay.ended is not None:
            return replay.ended
        return self.reservation.parts or [Lead(index=position) for position in range(self.job.order.n)]

    @property
    def settled_as(self) -> Reservation:
        """Give the reservation with what the job made of it: what is remembered is remembered once."""
        leads = tuple(lead for lead in self.reservation.leads if lead.index in self.leads)
        if leads == self.reservation.leads:
            return self.reservation
        return replace(self.reservation, leads=leads)

    @property
    def queued(self) -> float:
        """Give how long the picture waited that waited least, in seconds."""
        return self.turned + min(self.waits.values(), default=0.0)

    @property
    def made(self) -> bool:
        """Tell whether a picture is made for this request."""
        return bool(self.leads) or (bool(self.children) and any(child.made for child in self.children))

    @property
    def price(self) -> int | None:
        """Say what is charged, in millionths; None while pictures are still being made."""
        children = [child.price for child in self.children]
        if self.under_way or None in children:
            return None
        if not self.leads and not children:
            return 0
        made = sum(
            not task.cancelled() and task.exception() is None for task in map(self.tasks.__getitem__, self.leads)
        )
        return made * self.job.tariff.price + sum(filter(None, children))

    @property
    def cache(self) -> CacheStatus:
        """Say what became of the pictures, once they are there (design.md section 6, "Words of the answer")."""
        if not self.job.cached:
            return "BYPASS"
        if self.made:
            return "MISS" if self.job.sought.join else "REFRESH"
        return "COALESCED" if self.joined else "HIT"

    async def wait(self) -> list[Picture | BaseException]:
        """Wait until every picture has ended."""
        if self.under_way:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        return [_end_of(task) for task in self.tasks]

    def forget_ways(self) -> None:
        """Let go of the frames through which failures came: they know the job, which knows its failures."""
        for task in self.tasks:
            if task.done() and not task.cancelled() and isinstance(task.exception(), GatewayError):
                try:
                    _ = task.result()  # a task keeps the traceback itself until then
                except GatewayError as failure:
                    drop_tracebacks(failure)

    @property
    def unsent(self) -> list[asyncio.Future[Picture]]:
        """Give what is still to be made and whose upstream call has not begun."""
        return [self.tasks[position] for position in self.unended if position not in self.sent]

    @property
    def unended(self) -> list[int]:
        """Name the positions that are still being made."""
        return [position for position in self.leads if not self.tasks[position].done()]

    def withdraw(self, reason: GatewayError) -> None:
        """Drop the pictures that are not sent yet, but for the one whose own task says so."""
        self.withdrawn = reason
        for task in self.unsent:
            if task is not asyncio.current_task():
                task.cancel()


def _end_of(task: asyncio.Future[Picture]) -> Picture | BaseException:
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception() or task.result()


@record(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a client waits for."""

    run: Run
    leave: Callable[[Run], None]

    @property
    def order(self) -> ImageOrder:
        """What was ordered."""
        return self.run.job.order

    @property
    def created(self) -> int:
        """When, in seconds since 1970: for a repeated request, when its job was made."""
        replay = self._repeated
        return replay.created if replay is not None else int(self.run.job.came.timestamp())

    @property
    def job_id(self) -> str:
        """The id under which the job is known: for a repeated request, that of the job which it repeats."""
        replay = self._repeated
        return replay.job_id if replay is not None else self.run.job.line.event_id

    @property
    def rooms(self) -> tuple[Room, ...]:
        """How far the limits are used, as far as it is known now."""
        return given_back(self.run.reservation.rooms, self.run.given_back)

    @property
    def replayed(self) -> bool:
        """Tell whether the request repeats another one."""
        return self._repeated is not None

    @property
    def _repeated(self) -> Replay | None:
        """Give the job that the request repeats, unless it takes that job's place."""
        replay = self.run.reservation.replay
        return None if replay is None or replay.lacks else replay

    @property
    def cache(self) -> CacheStatus:
        """Say what became of the pictures."""
        return self.run.cache

    @property
    def age(self) -> int | None:
        """Give the age of the oldest remembered picture in seconds, if all are remembered."""
        hits = self.run.reservation.hits
        return max(hit.age for hit in hits) if hits and self.cache == "HIT" else None

    @property
    def price(self) -> Money | None:
        """Give what the key is charged, once every picture has ended."""
        price = self.run.price
        return None if price is None else Money(price, self.run.job.tariff.currency)

    @property
    def queue_ms(self) -> int | None:
        """Give how long the first picture waited until it was sent, if one was made for the request."""
        waits = [run.queued for run in (self.run, *self.run.children) if run.waits]
        return int(min(waits) * 1000) if waits else None

    @property
    def away(self) -> float:
        """Give the seconds in which nothing but the slowest picture was waited for."""
        return max(chain(self.run.away.values(), *(child.away.values() for child in self.run.children)), default=0.0)

    @property
    def there(self) -> bool:
        """Tell whether nothing has to be waited for."""
        return not self.run.under_way

    def left(self) -> None:
        """Say that the client has gone."""
        self.leave(self.run)

    async def all(self) -> list[Picture]:
        """Wait for every picture and give those that came, in order; the worst failure when none did."""
        ends = await self.run.wait()
        pictures = [end for end in ends if isinstance(end, Picture)]
        if len(pictures) < len(ends):
            await self.run.until_answerable()
        if not pictures:
            raise worst_of(ends)
        return pictures

    async def each(self) -> AsyncIterator[Picture]:
        """Give each picture as soon as it is there; raise the worst failure at the end when none came."""
        failures: list[BaseException] = []
        pending = set(self.run.tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=self.run.tasks.index):
                end = _end_of(task)
                if isinstance(end, BaseException):
                    failures.append(end)
                else:
                    yield end
        if failures:
            await self.run.until_answerable()
        if len(failures) == len(self.run.tasks):
            raise worst_of(failures)

    def failures(self) -> list[GatewayError]:
        """Give what became of the pictures that did not come, as far as it is known."""
        ends = (task.exception() for task in self.run.tasks if task.done() and not task.cancelled())
        return [end for end in ends if isinstance(end, GatewayError)]
