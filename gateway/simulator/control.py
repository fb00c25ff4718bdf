"""The control surface under `/_simulator`: what a test asks and tells the simulator."""

from typing import Any

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency

from gateway.simulator.faults import Fault
from gateway.simulator.gallery import Picture
from gateway.simulator.service import Service
from gateway.simulator.state import Stats
from gateway.simulator.switchboard import describe_kinds, read_faults


class Control(Controller):
    """Looks into the service and switches its faults."""

    path = "/_simulator"

    @get("/stats")
    async def stats(self, service: NamedDependency[Service]) -> Stats:
        """The four counts."""
        return service.state.stats

    @get("/images")
    async def images(self, service: NamedDependency[Service]) -> list[Picture]:
        """Every picture made."""
        return service.state.gallery.pictures()

    @get("/calls")
    async def calls(self, service: NamedDependency[Service]) -> list[dict[str, Any]]:
        """Every POST to the generation paths."""
        return list(service.state.calls)

    @post("/reset", status_code=204)
    async def reset(self, service: NamedDependency[Service]) -> None:
        """Forgets counts, records and faults."""
        service.reset()

    @get("/faults")
    async def list_faults(self, service: NamedDependency[Service]) -> list[Fault]:
        """The faults that are on, with the `times` that are left."""
        return service.state.switchboard.active

    @post("/faults", status_code=200)
    async def add_faults(self, service: NamedDependency[Service], request: Request[Any, Any, Any]) -> Response[Any]:
        """Switches on one fault or a list of them."""
        try:
            added = read_faults(await request.body())
        except msgspec.DecodeError as refused:
            return Response({"error": str(refused), "kinds": describe_kinds()}, status_code=400)
        service.state.switchboard.active += added
        return Response(service.state.switchboard.active)

    @delete("/faults")
    async def clear_faults(self, service: NamedDependency[Service]) -> None:
        """Switches all faults off."""
        service.state.switchboard.active.clear()
