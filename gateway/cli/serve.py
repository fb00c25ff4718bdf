"""glm-gateway serve."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from socket import socket

import rich_click as click

from gateway.api.protocol import OpenAIProtocol
from gateway.api.services import Services
from gateway.app import create_app
from gateway.cli.options import address_options, clear_failures, config_option, read_settings
from gateway.cli.running import Server, at_hangups, bind, run, serving, until_signalled
from gateway.service.jobs import end
from gateway.settings import Settings
from gateway.wiring import open_services, prepared
from gateway.wiring.reloading import Source

# Few requests leave cycles, the background 200 objects a second. A look goes through what is new and still there, in
# 0.7 us each, and nobody is answered meanwhile: jobs keep 25 objects for seconds, until the ledger has their lines.
# So it comes by time while little is there, and else when very much is.
GARBAGE_SECONDS = 30.0
QUIET, GARBAGE = 30_000, 300_000  # objects: 20 ms, and 45 MB at the most
ANSWER_SECONDS = 10.0  # to write answers out when every picture has ended


@click.command()
@config_option
@address_options
def serve(config: Path | None, host: str | None, port: int | None) -> None:
    """Start the gateway.

    ZHIPUAI_API_KEY=<id>.<secret> is all it needs; REDIS_URL and DATABASE_URL replace the embedded parts. SIGHUP lets it
    read its settings anew: upstreams and models change at once, the log names what takes a restart.
    """
    with clear_failures():
        read = partial(read_settings, config, host, port)
        settings = read()
        listener = bind(settings.server.host, settings.server.port)
        with listener, prepared(settings) as ready:
            run(_serve(ready, listener, Source(settings=settings, read=read)))


@asynccontextmanager
async def gateway_on(
    listener: socket, settings: Settings, source: Source | None = None, hung_up: asyncio.Event | None = None
) -> AsyncGenerator[Server]:
    """Serve the gateway while the block runs; whenever `hung_up` is set, settings are read anew from the source.

    After it what was sent upstream finishes, while the listener stays open and refuses what is new; then the answers
    are written out, and what the gateway uses is closed.
    """
    async with open_services(settings, source) as services:
        await _ensure_admin_key(services, settings)
        app = create_app(settings, lambda _: nullcontext(services))
        async with serving(app, listener, ANSWER_SECONDS, OpenAIProtocol) as server:
            async with _reloading(services, hung_up or asyncio.Event()):
                yield server
            server.let_go()  # a client's pool may hold many: it would be refused on one after the other
            await services.shut_down()


@asynccontextmanager
async def _reloading(services: Services, hung_up: asyncio.Event) -> AsyncGenerator[None]:
    """Follow the event while the block runs."""

    async def follow() -> None:
        while await hung_up.wait():
            hung_up.clear()  # before the files are read: what changes meanwhile is announced by another signal
            _ = await services.reload()

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        await end(task)


async def _ensure_admin_key(services: Services, settings: Settings) -> None:
    """Let the chosen admin key open, or print the first one: nothing else shows it, the log least of all."""
    secret = await services.administration.admin_keys.ensure_first(settings.admin_key.reveal())
    if secret:
        click.echo(f"The first admin key, shown this once: {secret}", err=True)


@asynccontextmanager
async def _tidying() -> AsyncGenerator[None]:
    """Look for garbage now and then while the block runs."""

    async def tidy() -> None:
        while True:
            await asyncio.sleep(GARBAGE_SECONDS)
            if gc.get_count()[0] < QUIET:
                gc.collect()

    task = asyncio.create_task(tidy())
    try:
        yield
    finally:
        await end(task)


async def _serve(settings: Settings, listener: socket, source: Source) -> None:
    async with (
        until_signalled() as stop,
        at_hangups() as hung_up,
        gateway_on(listener, settings, source, hung_up) as server,
    ):
        click.echo(f"The gateway answers at {server.address}/v1. Make keys with 'glm-gateway keys create'.", err=True)
        gc.freeze()  # what is there now stays: looking for garbage in it held up large answers by 50 to 80 ms
        gc.set_threshold(GARBAGE, 1, 1)
        async with _tidying():
            await stop.wait()
        click.echo("Stopping: running generations finish first. Press Ctrl-C again to stop at once.", err=True)
