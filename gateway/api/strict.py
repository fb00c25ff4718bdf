"""Bodies read strictly: what is written is what is meant."""

import re
from typing import Any, TypeVar

import msgspec
from litestar import Request

from gateway.domain.errors import InvalidValue

Body = TypeVar("Body", bound=msgspec.Struct)

_FIELD = re.compile(r"at `\$\.(\w+)")


async def read_strictly(request: Request[Any, Any, Any], kind: type[Body]) -> Body:
    """Read a body that the framework has taken already: it takes "null" for null, "1" for 1, and rounds decimals.

    Raises:
        InvalidValue: a value is not of its type; names the field.
    """
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as failure:
        field = _FIELD.search(str(failure))
        raise InvalidValue(str(failure), param=field[1] if field else None) from None
