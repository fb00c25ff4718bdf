"""Runs ASGI applications in this process: sockets, signals, an orderly end."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.domain.errors import Misconfigured

# Longer than clients keep an idle connection: one that we close first can swallow a POST, which SDKs then send again.
KEEPALIVE_SECONDS = 75
BACKLOG = 2048


class Server(uvicorn.Server):
    """A server that leaves signals to us, since two may run in one process."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture nothing."""
        yield

    def let_go(self) -> None:
        """Close the connections on which nothing is under way, and the others after their answers; take new ones."""
        for connection in tuple(self.server_state.connections):
            connection.shutdown()

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def bind(host: str, port: int) -> socket.socket:
    """Take an address.

    Raises:
        Misconfigured: it is taken, or it is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError, TypeError, ValueError) as failure:
        listener.close()
        reason = getattr(failure, "strerror", None) or failure
        raise Misconfigured(
            f"Port {port} on {host} cannot be used ({reason}). Choose another with --port or PORT.",
        ) from failure
    return listener


@asynccontextmanager
async def serving(
    app: Any,  # noqa: ANN401 - an ASGI application has no type of its own in uvicorn
    listener: socket.socket,
    drain_seconds: float,
    protocol: type[HttpToolsProtocol] = HttpToolsProtocol,
) -> AsyncGenerator[Server]:
    """Serve an application while the block runs; then let what runs finish, at most `drain_seconds`."""
    config = uvicorn.Config(
        app,
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn would believe X-Forwarded-For; server.trusted_proxies decides that
        lifespan="on",
        timeout_keep_alive=KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=int(drain_seconds),
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
                raise Misconfigured("The server did not start; the log says why.")
            await asyncio.sleep(0.01)
        yield server
    finally:
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def at_hangups() -> AsyncGenerator[asyncio.Event]:
    """Give an event that SIGHUP sets, which ends the process otherwise."""
    hung_up, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    try:
        yield hung_up
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@asynccontextmanager
async def until_signalled() -> AsyncGenerator[asyncio.Event]:
    """Give an event that SIGINT or SIGTERM sets; a second signal ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
