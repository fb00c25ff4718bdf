"""glm-gateway simulate."""

from socket import socket

import rich_click as click

from gateway.cli.options import clear_failures, text_option
from gateway.cli.running import bind, run, serving, until_signalled
from gateway.simulator import SimulatorOptions, create_simulator


@click.command()
@text_option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="The port; 0: a free one.")
@click.option("--latency", type=click.FloatRange(0), default=20.0, show_default=True, help="Seconds a picture takes.")
@click.option(
    "--concurrency", type=click.IntRange(1), default=1, show_default=True, help="Calls in flight that a key may have."
)
def simulate(host: str, port: int, latency: float, concurrency: int) -> None:
    """Start a simulated GLM-Image.

    It takes any key of the right form; POST /_simulator/faults switches faults, GET /_simulator/stats counts.
    """
    with clear_failures(), bind(host, port) as listener:
        run(_simulate(listener, SimulatorOptions(latency=latency, concurrency=concurrency)))


async def _simulate(listener: socket, options: SimulatorOptions) -> None:
    async with until_signalled() as stop, serving(create_simulator(options), listener, drain_seconds=1) as server:
        click.echo(f"The simulated GLM-Image answers at {server.address}/api/paas/v4", err=True)
        await stop.wait()
