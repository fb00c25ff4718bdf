"""glm-gateway upstreams: list, test, unpark."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from gateway.cli.operating import operate
from gateway.cli.options import config_option
from gateway.cli.presenting import moment, print_json, print_table
from gateway.cli.terms import json_option
from gateway.domain.slots import Park
from gateway.service.administer_upstreams import UpstreamState
from gateway.wiring.administration import Operation


@click.group()
def upstreams() -> None:
    """See the upstream's accounts, try them, and use those again that are left alone."""


@upstreams.command("list")
@config_option
@json_option
def list_(config: Path | None, *, as_json: bool) -> None:
    """List the accounts by model: calls in flight over all replicas, and which are left alone and why."""

    async def work(operation: Operation) -> None:
        found = await operation.upstreams.states()
        if as_json:
            print_json([asdict(state) for state in found])
        else:
            print_table([("upstream", "account", "model", "in flight", "state"), *map(_row, found)])

    operate(config, work)


@upstreams.command()
@config_option
@json_option
@click.option("--pay", is_flag=True, help="Let each make one picture, which is paid.")
@click.argument("name", required=False)
def test(config: Path | None, name: str | None, *, as_json: bool, pay: bool) -> None:
    """Ask an upstream, or each, whether it accepts its key; nothing is made or paid without --pay."""
    bad: list[str] = []

    async def work(operation: Operation) -> None:
        verdicts = await operation.upstreams.test(name, pay=pay)
        bad.extend(verdict.name for verdict in verdicts if not verdict.well)
        if as_json:
            print_json([asdict(verdict) for verdict in verdicts])
            return
        rows = [(one.name, one.model, "ok" if one.well else "failed", one.code or "-", one.said) for one in verdicts]
        print_table([("upstream", "model", "result", "code", ""), *rows])

    operate(config, work)
    if bad:
        sys.exit(1)


@upstreams.command()
@config_option
@click.argument("name")
def unpark(config: Path | None, name: str) -> None:
    """Use an upstream and its account again at once, in all gateways."""

    async def work(operation: Operation) -> None:
        models = await operation.upstreams.unpark(name)
        click.echo(f"{name} is used again." if models else f"{name} was not left alone.")

    operate(config, work)


def _row(state: UpstreamState) -> tuple[str, ...]:
    lowered = f" ({state.configured} configured)" if state.limit < state.configured else ""
    calls = f"{state.in_flight} of {state.limit}{lowered}"
    return (state.name, state.account, state.model, calls, _said(state.park) if state.park else "in use")


def _said(park: Park) -> str:
    until = moment(datetime.fromtimestamp(park.until / 1000, UTC)) if park.until else "its key is another one"
    return f"left alone until {until} (code {park.code})"
