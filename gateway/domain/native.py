"""GLM-Image's own words -> ImageRequest: what its documentation allows is taken, all else refused, nothing is mapped.

OpenAI's path makes the nearest size; here an illegal one is refused, as the service itself does (code 1214). Whoever
speaks GLM's own words has read its documentation, and no answer of GLM's has a place to say what was changed.
"""

from collections.abc import Mapping

from gateway.domain.catalog import Catalog, Model, parse_size
from gateway.domain.errors import EmptyText, InvalidType, InvalidValue, MissingParameter
from gateway.domain.image import ImageRequest

# The documented fields with their types (glm-image-api.md section 1.2).
FIELDS: dict[str, type] = {
    "model": str,
    "prompt": str,
    "size": str,
    "quality": str,
    "watermark_enabled": bool,
    "user_id": str,
}
USER_ID_LENGTHS = range(6, 129)
_NAMES = {str: "a string", bool: "true or false"}


def native_request(body: Mapping[str, object], catalog: Catalog) -> ImageRequest:
    """Check the documented fields among the non-null members of a body, in the service's order; others are ignored.

    Raises:
        MissingParameter, EmptyText: model or prompt is absent or empty.
        ModelNotFound: the catalog has no such model or alias.
        InvalidType, InvalidValue: another field has a value outside of the documented ones; `param` names it.
    """
    known = {name: body[name] for name in FIELDS if name in body}
    _require(known)
    _check_types(known)
    user = known.pop("user_id", None)
    request = ImageRequest(**known, user=user, response_format="url")  # type: ignore[arg-type]  # by _check_types
    model = catalog.find(request.model)
    _check_size(request.size, model)
    _check_quality(request.quality, model)
    _check_user(request.user)
    return request


def _require(known: Mapping[str, object]) -> None:
    for name in ("model", "prompt"):
        if name not in known:
            raise MissingParameter(f"The parameter {name} is missing. Send it as a string.", param=name)
        if known[name] == "":
            raise EmptyText(f"The parameter {name} is empty.", param=name)


def _check_types(known: Mapping[str, object]) -> None:
    for name, value in known.items():
        if type(value) is not FIELDS[name]:
            raise InvalidType(f"{name} is invalid: it has to be {_NAMES[FIELDS[name]]}.", param=name)


def _check_size(size: str | None, model: Model) -> None:
    asked = None if size is None else parse_size(size)
    if size is None or (asked is not None and model.size.allows(asked)):
        return
    rule = model.size
    raise InvalidValue(
        f"size is invalid: {model.name} makes {', '.join(model.recommended_sizes)}, or any WxH with sides of "
        f"{rule.min_side} to {rule.max_side} in multiples of {rule.step} and at most {rule.max_pixels} pixels.",
        param="size",
    )


def _check_quality(quality: str | None, model: Model) -> None:
    if quality is not None and quality not in model.qualities:
        raise InvalidValue(f"quality is invalid: {model.name} has {' and '.join(model.qualities)}.", param="quality")


def _check_user(user: str | None) -> None:
    if user is not None and len(user) not in USER_ID_LENGTHS:
        raise InvalidValue(
            f"user_id is invalid: it has to have {USER_ID_LENGTHS.start} to {USER_ID_LENGTHS.stop - 1} characters.",
            param="user_id",
        )
