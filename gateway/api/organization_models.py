"""OpenAI's model permissions of a project: the models that it may use."""

from typing import Literal

import msgspec
from litestar import delete, get, post

from gateway.api.auth import require_admin_key
from gateway.api.organization import PROJECT, REFUSALS, AdminRequest, administration_of, catalog_of, project_named
from gateway.domain.errors import InvalidValue
from gateway.domain.projects import Project
from gateway.domain.terms import known_models

PERMISSIONS = f"{PROJECT}/model_permissions"


class NewPermissions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body that replaces a project's list; an alias stands for its model."""

    mode: Literal["allow_list", "deny_list"]
    model_ids: list[str]


class Permissions(msgspec.Struct, kw_only=True):
    """OpenAI's ProjectModelPermissions; a project that may use all models has a deny list that is empty."""

    object: str = "project.model_permissions"
    mode: str
    model_ids: list[str]


class DeletedPermissions(msgspec.Struct, kw_only=True):
    """The answer when a project may use all models again."""

    object: str = "project.model_permissions.deleted"
    deleted: bool = True


@get(PERMISSIONS, guards=[require_admin_key], responses=REFUSALS)
async def retrieve_permissions(request: AdminRequest, project_id: str) -> Permissions:
    """Name the models that a project may use."""
    return _said(await project_named(request, project_id))


@post(PERMISSIONS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def update_permissions(request: AdminRequest, project_id: str, data: NewPermissions) -> Permissions:
    """Let a project use these models only; every replica holds it at once."""
    if (data.mode == "allow_list") != bool(data.model_ids):
        raise InvalidValue(
            "Name the models that may be used in an 'allow_list', or all of them by an empty 'deny_list': a list of "
            "those that may not would let in every model that is added later.",
            param="model_ids",
        )
    project = await project_named(request, project_id)
    models = known_models(data.model_ids, catalog_of(request), "model_ids")
    return _said(await administration_of(request).projects.change(project.id, {"models": models}))


@delete(PERMISSIONS, guards=[require_admin_key], responses=REFUSALS, status_code=200)
async def delete_permissions(request: AdminRequest, project_id: str) -> DeletedPermissions:
    """Let a project use all models."""
    project = await project_named(request, project_id)
    await administration_of(request).projects.change(project.id, {"models": ()})
    return DeletedPermissions()


def _said(project: Project) -> Permissions:
    return Permissions(mode="allow_list" if project.models else "deny_list", model_ids=list(project.models))


ROUTES = (retrieve_permissions, update_permissions, delete_permissions)
