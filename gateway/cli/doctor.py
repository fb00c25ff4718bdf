"""glm-gateway doctor."""

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

import rich_click as click

from gateway.cli.config import form_option
from gateway.cli.options import config_option, read_settings
from gateway.cli.presenting import print_json, print_table
from gateway.domain.checkup import Finding, Verdict, wrong
from gateway.domain.errors import GatewayError
from gateway.wiring.doctor import examine


@click.command()
@config_option
@form_option
def doctor(config: Path | None, form: str) -> None:
    """Examine settings, disk, Redis, database, store, upstreams and clocks; nothing is made or paid.

    Each line is ok, a warning, or wrong, with what to do. Exit code 1 when something is wrong.
    """
    try:
        found = asyncio.run(examine(read_settings(config)))
    except GatewayError as failure:
        found = [wrong("settings", failure.message, "Nothing else can be examined before.")]
    if form == "json":
        print_json([asdict(finding) for finding in found])
    else:
        print_table([row for finding in found for row in _rows(finding)])
    if any(finding.verdict is Verdict.WRONG for finding in found):
        sys.exit(1)


def _rows(finding: Finding) -> list[tuple[str, str, str]]:
    first = (finding.verdict.value, finding.part, finding.said)
    return [first, ("", "", f"-> {finding.advice}")] if finding.advice else [first]
