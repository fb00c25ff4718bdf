"""OpenAI's objects of the administration API (openai-images-api.md sections 6.3 and 6.5). Times are Unix seconds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar

import msgspec

from gateway.domain import projects as domain
from gateway.domain.errors import InvalidValue, UnsupportedParameter
from gateway.domain.keys import StoredKey
from gateway.domain.paging import Page, page_of

Lifetime = Annotated[int, msgspec.Meta(ge=1, le=31_536_000)]  # seconds, at most a year


class NewProject(msgspec.Struct, kw_only=True):
    """The body that makes a project. Keys and places of OpenAI's own are refused."""

    name: str
    external_key_id: str | None = None
    geography: str | None = None
    residency: object = None


class ProjectChanges(msgspec.Struct, kw_only=True):
    """The body that changes a project; what is absent or null stays."""

    name: str | None = None
    external_key_id: str | None = None
    geography: str | None = None


class Project(msgspec.Struct, kw_only=True):
    """OpenAI's Project; `status` is `active` or `archived`."""

    id: str
    object: str = "organization.project"
    name: str
    created_at: int
    archived_at: int | None
    status: str
    external_key_id: None = None
    residency: None = None


class ServiceAccountOwner(msgspec.Struct, kw_only=True):
    """Whom a key belongs to: there are no users, only service accounts."""

    id: str
    name: str
    role: str = "member"
    created_at: int


class Owner(msgspec.Struct, kw_only=True):
    """OpenAI's owner of a key."""

    type: str = "service_account"
    service_account: ServiceAccountOwner


class ProjectApiKey(msgspec.Struct, kw_only=True):
    """OpenAI's ProjectAPIKey; access is `inactive` while the key is disabled or its project archived."""

    id: str
    object: str = "organization.project.api_key"
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    owner_project_access: str
    owner: Owner


class ApiKeyChanges(msgspec.Struct, kw_only=True):
    """The body that changes a key; what is absent or null stays. Scopes are OpenAI's own: only none can be given."""

    expires_in_seconds: Lifetime | None = None
    scopes: list[str] | None = None


class DeletedApiKey(msgspec.Struct, kw_only=True):
    """The answer when a key has been revoked."""

    id: str
    object: str = "organization.project.api_key.deleted"
    deleted: bool = True


class ListOf(msgspec.Struct, kw_only=True):
    """What all lists have; the next page begins after `last_id` (section 8, trap 22)."""

    object: str = "list"
    first_id: str | None
    last_id: str | None
    has_more: bool


class ProjectList(ListOf, kw_only=True):
    """A page of projects."""

    data: list[Project]


class ProjectApiKeyList(ListOf, kw_only=True):
    """A page of a project's keys."""

    data: list[ProjectApiKey]


class Identified(Protocol):
    """What can be listed."""

    @property
    def id(self) -> str:
        """Its id."""
        ...


Listed = TypeVar("Listed", bound=Identified)


def ends_of(page: Page[Listed]) -> dict[str, Any]:
    """Give what a list says of its page."""
    first, last = (page.items[0].id, page.items[-1].id) if page.items else (None, None)
    return {"first_id": first, "last_id": last, "has_more": page.has_more}


def cut(items: Sequence[Listed], after: str | None, limit: int) -> Page[Listed]:
    """Cut a page out of a list that is at hand; InvalidValue when it has no such item to begin after."""
    ids = [item.id for item in items]
    if after is not None and after not in ids:
        raise InvalidValue(f"'after' is {after[:100]!r}, which this list never had.", param="after")
    start = 0 if after is None else ids.index(after) + 1
    return page_of(list(items[start : start + limit + 1]), limit)


def printable(after: str | None) -> str | None:
    """Give an id that the database can be asked for; InvalidValue for others: PostgreSQL takes no text with a NUL."""
    if after is not None and not after.isprintable():
        raise InvalidValue("'after' has characters that cannot be printed.", param="after")
    return after


def refuse_places(body: NewProject | ProjectChanges) -> None:
    """Refuse what would be a promise that nobody keeps: keys and places of OpenAI's own; UnsupportedParameter."""
    for name in ("external_key_id", "geography", "residency"):
        if getattr(body, name, None) is not None:
            raise UnsupportedParameter(f"'{name}' is OpenAI's own and means nothing here. Leave it out.", param=name)


def project_object(project: domain.Project) -> Project:
    """Say a project in OpenAI's words."""
    return Project(
        id=project.id,
        name=project.name,
        created_at=seconds(project.created_at),
        archived_at=seconds_or_none(project.archived_at),
        status="archived" if project.archived_at else "active",
    )


def key_object(key: StoredKey, account: StoredKey) -> ProjectApiKey:
    """Say a key in OpenAI's words, with its service account, which is that account's first key."""
    owner = ServiceAccountOwner(id=account.id, name=account.name, created_at=seconds(account.created_at))
    return ProjectApiKey(
        id=key.id,
        name=key.name,
        redacted_value=key.redacted,
        created_at=seconds(key.created_at),
        last_used_at=seconds_or_none(key.last_used_at),
        expires_at=seconds_or_none(key.expires_at),
        owner_project_access=access_of(key),
        owner=Owner(service_account=owner),
    )


def access_of(key: StoredKey) -> str:
    """Say whether a key has access to its project."""
    return "inactive" if key.disabled_at or key.project.archived_at else "active"


def seconds(at: datetime) -> int:
    """Give Unix seconds."""
    return int(at.timestamp())


def seconds_or_none(at: datetime | None) -> int | None:
    """Give Unix seconds where there is a time."""
    return seconds(at) if at else None
