"""Opens tracing where the operator wants it; OpenTelemetry is imported nowhere else."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from gateway.adapters.tracing.off import Untraced
from gateway.domain.errors import Misconfigured
from gateway.settings import Settings

PORTS = {"http": 80, "https": 443}
FLUSH_SECONDS = 3.0  # for the last spans, when the process ends


@asynccontextmanager
async def open_tracing(settings: Settings) -> AsyncGenerator[Untraced]:
    """Give what keeps traces; what waits is sent at the end of the block, if the collector takes it in time.

    Raises:
        Misconfigured: the extra is not installed.
    """
    if not settings.tracing.endpoint:
        yield Untraced()
        return
    try:
        from gateway.adapters.tracing.ports import Traced  # noqa: PLC0415 - who keeps no traces pays nothing for them
        from gateway.adapters.tracing.spans import Spans  # noqa: PLC0415 - as above
    except ModuleNotFoundError as missing:
        raise Misconfigured(
            "tracing.endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) is set, but OpenTelemetry is not installed: "
            "pip install 'glm-image-gateway[otel]'.",
        ) from missing
    spans = Spans(settings.tracing.endpoint)
    try:
        yield Traced(spans, by=settings.metrics.by, propagates=settings.tracing.propagate)
    finally:
        await spans.close(FLUSH_SECONDS)


def places_of(settings: Settings) -> Mapping[str, Mapping[str, str | int]]:
    """Say in the words of the conventions who each account's server is."""
    return {upstream.name: _place(upstream.kind, upstream.base_url) for upstream in settings.upstreams}


def _place(kind: str, base_url: str) -> Mapping[str, str | int]:
    parts = urlsplit(base_url)
    port = parts.port or PORTS[parts.scheme]
    return {"gen_ai.provider.name": kind, "server.address": parts.hostname or "", "server.port": port}
