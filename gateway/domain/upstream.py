"""The upstream's accounts, and what each of its failures means: one table (glm-image-api.md section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256

from gateway.domain.errors import (
    AccountUnusable,
    ContentRefused,
    GatewayError,
    ModelNotFound,
    Moderation,
    OutcomeUnknown,
    TextTooLong,
    UpstreamBroken,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of the upstream's, or one key of it: those with the same `account` share its slots.

    `concurrency` is the number of calls of one model that it lets be in flight at once, `concurrencies` the exceptions
    by model. `models` None: all. The queue prefers accounts by `weight`. `fingerprint` stands for the key and where it
    is used. `costs` are millionths of `currency` a picture, by model; a model without one costs the catalog's price.
    """

    name: str
    account: str = ""
    concurrency: int = 1
    concurrencies: Mapping[str, int] = field(default_factory=dict, hash=False)
    models: frozenset[str] | None = None
    weight: int = 1
    fingerprint: str = ""
    costs: Mapping[str, int] = field(default_factory=dict, hash=False)
    currency: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "account", self.account or self.name)

    def serves(self, model: str) -> bool:
        """Tell whether the account makes pictures of a model."""
        return self.models is None or model in self.models

    def limit(self, model: str) -> int:
        """Give the number of calls of a model that may be in flight at once; 0 when it does not serve it."""
        return self.concurrencies.get(model, self.concurrency) if self.serves(model) else 0


def fingerprint(api_key: str, base_url: str) -> str:
    """Give 16 hex digits that change when the key or where it is used does."""
    return sha256(f"{base_url.rstrip('/')}\0{api_key}".encode()).hexdigest()[:16]


class Fault(Enum):
    """What an upstream failure is, whatever its code."""

    INTERNAL = auto()
    OVERLOADED = auto()
    RATE = auto()
    ACCOUNT = auto()
    CONTENT = auto()
    PROMPT_TOO_LONG = auto()
    MODEL = auto()
    REQUEST = auto()
    CUT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailure:
    """A call that the upstream refused or did not finish. `detail` is the upstream's own text: for the log only."""

    fault: Fault
    code: str
    status: int
    detail: str = ""
    moderation: Moderation = field(default_factory=Moderation)


_CODES: dict[Fault, tuple[str, ...]] = {
    Fault.INTERNAL: ("500", "1100", "1200", "1230", "1231", "1234"),
    Fault.OVERLOADED: ("1305", "1312"),
    Fault.RATE: ("1302", "1303"),
    Fault.ACCOUNT: (
        *("401", "1000", "1001", "1002", "1003", "1004", "1005"),
        *("1110", "1111", "1112", "1113", "1120", "1121", "1220", "1221", "1222"),
        *("1304", "1308", "1309", "1310", "1311", "1313", "1314", "1315"),
        *("1316", "1317", "1318", "1319", "1320", "1321"),
    ),
    Fault.CONTENT: ("1300", "1301"),
    Fault.PROMPT_TOO_LONG: ("1261",),
    Fault.MODEL: ("1211",),
    Fault.REQUEST: ("1210", "1212", "1213", "1214", "1215"),
}
FAULT_OF_CODE = {code: fault for fault, codes in _CODES.items() for code in codes}

# A code that no table knows is judged by its status; the official table has moved before.
_FAULT_OF_STATUS = {
    400: Fault.REQUEST,
    401: Fault.ACCOUNT,
    403: Fault.ACCOUNT,
    404: Fault.ACCOUNT,
    429: Fault.RATE,
    434: Fault.ACCOUNT,
}

# A success that cannot be read, and a proxy that lost the answer, may both hide a picture that was made.
_MAY_BE_PAID = frozenset({200, 502, 503, 504})

# Seconds to wait before each further try of one call that made nothing.
RETRY_WAITS: dict[Fault, tuple[float, ...]] = {
    Fault.INTERNAL: (0.5, 1.0),
    Fault.OVERLOADED: (1.0, 2.0, 4.0),
    Fault.RATE: (0.5, 1.0, 2.0, 4.0),
}


def fault_of(code: str, status: int) -> Fault:
    """Classify by code first, by status second; a 5xx without a known code may hide a paid picture."""
    if code in FAULT_OF_CODE:
        return FAULT_OF_CODE[code]
    if status in _FAULT_OF_STATUS:
        return _FAULT_OF_STATUS[status]
    if 400 <= status < 500:  # noqa: PLR2004 - the class of client errors
        return Fault.REQUEST
    return Fault.CUT if not code or status in _MAY_BE_PAID else Fault.INTERNAL


def outward(failure: CallFailure) -> GatewayError:
    """Say a failure in the gateway's own words (design.md section 6, "Upstream failures outward")."""
    match failure.fault:
        case Fault.CONTENT:
            return ContentRefused(failure.moderation)
        case Fault.PROMPT_TOO_LONG:
            return TextTooLong("Invalid 'prompt': string too long for the model. Shorten it.", param="prompt")
        case Fault.MODEL:
            return ModelNotFound("The model does not exist upstream or the account has no access to it.", param="model")
        case Fault.REQUEST:
            return UpstreamRejected(
                "The upstream refused the request's parameters. Check prompt, size and quality.",
            )
        case Fault.CUT:
            return OutcomeUnknown(
                "The upstream's answer was cut off after the request was sent, so the picture may have been made. "
                "The gateway does not repeat such a call by itself; send it again if you want another try.",
            )
        case _:
            return _FAILED[failure.fault](_SENTENCES[failure.fault])


_FAILED = {
    Fault.INTERNAL: UpstreamBroken,
    Fault.OVERLOADED: UpstreamOverloaded,
    Fault.RATE: UpstreamRateLimited,
    Fault.ACCOUNT: AccountUnusable,
}
_SENTENCES = {
    Fault.INTERNAL: "The upstream says that it failed to make the picture, also when asked again. Try again later.",
    Fault.OVERLOADED: "The upstream is overloaded. Nothing was charged; try again after a short wait.",
    Fault.RATE: "The upstream account's rate limit is reached. Nothing was charged; try again after a short wait.",
    Fault.ACCOUNT: "No upstream account can make the picture now. Nothing was charged; tell the gateway's operator.",
}
