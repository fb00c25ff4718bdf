"""THE FLOW of one request: plan -> reserve -> make -> settle -> answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from gateway.domain.billing import Tariff, closed, opened
from gateway.domain.errors import GatewayError, ImageDownloadFailed, OutcomeUnknown
from gateway.domain.image import ImageOrder, ImageRequest, Picture
from gateway.domain.keys import Caller
from gateway.domain.limits import Room
from gateway.domain.quota import Claim, Reservation, Subject, subject_names
from gateway.domain.usage import UsageEvent
from gateway.service.dispatch import Dispatch, shutting_down
from gateway.service.jobs import Jobs
from gateway.service.plan import Planner
from gateway.service.ports import Clock
from gateway.service.reserve import Reservations


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A generation under way: one task per picture. They run to their end, whoever waits."""

    order: ImageOrder
    created: int
    rooms: tuple[Room, ...]
    tasks: tuple[asyncio.Task[Picture], ...]
    settled: asyncio.Task[None]

    async def all(self) -> list[Picture]:
        """Wait for every picture and give those that came, in order; the worst failure when none did."""
        ends = await asyncio.gather(*map(asyncio.shield, self.tasks), return_exceptions=True)
        pictures = [end for end in ends if isinstance(end, Picture)]
        if len(pictures) < len(self.tasks):
            await asyncio.shield(self.settled)  # what failed is given back before the client can ask again
        if not pictures:
            raise _worst(ends)
        return pictures

    async def each(self) -> AsyncIterator[Picture]:
        """Give each picture as soon as it is there; raise the worst failure at the end when none came."""
        failures: list[BaseException] = []
        pending = set(self.tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=self.tasks.index):
                failure = asyncio.CancelledError() if task.cancelled() else task.exception()
                if failure is None:
                    yield task.result()
                else:
                    failures.append(failure)
        if failures:
            await asyncio.shield(self.settled)
        if len(failures) == len(self.tasks):
            raise _worst(failures)

    def failures(self) -> list[GatewayError]:
        """Give what became of the pictures that did not come, as far as it is known."""
        ends = (task.exception() for task in self.tasks if task.done() and not task.cancelled())
        return [end for end in ends if isinstance(end, GatewayError)]


class GenerateImages:
    """POST /v1/images/generations as a use case."""

    def __init__(
        self, planner: Planner, reservations: Reservations, dispatch: Dispatch, jobs: Jobs, clock: Clock
    ) -> None:
        self._planner = planner
        self._reservations = reservations
        self._dispatch = dispatch
        self._jobs = jobs
        self._clock = clock

    async def __call__(
        self, caller: Caller, request: ImageRequest, *, request_id: str, strict: bool = False
    ) -> Generation:
        """Plan the request, take what it needs from the limits, start its pictures.

        Raises:
            InvalidRequest, ShuttingDown: nothing was started and nothing is charged.
            ModelNotAllowed, LimitReached, QuotaStoreDown, PictureStoreUnavailable: as above.
        """
        if self._jobs.closing:
            raise shutting_down()
        order, tariff = self._planner.plan(caller, request, strict=strict)
        self._dispatch.require_store(linked=order.linked)
        line = opened(caller, order, tariff, request_id=request_id, now=self._clock.now())
        reservation = await self._reservations.take(claim_of(caller, order, tariff, line))
        tasks = tuple(self._jobs.start(self._dispatch.make(order.plan, linked=order.linked)) for _ in range(order.n))
        settled = self._jobs.start(self._settle(reservation, line, tariff, tasks))
        return Generation(
            order=order,
            created=int(line.time.timestamp()),
            rooms=reservation.rooms,
            tasks=tasks,
            settled=settled,
        )

    async def _settle(
        self,
        reservation: Reservation,
        line: UsageEvent,
        tariff: Tariff,
        tasks: Sequence[asyncio.Task[Picture]],
    ) -> None:
        """When every picture has ended: charge what was delivered, give the rest back, write the ledger's line."""
        ends = await asyncio.gather(*map(asyncio.shield, tasks), return_exceptions=True)
        known = [end if isinstance(end, Picture | GatewayError) else OutcomeUnknown("the job crashed") for end in ends]
        latency = self._clock.now() - line.time
        done = closed(line, known, tariff, latency_ms=int(latency.total_seconds() * 1000))
        await self._reservations.settle(reservation, done.pictures_delivered, done)


def claim_of(caller: Caller, order: ImageOrder, tariff: Tariff, line: UsageEvent) -> Claim:
    """Say what an order takes from the limits of a key and its project."""
    key, project = subject_names(caller.key_id, caller.project_id)
    return Claim(
        project_id=caller.project_id,
        subjects=(Subject(name=key, limits=caller.key_limits), Subject(name=project, limits=caller.project_limits)),
        pictures=order.n,
        price=tariff.price,
        abandoned=line,
    )


def _worst(ends: Sequence[object]) -> BaseException:
    """Give the failure that the client must not overlook: what may have been paid comes before what was not."""
    failures = [end for end in ends if isinstance(end, BaseException)]
    cut = [end for end in failures if isinstance(end, asyncio.CancelledError)]
    if cut:
        return OutcomeUnknown(
            "The gateway was stopped before the picture was there, so it may have been made. "
            "Send the request again if you want another try.",
        )
    for kind in (OutcomeUnknown, ImageDownloadFailed):
        found = next((failure for failure in failures if isinstance(failure, kind)), None)
        if found is not None:
            return found
    return failures[0]
