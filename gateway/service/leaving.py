"""What becomes of a job whose client has gone (design.md section 6, "Clients that leave")."""

from gateway.domain.errors import ClientLeft
from gateway.service.errands import quietly
from gateway.service.generation import Run
from gateway.service.jobs import Jobs
from gateway.service.ports import Clock, QuotaUnavailable
from gateway.service.ports_flights import FlightStore

LOOK_PAUSE = 1.0  # seconds between looks at what is sent, or what somebody else waits for


class Leaving:
    """Keeps the place of what is not sent for `abandon_after` seconds, and as long as somebody else waits for it."""

    def __init__(self, flights: FlightStore, errands: Jobs, clock: Clock, *, abandon_after: float) -> None:
        self._flights = flights
        self._errands = errands
        self._clock = clock
        self._abandon_after = abandon_after

    def __call__(self, run: Run) -> None:
        """Take note that the client of a run has gone, and so that of the runs that make pictures of it."""
        run.left = True
        _ = self._errands.start(self._left(run))
        for child in run.children:
            self(child)

    async def _left(self, run: Run) -> None:
        await quietly(self._flights.left(run.reservation))
        pause = self._abandon_after
        while run.unended:  # what is sent may be turned away by its account, and wait again
            await self._clock.sleep(pause if run.unsent else max(pause, LOOK_PAUSE))
            pause = max(self._abandon_after, LOOK_PAUSE)
            if run.unsent and not await self._wanted(run):
                run.withdraw(ClientLeft("The client hung up before its picture was sent to the upstream."))

    async def _wanted(self, run: Run) -> bool:
        """Tell whether anybody waits; nobody is dropped because the store is away."""
        try:
            return await self._flights.waiting(run.reservation)
        except QuotaUnavailable:
            return True
