"""glm-gateway usage."""

import csv
import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import clear_failures, config_option, read_settings, text_option
from gateway.cli.presenting import print_json, print_table
from gateway.cli.running import run
from gateway.domain.reports import Group, Sums, parse_groups
from gateway.domain.terms import money_text
from gateway.service.report import UsageReport
from gateway.wiring.reports import open_reports

AMOUNTS = (
    *("requests", "images_delivered", "images_paid", "images_uncertain"),
    *("cost", "cost_currency", "price", "currency"),
)
_NAMED = {Group.PROJECT, Group.KEY}
_TO_THE_DAY = 10  # characters

Columns = tuple[str, ...]
Row = dict[str, Any]


@click.command()
@config_option
@text_option("--since", default="7d", show_default=True, help="A time back (30m, 12h, 7d), or a date in UTC.")
@text_option(
    "--group-by", default="project,key,model", show_default=True, help=f"A comma list: {', '.join(Group)} (in UTC)."
)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def usage(config: Path | None, since: str, group_by: str, form: str) -> None:
    """Sum the ledger: requests, images and money.

    Uncertain are images of generations whose end was not seen: they may have been paid, and are not in paid.
    """

    async def report(by: tuple[Group, ...]) -> None:
        async with open_reports(read_settings(config)) as ask:
            found = await ask(since, by)
        columns = tuple(name for group in by for name in _columns(group)) + AMOUNTS
        _PRINTERS[form](columns, [_row(sums, found) for sums in found.rows])

    with clear_failures():
        run(report(parse_groups(group_by)))


def _columns(group: Group) -> Columns:
    """Name the columns of a group: of projects and keys, whose names may come again, the id too."""
    return (group.value, f"{group}_id") if group in _NAMED else (group.value,)


def _row(sums: Sums, report: UsageReport) -> Row:
    """Give a line of the report; money is a text, so that no program rounds it."""
    row: Row = {}
    for group, value in sums.group.items():
        names = [report.names.get(str(value), value), value] if group in _NAMED else [_said(group, value)]
        row |= dict(zip(_columns(group), names, strict=True))
    counted = (sums.requests, sums.delivered, sums.paid, sums.uncertain)
    money = (money_text(sums.cost), sums.cost_currency, money_text(sums.price), sums.currency)
    return row | dict(zip(AMOUNTS, (*counted, *money), strict=True))


def _said(group: Group, value: str | datetime) -> str:
    text = value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
    return text[:_TO_THE_DAY] if group is Group.DAY else text


def _print_table(columns: Columns, rows: list[Row]) -> None:
    print_table([[name.replace("_", " ") for name in columns], *([str(row[name]) for name in columns] for row in rows)])


def _print_json(columns: Columns, rows: list[Row]) -> None:
    del columns
    print_json(rows)


def _print_csv(columns: Columns, rows: list[Row]) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    click.echo(file.getvalue(), nl=False)


_PRINTERS: dict[str, Callable[[Columns, list[Row]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}
