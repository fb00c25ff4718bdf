"""The body of POST /v1/images/generations -> ImageRequest, and its description for OpenAPI."""

from typing import Any

import msgspec
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Reference, RequestBody, Schema

from gateway.domain.errors import InvalidType, MalformedBody
from gateway.domain.image import ImageRequest
from gateway.domain.mapping import BACKGROUNDS, MAX_COMPRESSION, MAX_PICTURES, OUTPUT_FORMATS, QUALITIES

# What the gateway acts upon, with the JSON type of each.
TYPES: dict[str, type] = {
    "prompt": str,
    "model": str,
    "n": int,
    "size": str,
    "quality": str,
    "response_format": str,
    "background": str,
    "output_format": str,
    "output_compression": int,
    "stream": bool,
    "user": str,
    "safety_identifier": str,
    "watermark_enabled": bool,
}
# The rest of OpenAI's parameters (openai-images-api.md section 1.1): no upstream model has them.
UNSUPPORTED = frozenset(
    {"style", "moderation", "complexity", "partial_images", "frame_count", "frame_duration_ms", "svg"},
)
_NAMES = {str: "a string", int: "an integer", bool: "a boolean"}
_NAMES |= {float: "a decimal number", list: "an array", dict: "an object"}


def read_body(content: bytes) -> dict[str, Any]:
    """Decode a body to its non-null members; MalformedBody when it is no JSON object."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as failure:
        raise MalformedBody("We could not parse the JSON body of your request. Send one JSON object.") from failure
    if not isinstance(body, dict):
        raise MalformedBody(f"Expected a JSON object as the request's body, but got {_NAMES.get(type(body), 'null')}.")
    return {name: value for name, value in body.items() if value is not None}


def image_request(body: dict[str, Any]) -> ImageRequest:
    """Check the types and sort the parameters.

    Raises:
        InvalidType: names the parameter and both types.
    """
    known: dict[str, Any] = {}
    others: list[str] = []
    for name, value in body.items():
        kind = TYPES.get(name)
        if kind is None:
            others.append(name)
        elif type(value) is kind:
            known[name] = value
        else:
            raise _wrong_type(body)
    user = (known.pop("safety_identifier", None), known.pop("user", None))
    return ImageRequest(
        **known,
        user=user[0] or user[1],
        unsupported=tuple(name for name in others if name in UNSUPPORTED),
        unknown=tuple(name for name in others if name not in UNSUPPORTED),
    )


def _wrong_type(body: dict[str, Any]) -> InvalidType:
    """Name the first parameter, in our order, that has another type than it should."""
    name = next(name for name, kind in TYPES.items() if name in body and type(body[name]) is not kind)
    expected, got = _NAMES[TYPES[name]], _NAMES[type(body[name])]
    return InvalidType(f"Invalid type for '{name}': expected {expected}, but got {got} instead.", param=name)


def _text(description: str, **more: Any) -> Schema:  # noqa: ANN401 - Schema's own keywords
    return Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL], description=description, **more)


_PROPERTIES: dict[str, Schema | Reference] = {
    "prompt": Schema(type=OpenAPIType.STRING, min_length=1, description="At most 1000 characters for glm-image."),
    "model": _text("A model or alias of GET /v1/models; the default is glm-image."),
    "n": Schema(
        type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
        minimum=1,
        maximum=MAX_PICTURES,
        description="The number of pictures; each one is made by a call of its own.",
    ),
    "size": _text(
        "`auto` or WxH in pixels; the nearest size that the model can make is taken.",
        pattern=r"^(auto|[1-9][0-9]{0,4}[xX][1-9][0-9]{0,4})$",
    ),
    "quality": _text("Mapped to what the model has.", enum=[*QUALITIES, None]),
    "response_format": _text("`url` or `b64_json`.", enum=["url", "b64_json", None]),
    "background": _text("`transparent` is refused.", enum=[*(b for b in BACKGROUNDS if b != "transparent"), None]),
    "stream": Schema(type=[OpenAPIType.BOOLEAN, OpenAPIType.NULL], description="Answer with server-sent events."),
    "user": _text("Sent upstream as a keyed hash."),
    "safety_identifier": _text("Sent upstream as a keyed hash; echoed in the answer."),
    "watermark_enabled": Schema(
        type=[OpenAPIType.BOOLEAN, OpenAPIType.NULL],
        description="`false` only where the operator allows it.",
        enum=[True, None],
    ),
    "output_format": _text("`png` is the picture as it was made.", enum=[*OUTPUT_FORMATS, None]),
    "output_compression": Schema(
        type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
        minimum=0,
        maximum=MAX_COMPRESSION,
        description="The quality of a jpeg or webp; 100 is the best.",
    ),
}


def generation_body() -> RequestBody:
    """Describe the body, which the route reads by itself."""
    schema = Schema(type=OpenAPIType.OBJECT, required=["prompt"], properties=_PROPERTIES)
    return RequestBody(required=True, content={"application/json": OpenAPIMediaType(schema=schema)})


class OpenAIError(msgspec.Struct, kw_only=True):
    """What went wrong, and what to do."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, kw_only=True):
    """OpenAI's error object."""

    error: OpenAIError


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe the errors of a route."""
    return {status: ResponseSpec(ErrorBody, description="Refused.", generate_examples=False) for status in statuses}
