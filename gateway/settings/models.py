"""Reads config/models.toml."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from gateway.domain.catalog import Alias, Catalog, Model
from gateway.domain.errors import Misconfigured
from gateway.settings.files import Section, builtin, read_toml


def load_catalog(file: str | Path = "") -> Catalog:
    """Read the models and their aliases: those that come with the gateway, or of models.file.

    Raises:
        Misconfigured: the file is missing or malformed, or its models contradict each other.
    """
    path = Path(file).expanduser() if file else builtin("models.toml")
    raw = read_toml(path)
    try:
        read = msgspec.convert(raw, _CatalogFile, strict=False)
        _refuse_unknown(raw, models=Model, aliases=Alias)
        return Catalog(models=read.models, aliases=read.aliases)
    except ValueError as failure:
        raise Misconfigured(f"{path}: {failure}.") from failure


class _CatalogFile(Section, frozen=True, kw_only=True):
    models: tuple[Model, ...] = ()
    aliases: tuple[Alias, ...] = ()


def _refuse_unknown(raw: dict[str, Any], **kinds: type) -> None:
    """Find names that the catalog's values do not have: msgspec looks for them in its own structs only."""
    for table, kind in kinds.items():
        known = {field.name for field in dataclasses.fields(kind)}
        for number, entry in enumerate(raw.get(table, [])):
            for name in set(entry) - known:
                raise ValueError(f"unknown name {name!r} - at `$.{table}[{number}]`")
