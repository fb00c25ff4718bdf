"""One server span per request, from its head to its last byte."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Literal

from gateway.adapters.redaction import redacted
from gateway.adapters.tracing.spans import ServerSpan, Spans
from gateway.service.ports_requests import Finished

PROBES = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds by machines
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
DEFECTS = 500  # and above: failures of the server, and not of its client
Owners = Literal["none", "project", "key"]


class TracedRequests:
    """The port of requests' traces. `by`: whether a span names its project, or project and key."""

    def __init__(self, spans: Spans, by: Owners) -> None:
        self._spans = spans
        self._by = by

    @contextmanager
    def begin(
        self, method: str, scheme: str, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> Generator["_RequestTrace | None"]:
        """Open a request's span; see the port."""
        if path in PROBES:
            yield None
            return
        method = method if method in METHODS else "HTTP"  # anything may stand there
        with self._spans.serving(method, headers) as span:
            yield _RequestTrace(span, method, scheme, self._by)


class _RequestTrace:
    def __init__(self, span: ServerSpan, method: str, scheme: str, by: Owners) -> None:
        self._span = span
        self._method = method
        self._scheme = scheme
        self._by = by
        self.id = span.trace_id

    def finished(self, finished: Finished) -> None:
        """Say in the words of the conventions what became of the request."""
        known = finished.route != "(none)"
        self._span.describe(
            f"{self._method} {finished.route}" if known else self._method,
            {
                "http.request.method": self._method if self._method in METHODS else "_OTHER",
                "http.route": finished.route if known else "",
                "http.response.status_code": finished.status,
                "url.path": finished.path if known else redacted(finished.path),
                "url.scheme": self._scheme,
                "client.address": finished.address,
                "error.type": finished.code or (str(finished.status) if finished.status >= DEFECTS else ""),
                "gen_ai.request.model": finished.model,
                "gen_ai.output.type": "image" if finished.model else "",
                "glm_gateway.cache": finished.cache,
                "glm_gateway.pictures": finished.pictures,
                "glm_gateway.limit": finished.limit,
                "glm_gateway.request_id": finished.request_id,
                "glm_gateway.project": finished.project if self._by != "none" else "",
                "glm_gateway.key": finished.key if self._by == "key" else "",
            },
            failed=finished.status >= DEFECTS,
        )
