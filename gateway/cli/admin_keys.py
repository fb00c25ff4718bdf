"""glm-gateway admin-keys: create, list, revoke."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import clear_failures, config_option, text_option
from gateway.cli.presenting import moment, print_json, print_table
from gateway.cli.terms import administer, json_option
from gateway.domain.admin_keys import AdminKey
from gateway.domain.terms import parse_lifetime
from gateway.service.administration import Administration


@click.group("admin-keys")
def admin_keys() -> None:
    """Make and withdraw the keys of the administration API."""


@admin_keys.command()
@config_option
@text_option("--name", required=True, help="Who or what the key is for.")
@text_option("--expires", metavar="TIME", help="The time until the key stops: 30d, 12h, 90m.")
@json_option
def create(config: Path | None, name: str, expires: str | None, *, as_json: bool) -> None:
    """Make a key and print it: this once, it is stored as a digest only."""
    with clear_failures():
        lifetime: timedelta | None = parse_lifetime(expires) if expires else None

    async def work(administration: Administration) -> None:
        key, secret = await administration.admin_keys.create(name, lifetime)
        if as_json:
            print_json({**_facts(key), "key": secret})
            return
        click.echo(f"Admin key {key.id} for {key.name!r}. This is the only time that it is shown:", err=True)
        click.echo(secret)

    administer(config, work)


@admin_keys.command("list")
@config_option
@json_option
def list_(config: Path | None, *, as_json: bool) -> None:
    """List the keys, oldest first."""

    async def work(administration: Administration) -> None:
        found = await administration.admin_keys.list()
        if as_json:
            print_json([_facts(key) for key in found])
        else:
            print_table([("id", "key", "state", "created", "expires", "last used", "name"), *map(_row, found)])

    administer(config, work)


@admin_keys.command()
@config_option
@click.argument("key_id", metavar="ID")
def revoke(config: Path | None, key_id: str) -> None:
    """Withdraw a key for good; running gateways refuse it at once."""

    async def work(administration: Administration) -> None:
        await administration.admin_keys.revoke(key_id)
        click.echo(f"Admin key {key_id} is revoked.", err=True)

    administer(config, work)


def _facts(key: AdminKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "redacted": key.redacted,
        "state": key.state(datetime.now(UTC)),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def _row(key: AdminKey) -> tuple[str, ...]:
    times = (moment(key.created_at), moment(key.expires_at), moment(key.last_used_at))
    return (key.id, key.redacted, key.state(datetime.now(UTC)), *times, key.name)
