"""glm-gateway webhooks: set, show, remove, test, history."""

from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import clear_failures, config_option, text_option
from gateway.cli.presenting import moment, print_json, print_table
from gateway.cli.terms import administer, json_option
from gateway.domain.webhooks import Delivery, Webhook, parse_thresholds
from gateway.service.administration import Administration

_project = click.argument("project", metavar="PROJECT")


@click.group()
def webhooks() -> None:
    """Tell a project how far its limits are used: by Standard Webhooks, one URL a project."""


@webhooks.command("set")
@config_option
@_project
@text_option("--url", help="Where alerts are posted; needed for the first time.")
@text_option("--thresholds", metavar="PERCENTS", help="A comma list, 50,80,100 at first.")
@click.option("--new-secret", is_flag=True, help="Make another secret; the old one signs for a day as well.")
@json_option
def set_(
    config: Path | None, project: str, url: str | None, thresholds: str | None, *, new_secret: bool, as_json: bool
) -> None:
    """Make or change a project's webhook, and print its secret: once, when it is new."""
    with clear_failures():
        percents = parse_thresholds(thresholds) if thresholds else None

    async def work(administration: Administration) -> None:
        webhook, secret = await administration.webhooks.set(project, url, percents, new_secret=new_secret)
        if as_json:
            print_json({**_facts(webhook), **({"secret": secret} if secret else {})})
        elif secret:
            click.echo(f"Alerts go to {webhook.url}. The secret, shown this once:", err=True)
            click.echo(secret)
        else:
            click.echo(f"Alerts go to {webhook.url}. The secret is the same.", err=True)

    administer(config, work)


@webhooks.command()
@config_option
@_project
@json_option
def show(config: Path | None, project: str, *, as_json: bool) -> None:
    """Show a project's webhook without its secret."""

    async def work(administration: Administration) -> None:
        facts = _facts(await administration.webhooks.find(project))
        if as_json:
            print_json(facts)
            return
        said = {
            **facts,
            "thresholds": ",".join(map(str, facts["thresholds"])),
            "created_at": moment(facts["created_at"]),
        }
        said["disabled_at"] = moment(facts["disabled_at"])
        print_table([(name.replace("_", " "), value) for name, value in said.items()])

    administer(config, work)


@webhooks.command()
@config_option
@_project
def remove(config: Path | None, project: str) -> None:
    """Forget a project's webhook; what waits for it is given up."""

    async def work(administration: Administration) -> None:
        await administration.webhooks.remove(project)
        click.echo(f"The webhook of {project!r} is removed.", err=True)

    administer(config, work)


@webhooks.command()
@config_option
@_project
def test(config: Path | None, project: str) -> None:
    """Let a running gateway post an event that tells of nothing; `history` shows what became of it."""

    async def work(administration: Administration) -> None:
        delivery = await administration.webhooks.test(project)
        click.echo("A running gateway posts it within seconds:", err=True)
        click.echo(delivery.id)

    administer(config, work)


@webhooks.command()
@config_option
@_project
@json_option
def history(config: Path | None, project: str, *, as_json: bool) -> None:
    """List what was posted in the last 30 days and what became of it, oldest first."""

    async def work(administration: Administration) -> None:
        found = await administration.webhooks.history(project)
        if as_json:
            print_json([_delivery_facts(delivery) for delivery in found])
        else:
            columns = ("id", "created", "event", "threshold", "state", "tries", "status", "next try", "error")
            print_table([columns, *map(_row, found)])

    administer(config, work)


def _facts(webhook: Webhook) -> dict[str, Any]:
    return {
        "project_id": webhook.project_id,
        "url": webhook.url,
        "thresholds": webhook.thresholds,
        "created_at": webhook.created_at,
        "disabled_at": webhook.disabled_at,
    }


def _delivery_facts(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "type": delivery.type,
        "created_at": delivery.created_at,
        "limit": delivery.limit,
        "period": delivery.period,
        "threshold": delivery.threshold,
        "state": delivery.state,
        "tries": delivery.tries,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "last_tried_at": delivery.last_tried_at,
        "next_try_at": delivery.next_try_at,
        "delivered_at": delivery.delivered_at,
    }


def _row(delivery: Delivery) -> tuple[str, ...]:
    told = f"{delivery.threshold}% of {delivery.limit} in {delivery.period}" if delivery.threshold else "-"
    status = str(delivery.last_status or "-")
    next_try = moment(delivery.next_try_at)
    facts = (delivery.id, moment(delivery.created_at), delivery.type, told, delivery.state, str(delivery.tries))
    return (*facts, status, next_try, delivery.last_error or "-")
