"""Spans on their way to a collector over OTLP/HTTP: the one door to OpenTelemetry, imported only when tracing is on.

They are sent by a thread of their own, and thrown away when more than 2048 wait (OTEL_BSP_MAX_QUEUE_SIZE).
"""

import asyncio
import secrets
from collections.abc import Generator, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Thread
from time import time_ns

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.service.ports_upstream import CallFailed

PROPAGATED = {b"traceparent", b"tracestate"}
NANOSECONDS = 1_000_000_000
Attributes = Mapping[str, str | int]
Mark = SpanContext
_context = TraceContextTextMapPropagator()


class Spans:
    """Opens spans, all but those of requests only where a trace is under way: what nobody asked for has none."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is the collector's base URL; the SDK reads everything else from OTEL_* variables."""
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("gateway", __version__)

    @contextmanager
    def serving(self, name: str, headers: Iterable[tuple[bytes, bytes]]) -> Generator["ServerSpan"]:
        """Open a request's span around a block, a child of the span that the request's headers name."""
        given = {word.decode(): value.decode("latin-1") for word, value in headers if word in PROPAGATED}
        opened = self._tracer.start_span(name, _context.extract(given, context.Context()), kind=SpanKind.SERVER)
        with trace.use_span(opened, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield ServerSpan(opened)

    def call(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        """Open a span around a call to another server."""
        return self.span(name, attributes, kind=SpanKind.CLIENT)

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        link: SpanContext | None = None,
    ) -> Generator[Span]:
        """Open a span around a block; of a failure it says the kind, and never the words: a prompt may be in them."""
        if not trace.get_current_span().get_span_context().is_valid:
            yield trace.INVALID_SPAN
            return
        links = [Link(link)] if link else []
        opened = self._tracer.start_span(name, kind=kind, attributes=attributes, links=links)
        with trace.use_span(opened, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield opened
            except BaseException as failure:
                failed(opened, error_type(failure))
                raise

    def past(self, name: str, seconds: float) -> None:
        """Add a span that has just ended."""
        if trace.get_current_span().get_span_context().is_valid:
            now = time_ns()
            self._tracer.start_span(name, start_time=now - int(seconds * NANOSECONDS)).end(now)

    async def close(self, seconds: float) -> None:
        """Send what waits, for at most so long: a collector that is away must not hold up the process's end."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(closed.set)

        Thread(target=close, daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), seconds)


class ServerSpan:
    """The span of a request; it is described when its answer is known."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def describe(self, name: str, attributes: Attributes, *, failed: bool) -> None:
        """Say what it was; attributes that are empty are left out."""
        self._span.update_name(name)
        self._span.set_attributes({word: value for word, value in attributes.items() if value not in {"", 0}})
        if failed:
            self._span.set_status(StatusCode.ERROR)


def propagate(headers: MutableMapping[str, str]) -> None:
    """Add the headers that make another server's spans children of the current one."""
    _context.inject(headers)


def failed(span: Span, kind: str) -> None:
    """Mark a span as failed."""
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def error_type(failure: BaseException) -> str:
    """Name a failure: what the upstream's code means, or its class."""
    return failure.failure.fault.name.lower() if isinstance(failure, CallFailed) else type(failure).__name__


def _resource() -> Resource:
    """Say who sends; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    ours = {
        "service.name": "glm-image-gateway",
        "service.version": __version__,
        "service.instance.id": secrets.token_hex(16),
    }
    return Resource.create(ours).merge(OTELResourceDetector().detect())
