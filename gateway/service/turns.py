"""Lets a job wait until it may run beside the other jobs of its key and its project."""

import asyncio
from dataclasses import dataclass

from gateway.domain.errors import QueueTimedOut
from gateway.service.generation import Run
from gateway.service.ports import Clock, Observer
from gateway.service.ports_flights import FlightStore
from gateway.service.slots import shutting_down


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many jobs may run at once, and after how many seconds a client has waited too long for others."""

    jobs: int
    patience: float


class Turns:
    """The waits of this process for places under `concurrent` limits; who is next, the store of flights knows."""

    def __init__(self, flights: FlightStore, clock: Clock, observer: Observer, bounds: Bounds) -> None:
        self._flights = flights
        self.clock = clock
        self._observer = observer
        self.bounds = bounds
        self._waiting: set[asyncio.Task[bool]] = set()
        self._closed = False

    def close(self) -> None:
        """Release all who wait: what was not sent is not sent any more."""
        self._closed = True
        for turn in self._waiting:
            turn.cancel()

    def refuse_when_late(self, run: Run) -> None:
        """Raise QueueTimedOut when a client has waited too long for others to make its picture."""
        if self._left(run) < 0:
            raise QueueTimedOut("The picture was not there in time. Nothing was charged; try again later.")

    async def wait(self, run: Run) -> None:
        """Wait until a job may run, and note in it how long that was.

        Raises:
            QueueTimedOut: that was not in time.
            ShuttingDown: the process ends.
        """
        if not run.reservation.waits:
            return
        if self._closed:
            raise shutting_down()
        came = self.clock.monotonic()
        self._observer.queued(1)
        try:
            await self._turn(run)
        finally:
            self._observer.queued(-1)
            run.turned = self.clock.monotonic() - came

    async def _turn(self, run: Run) -> None:
        turn = asyncio.create_task(self._flights.turn(run.reservation))
        self._waiting.add(turn)
        try:
            await asyncio.wait({turn}, timeout=max(0.0, self._left(run)))
        finally:
            self._waiting.discard(turn)
            turn.cancel()
        if self._closed:
            raise shutting_down()
        if not turn.done() or not turn.result():
            raise QueueTimedOut(
                "As many requests of this key or its project run at once as may, and none ended in time "
                f"({self.bounds.patience:g} seconds). Nothing was charged; send fewer at once, or try again later.",
            )

    def _left(self, run: Run) -> float:
        """Give the seconds that the client of a run may still be let wait."""
        return self.bounds.patience - (self.clock.now() - run.job.came).total_seconds()
