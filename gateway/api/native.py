"""/api/paas/v4: GLM's own words in and out, for clients of Zhipu's SDKs; the same use cases as OpenAI's path."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, Response, get, post

from gateway.api import answers
from gateway.api.asked import asked_of
from gateway.api.auth import require_raw_key
from gateway.api.clients import answered
from gateway.api.head import head_of, request_id_of
from gateway.api.limits import limit_headers
from gateway.api.native_errors import BASE, error_body
from gateway.api.native_schema import Finding, Link, Made, NativeError, Submitted, TaskBody, errors
from gateway.api.schema import read_body
from gateway.api.services import Services
from gateway.domain.errors import GatewayError, PictureLost
from gateway.domain.image import ContentWarning, Picture
from gateway.domain.native import native_request
from gateway.service.deliver import Handover
from gateway.service.generation import Generation
from gateway.service.tasks import Task, submitted

REFUSALS = errors(400, 401, 403, 413, 429, 500)


@post(f"{BASE}/images/generations", status_code=200, guards=[require_raw_key], responses=REFUSALS)
async def generations(request: Request[Any, Any, Any]) -> Response[Made]:
    """Make a picture."""
    generation = await _begun(request)
    request.state.generation = generation  # for the answer if no picture comes
    return await answered(request.receive, generation, _made(request, generation))


@post(f"{BASE}/async/images/generations", status_code=200, guards=[require_raw_key], responses=REFUSALS)
async def async_generations(request: Request[Any, Any, Any]) -> Response[Submitted]:
    """Begin to make a picture, which async-result gives: nobody waits for it here, so no client ever leaves it."""
    generation = await _begun(request, task=True)
    task_id, model = generation.job_id, generation.order.requested_model
    headers = {**answers.replay_headers(generation), **limit_headers(generation.rooms)}
    return Response(Submitted(id=task_id, model=model, request_id=task_id), headers=headers)


@get(f"{BASE}/async-result/{{task_id:str}}", guards=[require_raw_key], responses=errors(400, 401, 429, 500))
async def async_result(request: Request[Any, Any, Any], task_id: str) -> TaskBody:
    """Say how far a task of the key's project is, whichever replica runs it; a picture gets a new URL each time."""
    services: Services = request.app.state.services
    task = await services.tasks(request.state.caller, task_id)
    try:
        if task.picture is not None:
            url = await services.deliver.link(task.picture, head_of(request.scope).origin)
            return _success(task_id, task, task.picture, url)
    except PictureLost as lost:
        return _failure(task_id, task, lost)
    if task.failure is not None:
        return _failure(task_id, task, task.failure)
    return TaskBody(id=task_id, model=task.model, request_id=task_id, task_status="PROCESSING")


async def _begun(request: Request[Any, Any, Any], *, task: bool = False) -> Generation:
    """Read a body and start what it asks for; a task's record is kept for those who ask for it."""
    services: Services = request.app.state.services
    content = await request.body()
    asked = asked_of(head_of(request.scope), content)
    ordered = native_request(read_body(content), services.catalog)
    return await services.generate(request.state.caller, ordered, submitted(asked) if task else asked)


async def _made(request: Request[Any, Any, Any], generation: Generation) -> Response[Made]:
    """Answer when the picture is there: always by URL."""
    services: Services = request.app.state.services
    [picture] = await Handover(services.deliver, generation, head_of(request.scope).origin).all()
    request_id = request_id_of(request.scope)
    made = Made(created=generation.created, data=[Link(url=picture.url)], id=request_id, request_id=request_id)
    if warnings := picture.picture.paid.warnings:
        made.content_filter = _findings(warnings)
    size = {"x-glm-size": answers.size_of(generation.order, picture)}
    return Response(made, headers={**answers.cache_headers(generation), **limit_headers(generation.rooms), **size})


def _success(task_id: str, task: Task, picture: Picture, url: str) -> TaskBody:
    body = TaskBody(id=task_id, model=task.model, request_id=task_id, task_status="SUCCESS")
    body.image_result = [Link(url=url)]
    if picture.paid.warnings:
        body.content_filter = _findings(picture.paid.warnings)
    return body


def _failure(task_id: str, task: Task, failure: GatewayError) -> TaskBody:
    said = error_body(failure)
    body = TaskBody(id=task_id, model=task.model, request_id=task_id, task_status="FAIL")
    body.error = NativeError(**said["error"])
    if "contentFilter" in said:
        body.refused_content = [Finding(**finding) for finding in said["contentFilter"]]
    return body


def _findings(warnings: Sequence[ContentWarning]) -> list[Finding]:
    return [Finding(level=warning.level, role=warning.role) for warning in warnings]
