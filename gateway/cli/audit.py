"""glm-gateway audit."""

from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.options import config_option, text_option
from gateway.cli.presenting import print_json, print_table
from gateway.cli.terms import administer
from gateway.domain.audit import AuditEntry, Facts
from gateway.service.administration import Administration

HEADING = ("time", "type", "who", "from", "project", "resource", "change")


@click.command()
@config_option
@text_option("--since", default="7d", show_default=True, help="A time back (30m, 12h, 7d), or a date in UTC.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def audit(config: Path | None, since: str, form: str) -> None:
    """List who changed what, from where, and how it was before and after; the oldest first."""

    async def work(administration: Administration) -> None:
        entries = await administration.audit.since(since)
        if form == "json":
            print_json([_facts(entry) for entry in entries])
        else:
            print_table([HEADING, *map(_row, entries)])

    administer(config, work)


def _facts(entry: AuditEntry) -> dict[str, Any]:
    event = msgspec.to_builtins(entry.event)
    return {"number": entry.number, "time": entry.time, "actor": entry.actor, **event}


def _row(entry: AuditEntry) -> tuple[str, ...]:
    event, actor = entry.event, entry.actor
    who = actor.name if actor.kind != "admin_key" else f"{actor.name} ({actor.id})"
    time = entry.time.strftime("%Y-%m-%d %H:%M:%S UTC")
    names = [*event.before, *(name for name in event.after if name not in event.before)]
    change = ", ".join(_said(name, event.before, event.after) for name in names)
    return (time, event.type, who, actor.address or "-", event.project_name or "-", event.resource_id, change or "-")


def _said(name: str, before: Facts, after: Facts) -> str:
    """Write `name=new`, or `name=old->new` where it was something before."""
    old = f"{_text(before[name])}->" if name in before else ""
    return f"{name}={old}{_text(after.get(name))}"


def _text(value: object) -> str:
    """Write in JSON's words, but texts without quotes; all of them are printable."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
