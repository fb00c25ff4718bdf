"""Every setting as an operator reads it: its value, with secrets masked, and what gave it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from gateway.domain.secret import Secret
from gateway.settings import Settings, read
from gateway.settings.files import Section
from gateway.settings.sources import Place, gather

BUILT_IN = "built-in"
MASK = "***"
Value = str | int | float | bool | list[str] | dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A setting as `section.name`, an account's as `upstreams.<account>.name`; of a secret only whether it is set."""

    setting: str
    value: Value
    source: str


def explain(environ: Mapping[str, str], config: Path | None) -> list[Explained]:
    """Give every setting and what gave it: built-in, a file with its path, or a variable of the environment.

    Raises:
        Misconfigured: as `load`.
    """
    gathered = gather(environ, config, Settings)
    settings = read(gathered)
    names = {str(number): upstream.name for number, upstream in enumerate(settings.upstreams)}
    return [
        Explained(setting=_named(place, names), value=_shown(value), source=_origin(place, gathered.origins, settings))
        for place, value in values(settings)
    ]


def values(section: Section, before: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Give every value of the settings with its place."""
    for field in msgspec.structs.fields(section):
        value, place = getattr(section, field.name), (*before, field.name)
        if isinstance(value, Section):
            yield from values(value, place)
        elif place == ("upstreams",):
            for number, upstream in enumerate(value):
                yield from values(upstream, (*place, str(number)))
        else:
            yield place, value


def _named(place: Place, names: Mapping[str, str]) -> str:
    """Write a place; an account goes by its name."""
    if place[0] == "upstreams":
        return f"upstreams.{names[place[1]]}.{place[2]}"
    return ".".join(place)


def _origin(place: Place, origins: Mapping[Place, str], settings: Settings) -> str:
    if place[0] == "upstreams" and place[2] == "api_key":
        path = settings.upstreams[int(place[1])].api_key_file
        if path:
            return f"file {path}"
    # A table by model is one value, which the file gave with each of its lines.
    lines = (origin for known, origin in origins.items() if known[: len(place)] == place)
    return next(lines, BUILT_IN)


def _shown(value: object) -> Value:
    match value:
        case Secret():
            return MASK if value else ""
        case Path() | Decimal():
            return str(value)
        case tuple():
            return [str(one) for one in value]
        case dict():
            return {str(name): _shown(one) for name, one in value.items()}
        case str() | int() | float() | None:
            return value
        case _:
            raise TypeError(f"a setting of type {type(value).__name__} has no form to be shown in")
