"""/v1/models (openai-images-api.md section 3)."""

from typing import Any

import msgspec
from litestar import Request, get

from gateway.api.auth import require_key
from gateway.api.schema import errors
from gateway.api.services import Services
from gateway.domain.catalog import Catalog, ListedModel, no_such_model
from gateway.domain.keys import Caller


class Model(msgspec.Struct, kw_only=True):
    """OpenAI's Model; `created` in Unix seconds."""

    id: str
    object: str = "model"
    created: int
    owned_by: str


class ModelList(msgspec.Struct, kw_only=True):
    """OpenAI's list of models; it has no pages."""

    object: str = "list"
    data: list[Model]


@get("/v1/models", guards=[require_key], responses=errors(401))
async def list_models(request: Request[Any, Any, Any]) -> ModelList:
    """List the models that the key may use, and their well-known aliases."""
    catalog, caller = _catalog(request), _caller(request)
    listed = [listed for listed in catalog.listed() if caller.allows(catalog.find(listed.id).name)]
    return ModelList(data=[_model(one) for one in listed])


@get("/v1/models/{model:path}", guards=[require_key], responses=errors(400, 401, 404))
async def retrieve_model(request: Request[Any, Any, Any], model: str) -> Model:
    """Describe one model or alias; clients percent-encode a slash in its id, and the server decodes it."""
    catalog, name = _catalog(request), model.removeprefix("/")
    if not _caller(request).allows(catalog.find(name).name):
        raise no_such_model(name)
    return _model(catalog.describe(name))


def _caller(request: Request[Any, Any, Any]) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _catalog(request: Request[Any, Any, Any]) -> Catalog:
    services: Services = request.app.state.services
    return services.catalog


def _model(listed: ListedModel) -> Model:
    return Model(id=listed.id, created=listed.created, owned_by=listed.owned_by)
