"""glm-gateway backup."""

import asyncio
from pathlib import Path

import rich_click as click

from gateway.cli.options import clear_failures, config_option, read_settings
from gateway.wiring.backup import back_up


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@config_option
def backup(folder: Path, config: Path | None) -> None:
    """Copy an installation on SQLite into a new FOLDER, while gateways run or not.

    The folder is a data directory: a gateway that is started on it, or on a copy of it, goes on from there.
    """
    with clear_failures():
        done = asyncio.run(back_up(read_settings(config), folder))
    pictures = "none of the bucket" if done.pictures is None else f"{done.pictures} of the store"
    click.echo(f"{folder} has the database and files: {pictures}, {done.settlements} of settlements.", err=True)
