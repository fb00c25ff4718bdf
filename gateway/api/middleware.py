"""Around every request: its id, its time, the spellings of its path, and an answer whatever goes wrong."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from time import perf_counter
from typing import cast

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from gateway.api.errors import code_of
from gateway.api.native_errors import encode_defect
from gateway.domain.errors import GatewayError, LimitReached, drop_tracebacks
from gateway.domain.keys import Caller
from gateway.service.generation import Generation
from gateway.service.ports_requests import SERVED, Finished, RequestObserver, RequestTrace, RequestTraces

REMEMBERED_PATHS = 256
CLIENT_LEFT = 499  # nginx's status for it
_NO_TRACE = nullcontext[RequestTrace | None](None)
_SLASHES = re.compile(r"/{2,}")
_VERSIONED = re.compile(r"(?:/v1)*(/(?:images|models|organization)(?:/.*)?)", re.DOTALL)


@lru_cache(REMEMBERED_PATHS)
def canonical_path(path: str) -> str:
    """Serve users whose base URL lacks or doubles /v1, or ends in a slash (openai-images-api.md section 8, trap 18)."""
    path = _SLASHES.sub("/", path)
    match = _VERSIONED.fullmatch(path)
    return f"/v1{match[1]}" if match else path


class Edge:
    """The outermost ASGI layer; what is in it holds for 404s and crashes too.

    `new_id` makes an id for a path, `told` gives who is told of requests, and who keeps traces of them if anybody does.
    """

    def __init__(
        self,
        app: ASGIApp,
        new_id: Callable[[str], str],
        told: Callable[[], tuple[RequestObserver, RequestTraces | None]],
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        path = canonical_path(scope["path"])
        request_id = self._new_id(path)
        own = cast("HTTPScope", {**scope, "path": path, "raw_path": path.encode(), "request_id": request_id})
        await _Exchange(own, send, request_id).run(self._app, receive, *self._told())


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: HTTPScope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._started = self._answered = perf_counter()
        self._status = 0

    async def run(
        self, app: ASGIApp, receive: Receive, observer: RequestObserver, traces: RequestTraces | None
    ) -> None:
        observer.request_began()
        scope = self._scope
        begun = traces.begin(scope["method"], scope["scheme"], scope["path"], scope["headers"]) if traces else _NO_TRACE
        with begun as trace:
            SERVED.set(self._names(trace))
            try:
                await app(self._scope, receive, self.send)
            except Exception as failure:
                if self._status:
                    raise  # the answer has begun: only closing the connection can tell that it is broken
                structlog.get_logger().error("request_crashed", exc_info=failure)
                await self._answer_defect()
            finally:
                finished = self._finished(trace.id if trace else "")
                observer.request_finished(finished)
                if trace:
                    trace.finished(finished)

    def _names(self, trace: RequestTrace | None) -> dict[str, str]:
        """Give what every event of the log says while the request is served, and of what it started."""
        return {"request_id": self._request_id, "trace_id": trace.id} if trace else {"request_id": self._request_id}

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one gets our headers."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._answered = perf_counter()
            milliseconds = int((self._answered - self._started) * 1000)
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self._request_id.encode()),
                (b"openai-processing-ms", str(milliseconds).encode()),
            ]
        await self._send(message)

    def _finished(self, trace_id: str) -> Finished:
        """Say what became of the request, from what its handlers left in its state."""
        state = self._scope.get("state", {})
        caller: Caller | None = state.get("caller")
        generation: Generation | None = state.get("generation")
        failure: GatewayError | None = state.get("failure")
        if failure:
            drop_tracebacks(failure)  # the frames know the state: a body of a megabyte would live on
        return Finished(
            request_id=self._request_id,
            method=self._scope["method"],
            path=self._scope["path"],
            route=self._scope.get("path_template") or "(none)",
            status=self._status or CLIENT_LEFT,
            seconds=perf_counter() - self._started,
            own_seconds=max(0.0, self._answered - self._started - generation.away) if generation else None,
            address=str(state.get("address") or ""),
            code=code_of(failure) if failure else "",
            limit=failure.room.limit.value if isinstance(failure, LimitReached) else "",
            project=caller.project_id if caller else "",
            key=caller.key_id if caller else "",
            model=generation.order.plan.model if generation else "",
            cache=generation.cache if generation else "",
            pictures=generation.order.n if generation else 0,
            trace_id=trace_id,
        )

    async def _answer_defect(self) -> None:
        content = encode_defect(self._scope["path"])
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self._send({"type": "http.response.body", "body": content, "more_body": False})
