"""For the operator's machines: alive, ready, metrics. None of them costs an upstream call."""

from datetime import UTC, datetime
from typing import Any

from litestar import MediaType, Request, Response, get

from gateway.api.services import Services
from gateway.domain.slots import Park

METRICS_TYPE = "text/plain; version=0.0.4"


@get(["/healthz", "/health/liveliness"], media_type=MediaType.TEXT)
async def healthz() -> str:
    """Say that the process answers."""
    return "ok"


@get(["/readyz", "/health/readiness"])
async def readyz(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Say whether requests can be served (200 or 503), which part is missing, and whether limits hold."""
    services: Services = request.app.state.services
    readiness = await services.readiness()
    content = {
        "ready": readiness.ready,
        "parts": {name: "ok" if well else "failing" for name, well in readiness.parts.items()},
        "limits": "off" if readiness.limits_off else "on",
    }
    if readiness.parked:
        content["parked"] = [{"model": model, **parked(park)} for model, park in readiness.parked]
    return Response(content, status_code=200 if readiness.ready else 503)


def parked(park: Park) -> dict[str, str]:
    """Say which upstream is left alone, why, and until when."""
    until = datetime.fromtimestamp(park.until / 1000, UTC).isoformat(timespec="seconds") if park.until else "changed"
    return {"upstream": park.seat, "code": park.code, "until": until}


@get("/metrics", media_type=MediaType.TEXT)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Give Prometheus its text."""
    services: Services = request.app.state.services
    return Response(services.render_metrics(), media_type=METRICS_TYPE)
