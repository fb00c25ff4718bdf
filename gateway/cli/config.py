"""glm-gateway config: check, show, reload."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

import rich_click as click

from gateway.cli.options import clear_failures, config_option, read_settings
from gateway.cli.presenting import print_json, print_table
from gateway.settings import environment
from gateway.settings.explaining import Explained, explain
from gateway.wiring.checking import check as check_settings
from gateway.wiring.reloads import reload_all

form_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people, or for programs.",
)


@click.group()
def config() -> None:
    """See and check the settings, and put changed ones in force."""


@config.command()
@config_option
def check(config: Path | None) -> None:
    """Read the settings as `serve` would, and make nothing; exit code 1 when it would refuse them."""
    with clear_failures():
        offer = check_settings(read_settings(config))
    makers, models = ", ".join(account.name for account in offer.accounts), ", ".join(offer.catalog.models)
    click.echo(f"The settings are right. Upstreams: {makers}. Models: {models}.")


@config.command()
@config_option
@form_option
def show(config: Path | None, form: str) -> None:
    """Show every setting and where its value comes from. Secrets are masked."""
    with clear_failures():
        explained = explain(environment(), config)
    if form == "json":
        print_json([asdict(line) for line in explained])
        return
    print_table([("setting", "value", "source"), *map(_row, explained)])


@config.command("reload")
@config_option
def reload_(config: Path | None) -> None:
    """Check the settings, then let all running gateways read theirs anew.

    Upstreams and models change at once; no request is dropped. Exit code 1 when the settings are refused here, or by
    a gateway, which then goes on with those from before.
    """
    with clear_failures():
        settings = read_settings(config)
        check_settings(settings)
        called = asyncio.run(reload_all(settings))
    for answer in called.answers:
        if answer.refused:
            click.echo(f"Gateway {answer.replica} goes on as before: {answer.refused}", err=True)
        elif answer.fixed:
            click.echo(f"Gateway {answer.replica} has to be restarted for {', '.join(answer.fixed)}.", err=True)
    loaded = sum(not answer.refused for answer in called.answers)
    click.echo(f"{loaded} of {called.heard} gateways use the new settings." if called.heard else "No gateway runs.")
    if not called.well:
        sys.exit(1)


def _row(line: Explained) -> tuple[str, ...]:
    return (line.setting, line.value if isinstance(line.value, str) else json.dumps(line.value), line.source)
