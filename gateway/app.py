"""The ASGI application: routes, error handlers and the life of what they use."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta, timezone

from litestar import Litestar, asgi
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.api import (
    files,
    images,
    models,
    native,
    openapi,
    ops,
    organization,
    organization_accounts,
    organization_admin_keys,
    organization_audit,
    organization_limits,
    organization_models,
    organization_rate_limits,
    organization_spend_limits,
    organization_webhooks,
    usage,
)
from gateway.api.debugging import logging_requests
from gateway.api.generations import PATH, Generations
from gateway.api.middleware import Edge
from gateway.api.native_errors import is_native, on_deep_body, on_defect, on_failure, on_http_exception
from gateway.api.services import Services
from gateway.domain.errors import GatewayError
from gateway.service.ports_requests import RequestObserver, RequestTraces
from gateway.settings import Settings

OpenServices = Callable[[Settings], AbstractAsyncContextManager[Services]]
BEIJING = timezone(timedelta(hours=8))
# What a page may read of an answer (design.md section 5).
EXPOSED = [
    *("x-request-id", "openai-processing-ms", "retry-after", "retry-after-ms", "x-should-retry", "etag"),
    *("content-range", "x-glm-size", "x-glm-changed", "x-ratelimit-limit-requests", "x-ratelimit-limit-images"),
    "x-glm-cost",
    *("x-ratelimit-remaining-requests", "x-ratelimit-remaining-images", "x-ratelimit-reset-requests"),
    "x-ratelimit-reset-images",
]
ROUTES = (
    images.edits,
    images.variations,
    native.generations,
    native.async_generations,
    native.async_result,
    files.picture,
    models.list_models,
    models.retrieve_model,
    *organization.ROUTES,
    *organization_accounts.ROUTES,
    *organization_admin_keys.ROUTES,
    *organization_limits.ROUTES,
    *organization_rate_limits.ROUTES,
    *organization_spend_limits.ROUTES,
    *organization_models.ROUTES,
    *organization_webhooks.ROUTES,
    *organization_audit.ROUTES,
    *usage.ROUTES,
    ops.healthz,
    ops.readyz,
    ops.metrics,
)


def create_app(settings: Settings, open_services: OpenServices) -> ASGIApp:
    """Put the application together; `open_services` is entered when the server starts and left when it has stopped."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        async with open_services(settings) as services:
            app.state.services = services
            yield

    def services() -> Services:
        opened: Services = app.state.services
        return opened

    generations = Generations(services, settings.server.max_body)
    routes = [route for route in ROUTES if route is not ops.metrics or not settings.metrics.port]
    app = Litestar(
        (
            *routes,
            asgi(PATH, is_mount=False, copy_scope=False)(generations.serve),
            openapi.serve_document((images.generations, *ROUTES)),
        ),
        lifespan=[lifespan],
        exception_handlers={
            GatewayError: on_failure,
            HTTPException: on_http_exception,
            RecursionError: on_deep_body,
            Exception: on_defect,
        },
        request_max_body_size=settings.server.max_body,
        cors_config=_cors(settings.server.cors_origins),
        openapi_config=None,  # its pages would answer unknown paths in HTML
        logging_config=None,
    )

    def told() -> tuple[RequestObserver, RequestTraces | None]:
        opened = services()
        return opened.requests, opened.traces

    front = app if settings.server.cors_origins else _past_the_framework(app, generations)
    logged = logging_requests(front) if settings.log.level == "debug" else front
    return Edge(logged, new_request_id, told)


def _past_the_framework(app: ASGIApp, generations: Generations) -> ASGIApp:
    """Let generations go to their route at once; nothing that the framework does besides concerns them, but CORS."""

    async def fork(scope: Scope, receive: Receive, send: Send) -> None:
        await (generations.serve if scope.get("path") == PATH else app)(scope, receive, send)

    return fork


def _cors(origins: tuple[str, ...]) -> CORSConfig | None:
    """Let pages of these origins call us and read our headers. They bring a key of their own, so no cookies."""
    if not origins:
        return None
    return CORSConfig(allow_origins=list(origins), expose_headers=EXPOSED)


def new_request_id(path: str) -> str:
    """Make a request id of OpenAI's form, or on GLM's own path of GLM's: the time in Beijing, and 16 hex digits."""
    if is_native(path):
        now = datetime.now(BEIJING)  # noqa: TID251 - the start of a name, and no measurement
        return f"{now:%Y%m%d%H%M%S}{os.urandom(8).hex()}"
    return f"req_{os.urandom(16).hex()}"
