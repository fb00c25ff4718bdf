"""A call of reserve.lua: its keys and arguments, in the order of its header."""

from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import chain

import msgspec

from gateway.adapters.redis.held import Held
from gateway.adapters.redis.names import Names
from gateway.adapters.redis.plans import Place, encode_sought
from gateway.adapters.redis.replies import LIMITS
from gateway.adapters.redis.settling import common_keys
from gateway.domain.quota import Calendar, Claim, Limits
from gateway.domain.usage import UsageEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """By what rules one replica, `owner`, reserves.

    Its leases last `lease` seconds, a reserve is given up after `deadline` seconds. `wait_replicas` of the store have
    to have a settlement. In the line of a project `most_waiting` jobs may wait.
    """

    owner: str
    lease: float
    deadline: float
    wait_replicas: int = 0
    most_waiting: int = 1000


REMEMBERED_KEYS = 1024  # API keys whose names in the store are not put together with each request: that takes 15 us
REMEMBERED_LIMITS = 1024  # how many sets of limits are kept in the form of arguments
# Of the line: they depend on what is remembered.
FOUND_LATER = ("outcome", "cost", "cost_uncertain", "cache", "status", "error_code")


def _line_without(*names: str) -> type[msgspec.Struct]:
    """Give a form of UsageEvent without some of its fields; C copies and writes it in 2 us, Python in 12."""
    columns = [(one.name, one.type) for one in fields(UsageEvent) if one.name not in names]
    return msgspec.defstruct("Line", columns)


_WholeLine, _Line = _line_without("time"), _line_without("time", *FOUND_LATER)


def reserve_keys(claim: Claim, place: Place, owner: str, calendar: Calendar) -> list[str]:
    """Name the keys; all lie in the slot of the claim's project."""
    here, names, key_id = place.at_home(), place.home, claim.abandoned.key_id
    sought, subjects = claim.sought, tuple(subject.name for subject in claim.subjects)
    periods = tuple(period.name for period in (*calendar.days, *calendar.months))
    return [
        *common_keys(claim, place, owner),
        names.of("epoch"),
        here.results,
        here.flights,
        here.handed(key_id),
        names.of("idempotency", key_id, sought.idempotency_key if sought else ""),
        names.of("bodies", key_id, sought.body if sought else ""),
        *_lasting_keys(place.home.shard, claim.project_id, subjects, periods),
    ]


@lru_cache(REMEMBERED_KEYS)
def _lasting_keys(shard: int, project_id: str, subjects: tuple[str, ...], periods: tuple[str, ...]) -> tuple[str, ...]:
    """Name what all requests of an API key have in common for a day."""
    names = Names(shard)
    lasting = [names.of("events"), names.of("counted"), names.of("waiting", project_id)]
    return (*lasting, *chain(*(names.windows(subject, periods[:2], periods[2:]) for subject in subjects)))


def reserve_arguments(
    claim: Claim, place: Place, rules: Rules, calendar: Calendar, found: bytes, lost: Held | None
) -> list[object]:
    """Give the arguments. `found` is what claim.lua found, `lost` what is taken again."""
    days, months, event = calendar.days, calendar.months, claim.abandoned
    arguments: list[object] = [
        *(claim.request_id, rules.owner, round(rules.lease * 1000), claim.pictures, claim.price, _record(claim)),
        *(days[0].starts, days[0].ends, days[1].ends, months[0].starts, months[0].ends, months[1].ends),
        *(days[0].name, days[1].name, months[0].name, months[1].name, lost.first if lost else ""),
        *(encode_sought(claim, place), found, int(event.time.timestamp()), event.key_id, place.home.shard, event.cost),
        *(msgspec.json.encode(lost.notes) if lost else b"", rules.most_waiting),
    ]
    for subject in claim.subjects:
        arguments += _limits(subject.limits)
    return arguments


@lru_cache(REMEMBERED_LIMITS)
def _limits(limits: Limits) -> tuple[int, ...]:
    values = (limits.value(limit) for limit in LIMITS)
    return (*(-1 if value is None else value for value in values), int(limits.shadow))


def _record(claim: Claim) -> bytes:
    """Write the line that stands if the owner dies, without what reserve.lua puts into it."""
    form = _Line if claim.sought else _WholeLine
    return msgspec.json.encode(msgspec.convert(claim.abandoned, form, from_attributes=True))
