"""Runs a command on the Redis of the installation, beside running gateways or without any."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.cli.options import clear_failures, read_settings
from gateway.cli.running import run
from gateway.settings import Settings
from gateway.wiring import prepared
from gateway.wiring.administration import Operation, open_operation


def operate(config: Path | None, work: Callable[[Operation], Awaitable[None]]) -> None:
    """Run work, and end with one sentence when it fails."""

    async def opened(settings: Settings) -> None:
        async with open_operation(settings) as operation:
            await work(operation)

    with clear_failures(), prepared(read_settings(config)) as settings:
        run(opened(settings))
