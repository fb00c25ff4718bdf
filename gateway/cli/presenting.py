"""Projects and keys as people and programs read them."""

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import rich_click as click

from gateway.domain.keys import StoredKey
from gateway.domain.limits import Limit
from gateway.domain.projects import Project
from gateway.domain.quota import Limits
from gateway.domain.terms import money_text

_GAP = 2


def limit_facts(limits: Limits) -> dict[str, Any]:
    """Give every limit; money is a text, so that no program rounds it."""
    facts: dict[str, Any] = {limit.value: limits.value(limit) for limit in Limit}
    if limits.spend_per_month is not None:
        facts["spend_per_month"] = money_text(limits.spend_per_month)
    return {**facts, "shadow": limits.shadow}


def project_facts(project: Project) -> dict[str, Any]:
    """Give all there is to know about a project."""
    return {
        "id": project.id,
        "name": project.name,
        "created_at": project.created_at,
        "archived_at": project.archived_at,
        "weight": project.weight,
        "markup": f"{project.markup.normalize():f}",
        "limits": limit_facts(project.limits),
        "models": project.models,
    }


def key_facts(key: StoredKey, now: datetime, secret: str | None = None) -> dict[str, Any]:
    """Give all there is to know about a key; its secret only when it has just been made."""
    return {
        "id": key.id,
        **({"key": secret} if secret else {}),
        "name": key.name,
        "project": key.project.name,
        "project_id": key.project.id,
        "redacted": key.redacted,
        "state": key.state(now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "disabled_at": key.disabled_at,
        "last_used_at": key.last_used_at,
        "old_secret_until": key.previous_until,
        "limits": limit_facts(key.limits),
        "models": key.models,
        "ips": [str(network) for network in key.ips],
        "cache": key.cache_scope,
        "unwatermarked": key.unwatermarked_allowed,
        "metadata": key.metadata,
    }


def print_json(facts: object) -> None:
    """Write for programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(facts)).decode())


def print_facts(facts: dict[str, Any]) -> None:
    """Write one thing for people; what is not set is left out."""
    flat = {**facts, **facts["limits"]}
    del flat["limits"]
    shown = {name: value for name, value in flat.items() if not _is_unset(value)}
    print_table([(name.replace("_", " "), _said(value)) for name, value in shown.items()])


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Write columns as wide as they have to be; Chinese characters take two places."""
    widths = [max(map(_width, column)) + _GAP for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("".join(padded).rstrip())


def moment(at: datetime | None) -> str:
    """Write a time."""
    return at.strftime("%Y-%m-%d %H:%M UTC") if at else "never"


def limits_said(limits: Limits) -> str:
    """Write the limits that are set, in few words."""
    said = [f"{name}={value}" for name, value in limit_facts(limits).items() if value is not None and name != "shadow"]
    return ", ".join(said + ["shadow"] * limits.shadow) or "none"


def _is_unset(value: object) -> bool:
    """Tell what says nothing; a limit of 0 says a lot."""
    return value is None or value is False or value in ((), [], {})


def _said(value: object) -> str:
    match value:
        case datetime():
            return moment(value)
        case tuple() | list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{name}={text}" for name, text in value.items())
        case True:
            return "yes"
        case _:
            return str(value)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
