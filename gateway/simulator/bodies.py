"""The bodies of successful answers, keys in the order of the wire (glm-image-api.md sections 1.3 and 2)."""

from typing import Any

from gateway.simulator.errors import Refusal
from gateway.simulator.gallery import Picture
from gateway.simulator.options import Language
from gateway.simulator.state import Ticket


def made(ticket: Ticket, picture: Picture) -> dict[str, Any]:
    """The synchronous answer; `created` is the start of the request."""
    call = ticket.call
    return _warning(ticket) | {
        "created": int(call.started),
        "data": [{"url": picture.url}],
        "id": call.id,
        "request_id": call.request_id,
    }


def submitted(ticket: Ticket) -> dict[str, Any]:
    """The answer to an asynchronous call."""
    call = ticket.call
    return {
        "model": ticket.order.model,
        "id": call.id,
        "request_id": call.request_id,
        "task_status": "PROCESSING",
    }


def polled(ticket: Ticket, outcome: Picture | Refusal | None, language: Language) -> dict[str, Any]:
    """The state of a job: `image_result` in place of `data`; `error` on FAIL is what LobeChat reads, when present."""
    body: dict[str, Any] = {"model": ticket.order.model}
    if outcome is None:
        body["task_status"] = "PROCESSING"
    elif isinstance(outcome, Picture):
        body |= {"task_status": "SUCCESS", "image_result": [{"url": outcome.url}]} | _warning(ticket)
    else:
        body["task_status"] = "FAIL"
        if outcome.message is not None or outcome.finding is not None:
            body |= outcome.body(language, ticket.call.request_id)
    return body | {"request_id": ticket.call.request_id}


def _warning(ticket: Ticket) -> dict[str, Any]:
    return {} if ticket.finding is None else {"content_filter": [ticket.finding.as_json()]}
