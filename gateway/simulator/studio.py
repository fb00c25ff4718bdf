"""Makes pictures, each in a task of its own that lives on when its caller has gone, as the real service bills on."""

import asyncio
import hashlib

from gateway.simulator.drawing import Sketch, draw
from gateway.simulator.errors import Refusal
from gateway.simulator.gallery import Picture
from gateway.simulator.links import Links
from gateway.simulator.models import size_in_pixels
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.state import State, Ticket


class Studio:
    """Starts generations and holds on to them."""

    def __init__(self, options: SimulatorOptions) -> None:
        self.links = Links(options)
        self._running: set[asyncio.Task[Picture | Refusal]] = set()

    def start(self, ticket: Ticket, state: State) -> asyncio.Task[Picture | Refusal]:
        """The generation, begun; its slot is taken at once and free when it ends.

        Asynchronous calls take the same slots: a choice, section 12 has it open.
        """
        slot = (ticket.key_id, ticket.order.model)
        state.slots[slot] += 1
        task = asyncio.create_task(self._make(ticket, state))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: state.slots.subtract([slot]))
        return task

    async def _make(self, ticket: Ticket, state: State) -> Picture | Refusal:
        with state.stats.making():
            if ticket.refusal is not None:
                await asyncio.sleep(ticket.seconds)
                return ticket.refusal
            sketch = _sketch(ticket, next(state.serials))
            _, png = await asyncio.gather(asyncio.sleep(ticket.seconds), asyncio.to_thread(draw, sketch))
            state.stats.images += 1
            return self._hang(ticket, state, png)

    def _hang(self, ticket: Ticket, state: State, png: bytes) -> Picture:
        """Puts the picture where its link finds it."""
        order, call = ticket.order, ticket.call
        name = self.links.name(call.id, watermark=order.watermark)
        picture = Picture(
            id=call.id,
            prompt=order.prompt,
            size=order.size,
            sha256=hashlib.sha256(png).hexdigest(),
            url=self.links.url(call.headers.get("host", "localhost"), name, call.id),
            user_id=order.user_id,
            key_id=ticket.key_id,
            model=order.model,
            watermark=order.watermark,
        )
        state.gallery.add(name, picture, png)
        return picture


def _sketch(ticket: Ticket, serial: int) -> Sketch:
    width, height = size_in_pixels(ticket.order.size)
    return Sketch(
        id=ticket.call.id,
        serial=serial,
        prompt=ticket.order.prompt,
        width=width,
        height=height,
        watermark=ticket.order.watermark,
    )
