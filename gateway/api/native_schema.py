"""GLM's own bodies, described for OpenAPI (glm-image-api.md sections 1 and 2)."""

from typing import Literal

import msgspec
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Reference, RequestBody, Schema

from gateway.domain.native import USER_ID_LENGTHS


class NativeError(msgspec.Struct, kw_only=True):
    """What went wrong, and what to do; `code` is one of GLM's."""

    code: str
    message: str


class Finding(msgspec.Struct, kw_only=True):
    """What the safety system found, and in whose words; level 0 is the most severe."""

    level: int
    role: str


class NativeErrorBody(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """GLM's error object."""

    error: NativeError
    content_filter: list[Finding] | msgspec.UnsetType = msgspec.UNSET


class Link(msgspec.Struct, kw_only=True):
    """A picture."""

    url: str


class Made(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The answer of a generation; `created` in Unix seconds. Keys have GLM's own order, the alphabet's."""

    content_filter: list[Finding] | msgspec.UnsetType = msgspec.UNSET
    created: int
    data: list[Link]
    id: str
    request_id: str


class Submitted(msgspec.Struct, kw_only=True):
    """The answer of a submission."""

    id: str
    model: str
    request_id: str
    task_status: Literal["PROCESSING"] = "PROCESSING"


class TaskBody(msgspec.Struct, kw_only=True, rename={"refused_content": "contentFilter"}, omit_defaults=True):
    """How far a task is: `image_result` when it is done, `error` when it failed."""

    content_filter: list[Finding] | msgspec.UnsetType = msgspec.UNSET
    error: NativeError | msgspec.UnsetType = msgspec.UNSET
    refused_content: list[Finding] | msgspec.UnsetType = msgspec.UNSET
    id: str
    image_result: list[Link] | msgspec.UnsetType = msgspec.UNSET
    model: str
    request_id: str
    task_status: Literal["PROCESSING", "SUCCESS", "FAIL"]


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe the errors of a route."""
    described = ResponseSpec(NativeErrorBody, description="Refused.", generate_examples=False)
    return dict.fromkeys(statuses, described)


def native_body() -> RequestBody:
    """Describe the body of a generation; other fields are ignored."""
    text, null = OpenAPIType.STRING, OpenAPIType.NULL
    properties: dict[str, Reference | Schema] = {
        "model": Schema(type=text, min_length=1, description="A model or alias of GET /v1/models."),
        "prompt": Schema(type=text, min_length=1, description="At most 1000 characters for glm-image."),
        "size": Schema(type=[text, null], description="WxH as the model makes it; others are refused."),
        "quality": Schema(type=[text, null], description="As the model has it.", enum=["hd", "standard", None]),
        "watermark_enabled": Schema(
            type=[OpenAPIType.BOOLEAN, null],
            description="`false` only where the operator allows it.",
            enum=[True, None],
        ),
        "user_id": Schema(
            type=[text, null],
            min_length=USER_ID_LENGTHS.start,
            max_length=USER_ID_LENGTHS.stop - 1,
            description="Sent upstream as a keyed hash.",
        ),
    }
    schema = Schema(type=OpenAPIType.OBJECT, required=["model", "prompt"], properties=properties)
    return RequestBody(required=True, content={"application/json": OpenAPIMediaType(schema=schema)})
