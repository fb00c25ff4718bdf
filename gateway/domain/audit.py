"""The audit log: who changed what, when, from where, and how it was before and after. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

from gateway.domain.admin_keys import AdminKey
from gateway.domain.keys import StoredKey
from gateway.domain.limits import Limit
from gateway.domain.projects import Project
from gateway.domain.quota import Limits
from gateway.domain.reconciliation import CountDifference
from gateway.domain.terms import LIMIT_FIELDS, money_text
from gateway.domain.webhooks import Webhook

ActorKind = Literal["admin_key", "cli", "system"]
Facts = Mapping[str, Any]  # what JSON can say

# Digests never leave their table, the line has its own time, and when a key was last used is no change of it.
_HIDDEN = frozenset({"id", "project", "project_id", "digest", "previous_digest", "created_at", "last_used_at"})
_HIDDEN |= {"digested_with"}
_HIDDEN |= {"secret_id", "previous_secret_id", "previous_until"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who changes something, and from where as far as that is known.

    `id` is an admin key's, or `cli:` and the user of the operating system.
    """

    kind: ActorKind
    id: str
    name: str
    address: str = ""
    user_agent: str = ""
    request_id: str = ""


SYSTEM = Actor(kind="system", id="system", name="system")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What was changed; `type` in OpenAI's words where it has any.

    Of a change `before` and `after` have what differs, of something new `after` has all that is set.
    """

    type: str
    resource_id: str
    project_id: str = ""
    project_name: str = ""
    before: Facts = field(default_factory=dict)
    after: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A line of the audit log. `number` is its place, given when it is written: later ones have higher numbers."""

    time: datetime
    actor: Actor
    event: AuditEvent
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuestion:
    """Which lines are wanted, the newest first: `limit` of those that went before `after` and came after `before`.

    With `before` alone those that came next. They are of the times from `start` until before `end`; `only` are the
    values that each of its columns may have: type, actor_id, project_id, resource_id.
    """

    limit: int
    after: int | None = None
    before: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)


def key_event(kind: str, before: StoredKey | None, after: StoredKey) -> AuditEvent:
    """Say what happened to a key that is spoken of as an `api_key` or a `service_account`."""
    verb = "created" if before is None else "deleted" if _came(before, after, "revoked_at") else "updated"
    differing = _differing(before, after)
    return AuditEvent(
        type=f"{kind}.{verb}",
        resource_id=after.id,
        project_id=after.project.id,
        project_name=after.project.name,
        before=differing[0],
        after=differing[1],
    )


def account_ended_event(first: StoredKey, held: Sequence[str]) -> AuditEvent:
    """Say that a service account ended with the keys that it still had; it has the id of its first key."""
    return AuditEvent(
        type="service_account.deleted",
        resource_id=first.id,
        project_id=first.project.id,
        project_name=first.project.name,
        before={"keys": list(held)},
        after={"keys": []},
    )


def project_event(before: Project | None, after: Project) -> AuditEvent:
    """Say what happened to a project; OpenAI has an event of its own for limits."""
    old, new = _differing(before, after)
    verb = "project.created" if before is None else "project.updated"
    if before is not None and _came(before, after, "archived_at"):
        verb = "project.archived"
    elif before is not None and new and set(new) <= LIMIT_FIELDS:
        verb = "rate_limit.updated"
    return AuditEvent(
        type=verb, resource_id=after.id, project_id=after.id, project_name=after.name, before=old, after=new
    )


def admin_key_event(before: AdminKey | None, after: AdminKey) -> AuditEvent:
    """Say what happened to an admin key: to OpenAI a key like others, but one of no project."""
    old, new = _differing(before, after)
    if before is None:
        return AuditEvent(type="api_key.created", resource_id=after.id, after={**new, "owner": "organization"})
    return AuditEvent(type="api_key.deleted", resource_id=after.id, before=old, after=new)


def webhook_event(project: Project, before: Webhook | None, after: Webhook | None) -> AuditEvent:
    """Say what happened to a project's webhook; of secrets only that there is a new one."""
    verb = "created" if before is None else "deleted" if after is None else "updated"
    old, new = _differing(before, after) if after else (_set(_facts(before)), {})
    if before and after and before.secret_id != after.secret_id:
        new |= {"secret": "replaced"}
    return AuditEvent(
        type=f"webhook.{verb}",
        resource_id=project.id,
        project_id=project.id,
        project_name=project.name,
        before=old,
        after=new,
    )


def repair_event(differences: Sequence[CountDifference]) -> AuditEvent:
    """Say which counters of the quota store were set to what the ledger says; spend in millionths."""
    names = {f"{one.subject} {one.window.value}": one for one in differences}
    return AuditEvent(
        type="counters.repaired",
        resource_id="quota_store",
        before={name: one.counted for name, one in names.items()},
        after={name: one.ledger for name, one in names.items()},
    )


def has_changes(event: AuditEvent) -> bool:
    """Tell whether anything is different now."""
    return event.before != event.after


def _came(before: object, after: object, name: str) -> bool:
    return getattr(before, name) is None and getattr(after, name) is not None


def _differing(before: Any, after: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401 - any two of a kind
    """Give what differs, as it was and as it is; of something new what is set."""
    new = _facts(after)
    if before is None:
        return {}, _set(new)
    old = _facts(before)
    names = [name for name in new if old[name] != new[name]]
    return {name: old[name] for name in names}, {name: new[name] for name in names}


def _set(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, False, [], {})}


def _facts(subject: Any) -> dict[str, Any]:  # noqa: ANN401 - a project, a key or limits
    found: dict[str, Any] = {}
    for name in (one.name for one in fields(subject) if one.name not in _HIDDEN):
        value = getattr(subject, name)
        found |= _facts(value) if isinstance(value, Limits) else {name: _plain(name, value)}
    return found


def _plain(name: str, value: object) -> object:
    """Say a value in JSON's words; TypeError for one that has none, such as a digest."""
    match value:
        case int() if name == Limit.SPEND_PER_MONTH:
            return money_text(value)
        case None | bool() | int() | str() | dict():
            return value
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case IPv4Network() | IPv6Network():
            return str(value)
        case Decimal():
            return f"{value.normalize():f}"
        case tuple():
            return [_plain(name, one) for one in value]
        case _:
            raise TypeError(f"{name} cannot be told in the audit log")
