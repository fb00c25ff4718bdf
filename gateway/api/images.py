"""/v1/images/*, but for what generations.py serves itself: that route is described here."""

from litestar import post

from gateway.api.auth import require_key
from gateway.api.generations import PATH
from gateway.api.schema import errors
from gateway.domain.errors import RetiredEndpoint, UnsupportedEndpoint

REFUSALS = errors(400, 401, 404, 413, 429, 500, 502, 503, 504)


@post(PATH, status_code=200, responses=REFUSALS)
async def generations() -> dict[str, object]:
    """Create pictures from a prompt."""
    raise NotImplementedError  # for the document alone


@post("/v1/images/edits", status_code=200, guards=[require_key], responses=errors(400, 401))
async def edits() -> None:
    """Refuse: GLM-Image's hosted API takes no pictures (glm-image-api.md section 1.2)."""
    raise UnsupportedEndpoint(
        "GLM-Image makes pictures from text only; it cannot edit one. Use POST /v1/images/generations.",
    )


@post("/v1/images/variations", status_code=200, guards=[require_key], responses=errors(401, 410))
async def variations() -> None:
    """Refuse: OpenAI has withdrawn this endpoint as well (openai-images-api.md section 2.4)."""
    raise RetiredEndpoint("This endpoint has been retired. Use POST /v1/images/generations.")
