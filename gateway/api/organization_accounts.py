"""OpenAI's service accounts: the way to make keys in its words. An account is its key, and has the key's id."""

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
    key_named,
    project_named,
)
from gateway.api.organization_schema import Lifetime, ListOf, ends_of, printable, seconds, seconds_or_none
from gateway.domain.errors import UnsupportedParameter
from gateway.domain.keys import StoredKey
from gateway.domain.paging import Place

ACCOUNTS = f"{PROJECT}/service_accounts"
ACCOUNT = f"{ACCOUNTS}/{{account_id:str}}"


class NewServiceAccount(msgspec.Struct, kw_only=True):
    """The body that makes an account and its key."""

    name: str
    create_service_account_only: bool | None = None
    expires_in_seconds: Lifetime | None = None


class ServiceAccountChanges(msgspec.Struct, kw_only=True):
    """The body that changes an account; what is absent or null stays."""

    name: str | None = None
    role: Literal["member", "owner"] | None = None


class ServiceAccount(msgspec.Struct, kw_only=True):
    """OpenAI's ProjectServiceAccount."""

    id: str
    object: str = "organization.project.service_account"
    name: str
    role: str = "member"
    created_at: int


class NewApiKey(msgspec.Struct, kw_only=True):
    """The key of a new account; `value` is its secret, given this once."""

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
    """The answer when an account's key has been revoked."""

    id: str
    object: str = "organization.project.service_account.deleted"
    deleted: bool = True


@post(ACCOUNTS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def create_account(request: AdminRequest, project_id: str, data: NewServiceAccount) -> CreatedServiceAccount:
    """Make a key; its secret is given this once."""
    if data.create_service_account_only:
        raise UnsupportedParameter(
            "An account is its key here: there is none without.", param="create_service_account_only"
        )
    project = await project_named(request, project_id)
    lifetime = timedelta(seconds=data.expires_in_seconds) if data.expires_in_seconds else None
    keys = administration_of(request).accounts
    key, secret = await keys.create(data.name, project=project.id, terms={"expires_in": lifetime})
    created_at, expires_at = seconds(key.created_at), seconds_or_none(key.expires_at)
    made = NewApiKey(id=key.id, name=key.name, value=secret, created_at=created_at, expires_at=expires_at)
    return CreatedServiceAccount(id=key.id, name=key.name, created_at=created_at, api_key=made)


@get(ACCOUNTS, guards=[require_admin_key], responses=REFUSALS)
async def list_accounts(
    request: AdminRequest, project_id: str, after: str | None = None, limit: PageSize = 20
) -> ServiceAccountList:
    """List a project's accounts, oldest first."""
    project = await project_named(request, project_id)
    page = await administration_of(request).accounts.page(project.id, Place(limit=limit, after=printable(after)))
    return ServiceAccountList(data=[_account(key) for key in page.items], **ends_of(page))


@get(ACCOUNT, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_account(request: AdminRequest, project_id: str, account_id: str) -> ServiceAccount:
    """Describe an account."""
    return _account(await key_named(request, project_id, account_id))


@post(ACCOUNT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_account(
    request: AdminRequest, project_id: str, account_id: str, data: ServiceAccountChanges
) -> ServiceAccount:
    """Rename an account."""
    if data.role == "owner":
        raise UnsupportedParameter("Accounts are members: only admin keys administer.", param="role")
    key = await key_named(request, project_id, account_id)
    if data.name is not None:
        key = await administration_of(request).accounts.rename(key.id, data.name)
    return _account(key)


@delete(ACCOUNT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def delete_account(request: AdminRequest, project_id: str, account_id: str) -> DeletedServiceAccount:
    """Revoke an account's key."""
    key = await key_named(request, project_id, account_id)
    await administration_of(request).accounts.revoke(key.id)
    return DeletedServiceAccount(id=key.id)


def _account(key: StoredKey) -> ServiceAccount:
    return ServiceAccount(id=key.id, name=key.name, created_at=seconds(key.created_at))


ROUTES = (create_account, list_accounts, retrieve_account, update_account, delete_account)
