"""glm-gateway migrate."""

from pathlib import Path

import rich_click as click

from gateway.cli.options import clear_failures, config_option, read_settings
from gateway.cli.running import run
from gateway.settings import Settings
from gateway.wiring import open_database, prepare_data_dir


@click.command()
@config_option
def migrate(config: Path | None) -> None:
    """Bring the database's schema up to date, as `serve` does when it starts."""
    with clear_failures():
        run(_migrate(read_settings(config)))
    click.echo("The database is up to date.", err=True)


async def _migrate(settings: Settings) -> None:
    prepare_data_dir(settings.data_dir)
    async with open_database(settings):
        pass
