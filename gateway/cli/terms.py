"""The options that say what a key or project may do, shared by `create` and `limits`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import Command, clear_failures, read_settings, text_option
from gateway.cli.running import run
from gateway.domain.terms import Changes, parse_terms
from gateway.service.administration import Administration
from gateway.settings.models import load_catalog
from gateway.wiring.administration import open_administration

Work = Callable[[Administration], Any]

_LIMITS = {
    "--requests-per-minute": "Requests in any 60 seconds.",
    "--images-per-minute": "Pictures in any 60 seconds.",
    "--images-per-day": "Pictures in a calendar day.",
    "--images-per-month": "Pictures in a calendar month.",
    "--concurrent": "Generations under way at once.",
    "--spend-per-month": "Money in a calendar month, for example 100 or 12.50.",
}
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
project_option = text_option("--project", help="A project, by name or id.")


def limit_options(command: Command) -> Command:
    """Add the options that projects and keys share; `none` clears each."""
    shadow = click.option("--shadow/--no-shadow", default=None, help="Count and report, but do not refuse.")
    models = text_option("--models", help="The models that may be used: a comma list.")
    command = shadow(models(command))
    for name, text in reversed(_LIMITS.items()):
        command = text_option(name, metavar="LIMIT", help=text)(command)
    return command


def key_options(command: Command) -> Command:
    """Add the options that only keys have."""
    for option in (
        text_option(
            "--metadata",
            multiple=True,
            metavar="NAME=VALUE",
            help="A pair of your own, shown with the key; may be repeated. All pairs are replaced together.",
        ),
        click.option(
            "--unwatermarked/--watermarked",
            "unwatermarked_allowed",
            default=None,
            help="Let clients ask for pictures without watermark.",
        ),
        text_option("--cache", "cache_scope", help="Who shares remembered pictures: key, project, shared or off."),
        text_option("--ips", help="Addresses and networks that the key may be used from: a comma list."),
        text_option("--expires", "expires_in", metavar="TIME", help="The time until the key stops: 30d, 12h, 90m."),
    ):
        command = option(command)
    return limit_options(command)


def project_options(command: Command) -> Command:
    """Add the options that only projects have."""
    weight = "Its share of the upstream while others wait: 1 to 100, 1 by default."
    markup = "Its prices are so many times the catalog's: 0 to 100, 1 by default."
    command = text_option("--markup", metavar="FACTOR", help=markup)(command)
    return limit_options(text_option("--weight", metavar="NUMBER", help=weight)(command))


def read_terms(words: dict[str, Any], config: Path | None) -> Changes:
    """Read what the options say; nothing is opened before that is done."""
    return parse_terms(words, load_catalog(read_settings(config).models.file))


def administer(config: Path | None, work: Work) -> None:
    """Run work of the operator's, and end with one sentence when it fails."""

    async def opened() -> None:
        async with open_administration(read_settings(config), warn) as administration:
            await work(administration)

    with clear_failures():
        run(opened())


def warn(reason: str) -> None:
    """Say that a change will be felt late."""
    click.echo(f"Running gateways could not be told; they notice within 30 seconds ({reason}).", err=True)
