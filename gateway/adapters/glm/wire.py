"""GLM's bodies, out and in: the only place that knows their form (glm-image-api.md section 1). Pure."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.domain.errors import Moderation
from gateway.domain.image import ContentWarning, ImagePlan, PaidPicture
from gateway.domain.upstream import CallFailure, Fault, fault_of
from gateway.service.ports_upstream import CallFailed

PATH = "/images/generations"
ASYNC_PATH = "/async/images/generations"
ASYNC_MODELS = frozenset({"glm-image"})  # section 2
_LONGEST_DETAIL = 500  # characters of the upstream's text that are worth a log line
_STAGES = {"user": "input", "assistant": "output"}


def request_body(plan: ImagePlan) -> bytes:
    """Write a plan as GLM's body: the six documented fields and no other.

    `watermark_enabled` is sent only to switch the mark off: true is the default, and z.ai's schema lacks the field.
    """
    body: dict[str, Any] = {"model": plan.model, "prompt": plan.prompt, "size": plan.size, "quality": plan.quality}
    if not plan.watermark:
        body["watermark_enabled"] = False
    if plan.user_id is not None:
        body["user_id"] = plan.user_id
    return msgspec.json.encode(body)


def probe_body(model: str) -> bytes:
    """Write an order that lacks its prompt: the key is looked at before the body, and a picture needs a prompt.

    (glm-image-api.md section 3: 1213, and the order of checks)
    """
    return msgspec.json.encode({"model": model})


def read_answer(status: int, content: bytes) -> PaidPicture:
    """Read GLM's answer.

    Raises:
        CallFailed: an error body (also one that came with status 200), or a body that is no answer at all.
    """
    body = _object(content)
    url = _url(body)
    if status == 200 and url is not None:  # noqa: PLR2004 - the only status of a success
        request_id = body.get("request_id") or body.get("id") or ""
        return PaidPicture(url=url, request_id=str(request_id), warnings=_warnings(body.get("content_filter")))
    raise CallFailed(_failure(status, body, content))


def read_task(status: int, content: bytes) -> str:
    """Read the answer to an order: the id to ask for its result with.

    Raises:
        CallFailed: as above.
    """
    body = _object(content)
    task_id = body.get("id")
    if status == 200 and isinstance(task_id, str) and task_id and "error" not in body:  # noqa: PLR2004 - success
        return task_id
    raise CallFailed(_failure(status, body, content))


def result_path(task_id: str) -> str:
    """Say where the result of an order is asked for."""
    return f"/async-result/{quote(task_id, safe='')}"


def read_result(task_id: str, status: int, content: bytes) -> PaidPicture | None:
    """Read how far an order is; None when it is not done, or when the answer does not say.

    Raises:
        CallFailed: nothing was made; or it is said to be made, and is not there.
    """
    body = _object(content)
    match body.get("task_status") if status == 200 else None:  # noqa: PLR2004 - any other is about the question
        case "SUCCESS":
            return read_answer(status, msgspec.json.encode({"id": task_id, **body, "data": body.get("image_result")}))
        case "FAIL":
            failure = _failure(status, body, content)
            if failure.fault is Fault.CUT:  # no code, or one that no table knows: nothing was made all the same
                failure = replace(failure, fault=Fault.CONTENT if body.get("contentFilter") else Fault.INTERNAL)
            raise CallFailed(failure)
        case _:
            return None


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _url(body: dict[str, Any]) -> str | None:
    data = body.get("data")
    first = data[0] if isinstance(data, list) and data else None
    url = first.get("url") if isinstance(first, dict) else None
    return url if isinstance(url, str) and url else None


def _warnings(raw: object) -> tuple[ContentWarning, ...]:
    """Read `content_filter`; entries of another form are left out rather than losing a paid picture."""
    entries = raw if isinstance(raw, list) else []
    return tuple(
        ContentWarning(role=entry["role"], level=entry["level"])
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("role"), str) and isinstance(entry.get("level"), int)
    )


def _failure(status: int, body: dict[str, Any], content: bytes) -> CallFailure:
    """Read an error: nested (section 1.4), or flat with `success: false` as other endpoints of the host send it."""
    error = body.get("error")
    source = error if isinstance(error, dict) else body
    code = str(source.get("code") or "")
    detail = str(source.get("message") or source.get("msg") or "") or content[:_LONGEST_DETAIL].decode(errors="replace")
    fault = fault_of(code, status)
    if fault is Fault.REQUEST and detail.startswith("modelCode"):
        fault = Fault.MODEL  # z.ai's way to say that it does not know the model (section 3, code 1211)
    return CallFailure(
        fault=fault,
        code=code,
        status=status,
        detail=detail[:_LONGEST_DETAIL],
        moderation=_moderation(body.get("contentFilter")),
    )


def _moderation(raw: object) -> Moderation:
    """Say in OpenAI's words at which end the safety system stopped (section 1.4: `contentFilter` on errors)."""
    roles = {warning.role for warning in _warnings(raw)}
    stages = {_STAGES[role] for role in roles if role in _STAGES}
    return Moderation(stage=stages.pop() if len(stages) == 1 else "unknown")
