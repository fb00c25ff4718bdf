"""Turns a fault on the way into what the caller sees of it."""

from http import HTTPStatus

from litestar.types import ASGIApp

from gateway.simulator.answers import Answer, NoAnswer, as_json, whole
from gateway.simulator.calls import Call
from gateway.simulator.errors import Refusal
from gateway.simulator.faults import (
    Cut,
    Error,
    ErrorIn200,
    FailureIn200,
    Hang,
    HtmlError,
    IntCode,
    Trouble,
    TruncatedJson,
)
from gateway.simulator.options import Language
from gateway.simulator.texts import TABLE


def troubled(fault: Trouble, call: Call, language: Language, right: bytes = b"") -> ASGIApp:
    """What arrives in place of the right answer."""
    match fault:
        case Hang() | Cut():
            return NoAnswer(hang=isinstance(fault, Hang))
        case TruncatedJson():
            return Answer(pieces=(right[: len(right) // 2],), length=len(right))
        case HtmlError():
            return _page(fault.status)
        case FailureIn200():
            message = TABLE["401"].zh if fault.message is None else fault.message
            return as_json({"code": fault.code, "msg": message, "success": False})
        case Error():
            return _error(fault, call, language)
        case _:
            raise NotImplementedError(fault)


def _error(fault: Error, call: Call, language: Language) -> ASGIApp:
    refusal = Refusal(fault.code, fault.status, fault.message)
    body = refusal.body(language, call.request_id, int_code=isinstance(fault, IntCode))
    return as_json(body, status=200 if isinstance(fault, ErrorIn200) else refusal.http_status)


def _page(status: int) -> ASGIApp:
    """The page of an nginx in front."""
    title = f"{status} {HTTPStatus(status).phrase}"
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><center><h1>{title}</h1></center></body>\r\n</html>"
    return whole(page.encode(), status=status, content_type="text/html")
