"""The upstream's accounts, and what each of its failures means: one table (glm-image-api.md section 3)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
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
    UpstreamUnreachable,
)
from gateway.domain.slots import Park

CHINA = timezone(timedelta(hours=8))  # without summer time since 1991
LONGEST_REST = timedelta(days=31)  # no plan's limit lasts longer than a month
_TIME = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of the upstream's, or one key of it: those with the same `account` share its slots.

    `concurrency` is the number of calls of one model that it lets be in flight at once, `concurrencies` the exceptions
    by model. `models` None: all. The queue prefers accounts by `weight`. `fingerprint` stands for the key and where it
    is used. `costs` are millionths of `currency` a picture, by model.
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
    UNREACHABLE = auto()  # nothing was sent
    CUT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailure:
    """A call that the upstream refused, did not finish, or was never sent.

    `detail` is the upstream's own text: for the log only. `code` is empty and `status` 0 where it did not answer.
    """

    fault: Fault
    code: str
    status: int
    detail: str = ""
    moderation: Moderation = field(default_factory=Moderation)


class Rest(Enum):
    """How long an account is left alone that cannot make pictures."""

    MOMENT = 30
    MINUTES = 300
    HOUR = 3_600
    DAY = 86_400
    MIDNIGHT = -1  # of China, where daily limits end
    NAMED = -2  # the upstream's text says when; an hour where it does not
    CHANGED = -3  # until its key is another one


@dataclass(frozen=True, slots=True)
class Rule:
    """What some codes mean, and what is done about them.

    `waits`: it is tried again on the same account after so many seconds each. `elsewhere`: on another account, or
    later. `rest`: the account is left alone, or with `whole` false its key only, and another one is tried. `rest` with
    `waits`: so where there is another one, and where there is none, again on the same. None of them: never.
    """

    fault: Fault
    codes: tuple[str, ...]
    waits: tuple[float, ...] = ()
    elsewhere: bool = False
    rest: Rest | None = None
    whole: bool = True


RULES = (
    Rule(Fault.INTERNAL, ("500", "1100", "1200", "1230", "1231", "1234"), waits=(0.5, 1.0)),
    Rule(Fault.OVERLOADED, ("1305", "1312"), waits=(1.0, 2.0, 4.0)),
    Rule(Fault.RATE, ("1302", "1303"), elsewhere=True),
    Rule(Fault.UNREACHABLE, (), waits=(0.5, 1.0), rest=Rest.MOMENT, whole=False),  # a key's place, not its account
    Rule(Fault.ACCOUNT, ("401", "1000", "1001", "1002", "1003", "1004", "1005"), rest=Rest.CHANGED, whole=False),
    Rule(Fault.ACCOUNT, ("1120",), rest=Rest.MINUTES),
    Rule(Fault.ACCOUNT, ("1113", "1221", "1222"), rest=Rest.HOUR),
    Rule(Fault.ACCOUNT, ("1110", "1111", "1112", "1121", "1309", "1311", "1313", "1314", "1315"), rest=Rest.DAY),
    Rule(Fault.ACCOUNT, ("1220",), rest=Rest.DAY, whole=False),
    Rule(Fault.ACCOUNT, ("1304",), rest=Rest.MIDNIGHT),
    Rule(Fault.ACCOUNT, ("1308", "1310", "1316", "1317", "1318", "1319", "1320", "1321"), rest=Rest.NAMED),
    Rule(Fault.CONTENT, ("1300", "1301")),
    Rule(Fault.PROMPT_TOO_LONG, ("1261",)),
    Rule(Fault.MODEL, ("1211",)),
    Rule(Fault.REQUEST, ("1210", "1212", "1213", "1214", "1215")),
)
_RULE_OF_CODE = {code: rule for rule in RULES for code in rule.codes}
FAULT_OF_CODE = {code: rule.fault for code, rule in _RULE_OF_CODE.items()}
# Where no rule knows the code; what no account is to blame for is not in it.
_RULE_OF_FAULT = {
    **{rule.fault: rule for rule in RULES if not rule.codes},
    Fault.INTERNAL: _RULE_OF_CODE["500"],
    Fault.RATE: _RULE_OF_CODE["1302"],
    Fault.ACCOUNT: Rule(Fault.ACCOUNT, (), rest=Rest.HOUR),
}
_UNAUTHORIZED = 401

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


def fault_of(code: str, status: int) -> Fault:
    """Classify by code first, by status second; a 5xx without a known code may hide a paid picture."""
    if code in FAULT_OF_CODE:
        return FAULT_OF_CODE[code]
    if status in _FAULT_OF_STATUS:
        return _FAULT_OF_STATUS[status]
    if 400 <= status < 500:  # noqa: PLR2004 - the class of client errors
        return Fault.REQUEST
    return Fault.CUT if not code or status in _MAY_BE_PAID else Fault.INTERNAL


def rule_of(failure: CallFailure) -> Rule:
    """Say what is done about a failure; one that no rule covers is never tried again."""
    if failure.code in _RULE_OF_CODE:
        return _RULE_OF_CODE[failure.code]
    if failure.fault is Fault.ACCOUNT and failure.status == _UNAUTHORIZED:
        return _RULE_OF_CODE["401"]
    return _RULE_OF_FAULT.get(failure.fault, Rule(failure.fault, ()))


def park_of(failure: CallFailure, seat: str, now: datetime) -> Park | None:
    """Say how long the seat's key, or its account, is left alone after a failure; None when it is not."""
    rule = rule_of(failure)
    if rule.rest is None:
        return None
    code = failure.code or str(failure.status or failure.fault.name.lower())
    until = _until(rule.rest, failure.detail, now)
    return Park(seat=seat, code=code, until=until, whole=rule.whole, lenient=bool(rule.waits))


def _until(rest: Rest, detail: str, now: datetime) -> int:
    """Give the end of a rest in ms since 1970; 0 for one that time does not end."""
    if rest is Rest.CHANGED:
        return 0
    if rest is Rest.MIDNIGHT:
        tomorrow = now.astimezone(CHINA) + timedelta(days=1)
        end = tomorrow.replace(hour=0, minute=0, second=0, microsecond=0)
    elif rest is Rest.NAMED:
        end = _named(detail, now) or now + timedelta(seconds=Rest.HOUR.value)
    else:
        end = now + timedelta(seconds=rest.value)
    return round(end.timestamp() * 1000)


def _named(detail: str, now: datetime) -> datetime | None:
    """Read the time at which a plan's limit ends; the texts give it in China's (glm-image-api.md section 3)."""
    found = _TIME.search(detail)
    try:
        end = datetime.fromisoformat(found[0]).replace(tzinfo=CHINA) if found else None
    except ValueError:
        return None
    return min(end, now + LONGEST_REST) if end is not None and now < end else None


def unusable(parks: Iterable[Park]) -> AccountUnusable:
    """Say why no account can make a picture, in the gateway's own words."""
    rules = [rule_of(CallFailure(fault=Fault.ACCOUNT, code=park.code, status=0)) for park in parks if not park.lenient]
    reasons = sorted({_WHY[rule.rest] for rule in rules})
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return AccountUnusable(
        f"No upstream account can make the picture now{why}. Nothing was charged; tell the gateway's operator.",
    )


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
    Fault.UNREACHABLE: UpstreamUnreachable,
}
_WHY = {
    Rest.MINUTES: "an account cannot be reached upstream for a moment",
    Rest.HOUR: "an account has no balance left or is refused by the upstream",
    Rest.DAY: "an account is locked, or its plan does not serve the model",
    Rest.MIDNIGHT: "an account's calls of this day are used up",
    Rest.NAMED: "an account's plan is used up for now",
    Rest.CHANGED: "an account's key is not valid",
    None: "an account was parked",
}
_SENTENCES = {
    Fault.INTERNAL: "The upstream says that it failed to make the picture, also when asked again. Try again later.",
    Fault.OVERLOADED: "The upstream is overloaded. Nothing was charged; try again after a short wait.",
    Fault.RATE: "The upstream account's rate limit is reached. Nothing was charged; try again after a short wait.",
    Fault.ACCOUNT: "No upstream account can make the picture now. Nothing was charged; tell the gateway's operator.",
    Fault.UNREACHABLE: "The upstream cannot be reached. Nothing was charged; try again after a short wait.",
}
