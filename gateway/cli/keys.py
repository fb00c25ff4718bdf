"""glm-gateway keys: create, list, show, rename, rotate, disable, enable, revoke, limits."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import clear_failures, config_option, text_option
from gateway.cli.presenting import key_facts, limits_said, moment, print_facts, print_json, print_table
from gateway.cli.terms import administer, json_option, key_options, project_option, read_terms
from gateway.domain.keys import StoredKey
from gateway.domain.projects import DEFAULT_NAME
from gateway.domain.terms import parse_overlap
from gateway.service.administration import Administration


@click.group()
def keys() -> None:
    """Make, limit, disable and withdraw the keys that clients use."""


@keys.command()
@config_option
@text_option("--name", required=True, help="Who or what the key is for.")
@project_option
@key_options
@json_option
def create(config: Path | None, name: str, project: str | None, *, as_json: bool, **words: Any) -> None:  # noqa: ANN401 - click's options
    """Make a key and print it: this once, it is stored as a digest only."""
    with clear_failures():
        terms = read_terms(words, config)

    async def work(administration: Administration) -> None:
        key, secret = await administration.keys.create(name, project=project or DEFAULT_NAME, terms=terms)
        _print_secret(key, secret, as_json=as_json)

    administer(config, work)


@keys.command("list")
@config_option
@project_option
@json_option
def list_(config: Path | None, project: str | None, *, as_json: bool) -> None:
    """List the keys, oldest first."""

    async def work(administration: Administration) -> None:
        found, now = await administration.keys.list(project), datetime.now(UTC)
        if as_json:
            print_json([key_facts(key, now) for key in found])
        else:
            heading = ("id", "key", "state", "project", "created", "expires", "last used", "name", "limits")
            print_table([heading, *(_row(key, now) for key in found)])

    administer(config, work)


@keys.command()
@config_option
@click.argument("key_id", metavar="ID")
@json_option
def show(config: Path | None, key_id: str, *, as_json: bool) -> None:
    """Show all about a key but its secret."""

    async def work(administration: Administration) -> None:
        _print_key(await administration.keys.find(key_id), as_json=as_json)

    administer(config, work)


@keys.command()
@config_option
@click.argument("key_id", metavar="ID")
@text_option("--overlap", default="24h", show_default=True, help="For how long the old secret works too; 0: no more.")
@json_option
def rotate(config: Path | None, key_id: str, overlap: str, *, as_json: bool) -> None:
    """Give a key a new secret and print it: this once."""
    with clear_failures():
        time = parse_overlap(overlap)

    async def work(administration: Administration) -> None:
        key, secret = await administration.keys.rotate(key_id, time)
        _print_secret(key, secret, as_json=as_json)
        old = f"works until {moment(key.previous_until)}" if time else "works no more"
        click.echo(f"The old one {old}.", err=True)

    administer(config, work)


@keys.command()
@config_option
@click.argument("key_id", metavar="ID")
@click.argument("name")
@json_option
def rename(config: Path | None, key_id: str, name: str, *, as_json: bool) -> None:
    """Give a key another name."""

    async def work(administration: Administration) -> None:
        _print_key(await administration.keys.rename(key_id, name), as_json=as_json)

    administer(config, work)


@keys.command()
@config_option
@click.argument("key_id", metavar="ID")
def disable(config: Path | None, key_id: str) -> None:
    """Refuse a key until it is enabled; running gateways do within a second."""

    async def work(administration: Administration) -> None:
        await administration.keys.disable(key_id)
        click.echo(f"Key {key_id} is disabled.", err=True)

    administer(config, work)


@keys.command()
@config_option
@click.argument("key_id", metavar="ID")
def enable(config: Path | None, key_id: str) -> None:
    """Let a disabled key open again; running gateways do within a second."""

    async def work(administration: Administration) -> None:
        await administration.keys.enable(key_id)
        click.echo(f"Key {key_id} is enabled.", err=True)

    administer(config, work)


@keys.command()
@config_option
@click.argument("key_id", metavar="ID")
def revoke(config: Path | None, key_id: str) -> None:
    """Withdraw a key for good; running gateways refuse it within a second."""

    async def work(administration: Administration) -> None:
        await administration.keys.revoke(key_id)
        click.echo(f"Key {key_id} is revoked.", err=True)

    administer(config, work)


@keys.command()
@config_option
@click.argument("key_id", metavar="ID")
@key_options
@json_option
def limits(config: Path | None, key_id: str, *, as_json: bool, **words: Any) -> None:  # noqa: ANN401 - click's options
    """Change what is named and nothing else; the value `none` clears it. Running gateways know within a second."""
    with clear_failures():
        terms = read_terms(words, config)

    async def work(administration: Administration) -> None:
        _print_key(await administration.keys.change(key_id, terms), as_json=as_json)

    administer(config, work)


def _print_secret(key: StoredKey, secret: str, *, as_json: bool) -> None:
    """Write the secret: alone on standard output, so that a shell can take it from there."""
    if as_json:
        print_json(key_facts(key, datetime.now(UTC), secret))
        return
    said = f"Key {key.id} for {key.name!r} of project {key.project.name!r}."
    click.echo(f"{said} This is the only time that it is shown:", err=True)
    click.echo(secret)


def _print_key(key: StoredKey, *, as_json: bool) -> None:
    (print_json if as_json else print_facts)(key_facts(key, datetime.now(UTC)))


def _row(key: StoredKey, now: datetime) -> tuple[str, ...]:
    times = (moment(key.created_at), moment(key.expires_at), moment(key.last_used_at))
    return (key.id, key.redacted, key.state(now), key.project.name, *times, key.name, limits_said(key.limits))
