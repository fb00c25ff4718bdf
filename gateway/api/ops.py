"""For the operator's machines: alive, ready, metrics. None of them costs an upstream call."""

from typing import Any

from litestar import MediaType, Request, Response, get

from gateway.api.services import Services

METRICS_TYPE = "text/plain; version=0.0.4"


@get("/healthz", media_type=MediaType.TEXT)
async def healthz() -> str:
    """Say that the process answers."""
    return "ok"


@get("/readyz")
async def readyz(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Say whether requests can be served (200 or 503), which part is missing, and whether limits hold."""
    services: Services = request.app.state.services
    readiness = await services.readiness()
    content = {
        "ready": readiness.ready,
        "parts": {name: "ok" if well else "failing" for name, well in readiness.parts.items()},
        "limits": "off" if readiness.limits_off else "on",
    }
    return Response(content, status_code=200 if readiness.ready else 503)


@get("/metrics", media_type=MediaType.TEXT)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Give Prometheus its text."""
    services: Services = request.app.state.services
    return Response(services.render_metrics(), media_type=METRICS_TYPE)
