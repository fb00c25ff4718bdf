"""Reads TOML files, and finds those that come with the gateway."""

import tomllib
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from gateway.domain.errors import Misconfigured


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a settings file; an unknown name in it is an error that says where."""


def builtin(name: str) -> Path:
    """Find a file of config/: inside the wheel, or beside the package in a checkout."""
    packaged = Path(str(files("gateway"))) / "config" / name
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "config" / name


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file; Misconfigured when it is missing or malformed."""
    try:
        return tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as failure:
        raise Misconfigured(f"The configuration file {path} cannot be read: {failure.strerror}.") from failure
    except ValueError as failure:
        raise Misconfigured(f"The configuration file {path} is not TOML: {failure}.") from failure
