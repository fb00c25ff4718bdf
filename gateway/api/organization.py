"""OpenAI's administration API (openai-images-api.md section 6): projects and their keys."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from litestar import Request, delete, get, post
from litestar.params import Parameter

from gateway.api.auth import require_admin_key
from gateway.api.organization_schema import (
    ApiKeyChanges,
    DeletedApiKey,
    NewProject,
    Project,
    ProjectApiKey,
    ProjectApiKeyList,
    ProjectChanges,
    ProjectList,
    ends_of,
    key_object,
    printable,
    project_object,
    refuse_places,
)
from gateway.api.schema import errors
from gateway.api.services import Services
from gateway.domain import projects as domain
from gateway.domain.catalog import Catalog
from gateway.domain.errors import NotFound, UnsupportedParameter
from gateway.domain.keys import StoredKey
from gateway.domain.paging import Place
from gateway.service.administration import Administration

PROJECTS = "/v1/organization/projects"
PROJECT = f"{PROJECTS}/{{project_id:str}}"
KEYS = f"{PROJECT}/api_keys"
KEY = f"{KEYS}/{{key_id:str}}"
REFUSALS = errors(400, 401, 403, 404)

AdminRequest = Request[Any, Any, Any]
PageSize = Annotated[int, Parameter(ge=1, le=100, description="The most that a page holds.")]
Access = Literal["active", "inactive", "any"]


@post(PROJECTS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def create_project(request: AdminRequest, data: NewProject) -> Project:
    """Make a project."""
    refuse_places(data)
    return project_object(await administration_of(request).projects.create(data.name, {}))


@get(PROJECTS, guards=[require_admin_key], responses=REFUSALS)
async def list_projects(
    request: AdminRequest,
    after: str | None = None,
    limit: PageSize = 20,
    include_archived: bool = False,  # noqa: FBT001, FBT002 - a query parameter
) -> ProjectList:
    """List the projects, oldest first."""
    place = Place(limit=limit, after=printable(after))
    page = await administration_of(request).projects.page(place, archived=include_archived)
    return ProjectList(data=[project_object(project) for project in page.items], **ends_of(page))


@get(PROJECT, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_project(request: AdminRequest, project_id: str) -> Project:
    """Describe a project."""
    return project_object(await project_named(request, project_id))


@post(PROJECT, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_project(request: AdminRequest, project_id: str, data: ProjectChanges) -> Project:
    """Rename a project."""
    refuse_places(data)
    project = await project_named(request, project_id)
    if data.name is not None:
        project = await administration_of(request).projects.rename(project.id, data.name)
    return project_object(project)


@post(f"{PROJECT}/archive", guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def archive_project(request: AdminRequest, project_id: str) -> Project:
    """Refuse all keys of a project."""
    project = await project_named(request, project_id)
    return project_object(await administration_of(request).projects.archive(project.id))


@get(KEYS, guards=[require_admin_key], responses=REFUSALS)
async def list_keys(
    request: AdminRequest,
    project_id: str,
    after: str | None = None,
    limit: PageSize = 20,
    owner_project_access: Access = "any",
) -> ProjectApiKeyList:
    """List a project's keys that are not revoked, oldest first."""
    project = await project_named(request, project_id)
    place = Place(limit=limit, after=printable(after))
    access = None if owner_project_access == "any" else owner_project_access
    page = await administration_of(request).keys.page(project.id, place, access)
    return ProjectApiKeyList(data=[await _said(request, key) for key in page.items], **ends_of(page))


@get(KEY, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_key(request: AdminRequest, project_id: str, key_id: str) -> ProjectApiKey:
    """Describe a key."""
    return await _said(request, await key_named(request, project_id, key_id))


@post(KEY, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_key(request: AdminRequest, project_id: str, key_id: str, data: ApiKeyChanges) -> ProjectApiKey:
    """Let a key stop after another time from now; every replica knows it at once."""
    if data.scopes:
        raise UnsupportedParameter("Keys have no scopes: every one makes pictures and lists models.", param="scopes")
    key = await key_named(request, project_id, key_id)
    if data.expires_in_seconds is not None:
        terms = {"expires_in": timedelta(seconds=data.expires_in_seconds)}
        key = await administration_of(request).keys.change(key.id, terms)
    return await _said(request, key)


@delete(KEY, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def delete_key(request: AdminRequest, project_id: str, key_id: str) -> DeletedApiKey:
    """Revoke a key; every replica refuses it within a second, and what it did stays in the ledger."""
    key = await key_named(request, project_id, key_id)
    await administration_of(request).keys.revoke(key.id)
    return DeletedApiKey(id=key.id)


def administration_of(request: AdminRequest) -> Administration:
    """Give the use cases, in the hands of the admin key that asks."""
    services: Services = request.app.state.services
    return services.administration.by(request.state.actor)


def catalog_of(request: AdminRequest) -> Catalog:
    """Give the models that are served."""
    services: Services = request.app.state.services
    return services.catalog


def currency_of(request: AdminRequest) -> str:
    """Give the currency of prices and spend limits."""
    services: Services = request.app.state.services
    return services.currency


async def project_named(request: AdminRequest, project_id: str) -> domain.Project:
    """Find a project by its id, which has no control characters: PostgreSQL takes no text with a NUL in it."""
    if not project_id.startswith(domain.PROJECT_PREFIX) or not project_id.isprintable():
        raise NotFound(f"There is no project with the id {project_id[:100]!r}.", param="project_id")
    return await administration_of(request).projects.find(project_id)


async def key_named(request: AdminRequest, project_id: str, key_id: str) -> StoredKey:
    """Find a key of a project that is not revoked."""
    project = await project_named(request, project_id)
    key = await administration_of(request).keys.look_up(key_id) if key_id.isprintable() else None
    if key is None or key.project.id != project.id or key.revoked_at is not None:
        raise NotFound(f"The project has no key with the id {key_id[:100]!r}.", param="key_id")
    return key


async def _said(request: AdminRequest, key: StoredKey) -> ProjectApiKey:
    account = key if key.account is None else await administration_of(request).keys.find(key.account)
    return key_object(key, account)


ROUTES = (
    create_project,
    list_projects,
    retrieve_project,
    update_project,
    archive_project,
    list_keys,
    retrieve_key,
    update_key,
    delete_key,
)
