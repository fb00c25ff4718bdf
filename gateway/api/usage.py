"""OpenAI's usage and costs (openai-images-api.md section 6.4): the ledger by periods, page by page."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from litestar import Request, get

from gateway.api.auth import require_admin_key
from gateway.api.lists import listed
from gateway.api.schema import errors
from gateway.api.services import Services
from gateway.domain.errors import InvalidValue, UnsupportedParameter
from gateway.domain.quota import MICROS
from gateway.domain.reports import Group, Sums
from gateway.service.report import PageAsked, UsagePage

Width = Literal["1m", "1h", "1d"]
WIDTHS = {"1m": Group.MINUTE, "1h": Group.HOUR, "1d": Group.DAY}
LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}  # how many periods a page has, and may have
LIMITS_OF_COSTS = (7, 180)
USAGE_GROUPS = {
    "project_id": Group.PROJECT,
    "user_id": Group.USER,
    "api_key_id": Group.KEY,
    "model": Group.MODEL,
    "size": Group.SIZE,
    "source": Group.SOURCE,
}
COST_GROUPS = {
    "project_id": Group.PROJECT,
    "user_id": Group.USER,
    "line_item": Group.MODEL,
    "api_key_id": Group.KEY,
    "api_source": Group.SOURCE,
}
USAGE_FILTERS = {f"{name}s": group for name, group in USAGE_GROUPS.items()}
COST_FILTERS = {"project_ids": Group.PROJECT, "api_key_ids": Group.KEY, "line_items": Group.MODEL}


class ImagesResult(msgspec.Struct, kw_only=True):
    """Pictures that were charged, and requests; what was not grouped by is null."""

    object: str = "organization.usage.images.result"
    images: int
    num_model_requests: int
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    size: str | None = None
    source: str | None = None


class Amount(msgspec.Struct, kw_only=True):
    """Money as a number, since clients fail on a text (section 8, trap 23); the currency in lower case."""

    value: float
    currency: str


class CostsResult(msgspec.Struct, kw_only=True):
    """What was charged; quantities are pictures, and only told by line item, which is a model."""

    object: str = "organization.costs.result"
    amount: Amount
    line_item: str | None = None
    project_id: str | None = None
    api_key_id: str | None = None
    user_id: str | None = None
    api_source: str | None = None
    quantity: int | None = None
    quantity_unit: str | None = None


class UsageBucket(msgspec.Struct, kw_only=True):
    """A period in Unix seconds."""

    object: str = "bucket"
    start_time: int
    end_time: int
    results: list[ImagesResult]


class CostsBucket(msgspec.Struct, kw_only=True):
    """A day in Unix seconds."""

    object: str = "bucket"
    start_time: int
    end_time: int
    results: list[CostsResult]


class ImagesUsage(msgspec.Struct, kw_only=True):
    """A page of usage; `next_page` is the `page` of the next one."""

    object: str = "page"
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class Costs(msgspec.Struct, kw_only=True):
    """A page of costs; `next_page` is the `page` of the next one."""

    object: str = "page"
    data: list[CostsBucket]
    has_more: bool
    next_page: str | None


UsageRequest = Request[Any, Any, Any]
REFUSALS = errors(400, 401, 403, 503)


@get("/v1/organization/usage/images", guards=[require_admin_key], responses=REFUSALS)
async def images(
    request: UsageRequest,
    *,
    start_time: int,
    end_time: int | None = None,
    bucket_width: Width = "1d",
    limit: int | None = None,
    page: str | None = None,
) -> ImagesUsage:
    """Count pictures and requests by minute, hour or day."""
    asked = PageAsked(
        start=start_time,
        end=end_time,
        width=WIDTHS[bucket_width],
        by=_groups(request, USAGE_GROUPS),
        only=_filters(request, USAGE_FILTERS),
        limit=_within(limit, *LIMITS[bucket_width]),
        page=page or "",
        prices=False,
    )
    found = await _ask(request, asked)
    data = [
        UsageBucket(start_time=one.start, end_time=one.end, results=[_images_result(sums) for sums in one.sums])
        for one in found.buckets
    ]
    return ImagesUsage(data=data, has_more=found.following is not None, next_page=found.following)


@get("/v1/organization/costs", guards=[require_admin_key], responses=REFUSALS)
async def costs(
    request: UsageRequest,
    *,
    start_time: int,
    end_time: int | None = None,
    bucket_width: Literal["1d"] = "1d",
    limit: int | None = None,
    page: str | None = None,
) -> Costs:
    """Sum what was charged by day."""
    asked = PageAsked(
        start=start_time,
        end=end_time,
        width=WIDTHS[bucket_width],
        by=_groups(request, COST_GROUPS),
        only=_filters(request, COST_FILTERS),
        limit=_within(limit, *LIMITS_OF_COSTS),
        page=page or "",
    )
    found = await _ask(request, asked)
    data = [
        CostsBucket(start_time=one.start, end_time=one.end, results=[_costs_result(sums) for sums in one.sums])
        for one in found.buckets
    ]
    return Costs(data=data, has_more=found.following is not None, next_page=found.following)


async def _ask(request: UsageRequest, asked: PageAsked) -> UsagePage:
    services: Services = request.app.state.services
    return await services.administration.usage(asked)


def _images_result(sums: Sums) -> ImagesResult:
    names = _names(sums, USAGE_GROUPS)
    return ImagesResult(images=sums.delivered, num_model_requests=sums.requests, **names)


def _costs_result(sums: Sums) -> CostsResult:
    counted = Group.MODEL in sums.group
    return CostsResult(
        amount=Amount(value=sums.price / MICROS, currency=sums.currency.lower()),
        quantity=sums.delivered if counted else None,
        quantity_unit="images" if counted else None,
        **_names(sums, COST_GROUPS),
    )


def _names(sums: Sums, groups: Mapping[str, Group]) -> dict[str, Any]:
    """Give what was grouped by; an end user that is not named is null."""
    return {name: sums.group[group] or None for name, group in groups.items() if group in sums.group}


def _groups(request: UsageRequest, groups: Mapping[str, Group]) -> tuple[Group, ...]:
    names = dict.fromkeys(listed(request, "group_by"))
    if unknown := [name for name in names if name not in groups]:
        raise InvalidValue(f"'group_by' has {unknown[0][:100]!r}; it takes {', '.join(groups)}.", param="group_by")
    return tuple(groups[name] for name in names)


def _filters(request: UsageRequest, filters: Mapping[str, Group]) -> dict[Group, list[str]]:
    """Read what is asked for alone; a filter of the other path is refused, or sums would be taken for others."""
    for name in sorted((USAGE_FILTERS | COST_FILTERS).keys() - filters):
        if listed(request, name):
            raise UnsupportedParameter(f"{name!r} is no filter here. There are {', '.join(filters)}.", param=name)
    return {group: values for name, group in filters.items() if (values := listed(request, name))}


def _within(limit: int | None, ordinary: int, most: int) -> int:
    if limit is not None and not 1 <= limit <= most:
        raise InvalidValue(f"'limit' is {limit}; with this 'bucket_width' it is 1 to {most}.", param="limit")
    return limit or ordinary


ROUTES = (images, costs)
