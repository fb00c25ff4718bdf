"""All limits of a project or a key: those that OpenAI's shapes cannot say, too. Paths and words are ours."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from litestar import get, post

from gateway.api.auth import require_admin_key
from gateway.api.organization import (
    KEY,
    PROJECT,
    REFUSALS,
    AdminRequest,
    administration_of,
    currency_of,
    key_named,
    project_named,
)
from gateway.api.strict import read_strictly
from gateway.domain.keys import CacheScope, StoredKey
from gateway.domain.projects import Project
from gateway.domain.quota import Limits
from gateway.domain.terms import LARGEST, LARGEST_WEIGHT, Changes, exact_money, money_text, parse_markup

PROJECT_LIMITS = f"{PROJECT}/limits"
KEY_LIMITS = f"{KEY}/limits"

Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)] | msgspec.UnsetType | None
Weight = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_WEIGHT)] | msgspec.UnsetType


class LimitChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What changes; absent stays, null is no limit, 0 lets nothing pass. Money is a number or a text like "12.50"."""

    requests_per_minute: Count = msgspec.UNSET
    images_per_minute: Count = msgspec.UNSET
    images_per_day: Count = msgspec.UNSET
    images_per_month: Count = msgspec.UNSET
    concurrent: Count = msgspec.UNSET
    spend_per_month: Decimal | msgspec.UnsetType | None = msgspec.UNSET
    shadow: bool | msgspec.UnsetType = msgspec.UNSET


class ProjectLimitChanges(LimitChanges, kw_only=True, forbid_unknown_fields=True):
    """The body that changes a project's limits; `weight` is its share of the upstream while others wait.

    `markup`: its prices are so many times the catalog's.
    """

    weight: Weight = msgspec.UNSET
    markup: Decimal | msgspec.UnsetType = msgspec.UNSET


class KeyLimitChanges(LimitChanges, kw_only=True, forbid_unknown_fields=True):
    """The body that changes a key's limits; `cache_scope` null leaves it to the installation."""

    cache_scope: CacheScope | msgspec.UnsetType | None = msgspec.UNSET


class LimitsObject(msgspec.Struct, kw_only=True):
    """What both have: null is no limit. `spend_per_month` is a text, so that no program rounds it."""

    requests_per_minute: int | None
    images_per_minute: int | None
    images_per_day: int | None
    images_per_month: int | None
    concurrent: int | None
    spend_per_month: str | None
    currency: str
    shadow: bool


class ProjectLimits(LimitsObject, kw_only=True):
    """All limits of a project, which its keys share."""

    object: str = "organization.project.limits"
    project_id: str
    weight: int
    markup: str


class KeyLimits(LimitsObject, kw_only=True):
    """All limits of a key; those of its project hold as well."""

    object: str = "organization.project.api_key.limits"
    project_id: str
    key_id: str
    cache_scope: CacheScope | None


@get(PROJECT_LIMITS, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_project_limits(request: AdminRequest, project_id: str) -> ProjectLimits:
    """Tell all limits of a project."""
    return _of_project(request, await project_named(request, project_id))


@post(PROJECT_LIMITS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_project_limits(request: AdminRequest, project_id: str, data: ProjectLimitChanges) -> ProjectLimits:
    """Change limits of a project; every replica holds them at once."""
    project = await project_named(request, project_id)
    terms = _terms(await read_strictly(request, type(data)))
    return _of_project(request, await administration_of(request).projects.change(project.id, terms))


@get(KEY_LIMITS, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_key_limits(request: AdminRequest, project_id: str, key_id: str) -> KeyLimits:
    """Tell all limits of a key."""
    return _of_key(request, await key_named(request, project_id, key_id))


@post(KEY_LIMITS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_key_limits(request: AdminRequest, project_id: str, key_id: str, data: KeyLimitChanges) -> KeyLimits:
    """Change limits of a key; every replica holds them at once."""
    key = await key_named(request, project_id, key_id)
    terms = _terms(await read_strictly(request, type(data)))
    return _of_key(request, await administration_of(request).keys.change(key.id, terms))


def _terms(changes: LimitChanges) -> Changes:
    given = {name: getattr(changes, name) for name in changes.__struct_fields__}
    terms = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    if isinstance(terms.get("spend_per_month"), Decimal):
        terms["spend_per_month"] = exact_money(terms["spend_per_month"])
    if "markup" in terms:
        terms["markup"] = parse_markup(f"{terms['markup']:f}")
    return terms


def _of_project(request: AdminRequest, project: Project) -> ProjectLimits:
    said = _said(project.limits, currency_of(request))
    return ProjectLimits(project_id=project.id, weight=project.weight, markup=f"{project.markup.normalize():f}", **said)


def _of_key(request: AdminRequest, key: StoredKey) -> KeyLimits:
    said = _said(key.limits, currency_of(request))
    return KeyLimits(project_id=key.project.id, key_id=key.id, cache_scope=key.cache_scope, **said)


def _said(limits: Limits, currency: str) -> dict[str, Any]:
    spend = limits.spend_per_month
    return {
        "requests_per_minute": limits.requests_per_minute,
        "images_per_minute": limits.images_per_minute,
        "images_per_day": limits.images_per_day,
        "images_per_month": limits.images_per_month,
        "concurrent": limits.concurrent,
        "spend_per_month": None if spend is None else money_text(spend),
        "currency": currency,
        "shadow": limits.shadow,
    }


ROUTES = (retrieve_project_limits, update_project_limits, retrieve_key_limits, update_key_limits)
