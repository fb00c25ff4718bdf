"""OpenAI's admin_api_keys: the keys of this API, made and withdrawn through it."""

from datetime import timedelta
from typing import Any, Literal

import msgspec
from litestar import delete, get, post

from gateway.api.auth import require_admin_key
from gateway.api.organization import REFUSALS, AdminRequest, PageSize, administration_of
from gateway.api.organization_schema import Lifetime, ListOf, ends_of, printable, seconds, seconds_or_none
from gateway.domain.admin_keys import AdminKey
from gateway.domain.errors import NotFound
from gateway.domain.paging import Place

ADMIN_KEYS = "/v1/organization/admin_api_keys"
ADMIN_KEY = f"{ADMIN_KEYS}/{{key_id:str}}"


class NewAdminApiKey(msgspec.Struct, kw_only=True):
    """The body that makes an admin key."""

    name: str
    expires_in_seconds: Lifetime | None = None


class AdminOwner(msgspec.Struct, kw_only=True):
    """OpenAI's owner of an admin key: there are no users, so each key is one of its own."""

    type: str = "user"
    object: str = "organization.user"
    id: str
    name: str
    created_at: int
    role: str = "owner"


class AdminApiKey(msgspec.Struct, kw_only=True):
    """OpenAI's AdminAPIKey."""

    id: str
    object: str = "organization.admin_api_key"
    name: str
    redacted_value: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    owner: AdminOwner


class CreatedAdminApiKey(AdminApiKey, kw_only=True):
    """An admin key that has just been made; `value` is its secret, given this once."""

    value: str


class AdminApiKeyList(ListOf, kw_only=True):
    """A page of admin keys."""

    data: list[AdminApiKey]


class DeletedAdminApiKey(msgspec.Struct, kw_only=True):
    """The answer when an admin key has been revoked."""

    id: str
    object: str = "organization.admin_api_key.deleted"
    deleted: bool = True


@post(ADMIN_KEYS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def create_admin_key(request: AdminRequest, data: NewAdminApiKey) -> CreatedAdminApiKey:
    """Make an admin key; its secret is given this once."""
    lifetime = timedelta(seconds=data.expires_in_seconds) if data.expires_in_seconds else None
    key, secret = await administration_of(request).admin_keys.create(data.name, lifetime)
    return CreatedAdminApiKey(**_said(key), value=secret)


@get(ADMIN_KEYS, guards=[require_admin_key], responses=REFUSALS)
async def list_admin_keys(
    request: AdminRequest, after: str | None = None, limit: PageSize = 20, order: Literal["asc", "desc"] = "asc"
) -> AdminApiKeyList:
    """List the admin keys that are not revoked by the time when they were made."""
    place = Place(limit=limit, after=printable(after), newest_first=order == "desc")
    page = await administration_of(request).admin_keys.page(place)
    return AdminApiKeyList(data=[AdminApiKey(**_said(key)) for key in page.items], **ends_of(page))


@get(ADMIN_KEY, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_admin_key(request: AdminRequest, key_id: str) -> AdminApiKey:
    """Describe an admin key."""
    return AdminApiKey(**_said(await _key(request, key_id)))


@delete(ADMIN_KEY, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def delete_admin_key(request: AdminRequest, key_id: str) -> DeletedAdminApiKey:
    """Revoke an admin key at once; it may be the caller's own, and the last one."""
    key = await _key(request, key_id)
    await administration_of(request).admin_keys.revoke(key.id)
    return DeletedAdminApiKey(id=key.id)


async def _key(request: AdminRequest, key_id: str) -> AdminKey:
    """Find a key that is not revoked."""
    key = await administration_of(request).admin_keys.look_up(key_id) if key_id.isprintable() else None
    if key is None or key.revoked_at is not None:
        raise NotFound(f"There is no admin key with the id {key_id[:100]!r}.", param="key_id")
    return key


def _said(key: AdminKey) -> dict[str, Any]:
    created_at = seconds(key.created_at)
    return {
        "id": key.id,
        "name": key.name,
        "redacted_value": key.redacted,
        "created_at": created_at,
        "expires_at": seconds_or_none(key.expires_at),
        "last_used_at": seconds_or_none(key.last_used_at),
        "owner": AdminOwner(id=key.id, name=key.name, created_at=created_at),
    }


ROUTES = (create_admin_key, list_admin_keys, retrieve_admin_key, delete_admin_key)
