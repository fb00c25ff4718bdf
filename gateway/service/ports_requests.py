"""What the operator is told of requests: one record per answer, for metrics and the access log."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Protocol

from gateway.domain.records import record

# What every event of the log says while a request is served, and of what it started. Each request is a task of its own.
SERVED: ContextVar[Mapping[str, str]] = ContextVar("served")


@record(frozen=True, slots=True, kw_only=True)
class Finished:
    """A request that was answered, or whose client left (status 499). Prompts, keys and queries are never in it.

    `seconds` until the last byte; `own_seconds` until the first one without the waits for slots, upstream calls and
    downloads, None where nothing was made. `limit` is the one that refused, `code` the answer's error code. `project`,
    `key`, `model`, `cache` and `pictures` (asked for) are empty or 0 when it did not come so far. `trace_id` is empty
    where no trace is kept.
    """

    request_id: str
    method: str
    path: str
    route: str
    status: int
    seconds: float
    own_seconds: float | None = None
    address: str = ""
    code: str = ""
    limit: str = ""
    project: str = ""
    key: str = ""
    model: str = ""
    cache: str = ""
    pictures: int = 0
    trace_id: str = ""


class RequestObserver(Protocol):
    """Who is told. Nothing here may fail or wait."""

    def request_began(self) -> None:
        """A request's head was read; `request_finished` follows."""

    def request_finished(self, finished: Finished) -> None:
        """A request was answered."""


class RequestTrace(Protocol):
    """The trace that a request belongs to; `id` is 32 hex digits."""

    @property
    def id(self) -> str:
        """Name it."""

    def finished(self, finished: Finished) -> None:
        """Say what became of the request; nothing is added afterwards."""


class RequestTraces(Protocol):
    """Keeps traces. Nothing here may fail or wait."""

    def begin(
        self, method: str, scheme: str, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> AbstractContextManager[RequestTrace | None]:
        """Begin a request's part of a trace, of its client's if `headers` name one; None: such requests have none.

        What the block does, and the tasks that it starts, belong to it.
        """
