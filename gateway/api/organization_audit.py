"""OpenAI's audit_logs (openai-images-api.md sections 6.2, 6.3, 6.5), the newest first."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar import get

from gateway.api.auth import require_admin_key
from gateway.api.lists import listed, whole
from gateway.api.organization import REFUSALS, AdminRequest, PageSize, administration_of
from gateway.api.organization_schema import ListOf, seconds
from gateway.domain.audit import Actor, AuditEntry, AuditEvent, AuditQuestion
from gateway.domain.errors import InvalidValue, UnsupportedParameter

AUDIT_LOGS = "/v1/organization/audit_logs"
FILTERS = {"project_ids": "project_id", "event_types": "type", "actor_ids": "actor_id", "resource_ids": "resource_id"}
BOUNDS = tuple(f"effective_at[{bound}]" for bound in ("gt", "gte", "lt", "lte"))  # Unix seconds
LAST_SECOND = 253_402_300_798  # the last but one of the year 9999, so that there is one after it
OPENAI_LIMITS = {"requests_per_minute": "max_requests_per_1_minute", "images_per_minute": "max_images_per_1_minute"}

_ID = re.compile("audit_log-([0-9]{1,18})")


class AuditLogList(ListOf, kw_only=True):
    """A page of OpenAI's AuditLogs.

    Each has, beside `id`, `type`, `effective_at`, `actor` and `project`, what happened under the name of its type. Ours
    are `before` and `after` of what changed, and `ip_address`, `user_agent` and `request_id` of who asked.
    """

    data: list[dict[str, Any]]


@get(AUDIT_LOGS, guards=[require_admin_key], responses=REFUSALS)
async def list_audit_logs(
    request: AdminRequest,
    *,
    limit: PageSize = 20,
    after: str | None = None,
    before: str | None = None,
    tenant_only: bool = False,
) -> AuditLogList:
    """List the changes of projects, keys, limits and what else operators change, the newest first."""
    if tenant_only or listed(request, "actor_emails"):
        param = "tenant_only" if tenant_only else "actor_emails"
        raise UnsupportedParameter(f"'{param}' finds nothing: there are neither tenants nor users here.", param=param)
    question = AuditQuestion(
        limit=limit,
        after=_number(after, "after"),
        before=_number(before, "before"),
        start=_latest(_bound(request, "gte"), _bound(request, "gt", 1)),
        end=_earliest(_bound(request, "lt"), _bound(request, "lte", 1)),
        only={column: values for name, column in FILTERS.items() if (values := listed(request, name))},
    )
    page = await administration_of(request).audit.page(question)
    data = [_object(entry) for entry in page.items]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return AuditLogList(data=data, has_more=page.has_more, **ends)


def _number(place: str | None, param: str) -> int | None:
    if place is None:
        return None
    match = _ID.fullmatch(place)
    if match is None:
        raise InvalidValue(f"{param!r} is {place[:100]!r}, which is no id of the audit log.", param=param)
    return int(match[1])


def _bound(request: AdminRequest, bound: str, seconds_later: int = 0) -> int | None:
    at = whole(request, f"effective_at[{bound}]")
    return None if at is None else at + seconds_later


def _latest(*bounds: int | None) -> datetime | None:
    given = [bound for bound in bounds if bound is not None]
    return _time(max(given)) if given else None


def _earliest(*bounds: int | None) -> datetime | None:
    given = [bound for bound in bounds if bound is not None]
    return _time(min(given)) if given else None


def _time(number: int) -> datetime:
    """Give the moment of a number of seconds; what is out of all bounds is where they are."""
    return datetime.fromtimestamp(min(max(number, 0), LAST_SECOND), UTC)


def _object(entry: AuditEntry) -> dict[str, Any]:
    """Say a line in OpenAI's words; what they lack follows in ours."""
    event, actor = entry.event, entry.actor
    said = {
        "id": f"audit_log-{entry.number}",
        "type": event.type,
        "effective_at": seconds(entry.time),
        "actor": _actor(actor),
        event.type: {"id": event.resource_id, **_details(event)},
        "before": event.before,
        "after": event.after,
        "ip_address": actor.address or None,
        "user_agent": actor.user_agent or None,
        "request_id": actor.request_id or None,
    }
    return {**said, "project": {"id": event.project_id, "name": event.project_name}} if event.project_id else said


def _actor(actor: Actor) -> dict[str, Any]:
    """Say who it was: an admin key, or on the operator's machine a session, which has no address."""
    if actor.kind == "admin_key":
        return {"type": "api_key", "api_key": {"id": actor.id, "name": actor.name, "type": "user"}}
    return {"type": "session", "session": {"user": {"id": actor.id, "email": None}, "ip_address": None}}


def _details(event: AuditEvent) -> dict[str, Any]:
    """Give what OpenAI tells of something made or changed; a project's name is its title there."""
    if event.type.endswith(".created"):
        return {"data": _titled(event)}
    if event.type.endswith(".updated"):
        return {"changes_requested": _titled(event)}
    return {}


def _titled(event: AuditEvent) -> Mapping[str, Any]:
    if event.type == "rate_limit.updated":
        return {OPENAI_LIMITS.get(name, name): value for name, value in event.after.items()}
    if event.type.startswith("project.") and "name" in event.after:
        return {"title": event.after["name"], **event.after}
    return event.after


ROUTES = (list_audit_logs,)
