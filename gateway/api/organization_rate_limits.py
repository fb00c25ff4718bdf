"""OpenAI's rate limits of a project: one object for each model that the project may use.

All models of a project share its limits: each object says the same numbers, and changing one changes all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from litestar import get, post

from gateway.api.auth import require_admin_key
from gateway.api.organization import (
    PROJECT,
    REFUSALS,
    AdminRequest,
    PageSize,
    administration_of,
    catalog_of,
    project_named,
)
from gateway.api.organization_schema import ListOf, cut, ends_of
from gateway.api.strict import read_strictly
from gateway.domain.errors import InvalidValue, NotFound, UnsupportedParameter
from gateway.domain.paging import Page
from gateway.domain.projects import Project
from gateway.domain.terms import LARGEST

RATE_LIMITS = f"{PROJECT}/rate_limits"
RATE_LIMIT = f"{RATE_LIMITS}/{{rate_limit_id:str}}"
PREFIX = "rl-"
UNLIMITED = LARGEST  # the shape requires numbers; SDKs of JavaScript read this one exactly

Rate = Annotated[int, msgspec.Meta(ge=0, le=UNLIMITED)] | None


class RateLimitChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body that changes rates; what is absent or null stays, and 10^15 is no limit."""

    max_requests_per_1_minute: Rate = None
    max_images_per_1_minute: Rate = None
    max_tokens_per_1_minute: Rate = None
    max_audio_megabytes_per_1_minute: Rate = None
    max_requests_per_1_day: Rate = None
    batch_1_day_max_input_tokens: Rate = None


class RateLimit(msgspec.Struct, kw_only=True):
    """OpenAI's ProjectRateLimit; 10^15 is no limit, which tokens never have."""

    id: str
    object: str = "project.rate_limit"
    model: str
    max_requests_per_1_minute: int
    max_tokens_per_1_minute: int = UNLIMITED
    max_images_per_1_minute: int


class RateLimitList(ListOf, kw_only=True):
    """A page of rate limits."""

    data: list[RateLimit]


@dataclass(frozen=True, slots=True)
class _Place:
    """A model's place in the list."""

    id: str
    model: str


@get(RATE_LIMITS, guards=[require_admin_key], responses=REFUSALS)
async def list_rate_limits(
    request: AdminRequest, project_id: str, after: str | None = None, before: str | None = None, limit: PageSize = 100
) -> RateLimitList:
    """List the limits by model, in the order of the catalog; `before` gives what comes directly before an id."""
    project = await project_named(request, project_id)
    models = [name for name in catalog_of(request).models if _may_use(project, name)]
    page = _page([_Place(PREFIX + name, name) for name in models], after, before, limit)
    return RateLimitList(data=[_said(project, one.model) for one in page.items], **ends_of(page))


@post(RATE_LIMIT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_rate_limit(
    request: AdminRequest, project_id: str, rate_limit_id: str, data: RateLimitChanges
) -> RateLimit:
    """Change what all models of a project share; every replica holds it at once."""
    project = await project_named(request, project_id)
    model = rate_limit_id.removeprefix(PREFIX)
    if rate_limit_id != PREFIX + model or model not in catalog_of(request).models or not _may_use(project, model):
        raise NotFound(f"The project has no rate limit {rate_limit_id[:100]!r}.", param="rate_limit_id")
    body = await read_strictly(request, type(data))
    _refuse_uncounted(body)
    rates = {"requests_per_minute": body.max_requests_per_1_minute, "images_per_minute": body.max_images_per_1_minute}
    terms = {name: _limit(rate) for name, rate in rates.items() if rate is not None}
    return _said(await administration_of(request).projects.change(project.id, terms), model)


def _page(places: Sequence[_Place], after: str | None, before: str | None, limit: int) -> Page[_Place]:
    """Cut a page out of the list; InvalidValue for an id that it does not have."""
    if before is None:
        return cut(places, after, limit)
    ids = [place.id for place in places]
    if before not in ids:
        raise InvalidValue(f"'before' is {before[:100]!r}, which this list never had.", param="before")
    earlier = places[: ids.index(before)]
    if after is not None:
        return cut(earlier, after if after in ids[: len(earlier)] else None, limit)
    page = cut(earlier[::-1], None, limit)
    return Page(page.items[::-1], page.has_more)


def _may_use(project: Project, model: str) -> bool:
    return not project.models or model in project.models


def _refuse_uncounted(data: RateLimitChanges) -> None:
    """Refuse a limit of what nobody counts, unless it says that there is none: SDKs send back what they have read."""
    for name in data.__struct_fields__:
        value = getattr(data, name)
        if name not in {"max_requests_per_1_minute", "max_images_per_1_minute"} and value not in {None, UNLIMITED}:
            raise UnsupportedParameter(
                f"'{name}' cannot be limited here. .../limits has all that can be, images per day among it.", param=name
            )


def _limit(rate: int) -> int | None:
    return None if rate == UNLIMITED else rate


def _rate(limit: int | None) -> int:
    return UNLIMITED if limit is None else limit


def _said(project: Project, model: str) -> RateLimit:
    return RateLimit(
        id=PREFIX + model,
        model=model,
        max_requests_per_1_minute=_rate(project.limits.requests_per_minute),
        max_images_per_1_minute=_rate(project.limits.images_per_minute),
    )


ROUTES = (list_rate_limits, update_rate_limit)
