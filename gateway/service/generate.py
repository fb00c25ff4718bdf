"""THE FLOW of one request: plan -> attach and reserve -> make what is missing -> settle -> answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.asked import Asked
from gateway.domain.errors import GatewayError, JobCancelled, OutcomeUnknown
from gateway.domain.flights import End, Ending, Follow, Hit, Lead, replayable
from gateway.domain.image import ImageRequest, Picture
from gateway.domain.job import Job
from gateway.domain.keys import Caller
from gateway.service.books import Books, Ends
from gateway.service.generation import Generation, Promised, Run
from gateway.service.jobs import Jobs
from gateway.service.making import Making
from gateway.service.plan import Planner
from gateway.service.ports import Clock
from gateway.service.ports_flights import NotLed, TakenOver
from gateway.service.reserve import Reservations


class GenerateImages:
    """POST /v1/images/generations as a use case."""

    def __init__(
        self, planner: Planner, reservations: Reservations, making: Making, books: Books, jobs: Jobs, clock: Clock
    ) -> None:
        self._planner = planner
        self._reservations = reservations
        self._making = making
        self._books = books
        self._jobs = jobs
        self._clock = clock
        self._running: dict[str, Run] = {}

    @property
    def running(self) -> int:
        """Give the number of jobs that this process has under way, those that wait or join included."""
        return len(self._running)

    async def __call__(self, caller: Caller, request: ImageRequest, asked: Asked) -> Generation:
        """Plan the request, attach it to what exists, take what is missing from the limits and start to make that.

        Raises:
            InvalidRequest, IdempotencyKeyReused: nothing was started and nothing is charged.
            ModelNotAllowed, LimitReached, QuotaStoreDown, ShuttingDown, PictureStoreUnavailable: as above.
        """
        return await self._begin(self._planner.plan(caller, request, asked, self._clock.now()), Promised())

    async def _begin(self, job: Job, promised: Promised) -> Generation:
        obstacle = self._jobs.obstacle or self._making.obstacle(job.order, self.running)
        try:
            reservation = await self._reservations.take(job.claim(lead=obstacle is None))
        except NotLed as nothing_there:
            raise obstacle or nothing_there from None
        run = Run(job=job, reservation=reservation, promised=promised)
        promised.variants |= reservation.variants
        self._books.attach(job.line, run.sources)
        run.begun(self._begun(run, *source) for source in enumerate(run.sources))
        if reservation.settled:
            run.answerable.set_result(None)
        else:
            self._running[job.line.event_id] = run
            _ = self._jobs.start(self._settle(run))
        return Generation(run=run, leave=self._making.leave)

    def cancel(self, job_id: str) -> None:
        """Drop what a job has not sent yet, because its operator says so; nothing when it does not run here."""
        if run := self._running.get(job_id):
            run.withdraw(JobCancelled("The gateway's operator cancelled the request before its picture was made."))

    def _begun(self, run: Run, position: int, source: Hit | Follow | Lead | End) -> asyncio.Future[Picture]:
        """Begin to make a picture, or to wait for it; one that is surely there needs no task, which takes 20 us."""
        picture = self._making.at_hand(run, source)
        return self._jobs.start(self._picture(run, position, source)) if picture is None else _there(picture)

    async def _picture(self, run: Run, position: int, source: Hit | Follow | Lead | End) -> Picture:
        if isinstance(source, Lead):
            return await self._lead(run, position)
        picture = await self._making.given(run, source)
        if picture is None and isinstance(source, Follow):  # its job may be known again after a loss of the store
            run.promised.variants.discard(source.variant)
        return picture or await self._picture_anew(run, position)

    async def _lead(self, run: Run, position: int) -> Picture:
        try:
            return await self._making.lead(run, position)
        except TakenOver:
            run.leads.remove(position)
            return await self._picture_anew(run, position)

    async def _picture_anew(self, run: Run, position: int) -> Picture:
        """Attach once more for a picture that was remembered and is gone, or whose job has withdrawn or died."""
        self._making.turns.refuse_when_late(run)
        async with run.promised.attaching:
            job = run.job.anew(position, self._clock.now(), run.promised.variants, run.reservation.replay)
            generation = await self._begin(job, run.promised)
        run.children.append(generation.run)
        if run.left:
            generation.left()
        [picture] = await generation.all()
        return picture

    async def _settle(self, run: Run) -> None:
        """When every picture has ended: charge what was delivered, give the rest back, write the ledger's line."""
        try:
            ends = await run.wait()
            if not await self._making.postponed(run, ends, self._settle_ends):
                await self._settle_ends(run, ends)
        finally:
            run.forget_ways()
            run.answerable.set_result(None)
            self._running.pop(run.job.line.event_id, None)

    async def _settle_ends(self, run: Run, ends: Sequence[Picture | BaseException]) -> None:
        told = known(ends)
        made = [told[position] for position in run.leads]
        line, cache = run.job.line, run.cache
        if line.cache != cache:
            line = replace(line, cache=cache)
        said = Ends(all=ends, made=made, queued=run.queued)
        line = self._books.close(line, said, run.job.tariff, now=self._clock.now())
        ending = Ending(ends={at: End.of(end) for at, end in enumerate(told)}, replayable=replayable(told))
        await self._reservations.settle(run.settled_as, line.pictures_delivered, line, ending)
        run.given_back = len(made) - line.pictures_delivered


def _there(picture: Picture) -> asyncio.Future[Picture]:
    there: asyncio.Future[Picture] = asyncio.get_running_loop().create_future()
    there.set_result(picture)
    return there


def known(ends: Sequence[Picture | BaseException]) -> list[Picture | GatewayError]:
    """Give the ends that others may be told: of a defect, only that nothing is known."""
    return [end if isinstance(end, Picture | GatewayError) else OutcomeUnknown("the job crashed") for end in ends]
