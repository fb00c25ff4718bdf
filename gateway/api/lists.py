"""What a query has under names that are no words of Python.

Lists are `name[]=a&name[]=b` as the SDKs write them, or `name=a&name=b`, or `name=a,b`; bounds are `name[gt]=1`.
"""

import re
from typing import Any

from litestar import Request
from litestar.openapi.spec import OpenAPIType, Parameter, Schema

from gateway.domain.errors import InvalidValue

_WHOLE = re.compile("-?[0-9]{1,30}")


def listed(request: Request[Any, Any, Any], name: str) -> list[str]:
    """Read a list; empty when it is not given. InvalidValue for what cannot be printed."""
    texts = [*request.query_params.getall(f"{name}[]", []), *request.query_params.getall(name, [])]
    values = dict.fromkeys(value.strip() for text in texts for value in text.split(",") if value.strip())
    if not all(value.isprintable() for value in values):  # PostgreSQL takes no text with a NUL in it
        raise InvalidValue(f"'{name}' has characters that cannot be printed.", param=name)
    return [*values]


def whole(request: Request[Any, Any, Any], name: str) -> int | None:
    """Read a whole number; None when it is not given. InvalidValue for anything else."""
    text: str | None = request.query_params.get(name)
    if text is not None and _WHOLE.fullmatch(text) is None:
        raise InvalidValue(f"'{name}' is {text[:100]!r} and no whole number.", param=name)
    return None if text is None else int(text)


def described_whole(name: str) -> Parameter:
    """Describe a number of seconds for the OpenAPI document."""
    schema = Schema(type=OpenAPIType.INTEGER)
    return Parameter(name=name, param_in="query", description="Unix seconds.", schema=schema, required=False)


def described(name: str) -> Parameter:
    """Describe a list for the OpenAPI document, in the SDKs' spelling."""
    return Parameter(
        name=f"{name}[]",
        param_in="query",
        description=f"May be repeated; `{name}` with commas does as well.",
        schema=Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING)),
        required=False,
    )
