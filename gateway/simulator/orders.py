"""What a valid call orders: every check on a request's fields, in the service's order (glm-image-api.md section 3)."""

from dataclasses import dataclass

from gateway.simulator.calls import Call
from gateway.simulator.errors import Refusal, invalid, missing
from gateway.simulator.faults import BadSize, DuplicateRequestId, LongPrompt, UnsignedWatermark, WrongModel
from gateway.simulator.models import Model, find_model
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.texts import MODEL_CODE

_PROMPT_LIMIT = 1000  # code points (sections 0 and 7)
_USER_ID_LENGTHS = range(6, 129)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The picture to be made. Fields outside the documented six are ignored, as the chat endpoint does (1.4)."""

    model: str
    prompt: str
    size: str
    watermark: bool
    user_id: str | None


def read_order(call: Call, options: SimulatorOptions) -> Order:
    """The order in a call's body: required fields, then the model, then the other parameters; raises what is wrong."""
    fields = _read_fields(call.body)
    model = _read_model(call, str(fields["model"]), options)
    _check_prompt(call, options)
    size = _read_size(call, fields.get("size"), model, options)
    _check_quality(fields.get("quality"), model, options)
    watermark = _read_watermark(call, fields.get("watermark_enabled"), options)
    user_id = _read_user_id(fields.get("user_id"))
    if call.take(DuplicateRequestId):
        raise Refusal("1231")
    return Order(model=model.name, prompt=call.prompt, size=size, watermark=watermark, user_id=user_id)


def _read_fields(body: object) -> dict[str, object]:
    """The body as an object that has what is required; null is the same as absent."""
    if not isinstance(body, dict):
        raise Refusal("1210")
    fields = {name: value for name, value in body.items() if value is not None}
    for name in ("model", "prompt"):
        if fields.get(name, "") == "":
            raise missing(name)
        if not isinstance(fields[name], str):
            raise invalid(name)
    return fields


def _read_model(call: Call, name: str, options: SimulatorOptions) -> Model:
    fault = call.take(WrongModel)
    model = find_model(name, options.language, asynchronous=call.asynchronous)
    if model is not None and fault is None:
        return model
    code = (fault.code if fault else None) or ("1211" if options.language == "zh" else "1214")
    raise Refusal(code, message=MODEL_CODE if code == "1214" else None)


def _check_prompt(call: Call, options: SimulatorOptions) -> None:
    fault = call.take(LongPrompt, lambda long: len(call.prompt) > long.limit)
    code = fault.code if fault else options.long_prompt
    if fault or (len(call.prompt) > _PROMPT_LIMIT and code != "accept"):
        raise Refusal(code, places={"field": "prompt"})


def _read_size(call: Call, size: object, model: Model, options: SimulatorOptions) -> str:
    fault = call.take(BadSize)
    asked = model.default_size if size is None else size
    if not fault and isinstance(asked, str) and model.allows(asked, options.smallest_side):
        return asked
    if (fault.mode if fault else options.bad_size) == "error":
        raise invalid("size")
    return model.default_size


def _check_quality(quality: object, model: Model, options: SimulatorOptions) -> None:
    if quality not in (None, "hd", "standard"):
        raise invalid("quality")
    if quality == "standard" and model.hd_only and options.standard_quality == "error":
        raise invalid("quality")


def _read_watermark(call: Call, wanted: object, options: SimulatorOptions) -> bool:
    if options.language == "en":  # z.ai's schema does not have the field (section 1.2)
        return True
    if wanted is not None and not isinstance(wanted, bool):
        raise invalid("watermark_enabled")
    if wanted is not False:
        return True
    fault = call.take(UnsignedWatermark)
    choice = fault.mode if fault else options.unsigned_watermark
    if choice == "error":
        raise Refusal("1210")
    return choice == "ignore"


def _read_user_id(user_id: object) -> str | None:
    if user_id is None:
        return None
    if not isinstance(user_id, str) or len(user_id) not in _USER_ID_LENGTHS:
        raise invalid("user_id")
    return user_id
