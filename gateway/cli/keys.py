"""glm-gateway keys: create, list, revoke."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import clear_failures, config_option, read_settings
from gateway.cli.running import run
from gateway.domain.keys import StoredKey
from gateway.service.administer import Administer
from gateway.wiring import open_administration


@click.group()
def keys() -> None:
    """Make and withdraw the keys that clients use."""


@keys.command()
@config_option
@click.option("--name", required=True, help="Who or what the key is for.")
@click.option("--expires-in-days", type=click.IntRange(1, 36500), help="Days until the key stops; default: never.")
def create(config: Path | None, name: str, expires_in_days: int | None) -> None:
    """Make a key and print it: this once, it is stored as a digest only."""
    lifetime = timedelta(days=expires_in_days) if expires_in_days else None

    async def work(administer: Administer) -> None:
        key, secret = await administer.create_key(name, lifetime=lifetime)
        click.echo(f"Key {key.id} for {key.name!r}. This is the only time that it is shown:", err=True)
        click.echo(secret)

    _run(config, work)


@keys.command("list")
@config_option
def list_(config: Path | None) -> None:
    """List the keys, oldest first."""

    async def work(administer: Administer) -> None:
        rows = [_row(key, datetime.now(UTC)) for key in await administer.list_keys()]
        heading = ("id", "key", "state", "created", "expires", "name")
        for row in (heading, *rows):
            click.echo("{:<14}{:<20}{:<10}{:<22}{:<22}{}".format(*row))

    _run(config, work)


@keys.command()
@config_option
@click.argument("key_id")
def revoke(config: Path | None, key_id: str) -> None:
    """Withdraw a key for good; running gateways refuse it within a second."""

    async def work(administer: Administer) -> None:
        await administer.revoke_key(key_id)
        click.echo(f"Key {key_id} is revoked.", err=True)

    _run(config, work)


def _run(config: Path | None, work: Callable[[Administer], Coroutine[Any, Any, None]]) -> None:
    async def opened() -> None:
        async with open_administration(read_settings(config)) as administer:
            await work(administer)

    with clear_failures():
        run(opened())


def _row(key: StoredKey, now: datetime) -> tuple[str, ...]:
    state = "revoked" if key.revoked_at else "active" if key.usable(now) else "expired"
    return (key.id, key.redacted, state, _moment(key.created_at), _moment(key.expires_at), key.name)


def _moment(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC") if moment else "never"
