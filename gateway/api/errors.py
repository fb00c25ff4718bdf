"""The ONE table failure -> status and OpenAI's error object (openai-images-api.md section 4)."""

import re
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway.api.limits import limit_headers
from gateway.domain import errors as failures
from gateway.domain.errors import (
    ContentRefused,
    GatewayError,
    LimitReached,
    MalformedBody,
    QueueTimedOut,
    RateLimitReached,
)
from gateway.domain.usage import Answer
from gateway.service.generation import Generation

INVALID = "invalid_request_error"
LONGEST_RETRY_AFTER = 60  # seconds: clients ignore or give up on more (section 8, trap 10)
CLIENT_LEFT = "client disconnected prematurely"  # Litestar's words, and no failure of ours
NO_RETRY = {"x-should-retry": "false"}
CHALLENGE = {"www-authenticate": 'Bearer realm="glm-image-gateway"'}


@dataclass(frozen=True, slots=True)
class Wire:
    """How a failure looks outside: status, OpenAI's type and code, headers. `retry-after` is at most 60 s."""

    status: int
    type: str = INVALID
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


TABLE: dict[type[GatewayError], Wire] = {
    failures.GatewayError: Wire(500, "server_error", "server_error"),
    failures.Misconfigured: Wire(503, "server_error", "upstream_unavailable", NO_RETRY),
    failures.InvalidRequest: Wire(400),
    failures.MalformedBody: Wire(400),
    failures.MissingParameter: Wire(400, code="missing_required_parameter"),
    failures.InvalidType: Wire(400, code="invalid_type"),
    failures.InvalidValue: Wire(400, code="invalid_value"),
    failures.EmptyText: Wire(400, code="empty_string"),
    failures.TextTooLong: Wire(400, code="string_above_max_length"),
    failures.NumberTooSmall: Wire(400, code="integer_below_min_value"),
    failures.NumberTooLarge: Wire(400, code="integer_above_max_value"),
    failures.UnknownParameter: Wire(400, code="unknown_parameter"),
    failures.UnsupportedParameter: Wire(400, code="unsupported_parameter"),
    failures.UnsupportedEndpoint: Wire(400, code="unsupported_endpoint"),
    failures.RetiredEndpoint: Wire(410),
    failures.IdempotencyKeyReused: Wire(400, code="idempotency_key_reuse", headers=NO_RETRY),
    failures.ModelNotFound: Wire(404, code="model_not_found"),
    failures.NotFound: Wire(404, code="not_found"),
    failures.TaskNotFound: Wire(404, code="task_not_found"),
    failures.ContentRefused: Wire(400, "image_generation_user_error", "content_policy_violation"),
    failures.UpstreamRejected: Wire(400, code="invalid_value"),
    failures.NameTaken: Wire(400, code="name_taken"),
    failures.MissingKey: Wire(401, headers=CHALLENGE),
    failures.InvalidKey: Wire(401, code="invalid_api_key", headers=CHALLENGE),
    failures.NotAllowed: Wire(403),
    failures.ModelNotAllowed: Wire(403, code="model_not_found"),
    failures.AddressNotAllowed: Wire(403, "request_forbidden", "ip_not_authorized"),
    failures.DatabaseUnavailable: Wire(503, "server_error", "database_unavailable", {"retry-after": "5"}),
    failures.LimitReached: Wire(429, "rate_limit_error", "rate_limit_exceeded"),
    failures.RateLimitReached: Wire(429, "rate_limit_error", "rate_limit_exceeded"),
    failures.QuotaExhausted: Wire(429, "insufficient_quota", "insufficient_quota", NO_RETRY),
    failures.QuotaStoreDown: Wire(503, "server_error", "quota_store_unavailable", {"retry-after": "2"}),
    # Without limits (quota.on_outage) a retry would have the picture made a second time.
    failures.PictureUntold: Wire(503, "server_error", "quota_store_unavailable", {"retry-after": "60", **NO_RETRY}),
    failures.LedgerBehind: Wire(503, "server_error", "ledger_behind", {"retry-after": "30"}),
    failures.PictureStoreUnavailable: Wire(503, "server_error", "picture_store_unavailable", {"retry-after": "10"}),
    # Who keeps the connection would ask the same gateway again, which may stop for minutes.
    failures.ShuttingDown: Wire(503, "server_error", "shutting_down", {"retry-after": "1", "connection": "close"}),
    failures.ReplicaFull: Wire(503, "service_unavailable_error", "server_is_overloaded", {"retry-after": "5"}),
    failures.JobCancelled: Wire(503, "server_error", "job_cancelled", NO_RETRY),
    failures.QueueTimedOut: Wire(429, "rate_limit_error", "rate_limit_exceeded", {"retry-after": "30"}),
    failures.UpstreamFailed: Wire(503, "server_error", "server_error", {"retry-after": "5"}),
    failures.AccountUnusable: Wire(503, "server_error", "upstream_unavailable", {"retry-after": "60", **NO_RETRY}),
    failures.UpstreamRateLimited: Wire(429, "rate_limit_error", "rate_limit_exceeded", {"retry-after": "10"}),
    failures.UpstreamOverloaded: Wire(503, "service_unavailable_error", "server_is_overloaded", {"retry-after": "10"}),
    failures.UpstreamBroken: Wire(503, "server_error", "server_error", {"retry-after": "5"}),
    failures.UpstreamUnreachable: Wire(503, "server_error", "upstream_unavailable", {"retry-after": "10"}),
    failures.OutcomeUnknown: Wire(504, "server_error", "upstream_outcome_unknown", NO_RETRY),
    failures.ImageDownloadFailed: Wire(502, "server_error", "image_download_failed", NO_RETRY),
    failures.ClientLeft: Wire(499, code="client_left"),  # nginx's status for it; nobody reads the answer
    failures.PictureLost: Wire(502, "server_error", "image_lost", NO_RETRY),
    failures.InvalidPictureUrl: Wire(403, code="invalid_signature"),
    failures.PictureUrlExpired: Wire(403, code="url_expired"),
    failures.PictureNotFound: Wire(404, code="image_not_found"),
}

# What the framework itself refuses.
_STATUS_MESSAGES = {
    400: "The request could not be read: {detail}",
    404: "Invalid URL ({method} {path})",
    405: "Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)",
    413: "The request's body is too large. The largest body is {limit} bytes.",
}
_MISSING = re.compile(r"missing required (?:field `|query parameter ')(\w+)", re.IGNORECASE)
_UNKNOWN = re.compile(r"contains unknown field `(.*)`")
_DEFECT = "The gateway had an error while processing your request. Try again, and tell its operator the request id."


def wire_of(failure: GatewayError) -> Wire:
    """Find the row of a failure, or of the nearest class above it."""
    return next(TABLE[kind] for kind in type(failure).__mro__ if kind in TABLE)


def answer_of(failure: BaseException) -> Answer:
    """Say which status and code a client gets for a failure; a defect is the first row."""
    wire = wire_of(failure) if isinstance(failure, GatewayError) else TABLE[GatewayError]
    return Answer(wire.status, wire.code or "")


def code_of(failure: GatewayError) -> str:
    """Give the code of a failure, or its type where OpenAI gives none."""
    wire = wire_of(failure)
    return wire.code or wire.type


def error_object(failure: GatewayError) -> dict[str, Any]:
    """Say a failure as OpenAI's `{"error": {...}}`."""
    wire = wire_of(failure)
    said = _object(failure.message, wire.type, wire.code, failure.param)
    if isinstance(failure, ContentRefused):
        stage, categories = failure.moderation.stage, failure.moderation.categories
        said["error"]["moderation_details"] = {"moderation_stage": stage, "categories": categories}
    return said


def encode_defect() -> bytes:
    """Say that the gateway itself failed, without saying how."""
    return msgspec.json.encode(_object(_DEFECT, "server_error", "server_error", None))


def encode_unreadable(message: str) -> bytes:
    """Refuse bytes that never become a request."""
    return msgspec.json.encode(_object(message, INVALID, None, None))


def on_failure(request: Request[Any, Any, Any], failure: GatewayError) -> Response[bytes]:
    """Answer an expected failure; a `generation` in the request's state knows the limits that it had taken from."""
    request.state.failure = failure  # for the access log
    headers = failure_headers(failure, getattr(request.state, "generation", None))
    return _json(wire_of(failure).status, encode_failure(failure), headers)


def failure_headers(failure: GatewayError, generation: Generation | None) -> dict[str, str]:
    """Give the headers of a failure, and what is known of the limits that its generation had taken from."""
    taken = limit_headers(generation.rooms) if generation else {}
    if generation and generation.queue_ms is not None:
        taken["x-glm-queue-ms"] = str(generation.queue_ms)
    return {**wire_of(failure).headers, **taken, **_limit_headers(failure)}


def encode_failure(failure: GatewayError) -> bytes:
    """Write OpenAI's error object."""
    return msgspec.json.encode(error_object(failure))


def encode_refusal(status: int, method: str, path: str, limit: int | None = None) -> bytes:
    """Write what stands for a request that reaches no use case; `limit` is that of its body, in bytes."""
    message = _STATUS_MESSAGES[status].format(method=method, path=path, limit=limit)
    return msgspec.json.encode(_object(message, INVALID, None, None))


def range_refused(length: int) -> Response[bytes]:
    """Answer a Range that lies outside of a file."""
    content = msgspec.json.encode(_object(f"The range lies outside of the {length} bytes.", INVALID, None, None))
    return _json(416, content, {"content-range": f"bytes */{length}"})


def on_http_exception(request: Request[Any, Any, Any], failure: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses: unknown paths and methods, bodies that are too large."""
    status = failure.status_code
    if failure.detail == CLIENT_LEFT:
        return on_failure(request, MalformedBody("The request's body broke off."))
    if status >= 500:  # noqa: PLR2004 - the framework's own failure
        return on_defect(request, failure)
    reason, param, code = _unreadable(failure)
    message = _STATUS_MESSAGES.get(status, "{detail}").format(
        detail=reason or failure.__class__.__name__,
        method=request.method,
        path=request.scope["path"],
        limit=request.app.request_max_body_size,
    )
    return _json(status, msgspec.json.encode(_object(message, INVALID, code, param)), failure.headers or {})


def _unreadable(failure: HTTPException) -> tuple[str, str | None, str | None]:
    """Say why the framework refuses; the parameter and the code where one parameter is the reason."""
    first = failure.extra[0] if isinstance(failure.extra, list) and failure.extra else {}
    name, reason = first.get("key"), first.get("message", failure.detail)
    if missing := _MISSING.search(reason):
        return f"Missing required parameter: '{missing[1]}'.", missing[1], "missing_required_parameter"
    if unknown := _UNKNOWN.search(reason):
        return f"Unknown parameter: '{unknown[1][:100]}'.", unknown[1][:100], "unknown_parameter"
    if name == "data":  # the handlers' name for a body: there is none, or it is no object
        return "The body has to be a JSON object.", None, None
    return (f"'{name}': {reason}", name, "invalid_value") if name else (failure.detail, None, None)


def on_defect(_: Request[Any, Any, Any], failure: Exception) -> Response[bytes]:
    """Answer a defect of ours: its trace goes to the log, not to the client."""
    structlog.get_logger().error("request_crashed", exc_info=failure)
    return _json(500, encode_defect(), {})


def _limit_headers(failure: GatewayError) -> dict[str, str]:
    """Say how far a limit is used, and when to try again where that is known (at most 60 s)."""
    if isinstance(failure, QueueTimedOut) and failure.retry_after is not None:
        return {"retry-after": str(min(max(ceil(failure.retry_after), 1), LONGEST_RETRY_AFTER))}
    if not isinstance(failure, LimitReached):
        return {}
    headers = limit_headers([failure.room])
    if isinstance(failure, RateLimitReached):
        wait = min(max(failure.room.resets_in, 1), LONGEST_RETRY_AFTER * 1000)
        headers |= {"retry-after": str(-(-wait // 1000)), "retry-after-ms": str(wait)}
    return headers


def _object(message: str, kind: str, code: str | None, param: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _json(status: int, content: bytes, headers: dict[str, str]) -> Response[bytes]:
    return Response(content, status_code=status, media_type="application/json", headers=headers)
