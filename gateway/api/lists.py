"""Lists in a query: `name[]=a&name[]=b` as the SDKs write them, or `name=a&name=b`, or `name=a,b`."""

from typing import Any

from litestar import Request
from litestar.openapi.spec import OpenAPIType, Parameter, Schema

from gateway.domain.errors import InvalidValue


def listed(request: Request[Any, Any, Any], name: str) -> list[str]:
    """Read a list; empty when it is not given. InvalidValue for what cannot be printed."""
    texts = [*request.query_params.getall(f"{name}[]", []), *request.query_params.getall(name, [])]
    values = dict.fromkeys(value.strip() for text in texts for value in text.split(",") if value.strip())
    if not all(value.isprintable() for value in values):  # PostgreSQL takes no text with a NUL in it
        raise InvalidValue(f"'{name}' has characters that cannot be printed.", param=name)
    return [*values]


def described(name: str) -> Parameter:
    """Describe a list for the OpenAPI document, in the SDKs' spelling."""
    return Parameter(
        name=f"{name}[]",
        param_in="query",
        description=f"May be repeated; `{name}` with commas does as well.",
        schema=Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING)),
        required=False,
    )
