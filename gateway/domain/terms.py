"""What an operator writes about a key or a project -> values: names, limits, money, lifetimes, lists, metadata."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar, get_args

from gateway.domain.addresses import Networks, parse_networks
from gateway.domain.catalog import Catalog
from gateway.domain.errors import InvalidValue, ModelNotFound
from gateway.domain.keys import CacheScope, StoredKey
from gateway.domain.limits import Limit
from gateway.domain.projects import NO_MARKUP, Project
from gateway.domain.quota import MICROS

REMEMBERED_AMOUNTS = 1024
LONGEST_NAME = 100
MOST_METADATA, LONGEST_METADATA_NAME, LONGEST_METADATA_VALUE = 16, 64, 512  # as OpenAI's objects have
# Redis counts in scripts, whose numbers are doubles: exact up to 2**53, with room for sums.
LARGEST = 10**15
LARGEST_WEIGHT = 100
LARGEST_MARKUP = 100
LONGEST_LIFETIME = timedelta(days=36500)
NONE = "none"  # clears a limit, a list, a lifetime or metadata
LIMIT_FIELDS = frozenset({*(limit.value for limit in Limit), "shadow"})

# Named fields of a Project or StoredKey, or of its Limits, with new values; what is not named stays.
Changes = Mapping[str, Any]
Subject = TypeVar("Subject", Project, StoredKey)

_COUNT = re.compile(r"[0-9]{1,16}")
_MONEY = re.compile(r"([0-9]{1,16})(?:\.([0-9]+))?")
_DECIMALS = 6
_LIFETIME = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def with_changes(subject: Subject, changes: Changes) -> Subject:
    """Give a project or key with the named fields changed."""
    limits = {name: value for name, value in changes.items() if name in LIMIT_FIELDS}
    others = {name: value for name, value in changes.items() if name not in LIMIT_FIELDS}
    return replace(subject, limits=replace(subject.limits, **limits), **others)


def parse_terms(words: Mapping[str, str | bool | tuple[str, ...] | None], catalog: Catalog) -> dict[str, Any]:
    """Read what was given (None and () were not), by field; `expires_in` is a lifetime and not yet a moment.

    Raises:
        InvalidValue: the first value that cannot be read, in one sentence.
    """
    given = {name: word for name, word in words.items() if word not in {None, ()}}
    return {name: word if isinstance(word, bool) else _value(name, word, catalog) for name, word in given.items()}


def parse_name(kind: str, name: str) -> str:
    """Check the name of a key or project."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidValue(f"A {kind} needs a name of 1 to {LONGEST_NAME} printable characters.", param="name")
    return name


def parse_limit(limit: Limit, word: str) -> int | None:
    """Read one limit: a whole number, or an amount of money as millionths; None for `none`."""
    if word == NONE:
        return None
    value = parse_money(word) if limit is Limit.SPEND_PER_MONTH else _count(limit, word)
    if value > LARGEST:
        raise InvalidValue(f"{_said(limit)}: {word} is too large to be a limit; use 'none'.", param=limit.value)
    return value


def parse_money(word: str) -> int:
    """Read an exact decimal amount as millionths."""
    match = _MONEY.fullmatch(word)
    if match is None:
        raise InvalidValue(f"'{word[:100]}' is no amount of money like 100 or 12.50.", param="spend_per_month")
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > _DECIMALS:
        raise InvalidValue(
            f"'{word[:100]}' has more than {_DECIMALS} decimals; the smallest amount is 0.000001.",
            param="spend_per_month",
        )
    return int(whole) * MICROS + int(fraction.ljust(_DECIMALS, "0"))


def exact_money(amount: Decimal) -> int:
    """Give an amount as millionths; InvalidValue for what is negative, too large or finer than a millionth."""
    # The exponent first: written out, 1E-999999999 has as many digits.
    fits = amount.is_finite() and 0 <= amount <= LARGEST // MICROS
    if not fits or int(amount.as_tuple().exponent) < -_DECIMALS:
        raise InvalidValue(
            f"'spend_per_month' is an amount of money from 0 to {LARGEST // MICROS} with at most {_DECIMALS} decimals, "
            "or null.",
            param="spend_per_month",
        )
    return int(amount.scaleb(_DECIMALS)) if amount else 0


@lru_cache(REMEMBERED_AMOUNTS)
def money_text(millionths: int) -> str:
    """Write an amount with at least two decimals and no needless ones beyond."""
    amount = Decimal(millionths).scaleb(-_DECIMALS)
    return f"{amount:.2f}" if millionths % 10_000 == 0 else f"{amount.normalize():f}"


def parse_lifetime(word: str, param: str = "expires") -> timedelta:
    """Read `30d`, `12h`, `90m` or `45s`; at least a second, at most a century."""
    match = _LIFETIME.fullmatch(word)
    lifetime = _capped(int(match[1]), _UNITS[match[2]]) if match else timedelta(0)
    if not lifetime:
        raise InvalidValue(
            f"'{word[:100]}' is no time like 30d, 12h or 90m, of at most {LONGEST_LIFETIME.days} days.", param=param
        )
    return lifetime


def parse_overlap(word: str) -> timedelta:
    """Read for how long an old secret lives on; 0 ends it at once."""
    return timedelta(0) if word == "0" else parse_lifetime(word, "overlap")


def parse_weight(word: str) -> int:
    """Read a project's share of the upstream's slots; 1 for `none`."""
    weight = 1 if word == NONE else int(word) if _COUNT.fullmatch(word) else 0
    if not 1 <= weight <= LARGEST_WEIGHT:
        raise InvalidValue(
            f"'{word[:100]}' is no weight; use a whole number from 1 to {LARGEST_WEIGHT}.", param="weight"
        )
    return weight


def parse_markup(word: str) -> Decimal:
    """Read a project's markup; 1 for `none`."""
    match = _MONEY.fullmatch(word)
    markup = NO_MARKUP if word == NONE else Decimal(word) if match and len(match[2] or "") <= _DECIMALS else None
    if markup is None or markup > LARGEST_MARKUP:
        raise InvalidValue(
            f"'{word[:100]}' is no markup; use a number from 0 to {LARGEST_MARKUP} with at most {_DECIMALS} decimals.",
            param="markup",
        )
    return markup


def parse_models(word: str, catalog: Catalog) -> tuple[str, ...]:
    """Read a comma list of models; an alias stands for its model. InvalidValue for one that the catalog lacks."""
    return known_models(_listed(word), catalog, "models")


def known_models(names: Sequence[str], catalog: Catalog, param: str) -> tuple[str, ...]:
    """Give the models of names and aliases, each once. InvalidValue as above."""
    try:
        found = [catalog.find(name).name for name in names]
    except ModelNotFound as failure:
        raise InvalidValue(failure.message, param=param) from None
    return tuple(dict.fromkeys(found))


def parse_ips(word: str) -> Networks:
    """Read a comma list of addresses and networks."""
    return parse_networks(_listed(word), "ips")


def parse_cache_scope(word: str) -> CacheScope | None:
    """Read who shares remembered pictures; None leaves it to the installation."""
    scopes: tuple[CacheScope, ...] = get_args(CacheScope)
    for scope in scopes:
        if word == scope:
            return scope
    if word == NONE:
        return None
    raise InvalidValue(f"'{word[:100]}' is no cache scope: use {', '.join(scopes)} or none.", param="cache")


def parse_metadata(words: Sequence[str]) -> dict[str, str]:
    """Read pairs `name=value`, of which the first = parts the two; a single `none` is no pair at all."""
    if list(words) == [NONE]:
        return {}
    pairs = [_pair(word) for word in words]
    metadata = dict(pairs)
    if len(pairs) > MOST_METADATA:
        raise InvalidValue(f"A key has at most {MOST_METADATA} pairs of metadata.", param="metadata")
    if len(metadata) < len(pairs):
        raise InvalidValue("A name of metadata is given twice.", param="metadata")
    return metadata


def _pair(word: str) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    fits = 0 < len(name) <= LONGEST_METADATA_NAME and len(value) <= LONGEST_METADATA_VALUE
    if not separator or not fits or not word.isprintable():
        raise InvalidValue(
            f"{word[:40]!r} is no metadata: use name=value, with 1 to {LONGEST_METADATA_NAME} printable characters "
            f"for the name and at most {LONGEST_METADATA_VALUE} for the value.",
            param="metadata",
        )
    return name, value


def _value(name: str, word: Any, catalog: Catalog) -> object:  # noqa: ANN401 - a text, or all texts of one option
    parsers: dict[str, Callable[[Any], object]] = {
        "metadata": parse_metadata,
        "expires_in": lambda text: None if text == NONE else parse_lifetime(text),
        "models": lambda text: parse_models(text, catalog),
        "ips": parse_ips,
        "cache_scope": parse_cache_scope,
        "weight": parse_weight,
        "markup": parse_markup,
    }
    return parsers[name](word) if name in parsers else parse_limit(Limit(name), word)


def _count(limit: Limit, word: str) -> int:
    if _COUNT.fullmatch(word) is None:
        raise InvalidValue(
            f"{_said(limit)}: '{word[:100]}' is no limit; use a whole number from 0, or 'none'.", param=limit.value
        )
    return int(word)


def _capped(number: int, unit: str) -> timedelta:
    """Give a time, or nothing when it is too long to be one."""
    one = timedelta(**{unit: 1})
    return number * one if number <= LONGEST_LIFETIME // one else timedelta(0)


def _listed(word: str) -> list[str]:
    """Split a comma list; `none` is the empty one, and nothing else is."""
    if word == NONE:
        return []
    return [part.strip() for part in word.split(",")]


def _said(limit: Limit) -> str:
    return limit.value.replace("_", " ").capitalize()
