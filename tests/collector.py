"""An OpenTelemetry collector inside the tests' process: OTLP over HTTP, as much of it as shows what was sent."""

import gzip
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, kw_only=True)
class Span:
    """What arrived of a span; ids in hex, times in nanoseconds, `links` as (trace, span)."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    kind: int
    failed: bool
    words: dict
    links: list


@dataclass
class Collector:
    """What came in."""

    url: str
    spans: list = field(default_factory=list)
    resources: list = field(default_factory=list)
    received: bytes = b""

    def take(self, content):
        self.received += content
        for group in ExportTraceServiceRequest.FromString(content).resource_spans:
            self.resources.append(words_of(group.resource.attributes))
            self.spans += [read(span) for scope in group.scope_spans for span in scope.spans]

    def named(self, name):
        return [span for span in tuple(self.spans) if span.name == name]

    def trace(self, trace_id):
        return [span for span in tuple(self.spans) if span.trace == trace_id]

    def served(self, request_id):
        """The server span of a request, or None while it is not here."""
        return next(
            (span for span in tuple(self.spans) if span.words.get("glm_gateway.request_id") == request_id), None
        )


def read(span):
    return Span(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        kind=span.kind,
        failed=span.status.code == 2,
        words=words_of(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )


def words_of(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting():
    """Collect while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                content = gzip.decompress(content)
            if self.path == "/v1/traces":
                collector.take(content)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
