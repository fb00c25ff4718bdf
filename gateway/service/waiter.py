"""A picture that waits for a slot, as its replica knows it."""

import asyncio
from dataclasses import dataclass

from gateway.domain.errors import GatewayError
from gateway.domain.slots import Seat, Ticket


@dataclass(slots=True, eq=False)
class Waiter:
    """A ticket that waits. `entered`: the store has answered that it waits there."""

    ticket: Ticket
    slot: asyncio.Future[tuple[Seat, int]]
    entered: bool = False

    def fail(self, failure: GatewayError | TimeoutError) -> None:
        """Let it go without a slot, unless it has one."""
        if not self.slot.done():
            self.slot.set_exception(failure)
