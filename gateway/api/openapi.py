"""The OpenAPI document of the routes, at /schema/openapi.json."""

from collections.abc import Sequence
from functools import cache

import msgspec
from litestar import Litestar, MediaType, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from gateway import __version__
from gateway.api.lists import described, described_whole
from gateway.api.native_errors import BASE
from gateway.api.native_schema import native_body
from gateway.api.organization_audit import AUDIT_LOGS, BOUNDS, FILTERS
from gateway.api.schema import generation_body
from gateway.api.usage import COST_FILTERS, USAGE_FILTERS

# The routes that read their bodies by themselves.
BODIES = {
    "/v1/images/generations": generation_body,
    f"{BASE}/images/generations": native_body,
    f"{BASE}/async/images/generations": native_body,
}
# What routes read by themselves from their queries.
QUERIES = {
    "/v1/organization/usage/images": [*map(described, ("group_by", *USAGE_FILTERS))],
    "/v1/organization/costs": [*map(described, ("group_by", *COST_FILTERS))],
    AUDIT_LOGS: [*map(described, FILTERS), *map(described_whole, BOUNDS)],
}


def serve_document(routes: Sequence[HTTPRouteHandler]) -> HTTPRouteHandler:
    """Make the route that gives the document of the others; it is written when it is first asked for."""

    @cache
    def document() -> bytes:
        return _document(routes)

    @get("/schema/openapi.json", include_in_schema=False, media_type=MediaType.JSON, sync_to_thread=False)
    def openapi_document() -> bytes:
        return document()

    return openapi_document


def _document(routes: Sequence[HTTPRouteHandler]) -> bytes:
    """Let an application that serves nothing describe the routes; add what some read by themselves."""
    bearer = SecurityScheme(type="http", scheme="bearer", description="A key made with `glm-gateway keys create`.")
    config = OpenAPIConfig(
        title="GLM-Image gateway",
        version=__version__,
        render_plugins=[JsonRenderPlugin()],
        components=Components(security_schemes={"key": bearer}),
        security=[{"key": []}],
    )
    document = Litestar(routes, openapi_config=config, logging_config=None).openapi_schema
    for path, body in BODIES.items():
        if (operation := (document.paths or {})[path].post) is not None:
            operation.request_body = body()
    for path, parameters in QUERIES.items():
        if (operation := (document.paths or {})[path].get) is not None:
            operation.parameters = [*(operation.parameters or []), *parameters]
    return msgspec.json.encode(document.to_schema())
