"""glm-gateway demo: everything on this machine, with a simulated upstream and a first picture."""

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket
from typing import Any

import httpx
import msgspec
import rich_click as click

from gateway.cli.options import address_options, clear_failures, config_option, read_settings
from gateway.cli.running import bind, run, serving, until_signalled
from gateway.cli.serve import gateway_on
from gateway.cli.terms import warn
from gateway.domain.errors import Misconfigured
from gateway.domain.secret import Secret
from gateway.settings import Settings
from gateway.settings.upstreams import UpstreamAccount
from gateway.simulator import SimulatorOptions, create_simulator
from gateway.wiring import prepared
from gateway.wiring.administration import open_administration

KEY_LIFETIME = timedelta(days=7)  # long enough to try things, short enough to leave nothing behind
PROMPT = "一只橘猫坐在窗台上看雨 窗外是霓虹闪烁的城市夜景 胶片质感"
CONCURRENCY = 3

GUIDE = """
  The first picture   {picture}
  Base URL            {base_url}
  API key             {key}   (valid for {days} days)

  curl {base_url}/images/generations \\
    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"prompt": "a red fox in the snow", "response_format": "url"}}'

  import base64
  from openai import OpenAI  # pip install openai

  client = OpenAI(base_url="{base_url}", api_key="{key}")
  image = client.images.generate(prompt="a red fox in the snow", size="1024x1024")
  open("fox.png", "wb").write(base64.b64decode(image.data[0].b64_json))

The pictures come from a simulator. For real ones: ZHIPUAI_API_KEY=<id>.<secret> glm-gateway serve
Ctrl-C stops everything.
"""


@click.command()
@config_option
@address_options
@click.option("--latency", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds a picture takes.")
def demo(config: Path | None, host: str | None, port: int | None, latency: float) -> None:
    """Start the gateway with a simulated GLM-Image, make a key and a first picture."""
    with clear_failures():
        settings = read_settings(config, host, port)
        with _listener(settings, chosen=port is not None) as listener, prepared(settings) as ready:
            run(_demo(ready, listener, SimulatorOptions(latency=latency, concurrency=CONCURRENCY)))


def _listener(settings: Settings, *, chosen: bool) -> socket:
    """Take the usual port; when another program has it and nobody asked for it, take any."""
    try:
        return bind(settings.server.host, settings.server.port)
    except Misconfigured:
        if chosen:
            raise
        click.echo(f"Port {settings.server.port} is taken; another one is used.", err=True)
        return bind(settings.server.host, 0)


async def _demo(settings: Settings, listener: socket, options: SimulatorOptions) -> None:
    async with (
        until_signalled() as stop,
        _simulated(settings, options) as simulated,
        gateway_on(listener, simulated) as server,
    ):
        base_url = f"{server.address}/v1"
        async with open_administration(simulated, warn) as administration:
            name = f"demo {secrets.token_hex(4)}"  # no two keys have one name, and a demo may run again or twice
            _, key = await administration.keys.create(name, terms={"expires_in": KEY_LIFETIME})
        content = await _unless(stop, _first_picture(base_url, key))
        if content is not None:
            picture = _save(content, simulated.data_dir / "pictures")
            click.echo(GUIDE.format(picture=picture, base_url=base_url, key=key, days=KEY_LIFETIME.days))
            await stop.wait()
        click.echo("Stopping.", err=True)


@asynccontextmanager
async def _simulated(settings: Settings, options: SimulatorOptions) -> AsyncGenerator[Settings]:
    """Run a simulator and give the settings with it as the only upstream."""
    with bind("127.0.0.1", 0) as listener:
        async with serving(create_simulator(options), listener, drain_seconds=1) as server:
            upstream = UpstreamAccount(
                name="simulator",
                api_key=Secret(f"{secrets.token_hex(16)}.{secrets.token_hex(8)}"),
                base_url=f"{server.address}/api/paas/v4",
                concurrency=options.concurrency,
            )
            yield msgspec.structs.replace(settings, upstreams=(upstream,))


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, bytes]) -> bytes | None:
    """Do work, but not longer than until the stop."""
    working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


async def _first_picture(base_url: str, key: str) -> bytes:
    """Make a picture as any client would, through the public endpoint."""
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:  # noqa: S113 - the gateway has its own limits
        response = await client.post(
            f"{base_url}/images/generations",
            headers={"Authorization": f"Bearer {key}"},
            json={"prompt": PROMPT},
        )
    if response.is_error:
        raise Misconfigured(f"The first picture failed: {response.json()['error']['message']}")
    return base64.b64decode(response.json()["data"][0]["b64_json"])


def _save(picture: bytes, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}-{os.getpid()}.png"
    path.write_bytes(picture)
    return path
