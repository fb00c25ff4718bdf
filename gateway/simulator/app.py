"""The ASGI application: which path goes where."""

from typing import Any

from litestar import Litestar, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import ASGIApp

from gateway.simulator.calls import Call, read_call
from gateway.simulator.cdn import fetch
from gateway.simulator.control import Control
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.service import Service

_BASE = "/api/paas/v4"
AnyRequest = Request[Any, Any, Any]


def create_simulator(options: SimulatorOptions) -> Litestar:
    """A simulated GLM-Image, its picture host and its control surface, on one port."""
    service = Service(options)
    return Litestar(
        [_generate, _poll, _fetch, Control],
        dependencies={"service": Provide(lambda: service, sync_to_thread=False)},
        exception_handlers={NotFoundException: _nothing_here},
        openapi_config=None,
        logging_config=None,  # Litestar would configure the whole process
    )


@post([f"{_BASE}/images/generations", f"{_BASE}/async/images/generations"])
async def _generate(request: AnyRequest, service: NamedDependency[Service]) -> ASGIApp:
    return await service.generate(await _read(request, service))


@get(f"{_BASE}/async-result/{{job_id:str}}")
async def _poll(request: AnyRequest, service: NamedDependency[Service], job_id: FromPath[str]) -> ASGIApp:
    return service.poll(await _read(request, service), job_id)


@get("/files/{name:str}")
async def _fetch(request: AnyRequest, service: NamedDependency[Service], name: FromPath[str]) -> ASGIApp:
    authorized = "authorization" in request.headers
    return await fetch(service.state, service.studio.links, name, dict(request.query_params), authorized=authorized)


async def _read(request: AnyRequest, service: Service) -> Call:
    content = await request.body()
    return read_call(request.url.path, dict(request.headers.items()), content, service.state.switchboard)


def _nothing_here(_: AnyRequest, __: NotFoundException) -> Response[bytes]:
    """A wrong path has no body of the service's own (section 3)."""
    return Response(b"", status_code=404)
