"""GET /v1/images/files/{name}: pictures by signed URLs. No key is needed; one that comes along is not looked at."""

import re
from typing import Annotated, Any

from litestar import Request, Response
from litestar.enums import HttpMethod
from litestar.handlers import route
from litestar.openapi import ResponseSpec
from litestar.params import Parameter
from litestar.response import Stream

from gateway.api.errors import range_refused
from gateway.api.schema import errors
from gateway.api.services import Services
from gateway.domain.picture_urls import PATH
from gateway.service.picture_ports import StoredPicture

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))", re.ASCII)
_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')


# Described for the document alone: what has another form is refused like any URL that was changed.
Name = Annotated[str, Parameter(schema_extra={"pattern": r"^[0-9a-f]{64}(-[0-9]{1,3})?\.(png|jpg|webp)$"})]
Expires = Annotated[str, Parameter(description="Unix seconds.", schema_extra={"pattern": "^[1-9][0-9]{0,14}$"})]
Signature = Annotated[str, Parameter(schema_extra={"pattern": "^[0-9A-Za-z_-]{43}$"})]


class OutsideOfFile(Exception):
    """A Range of which nothing can be given."""


@route(
    PATH + "{name:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    security=[{}],
    responses={
        **errors(400, 403, 404, 416, 503),
        200: ResponseSpec(bytes, media_type="image/png", description="A picture."),
    },
)
async def picture(
    request: Request[Any, Any, Any], name: Name, expires: Expires = "", signature: Signature = ""
) -> Response[Any]:
    """Give a picture, or a part of it, to whoever has its URL."""
    services: Services = request.app.state.services
    content, left = await services.deliver.linked(name, expires, signature)
    headers = headers_of(content, left)
    if is_known(request.headers.get("if-none-match", ""), headers["etag"]):
        return Response(None, status_code=304, headers=headers)
    return _answer(request, content, headers)


def _answer(request: Request[Any, Any, Any], content: StoredPicture, headers: dict[str, str]) -> Response[Any]:
    media_type = f"image/{content.file.media}"
    if request.method == HttpMethod.HEAD:
        return Response(b"", media_type=media_type, headers={**headers, "content-length": str(content.length)})
    asked = request.headers.get("range", "") if _still_applies(request, headers["etag"]) else ""
    try:
        part = part_of(asked, content.length)
    except OutsideOfFile:
        return range_refused(content.length)
    start, end = part or (0, content.length)
    headers |= {"content-length": str(end - start)}
    headers |= {"content-range": f"bytes {start}-{end - 1}/{content.length}"} if part else {}
    status = 206 if part else 200
    return Stream(content.chunks(start, end), status_code=status, media_type=media_type, headers=headers)


def headers_of(content: StoredPicture, left: int) -> dict[str, str]:
    """Say that these bytes never change, and how long the URL may be used."""
    return {
        "etag": f'"{content.file}"',
        "cache-control": f"private, max-age={left}, immutable",
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-disposition": f'inline; filename="{content.file}"',
    }


def part_of(asked: str, length: int) -> tuple[int, int] | None:
    """Read a Range: start and end (not included), or None for no single range; several at once need not be understood.

    Raises:
        OutsideOfFile: none of it is in the file.
    """
    match = _RANGE.fullmatch(asked)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(length - int(suffix), 0), length
    else:
        start, end = int(first), length if last is None else int(last) + 1
    if first is not None and end <= start < length:
        return None  # backwards, and so no range
    if start >= min(end, length):
        raise OutsideOfFile
    return start, min(end, length)


def is_known(if_none_match: str, tag: str) -> bool:
    """Tell whether the client has these bytes already."""
    return if_none_match.strip() == "*" or tag in _ENTITY_TAG.findall(if_none_match)


def _still_applies(request: Request[Any, Any, Any], tag: str) -> bool:
    """Tell whether a Range is meant for these bytes; a date never is, since none is given."""
    return request.headers.get("if-range", tag) == tag
