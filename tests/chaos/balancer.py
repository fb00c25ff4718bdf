"""A balancer as small as one can be: connections go round robin to the gateways, past those that take none."""

import asyncio
from collections import deque
from contextlib import asynccontextmanager, suppress

PIECE = 65536


@asynccontextmanager
async def balancer(gateways):
    """Run a balancer in front of gateways; gives its URL. Clients have to have left when the block ends.

    Who hands in a deque may take gateways out of it and put others in.
    It passes bytes on and sends none twice: whose gateway dies under a request sees the connection end.
    """
    backends, connections = gateways if isinstance(gateways, deque) else deque(gateways), set()

    async def serve(reader, writer):
        connections.add(asyncio.current_task())
        if (backend := await _connected(backends)) is None:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, backend[1]), _pass_on(backend[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            await asyncio.gather(*connections)


async def _connected(backends):
    """Connect to the next gateway; one that takes no connection is dead, and is not asked again."""
    while backends:
        backends.rotate(-1)
        gateway = backends[0]
        with suppress(ConnectionRefusedError):
            return await asyncio.open_connection("127.0.0.1", int(gateway.env["PORT"]), limit=PIECE)
        with suppress(ValueError):  # another connection has found that out
            backends.remove(gateway)
    return None


async def _pass_on(reader, writer):
    with suppress(ConnectionError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()
