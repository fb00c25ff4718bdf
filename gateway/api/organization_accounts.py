"""OpenAI's service accounts: the way to make keys in its words.

Every account begins with a key, whose id and name are its own, and ends with its last one.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import msgspec
from litestar import delete, get, post

from gateway.api.auth import require_admin_key
from gateway.api.organization import (
    PROJECT,
    REFUSALS,
    AdminRequest,
    PageSize,
    administration_of,
    project_named,
)
from gateway.api.organization_schema import Lifetime, ListOf, ends_of, printable, seconds, seconds_or_none
from gateway.domain.errors import NotFound, UnsupportedParameter
from gateway.domain.keys import StoredKey
from gateway.domain.paging import Place

ACCOUNTS = f"{PROJECT}/service_accounts"
ACCOUNT = f"{ACCOUNTS}/{{account_id:str}}"
ACCOUNT_KEYS = f"{ACCOUNT}/api_keys"


class NewServiceAccount(msgspec.Struct, kw_only=True):
    """The body that makes an account and its key."""

    name: str
    create_service_account_only: bool | None = None
    expires_in_seconds: Lifetime | None = None


class ServiceAccountChanges(msgspec.Struct, kw_only=True):
    """The body that changes an account; what is absent or null stays."""

    name: str | None = None
    role: Literal["member", "owner"] | None = None


class NewAccountKey(msgspec.Struct, kw_only=True):
    """The body that makes a further key of an account. Scopes are OpenAI's own: only none can be given."""

    name: str | None = None
    expires_in_seconds: Lifetime | None = None
    scopes: list[str] | None = None


class ServiceAccount(msgspec.Struct, kw_only=True):
    """OpenAI's ProjectServiceAccount."""

    id: str
    object: str = "organization.project.service_account"
    name: str
    role: str = "member"
    created_at: int


class NewApiKey(msgspec.Struct, kw_only=True):
    """A new key of an account; `value` is its secret, given this once."""

    id: str
    object: str = "organization.project.service_account.api_key"
    name: str
    value: str
    created_at: int
    expires_at: int | None


class CreatedServiceAccount(ServiceAccount, kw_only=True):
    """An account that has just been made."""

    api_key: NewApiKey


class ServiceAccountList(ListOf, kw_only=True):
    """A page of a project's accounts."""

    data: list[ServiceAccount]


class DeletedServiceAccount(msgspec.Struct, kw_only=True):
    """The answer when an account's keys have been revoked."""

    id: str
    object: str = "organization.project.service_account.deleted"
    deleted: bool = True


@post(ACCOUNTS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def create_account(request: AdminRequest, project_id: str, data: NewServiceAccount) -> CreatedServiceAccount:
    """Make a key; its secret is given this once."""
    if data.create_service_account_only:
        raise UnsupportedParameter(
            "An account begins with its key here: there is none without.", param="create_service_account_only"
        )
    project = await project_named(request, project_id)
    lifetime = timedelta(seconds=data.expires_in_seconds) if data.expires_in_seconds else None
    keys = administration_of(request).accounts
    key, secret = await keys.create(data.name, project=project.id, terms={"expires_in": lifetime})
    made = _new_key(key, secret)
    return CreatedServiceAccount(id=key.id, name=key.name, created_at=made.created_at, api_key=made)


@get(ACCOUNTS, guards=[require_admin_key], responses=REFUSALS)
async def list_accounts(
    request: AdminRequest, project_id: str, after: str | None = None, limit: PageSize = 20
) -> ServiceAccountList:
    """List a project's accounts, oldest first."""
    project = await project_named(request, project_id)
    page = await administration_of(request).accounts.page_accounts(
        project.id, Place(limit=limit, after=printable(after))
    )
    return ServiceAccountList(data=[_account(key) for key in page.items], **ends_of(page))


@get(ACCOUNT, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_account(request: AdminRequest, project_id: str, account_id: str) -> ServiceAccount:
    """Describe an account."""
    return _account((await _keys_of(request, project_id, account_id))[0])


@post(ACCOUNT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_account(
    request: AdminRequest, project_id: str, account_id: str, data: ServiceAccountChanges
) -> ServiceAccount:
    """Rename an account."""
    if data.role == "owner":
        raise UnsupportedParameter("Accounts are members: only admin keys administer.", param="role")
    key, *_ = await _keys_of(request, project_id, account_id)
    if data.name is not None:
        key = await administration_of(request).accounts.rename(key.id, data.name)
    return _account(key)


@delete(ACCOUNT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def delete_account(request: AdminRequest, project_id: str, account_id: str) -> DeletedServiceAccount:
    """Revoke all keys of an account."""
    account, *_ = await _keys_of(request, project_id, account_id)
    await administration_of(request).accounts.end_account(account)
    return DeletedServiceAccount(id=account.id)


@post(ACCOUNT_KEYS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def create_account_key(request: AdminRequest, project_id: str, account_id: str, data: NewAccountKey) -> NewApiKey:
    """Make a further key of an account, with the limits of its first one; its secret is given this once."""
    if data.scopes:
        raise UnsupportedParameter("Keys have no scopes: every one makes pictures and lists models.", param="scopes")
    account, *_ = await _keys_of(request, project_id, account_id)
    lifetime = timedelta(seconds=data.expires_in_seconds) if data.expires_in_seconds else None
    return _new_key(*await administration_of(request).keys.add_to_account(account, data.name, lifetime))


async def _keys_of(request: AdminRequest, project_id: str, account_id: str) -> Sequence[StoredKey]:
    """Give the keys of an account, the first one first, which may be revoked; NotFound when all are."""
    project = await project_named(request, project_id)
    is_id = account_id.isprintable()
    keys = await administration_of(request).accounts.of_account(project.id, account_id) if is_id else ()
    if all(key.revoked_at is not None for key in keys):
        raise NotFound(f"The project has no service account with the id {account_id[:100]!r}.", param="account_id")
    return keys


def _new_key(key: StoredKey, secret: str) -> NewApiKey:
    created_at, expires_at = seconds(key.created_at), seconds_or_none(key.expires_at)
    return NewApiKey(id=key.id, name=key.name, value=secret, created_at=created_at, expires_at=expires_at)


def _account(key: StoredKey) -> ServiceAccount:
    return ServiceAccount(id=key.id, name=key.name, created_at=seconds(key.created_at))


ROUTES = (create_account, list_accounts, retrieve_account, update_account, delete_account, create_account_key)
