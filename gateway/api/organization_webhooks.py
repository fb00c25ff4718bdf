"""Webhooks of projects: an addition of our own beside OpenAI's administration API, in its form."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import delete, get, post

from gateway.api.auth import require_admin_key
from gateway.api.organization import PROJECT, REFUSALS, AdminRequest, PageSize, administration_of, project_named
from gateway.api.organization_schema import ListOf, cut, ends_of, seconds, seconds_or_none
from gateway.domain import webhooks as domain
from gateway.domain.errors import NotFound

WEBHOOK = f"{PROJECT}/webhook"
DELIVERIES = f"{WEBHOOK}/deliveries"
DELIVERY = f"{DELIVERIES}/{{delivery_id:str}}"

Percent = Annotated[int, msgspec.Meta(ge=1, le=domain.LARGEST_THRESHOLD)]
Percents = Annotated[list[Percent], msgspec.Meta(min_length=1, max_length=domain.MOST_THRESHOLDS)]


class WebhookChanges(msgspec.Struct, kw_only=True):
    """The body that makes or changes a webhook; what is absent or null stays. The first time the URL is needed."""

    url: str | None = None
    thresholds: Percents | None = None
    new_secret: bool = False


class Webhook(msgspec.Struct, kw_only=True):
    """A project's webhook: thresholds in percent; disabled since its receiver answered 410."""

    project_id: str
    object: str = "organization.project.webhook"
    url: str
    thresholds: list[int]
    created_at: int
    disabled_at: int | None


class ChangedWebhook(Webhook, kw_only=True):
    """A webhook that has just been set; `secret` when it is new, given this once."""

    secret: str | None


class DeletedWebhook(msgspec.Struct, kw_only=True):
    """The answer when a webhook has been removed."""

    project_id: str
    object: str = "organization.project.webhook.deleted"
    deleted: bool = True


class WebhookDelivery(msgspec.Struct, kw_only=True):
    """An event and what became of it; `id` is its webhook-id. `threshold`, `limit` and `period` are null in a test."""

    id: str
    object: str = "organization.project.webhook.delivery"
    type: str
    created_at: int
    limit: str | None
    period: str | None
    threshold: int | None
    state: domain.DeliveryState
    tries: int
    last_status: int | None
    last_error: str | None
    last_tried_at: int | None
    next_try_at: int | None
    delivered_at: int | None


class WebhookDeliveryList(ListOf, kw_only=True):
    """A page of events."""

    data: list[WebhookDelivery]


@post(WEBHOOK, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def set_webhook(request: AdminRequest, project_id: str, data: WebhookChanges) -> ChangedWebhook:
    """Make or change the project's webhook; a new secret is given this once."""
    project = await project_named(request, project_id)
    thresholds = domain.check_thresholds(data.thresholds) if data.thresholds else None
    webhooks = administration_of(request).webhooks
    webhook, secret = await webhooks.set(project.id, data.url, thresholds, new_secret=data.new_secret)
    return ChangedWebhook(**_said(webhook), secret=secret)


@get(WEBHOOK, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_webhook(request: AdminRequest, project_id: str) -> Webhook:
    """Describe the project's webhook."""
    project = await project_named(request, project_id)
    return Webhook(**_said(await administration_of(request).webhooks.find(project.id)))


@delete(WEBHOOK, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def delete_webhook(request: AdminRequest, project_id: str) -> DeletedWebhook:
    """Forget the project's webhook; what waits for it is given up."""
    project = await project_named(request, project_id)
    await administration_of(request).webhooks.remove(project.id)
    return DeletedWebhook(project_id=project.id)


@get(DELIVERIES, guards=[require_admin_key], responses=REFUSALS)
async def list_deliveries(
    request: AdminRequest,
    project_id: str,
    after: str | None = None,
    limit: PageSize = 20,
    order: Literal["asc", "desc"] = "asc",
) -> WebhookDeliveryList:
    """List the events of the last 30 days by the time when they were made."""
    project = await project_named(request, project_id)
    found = await administration_of(request).webhooks.history(project.id)
    page = cut(found if order == "asc" else found[::-1], after, limit)
    return WebhookDeliveryList(data=[_delivery(delivery) for delivery in page.items], **ends_of(page))


@post(f"{DELIVERY}/redeliver", guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def redeliver(request: AdminRequest, project_id: str, delivery_id: str) -> WebhookDelivery:
    """Post an event anew, with the same id."""
    project = await project_named(request, project_id)
    if not delivery_id.isprintable():  # PostgreSQL takes no text with a NUL in it
        raise NotFound(f"The project's webhook has no delivery with the id {delivery_id[:100]!r}.", param="id")
    return _delivery(await administration_of(request).webhooks.redeliver(project.id, delivery_id))


def _said(webhook: domain.Webhook) -> dict[str, Any]:
    return {
        "project_id": webhook.project_id,
        "url": webhook.url,
        "thresholds": list(webhook.thresholds),
        "created_at": seconds(webhook.created_at),
        "disabled_at": seconds_or_none(webhook.disabled_at),
    }


def _delivery(delivery: domain.Delivery) -> WebhookDelivery:
    return WebhookDelivery(
        id=delivery.id,
        type=delivery.type,
        created_at=seconds(delivery.created_at),
        limit=delivery.limit,
        period=delivery.period,
        threshold=delivery.threshold,
        state=delivery.state,
        tries=delivery.tries,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        last_tried_at=seconds_or_none(delivery.last_tried_at),
        next_try_at=seconds_or_none(delivery.next_try_at),
        delivered_at=seconds_or_none(delivery.delivered_at),
    )


ROUTES = (set_webhook, retrieve_webhook, delete_webhook, list_deliveries, redeliver)
