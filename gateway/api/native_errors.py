"""Failures in GLM's own words, for its own path: derived row by row from the one table in api/errors.py.

Which of GLM's codes stands for which of our statuses: design.md section 6, "Upstream failures outward". The HTTP status
is the one that GLM's own table gives the code (glm-image-api.md section 3). Headers are the same on both paths;
`x-should-retry: false`, which zai-sdk and zhipuai obey, keeps them from paying twice for an outcome that is unknown.
"""

from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway.api import errors
from gateway.domain import errors as failures
from gateway.domain.errors import ContentRefused, GatewayError

BASE = "/api/paas/v4"


class Words(NamedTuple):
    """A status and one of GLM's codes, which are strings of digits."""

    status: int
    code: str


# By the status that OpenAI's path answers with.
BY_STATUS: dict[int, Words] = {
    400: Words(400, "1214"),
    401: Words(401, "401"),  # what a wrong key really gets
    403: Words(403, "1220"),
    404: Words(400, "1211"),
    410: Words(400, "1222"),
    429: Words(429, "1302"),
    499: Words(499, "1210"),  # nobody reads it
    500: Words(500, "500"),
    502: Words(500, "1234"),
    503: Words(429, "1305"),
    504: Words(500, "1234"),
}
# Where GLM has a code of its own for it.
BY_CLASS: dict[type[GatewayError], Words] = {
    failures.MalformedBody: Words(400, "1210"),
    failures.MissingParameter: Words(400, "1213"),
    failures.EmptyText: Words(400, "1213"),
    failures.TextTooLong: Words(400, "1261"),
    failures.ContentRefused: Words(400, "1301"),
    failures.QuotaExhausted: Words(429, "1113"),
    failures.TaskNotFound: Words(400, "1214"),
}
# What the framework itself refuses keeps its status.
_HTTP_CODES = {400: "1210", 404: "1222", 405: "1222", 413: "1210"}
_ROLES = {"input": "user", "output": "assistant"}
_REFUSED_LEVEL = 1  # 0 and 1 are refused (glm-image-api.md section 1.3); which it was is not kept


def is_native(path: str) -> bool:
    """Tell whether a path is GLM's own."""
    return path == BASE or path.startswith(f"{BASE}/")


def words_of(failure: GatewayError) -> Words:
    """Find GLM's words for a failure: by the nearest class that has some, else by its status."""
    found = next((BY_CLASS[kind] for kind in type(failure).__mro__ if kind in BY_CLASS), None)
    return found or BY_STATUS[errors.wire_of(failure).status]


def error_body(failure: GatewayError) -> dict[str, Any]:
    """Say a failure as GLM does; a refused content also says whose it was, where that is known."""
    body = _object(words_of(failure).code, failure.message)
    role = _ROLES.get(failure.moderation.stage) if isinstance(failure, ContentRefused) else None
    return body | ({"contentFilter": [{"level": _REFUSED_LEVEL, "role": role}]} if role else {})


def encode_defect(path: str) -> bytes:
    """Say in the words of a path that the gateway itself failed."""
    return _defect() if is_native(path) else errors.encode_defect()


def on_failure(request: Request[Any, Any, Any], failure: GatewayError) -> Response[bytes]:
    """Answer an expected failure in the words of the request's path."""
    answer = errors.on_failure(request, failure)
    if is_native(request.scope["path"]):
        answer.status_code, answer.content = words_of(failure).status, msgspec.json.encode(error_body(failure))
    return answer


def on_http_exception(request: Request[Any, Any, Any], failure: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses in the words of the request's path."""
    answer = errors.on_http_exception(request, failure)
    if is_native(request.scope["path"]):
        message = msgspec.json.decode(answer.content)["error"]["message"]
        code = _HTTP_CODES.get(failure.status_code, BY_STATUS[500].code)
        answer.content = msgspec.json.encode(_object(code, message))
    return answer


def on_deep_body(request: Request[Any, Any, Any], failure: RecursionError) -> Response[bytes]:
    """Answer a body that is nested too deeply for the framework to read; any other recursion is a defect of ours."""
    if "deserializing" in str(failure):
        return on_failure(request, failures.MalformedBody("The request's body is nested too deeply."))
    return on_defect(request, failure)


def on_defect(request: Request[Any, Any, Any], failure: Exception) -> Response[bytes]:
    """Answer a defect of ours in the words of the request's path."""
    answer = errors.on_defect(request, failure)
    answer.content = encode_defect(request.scope["path"])
    return answer


def _defect() -> bytes:
    message = msgspec.json.decode(errors.encode_defect())["error"]["message"]
    return msgspec.json.encode(_object(BY_STATUS[500].code, message))


def _object(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
