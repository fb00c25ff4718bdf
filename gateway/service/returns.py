"""Slots on their way back."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence

from gateway.domain.slots import Gone, Standing
from gateway.service.desk import Desk
from gateway.service.ports_slots import SlotsUnavailable

RETRY_PAUSE = 1.0  # seconds between tries to give back what the store does not take
TAUGHT_SECONDS = 0.2  # that a store is waited for which one can do without


class Returns:
    """Gives back what came in one turn of the event loop by one call of `give`, until the store takes it.

    What is `kept` again by then is not given back. `told` hears what the store says, and when it was asked.
    """

    def __init__(
        self,
        give: Callable[[Sequence[Gone]], Awaitable[Standing]],
        told: Callable[[Standing, float], None],
        kept: Container[str],
        desk: Desk,
    ) -> None:
        self._give = give
        self._told = told
        self._kept = kept
        self._clock = desk.clock
        self._errands = desk.errands
        self._gone: list[Gone] = []
        self._under_way: set[asyncio.Task[None]] = set()

    def add(self, *gone: Gone) -> None:
        """Give back; that is not waited for."""
        self._gone += gone
        if gone and len(self._gone) == len(gone):
            giving = self._errands.start(self._give_all())
            self._under_way.add(giving)
            giving.add_done_callback(self._under_way.discard)

    @property
    def under_way(self) -> bool:
        """Tell whether something is on its way back."""
        return bool(self._under_way)

    async def taught(self, *, without: bool) -> None:
        """Wait until the store knows what it is to learn from what went back; not for long if it may be away."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=TAUGHT_SECONDS if without else None)

    async def _give_all(self) -> None:
        batch, self._gone = self._gone, []
        while True:
            asked = self._clock.monotonic()
            try:
                standing = await self._give([gone for gone in batch if gone.ticket not in self._kept])
            except SlotsUnavailable:
                await self._clock.sleep(RETRY_PAUSE)
            else:
                return self._told(standing, asked)
