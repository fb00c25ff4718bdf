"""Where each picture of a job comes from: made upstream, made by another job, or remembered."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gateway.domain.errors import (
    GatewayError,
    ImageDownloadFailed,
    InvalidRequest,
    PictureUntold,
    QueueTimedOut,
    ReplicaFull,
)
from gateway.domain.flights import End, Follow, Hit, Lead, Receipt, Task
from gateway.domain.image import ImageOrder, Picture
from gateway.domain.upstream import Account
from gateway.service.dispatch import PictureMaker
from gateway.service.errands import at_most, quietly
from gateway.service.generation import Run
from gateway.service.jobs import Jobs
from gateway.service.keeping import Keeping
from gateway.service.leaving import Leaving
from gateway.service.ports import QuotaUnavailable
from gateway.service.ports_flights import FlightStore, TakenOver
from gateway.service.slots import Wish
from gateway.service.turns import Turns

RECORD_SECONDS = 0.5  # so long a picture waits for what it is found by to be kept; a store that is slow gets it beside
Ends = Sequence[Picture | BaseException]
UNTOLD = (
    "The picture is made for another request, and the gateway cannot learn what becomes of it: its store is away. "
    "Nothing was charged for this request; send it again later, and it gets that picture."
)
NOT_STORED = (
    "The picture was made and charged for another request, but it could not be stored yet. Send the request "
    "again if you want another one."
)


class Making:
    """Makes what a job leads and waits for what others make; says to others how far it is.

    `leaving` is told of clients that have gone, `turns` lets a job wait for its place among others.
    """

    def __init__(
        self,
        maker: PictureMaker,
        keeping: Keeping,
        flights: FlightStore,
        errands: Jobs,
        leaving: Leaving,
        turns: Turns,
    ) -> None:
        self._maker = maker
        self._keeping = keeping
        self._flights = flights
        self._errands = errands
        self.leave = leaving
        self.turns = turns
        self._postponed = 0  # jobs whose pictures are paid and cannot be downloaded yet

    def obstacle(self, order: ImageOrder, running: int) -> GatewayError | None:
        """Give what keeps pictures from being made, before money is spent on them.

        So many jobs run already; those that wait for a download count as well.
        """
        if running + self._postponed >= self.turns.bounds.jobs:
            return ReplicaFull(
                "The gateway runs as many jobs as it may at once. Nothing was charged; try again after a short wait.",
            )
        return self._keeping.obstacle(order)

    async def lead(self, run: Run, position: int) -> Picture:
        """Make a picture; others that wait for it hear of its end before the job's other pictures are there.

        Raises:
            GatewayError: it failed. TakenOver: it is not this job's to make any more.
        """
        progress = _Progress(self._flights, run, position)
        began = self.turns.clock.monotonic()
        try:
            await self.turns.wait(run)
            picture = await self._maker.make(run.job.order, self._wish(run, position), progress)
        except asyncio.CancelledError:
            if run.withdrawn is None or position in run.sent:
                raise
            raise run.withdrawn from None
        except GatewayError as failure:
            if self._dooms(run, failure):
                run.withdraw(failure)
            self._finish(run, position, failure)
            raise
        finally:
            run.away[position] = self.turns.clock.monotonic() - began
        self._finish(run, position, picture)
        return picture

    def _dooms(self, run: Run, failure: GatewayError) -> bool:
        """Tell whether the job's other pictures are not worth a wait or a call after this one's failure.

        What the upstream refused it would refuse again, and GLM locks accounts that send it often. Who waited in vain
        for the first picture does not wait on for the others.
        """
        return isinstance(failure, InvalidRequest) or (isinstance(failure, QueueTimedOut) and not run.sent)

    def _wish(self, run: Run, position: int) -> Wish:
        """Say how long a picture may wait: the first of a request `patience`, each further one so much more."""
        job, rank = run.job, run.leads.index(position)
        return Wish(
            model=job.order.plan.model,
            project=job.caller.project_id,
            weight=job.caller.project_weight,
            group=job.line.event_id,
            position=position,
            came=job.came,
            patience=self.turns.bounds.patience * (1 + rank),
        )

    def at_hand(self, run: Run, source: Hit | Follow | Lead | End) -> Picture | None:
        """Give a remembered picture whose bytes nobody wants; None for any other."""
        return source.picture if isinstance(source, Hit) and run.job.order.linked else None

    async def given(self, run: Run, source: Hit | Follow | End) -> Picture | None:
        """Wait for a picture that is not this job's to make; None when it cannot be had that way.

        Raises:
            GatewayError: it failed, for all who wanted it.
        """
        began = self.turns.clock.monotonic()
        try:
            end = await self._end(run, source)
        finally:
            run.away[run.sources.index(source)] = self.turns.clock.monotonic() - began
        if end.failure is not None:
            raise end.failure.error()
        if end.picture is not None:
            picture = await self._keeping.held(run.job.order, end.picture)
            if picture is not None:
                return picture
        if isinstance(source, Hit):
            await quietly(self._flights.forget(run.reservation, source))
        return None

    async def postponed(self, run: Run, ends: Ends, settle: Callable[[Run, Ends], Coroutine[Any, Any, None]]) -> bool:
        """Tell whether something is paid that cannot be kept yet; if so, settle when that has ended too.

        Clients are told meanwhile that it failed, or have left before the store could take it; another job may run in
        its place. When the process ends before, the job is its replica's no more, and another one goes on: the receipt
        is known to all.
        """
        if not any(self._is_late(run, position, end) for position, end in enumerate(ends)):
            return False
        self._postponed += 1
        await quietly(self._flights.vacate(run.reservation))
        _ = self._errands.start(self._settle_late(run, ends, settle))
        return True

    async def _settle_late(
        self, run: Run, ends: Ends, settle: Callable[[Run, Ends], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            await settle(run, await asyncio.gather(*(self._late(run, *end) for end in enumerate(ends))))
        finally:
            self._postponed -= 1

    async def _late(self, run: Run, position: int, end: Picture | BaseException) -> Picture | BaseException:
        if isinstance(end, Picture | GatewayError):
            await quietly(self._flights.finish(run.reservation, position, self._told(run, position, end)))
        if not self._is_late(run, position, end):
            return end
        receipt = run.receipts[position]
        await quietly(self._flights.paid(run.reservation, position, receipt))  # it may not have been kept in time
        return await self._keeping.keep_late(receipt)

    def _is_late(self, run: Run, position: int, end: Picture | BaseException) -> bool:
        if isinstance(end, Picture):
            return run.left and bool(end.unstored) and position in run.receipts
        return isinstance(end, ImageDownloadFailed) and not end.final and position in run.receipts

    async def _end(self, run: Run, source: Hit | Follow | End) -> End:
        match source:
            case Hit():
                return End(picture=source.picture)
            case Follow():
                return await self._followed(run, source)
            case _:
                return source

    async def _followed(self, run: Run, source: Follow) -> End:
        try:
            return await self._flights.follow(run.reservation, source)
        except QuotaUnavailable as away:
            raise PictureUntold(UNTOLD) from away

    def _finish(self, run: Run, position: int, end: Picture | GatewayError) -> None:
        """Tell of one of several pictures; the end of an only one goes with its job's settlement.

        Who makes another picture of this job may wait for this one: the settlement waits for all of them.
        """
        if len(run.sources) > 1:
            told = self._told(run, position, end)
            _ = self._errands.start(quietly(self._flights.finish(run.reservation, position, told)))

    def _told(self, run: Run, position: int, end: Picture | GatewayError) -> End:
        """Say how a picture ended; one that is stored later is remembered then, and not before."""
        if isinstance(end, Picture) and self._is_late(run, position, end):
            return End.of(ImageDownloadFailed(NOT_STORED))
        return End.of(end)


class _Progress:
    """Keeps how far one picture is: what is sent is not withdrawn, what is paid is found by who takes the job over."""

    def __init__(self, flights: FlightStore, run: Run, position: int) -> None:
        self._flights = flights
        self._run = run
        self._position = position

    async def sent(self, account: Account) -> None:
        self._run.job = self._run.job.paying(account)
        ours = self._flights.sent(self._run.reservation, self._position)
        self._run.sent.add(self._position)
        if self._flights.lapsed(self._run.reservation) and not await _unless_denied(ours):
            self._run.sent.discard(self._position)
            raise TakenOver

    def turned_away(self) -> None:
        self._run.sent.discard(self._position)

    def waited(self, seconds: float) -> None:
        waits = self._run.waits
        waits[self._position] = waits.get(self._position, 0.0) + seconds

    async def submitted(self, account: str, task_id: str) -> None:
        task = Task(account=account, id=task_id)
        await at_most(RECORD_SECONDS, self._flights.submitted(self._run.reservation, self._position, task))

    async def paid(self, receipt: Receipt) -> None:
        self._run.receipts[self._position] = receipt
        await at_most(RECORD_SECONDS, self._flights.paid(self._run.reservation, self._position, receipt))


async def _unless_denied(ours: asyncio.Future[bool]) -> bool:
    """Wait for a short time whether a job is still this replica's; who cannot tell goes on."""
    await at_most(RECORD_SECONDS, ours)
    return not ours.done() or ours.cancelled() or ours.exception() is not None or ours.result()
