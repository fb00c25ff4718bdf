"""OpenAI's spend limit of a project, in hundredths of the installation's currency; over all projects there is none."""

from typing import Annotated, Literal

import msgspec
from litestar import delete, get, post

from gateway.api.auth import require_admin_key
from gateway.api.organization import PROJECT, REFUSALS, AdminRequest, administration_of, currency_of, project_named
from gateway.api.strict import read_strictly
from gateway.domain.errors import InvalidValue, NotFound, UnsupportedEndpoint
from gateway.domain.projects import Project
from gateway.domain.quota import MICROS
from gateway.domain.terms import LARGEST

SPEND_LIMIT = f"{PROJECT}/spend_limit"
ORGANIZATION_SPEND_LIMIT = "/v1/organization/spend_limit"
HUNDREDTH = MICROS // 100


class NewSpendLimit(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body that sets or replaces the limit; 0 lets nothing pass."""

    threshold_amount: Annotated[int, msgspec.Meta(ge=0, le=LARGEST // HUNDREDTH)]
    currency: str
    interval: Literal["month"]


class Enforcement(msgspec.Struct, kw_only=True):
    """`enforcing`: requests above the limit are refused; `inactive`: the project's limits only count (`shadow`)."""

    status: str


class SpendLimit(msgspec.Struct, kw_only=True):
    """OpenAI's ProjectSpendLimit; a limit that is no whole number of hundredths is rounded down."""

    object: str = "project.spend_limit"
    threshold_amount: int
    currency: str
    interval: str = "month"
    enforcement: Enforcement


class DeletedSpendLimit(msgspec.Struct, kw_only=True):
    """The answer when a limit has been taken away."""

    object: str = "project.spend_limit.deleted"
    deleted: bool = True


@get(SPEND_LIMIT, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_spend_limit(request: AdminRequest, project_id: str) -> SpendLimit:
    """Tell what a project may spend in a month."""
    return _said(request, await _limited(request, project_id))


@post(SPEND_LIMIT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_spend_limit(request: AdminRequest, project_id: str, data: NewSpendLimit) -> SpendLimit:
    """Limit what a project may spend in a month; every replica holds it at once."""
    body, currency = await read_strictly(request, type(data)), currency_of(request)
    if body.currency.upper() != currency:
        raise InvalidValue(f"'currency' is {body.currency[:20]!r}; prices here are in {currency}.", param="currency")
    project = await project_named(request, project_id)
    terms = {"spend_per_month": body.threshold_amount * HUNDREDTH}
    return _said(request, await administration_of(request).projects.change(project.id, terms))


@delete(SPEND_LIMIT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def delete_spend_limit(request: AdminRequest, project_id: str) -> DeletedSpendLimit:
    """Take a project's spend limit away."""
    project = await _limited(request, project_id)
    await administration_of(request).projects.change(project.id, {"spend_per_month": None})
    return DeletedSpendLimit()


@get(ORGANIZATION_SPEND_LIMIT, guards=[require_admin_key], responses=REFUSALS, sync_to_thread=False)
def retrieve_organization_spend_limit() -> SpendLimit:
    """Say that there is no limit over all projects."""
    raise NotFound(_PROJECTS_ONLY)


@post(ORGANIZATION_SPEND_LIMIT, guards=[require_admin_key], responses=REFUSALS, status_code=200, sync_to_thread=False)
def update_organization_spend_limit() -> SpendLimit:
    """Refuse to promise a limit over all projects."""
    raise UnsupportedEndpoint(_PROJECTS_ONLY)


@delete(ORGANIZATION_SPEND_LIMIT, guards=[require_admin_key], responses=REFUSALS, status_code=200, sync_to_thread=False)
def delete_organization_spend_limit() -> DeletedSpendLimit:
    """Say that there is no limit over all projects."""
    raise NotFound(_PROJECTS_ONLY)


_PROJECTS_ONLY = (
    "There is no spend limit over all projects. Limit each: POST /v1/organization/projects/{id}/spend_limit."
)


async def _limited(request: AdminRequest, project_id: str) -> Project:
    project = await project_named(request, project_id)
    if project.limits.spend_per_month is None:
        raise NotFound("The project has no spend limit.", param="project_id")
    return project


def _said(request: AdminRequest, project: Project) -> SpendLimit:
    return SpendLimit(
        threshold_amount=(project.limits.spend_per_month or 0) // HUNDREDTH,
        currency=currency_of(request),
        enforcement=Enforcement(status="inactive" if project.limits.shadow else "enforcing"),
    )


ROUTES = (
    retrieve_spend_limit,
    update_spend_limit,
    delete_spend_limit,
    retrieve_organization_spend_limit,
    update_organization_spend_limit,
    delete_organization_spend_limit,
)
