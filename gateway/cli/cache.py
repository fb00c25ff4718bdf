"""glm-gateway cache: purge."""

from pathlib import Path

import rich_click as click

from gateway.cli.operating import operate
from gateway.cli.options import config_option
from gateway.cli.terms import project_option
from gateway.wiring.administration import Operation


@click.group()
def cache() -> None:
    """Handle remembered results."""


@cache.command()
@config_option
@project_option
def purge(config: Path | None, project: str | None) -> None:
    """Forget remembered results: all, or those of a project. Stored pictures stay until their retention is over."""

    async def work(operation: Operation) -> None:
        forgotten = await operation.jobs.purge(project)
        click.echo(f"Forgotten: the results of {forgotten} {'prompt' if forgotten == 1 else 'prompts'}.")

    operate(config, work)
